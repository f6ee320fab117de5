"""Registries over HTTP (OCI distribution-spec). The only place that imports an HTTP client.

`credentials`  who we are
`keyring`      where credentials are found: flags, files, helpers
`authfile`     containers' auth.json and docker's config.json
`helpers`      docker-credential-*
`challenges`   what a 401 asks for
`tokens`       what tokens are for, and how long they live
`auth`         answers to challenges
`errors`       aiohttp's errors and registries' answers in our words
`addresses`    where a registry may send us
`proxy`        the way through a forward proxy
`tls`          whether registries speak it, and whom to believe
`client`       one registry: its base URL, redirects, authentication
`repository`   a repository as a source and a sink
"""

from mirror.registry.client import Client, Options
from mirror.registry.credentials import Credentials
from mirror.registry.repository import Repository

__all__ = ["Client", "Credentials", "Options", "Repository"]
