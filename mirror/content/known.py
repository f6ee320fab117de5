"""Manifests and configs that have been read from a store, and verified."""

from __future__ import annotations

from mirror.oci.descriptor import Descriptor
from mirror.oci.digest import Digest
from mirror.recent import Recent

_MEMORY = 8 * 1024 * 1024  # bytes


class KnownContent:
    """Small content of one store that has been verified in this run, so it need not be read and hashed again."""

    def __init__(self) -> None:
        self._contents = Recent[Digest, bytes](_MEMORY)

    def get(self, node: Descriptor) -> bytes | None:
        """Return the content of `node`; None if it is not known, or has another size."""
        data = self._contents.get(node.digest)
        return data if data is not None and len(data) == node.size else None

    def add(self, digest: Digest, data: bytes) -> None:
        self._contents.add(digest, data, len(data))
