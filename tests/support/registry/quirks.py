"""Deviations of real registries from the specification.

EmbeddedRegistry(quirks=Quirks(stuck_range=True))
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Quirks:
    """Deviations that are off by default, and can be combined."""

    stuck_range: bool = False
    """Amazon ECR: PATCH answers 201, and Range stays at the end of the first chunk although all chunks are stored."""

    only_existing: bool = False
    """Amazon ECR: a repository that has not been created is unknown (404 NAME_UNKNOWN)."""

    patch_limit: int | None = None
    """GitHub's ghcr.io: a PATCH with a Content-Range and more bytes than this (4 MiB) answers 416."""

    uniform_index: bool = False
    """Older Quay: an OCI index over Docker manifests is invalid."""

    config_types: frozenset[str] | None = None
    """Quay: a manifest is invalid unless the type of its config is among these."""

    mount_wants_from: bool = False
    """Quay: a mount without `from` fails."""

    mount_refusal: int | None = None
    """The status of the response to a mount: 401 in Harbor, 404 or 405 in others; 202 starts an upload."""

    subjects_first: bool = False
    """Harbor: a signature under cosign's tag, or any referrer, is refused with a 404 before its subject is there."""

    lying_head: bool = False
    """Artifactory: HEAD and mount succeed for every blob; only the PUT of a manifest shows which are missing."""

    appends: bool = False
    """distribution: a chunk that does not begin at the end of the received bytes is appended nevertheless."""

    old_created: bool = False
    """Old registries: the status of a completed upload is 204 instead of 201."""

    no_single_post: bool = False
    """A POST with the whole blob in its body gets a 202, as if the body were empty."""

    no_status: bool = False
    """A GET of an upload gets a 404."""

    least_chunk: int | None = None
    """A chunk shorter than this is refused unless it is the last one; OCI-Chunk-Min-Length has the value."""

    body_limit: int | None = None
    """nginx in front of the registry: a larger body gets a 413 with an HTML page, and is not forwarded."""


PROXY_PAGE = b"<html><head><title>413 Request Entity Too Large</title></head><body>nginx/1.22.1</body></html>"
