"""A client for registries (OCI distribution-spec). Only this package and `mirror.serve` import aiohttp.

A `Client` holds the connections of one command; `open_source` and `open_target` return the repository of an image.
`.importlinter` defines the layers of its modules.
"""

from mirror.registry.client import Client
from mirror.registry.credentials import Credentials
from mirror.registry.foreign import ForeignLayers
from mirror.registry.mirrors.repository import MirroredRepository, open_source, open_target
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
    "open_source",
    "open_target",
]
