"""Serve layouts in place as a read-only registry (OCI distribution-spec, "Pull" and "Content Discovery").

`catalog`    which repository an image is served in; pure
`content`    what a repository contains, and its referrers
`blobs`      blobs that are hashed before their first byte is served
`checkpoints`  what verifies a part of a blob when it is sent
`cache`      the catalog, reloaded when `index.json` changes
`responses`  a response before it is sent: status, headers, error codes, pagination, ranges
`api`        a request → a response, without a socket
`writer`     a response → the client; slow clients
`transfer`   verified units of a blob → the client, in a thread
`connection` the transport of a client, whose socket can be lent to a thread
`htpasswd`   Basic authentication
`handler`    one request: authenticate, respond, log
`access`     the access log
`metrics`    counters for Prometheus
`listen`     listening sockets and TLS
`server`     connections, limits and shutdown

Only aiohttp's server is used, not its client.
"""

from mirror.serve.server import ServeOptions, serve_layouts

__all__ = ["ServeOptions", "serve_layouts"]
