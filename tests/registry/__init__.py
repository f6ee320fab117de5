"""The HTTP client of registries: challenges, credentials, errors, redirects, proxies."""
