"""Registries over HTTP (OCI distribution-spec). The only place that imports an HTTP client.

`credentials`  who we are
`keyring`      where credentials are found: flags, files, helpers
`authfile`     containers' auth.json and docker's config.json
`background_tasks`      docker-credential-*
`challenges`   what a 401 asks for
`tokens`       what tokens are for, and how long they live
`auth`         answers to challenges
`errors`       aiohttp's errors and registries' answers in our words
`options`      how to talk to registries
`addresses`    where a registry may send us
`proxy`        the forward proxies of the environment
`tls`          whether registries speak it, whom to believe, and who we are to them
`way`          how one registry, and whatever it sends us to, is reached
`client`       one registry: its base URL, redirects, authentication
`repository`   a repository as a source and a sink
`upload`       blobs into a repository
`session`      one upload: how much has arrived, and how the rest gets there
`refusals`     what a registry's refusal means to the person who pushes
`listing`      lists in pages: tags, referrers
`referrers`    what refers to images of a repository
`foreign`      layers that live elsewhere
`fallback`     the referrers tag, where a registry has no referrers API
`registriesconf`  what podman and its relatives are told of mirrors
`endpoints`    where the content of a repository is asked for
`mirrored`     a repository with mirrors, as a source
"""

from mirror.registry.client import Client
from mirror.registry.credentials import Credentials
from mirror.registry.foreign import ForeignLayers
from mirror.registry.mirrors.repository import MirroredRepository, pull_source, push_target
from mirror.registry.options import RegistryOptions
from mirror.registry.referrers.fallback import list_under_tag
from mirror.registry.referrers.find import Found, Referrers
from mirror.registry.repository import Repository

__all__ = [
    "Client",
    "Credentials",
    "ForeignLayers",
    "Found",
    "MirroredRepository",
    "Referrers",
    "RegistryOptions",
    "Repository",
    "list_under_tag",
    "pull_source",
    "push_target",
]
