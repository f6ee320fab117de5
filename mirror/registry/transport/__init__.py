"""HTTP below the distribution specification: routes, TLS, proxies, addresses, throttling, and errors in plain English.

Requests are sent by `mirror.registry.http`; headers of every request are set in `mirror.registry.client`.
"""
