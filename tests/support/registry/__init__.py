"""A small OCI registry for tests, the demo and measurements, into which faults can be injected.

with serving(EmbeddedRegistry()) as registry:
    digest = registry.put_blob("library/redis", b"...")
    registry.fault(Fault(method="GET", path=f"/blobs/{digest}", times=2, action=Cut(after=1)))
    ...  # run something against registry.host
    assert registry.count("GET", "/blobs/") == 3
"""

from tests.support.registry.auth import Asked, Basic, Bearer, Discreet, EcrPublic
from tests.support.registry.faults import (
    Action,
    Chunked,
    Cut,
    Extend,
    Fault,
    Flip,
    Header,
    Later,
    Redirect,
    RequestHeader,
    Reset,
    Slow,
    Stall,
    Status,
    Truncate,
)
from tests.support.registry.quirks import Quirks
from tests.support.registry.server import EmbeddedRegistry, serving
from tests.support.registry.wire import Seen

__all__ = [
    "Action",
    "Asked",
    "Basic",
    "Bearer",
    "Chunked",
    "Cut",
    "Discreet",
    "EcrPublic",
    "EmbeddedRegistry",
    "Extend",
    "Fault",
    "Flip",
    "Header",
    "Later",
    "Quirks",
    "Redirect",
    "RequestHeader",
    "Reset",
    "Seen",
    "Slow",
    "Stall",
    "Status",
    "Truncate",
    "serving",
]
