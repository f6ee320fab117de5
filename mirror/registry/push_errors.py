"""Hints for pushes that a registry refused, in case its own message does not say what to do."""

from __future__ import annotations

import re
from collections.abc import Container, Iterator
from contextlib import contextmanager

from mirror.errors import BlobsUnknown, TransferError, Unauthorized
from mirror.oci.descriptor import CONFIG_TYPES, DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX
from mirror.oci.digest import Digest
from mirror.oci.manifest import Document
from mirror.oci.reference import DOCKER_HUB
from mirror.registry.transport.responses import rule_hint

_MANIFEST_REJECTED = frozenset({400, 404, 415, 422})  # statuses with which registries reject a manifest
_FOREIGN = (
    "The image has foreign layers, as Windows images do. docker-registry answers 500 to their URLs, unless its "
    "configuration allows them: validation.manifests.urls.allow lists regular expressions such as ^https://"
)
_BLOB_UNKNOWN = re.compile(
    r"\bBLOB_UNKNOWN|_BLOB_UNKNOWN\b|MANIFEST_INVALID [^;]*\b(?:blobs?|layers?)\b", re.IGNORECASE
)
_ECR = re.compile(r"[0-9]+\.dkr\.ecr[.-].*")
_PUSH_SCOPE = re.compile(r"repository:([^ ]+):pull,push\b")
_NAME_REJECTED = frozenset({400, 404})  # statuses with which registries reject a name
_ABOUT_NAME = re.compile(  # in the text of other refusals
    r"\bNAME_(?:INVALID|UNKNOWN)\b|\binvalid (?:\w+ )?name\b|\bnested\b|\bslash|\blevels\b|path (?:segm|comp)",
    re.IGNORECASE,
)
_REFUSED = frozenset({400, 401, 403, 404})
_FEW_LEVELS = 2  # slashes: Docker Hub and older versions of Quay have NAMESPACE/NAME
_FLATTEN = "If {registry} allows only few slashes in a name: mirror push --flatten"
_HINTS = {
    401: "Log in there as a user who may push: mirror login {registry}",
    403: "The user may not push to {registry}/{repository}, or the repository or its project does not exist: ask the "
    "registry's administrator, or log in as another user: mirror login {registry}",
    405: "{registry} takes no pushes: it is read-only, or a cache of another registry. Name the registry that does.",
}


def explain_status(error: TransferError, method: str, registry: str, scope: str | None) -> TransferError:
    """Add a hint to the error for a request of a push; other requests have other scopes."""
    push = _PUSH_SCOPE.match(scope or "")
    if not push or method == "GET":  # a GET during a push fails for the same reasons as during a pull
        return error
    if rule_hint(error.said):  # not the user's permissions
        return error
    if isinstance(error, Unauthorized) or not error.hint:  # the hint of `Unauthorized` is about pulls
        hint = _HINTS.get(error.status or 0, "").format(registry=registry, repository=push[1])
        error.hint = hint or error.hint
    # Docker Hub only says that access is denied.
    about_name = error.status in _NAME_REJECTED or registry == DOCKER_HUB or _ABOUT_NAME.search(error.said)
    if about_name and error.status in _REFUSED and push[1].count("/") >= _FEW_LEVELS:
        error.hint = f"{error.hint or ''} {_FLATTEN.format(registry=registry)}".lstrip()
    return error


@contextmanager
def explain_chunk(registry: str, *, chosen: bool) -> Iterator[None]:
    """Replace the hint if a registry refuses chunks; `chosen`: the user asked for them."""
    try:
        yield
    except TransferError as error:
        if error.status == 405:
            flag = ": remove --chunk-size" if chosen else ""
            error.hint = f"{registry} does not accept uploads in chunks{flag}."
        raise


@contextmanager
def explain_no_session(registry: str, repository: str) -> Iterator[None]:
    """Add a hint to a failure to open an upload session: the repository may not exist."""
    try:
        yield
    except TransferError as error:
        is_ecr = _ECR.fullmatch(registry)  # it just closes the connection
        if "NAME_UNKNOWN" in error.said or (error.status is None and is_ecr):
            command = f": aws ecr create-repository --repository-name {repository}" if is_ecr else "."
            error.hint = (
                f"{registry} does not create repositories by itself. Create {repository} there, and push again{command}"
            )
        raise


def explain_manifest(
    error: TransferError, document: Document, pushed: Container[Digest], *, accepted: bool = False
) -> TransferError:
    """Return the error for a manifest that was rejected: BlobsUnknown if blobs are missing, or one with a hint.

    `pushed` are the manifests pushed to the repository so far; `accepted`: the registry has accepted some of them.
    """
    if error.status == 405 and accepted:  # so it is not read-only
        error.hint = "The registry accepts other manifests, but not this one."
        if document.subject:
            error.hint = "The registry accepts images, but not referrers. To push without them: --no-referrers"
    if error.status == 500 and any(layer.is_foreign and layer.urls for layer in document.layers):
        error.hint = _FOREIGN
    if error.status not in _MANIFEST_REJECTED:
        return error
    if not document.is_index and _BLOB_UNKNOWN.search(error.said):
        return BlobsUnknown(str(error), hint=error.hint, status=error.status, said=error.said)
    error.hint = _manifest_hint(document, pushed) or error.hint
    return error


def _manifest_hint(document: Document, pushed: Container[Digest]) -> str | None:
    child_types = {child.media_type for child in document.manifests}
    if any(child.digest not in pushed for child in document.manifests):
        return (
            "The image is sparse: platforms are absent on purpose, and this registry requires all of them. "
            "Pull it with --all-platforms, or by its tag without --sparse. Otherwise, push single platforms: "
            "mirror copy oci:LAYOUT:NAME docker://TARGET --platform linux/amd64"
        )
    if document.media_type == OCI_INDEX and child_types & {DOCKER_LIST, DOCKER_MANIFEST}:
        return (
            "It is an OCI index of Docker images, which older versions of Quay reject. Update the registry, or pull "
            "one platform at a time with --platform, which needs no index."
        )
    if document.config and document.config.media_type not in CONFIG_TYPES:
        return (
            f"It is an artifact with a config of type {document.config.media_type}. The registry's administrator can "
            "allow it: in Quay, with ALLOWED_OCI_ARTIFACT_TYPES."
        )
    return None
