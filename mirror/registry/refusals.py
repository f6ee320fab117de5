"""What a registry's refusal means to the person who pushes, where the registry's own words do not say what to do."""

from __future__ import annotations

import re
from collections.abc import Container, Iterator
from contextlib import contextmanager

from mirror.errors import BlobsUnknown, TransferError, Unauthorized
from mirror.oci.descriptor import CONFIG_TYPES, DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX
from mirror.oci.digest import Digest
from mirror.oci.manifest import Document

_REFUSED = frozenset({400, 404, 415, 422})  # statuses of a manifest that a registry does not want
_LACKS_BLOBS = re.compile(r"\bBLOB_UNKNOWN|_BLOB_UNKNOWN\b|MANIFEST_INVALID [^;]*\b(?:blobs?|layers?)\b", re.IGNORECASE)
_ECR = re.compile(r"[0-9]+\.dkr\.ecr[.-].*")
_PUSHING = re.compile(r"repository:([^ ]+):pull,push\b")  # the scope of a request
_HINTS = {
    401: "Log in there as a user who may push: mirror login {registry}.",
    403: "The user may not push to {registry}/{repository}, or the repository or its project does not exist: ask the "
    "registry's administrator, or log in as another user (mirror login {registry}).",
    405: "{registry} takes no pushes: it is read-only, or a cache of another registry. Name the registry that does.",
}
_NO_CHUNKS = "It takes no blobs in chunks: leave --chunk-size out."


def of_push(error: TransferError, method: str, registry: str, scope: str | None) -> TransferError:
    """Explain what a status means to a request that has been refused, where its scope says that it was to push.

    Returns:
        The same error, perhaps with a hint.
    """
    pushing = _PUSHING.match(scope or "")
    if not pushing or method == "GET":  # what is only read is refused to pushes as to pulls
        return error
    if (method, error.status) == ("PATCH", 405):
        error.hint = _NO_CHUNKS
    elif isinstance(error, Unauthorized) or not error.hint:  # who is not let in has been told about pulls
        hint = _HINTS.get(error.status or 0, "").format(registry=registry, repository=pushing[1])
        error.hint = hint or error.hint
    return error


@contextmanager
def of_session(registry: str, repository: str) -> Iterator[None]:
    """Explain why an upload cannot even begin.

    Raises:
        TransferError: the same, with a hint.
    """
    try:
        yield
    except TransferError as error:
        if "NAME_UNKNOWN" in error.said or (error.status is None and _ECR.fullmatch(registry)):
            error.hint = (
                f"{registry} does not create repositories by itself. Create {repository} there, and push again"
                f"{f' (aws ecr create-repository --repository-name {repository})' if _ECR.fullmatch(registry) else ''}."
            )
        raise


def of_manifest(error: TransferError, document: Document, there: Container[Digest]) -> TransferError:
    """Explain why a manifest was refused; `there` are the manifests that the repository has got from us.

    Returns:
        The same error with a hint, or `BlobsUnknown`.
    """
    if error.status not in _REFUSED:
        return error
    if not document.is_index and _LACKS_BLOBS.search(error.said):
        return BlobsUnknown(str(error), hint=error.hint, status=error.status, said=error.said)
    error.hint = _hint(document, there) or error.hint
    return error


def _hint(document: Document, there: Container[Digest]) -> str | None:
    children = {child.media_type for child in document.manifests}
    if any(child.digest not in there for child in document.manifests):
        return (
            "The image is sparse: platforms are absent on purpose, and this registry wants all of them. "
            "Pull it without --sparse, or with --all-platforms; where that cannot be done, push single platforms: "
            "mirror copy oci:LAYOUT:NAME docker://TARGET --platform linux/amd64."
        )
    if document.media_type == OCI_INDEX and children & {DOCKER_LIST, DOCKER_MANIFEST}:
        return (
            "It is an OCI index over Docker images, which older versions of Quay refuse. Update the registry, or pull "
            "one platform at a time with --platform, which needs no index."
        )
    if document.config and document.config.media_type not in CONFIG_TYPES:
        return (
            f"It is an artifact with a config of the type {document.config.media_type}. The registry's administrator "
            "can allow it: in Quay, by ALLOWED_OCI_ARTIFACT_TYPES."
        )
    return None
