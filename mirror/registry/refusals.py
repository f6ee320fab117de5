"""What a registry's refusal means to the person who pushes, where the registry's own words do not say what to do."""

from __future__ import annotations

import re
from collections.abc import Container, Iterator
from contextlib import contextmanager

from mirror.descriptor import CONFIG_TYPES, DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX
from mirror.digest import Digest
from mirror.errors import BlobsUnknown, TransferError
from mirror.manifest import Document

_REFUSED = frozenset({400, 404, 405, 415, 422})  # statuses of a manifest that a registry does not want
_LACKS_BLOBS = re.compile(r"\bBLOB_UNKNOWN|_BLOB_UNKNOWN\b|MANIFEST_INVALID [^;]*\b(?:blobs?|layers?)\b", re.IGNORECASE)
_ECR = re.compile(r"[0-9]+\.dkr\.ecr[.-].*")


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
            "Pull it without --sparse, or with --all-platforms."
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
