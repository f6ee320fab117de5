"""Tests of the registry client: authentication, errors, redirects, proxies, downloads, uploads."""
