"""Deviations of real registries from the specification, each under its own name.

EmbeddedRegistry(quirks=Quirks(stuck_range=True))
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Quirks:
    """All of them are off by default; several can be combined."""

    stuck_range: bool = False
    """Amazon ECR: PATCH answers 201, and Range stays at the end of the first chunk though all of them are stored."""

    only_existing: bool = False
    """Amazon ECR: a repository that has not been created is unknown (404 NAME_UNKNOWN)."""

    patch_limit: int | None = None
    """GitHub's ghcr.io: a PATCH with a Content-Range and more bytes than this (4 MiB) answers 416."""

    uniform_index: bool = False
    """Older Quay: an OCI index over Docker manifests is invalid."""

    config_types: frozenset[str] | None = None
    """Quay: a manifest whose config has another type than these is invalid."""

    mount_wants_from: bool = False
    """Quay: a mount that does not say from where fails."""

    mount_refusal: int | None = None
    """Harbor answers 401 to a mount, others 404 or 405; 202 begins an upload."""

    lying_head: bool = False
    """Artifactory: HEAD and mount find every blob, there or not; what is missing, only the manifest's PUT tells."""

    appends: bool = False
    """distribution: a body that does not begin where the upload ends is appended all the same."""

    old_created: bool = False
    """Old registries answer 204 where the specification says 201."""

    no_single_post: bool = False
    """A POST that has the whole blob in its body is answered by 202, as if it had none."""

    no_status: bool = False
    """A GET of an upload is unknown (404)."""

    least_chunk: int | None = None
    """A chunk that is shorter than this, and not the last one, is refused; OCI-Chunk-Min-Length says so."""

    body_limit: int | None = None
    """nginx in front of the registry: a larger body answers 413 with a page in HTML, and is not passed on."""


PROXY_PAGE = b"<html><head><title>413 Request Entity Too Large</title></head><body>nginx/1.22.1</body></html>"
