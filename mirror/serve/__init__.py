"""Serve: layouts in place as a read-only registry (OCI distribution-spec, "Pull" and "Content Discovery").

`catalog`   which repository an image appears as; pure
`holdings`  what a repository holds, and who refers to what in it
`store`     blobs that are hashed before their first byte is served
`current`   the catalog as `index.json` is now
`answers`   an answer before it is on a wire: statuses, headers, errors as JSON, pages, ranges
`api`       a request → an answer, without a socket
`send`      bodies on their way: sendfile, slow disks, slow clients
`htpasswd`  who may ask
`server`    sockets, TLS, limits, the access log, the end

The only use case that imports aiohttp, and for its server alone.
"""

from mirror.serve.server import ServeOptions, Serving, serve_layouts

__all__ = ["ServeOptions", "Serving", "serve_layouts"]
