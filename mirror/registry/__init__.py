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
`listing`      lists in pages: tags, referrers
`referrers`    what refers to images of a repository
`foreign`      layers that live elsewhere
`fallback`     the referrers tag, where a registry has no referrers API
"""

from mirror.registry.client import Client, Options
from mirror.registry.credentials import Credentials
from mirror.registry.fallback import list_under_tag
from mirror.registry.foreign import ForeignLayers
from mirror.registry.referrers import Found, Referrers
from mirror.registry.repository import Repository

__all__ = [
    "Client",
    "Credentials",
    "ForeignLayers",
    "Found",
    "Options",
    "Referrers",
    "Repository",
    "list_under_tag",
]
