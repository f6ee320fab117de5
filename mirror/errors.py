"""The errors that `mirror` raises, with their exit codes.

    MirrorError                 1  the base class
    ├── UsageError              2  a request that cannot be fulfilled
    │   ├── InvalidReference    2  an image name outside the grammar
    │   ├── ConfigError         2  a file of the user that cannot be used
    │   └── NotFound            2  an image, platform or directory that does not exist
    ├── TransferError           1  a registry that could not be reached, or refused
    │   ├── Unauthorized        1  … for lack of valid credentials
    │   └── BlobsUnknown        1  … a manifest, for lack of blobs that it claimed to have
    ├── StorageError            1  a disk that is full, read-only or broken
    ├── ListenError             1  an address that a server cannot listen on
    ├── ContentError            3  content that is not what it should be
    │   ├── InvalidDigest       3  text that is not a digest
    │   ├── InvalidContent      3  JSON or a manifest that violates its specification
    │   │   ├── SizeConflict    3  … two descriptors with one digest and two sizes
    │   │   ├── TypeConflict    3  … two descriptors with one digest and two media types
    │   │   ├── LimitExceeded   3  … more manifests than a genuine image has
    │   │   ├── UnsupportedManifest     3  … a manifest of a type that cannot be followed
    │   │   ├── CorruptCompression      3  … a compressed stream that is corrupt
    │   │   ├── UnsupportedCompression  3  … a compression that is not supported here
    │   │   └── DecompressionBomb       3  … content that decompresses to too much
    │   ├── SizeMismatch        3  fewer or more bytes than the descriptor says
    │   ├── DigestMismatch      3  bytes with another digest
    │   ├── StaleMirror         3  … from a mirror, while there are other sources to try
    │   ├── BrokenLayout        3  a directory that is not a valid OCI image layout
    │   ├── BrokenArchive       3  a file that is not a valid archive of images
    │   └── InvalidRecord       3  a digest record that cannot be parsed, or contradicts itself
    └── PartialFailure          4  some images, or some of their manifests or referrers, failed; the code of the first
                                   failure if nothing succeeded

A message is one sentence: what happened, to what, and where. `hint` says what the user can do about it. `code` is the
name of the class in kebab-case: programs rely on it (docs/reference/exit-codes.md). Only `mirror.cli` turns errors into
exit codes.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence

from mirror.text.redaction import redact

# The library prints nothing. This is here since whatever logs imports this module, and `import mirror` must be cheap.
logging.getLogger("mirror").addHandler(logging.NullHandler())


class MirrorError(Exception):
    """The base class of all errors that `mirror` raises on purpose. Secrets in a message are redacted."""

    code = "mirror-error"
    exit_code = 1

    def __init_subclass__(cls) -> None:
        """Set the code of a class: `not-found` for NotFound."""
        super().__init_subclass__()
        cls.code = re.sub(r"(?<=[a-z])(?=[A-Z])", "-", cls.__name__).lower()

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(redact(message))
        self.hint = redact(hint) if hint else hint

    @property
    def transient(self) -> bool:
        """True if the same operation may succeed when it is repeated."""
        return False


class UsageError(MirrorError):
    """A request that cannot be fulfilled: a flag, a name or a path that does not make sense."""

    exit_code = 2


class InvalidReference(UsageError):
    """An image name outside the grammar of the distribution specification."""


class ConfigError(UsageError):
    """A file of the user that cannot be read or used: settings, credentials, certificates, records, names."""


class NotFound(UsageError):
    """An image, a platform or a directory that does not exist."""


class TransferError(MirrorError):
    """A request that a registry refused or did not answer.

    Attributes:
        status: the HTTP status; None if there was no response.
        retry_after: the pause in seconds that the server asked for.
        said: the codes and messages in the response (OCI distribution-spec, "Error Codes").
    """

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        status: int | None = None,
        transient: bool = False,
        retry_after: float | None = None,
        said: str = "",
    ) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.retry_after = retry_after
        self.said = redact(said)
        self._transient = transient

    @property
    def transient(self) -> bool:
        return self._transient


class Unauthorized(TransferError):
    """The registry requires credentials, or rejected those that it was given (401, 403)."""


class BlobsUnknown(TransferError):
    """The registry rejected a manifest for lack of blobs that it claimed to have. Upload them without asking."""


class StorageError(MirrorError):
    """The operating system refused a read or a write."""


class ListenError(MirrorError):
    """An address that is in use, or does not belong to this machine."""


class ContentError(MirrorError):
    """Content that is not what was requested. It is not kept."""

    exit_code = 3


class InvalidDigest(ContentError):
    """Text outside the grammar of digests (OCI image-spec)."""


class InvalidContent(ContentError):
    """JSON, a descriptor or a manifest that violates its specification."""


class SizeConflict(InvalidContent):
    """Two descriptors with one digest and two sizes (`sizes`, in bytes)."""

    def __init__(self, digest: str, sizes: tuple[int, int]) -> None:
        super().__init__(f"Two manifests disagree about the size of {digest}: {sizes[0]} and {sizes[1]} bytes.")
        self.sizes = sizes


class TypeConflict(InvalidContent):
    """Two descriptors with one digest and two media types (`types`), at least one of them a manifest's."""

    def __init__(self, digest: str, types: tuple[str, str]) -> None:
        super().__init__(f"Two manifests disagree about the type of {digest}: {types[0]} and {types[1]}.")
        self.types = types


class LimitExceeded(InvalidContent):
    """An image with more manifests, or a deeper nesting of them, than any genuine image has."""


class UnsupportedManifest(InvalidContent):
    """A manifest of a type that is not supported here. It may be valid, but what it references is not known."""


class CorruptCompression(InvalidContent):
    """A compressed stream that is malformed or truncated."""


class UnsupportedCompression(InvalidContent):
    """Content that may be valid, but whose compression is not supported here."""


class DecompressionBomb(InvalidContent):
    """Content that decompresses to more than `limit` bytes; None: to more than is left for a whole store."""

    def __init__(self, text: str, *, limit: int | None) -> None:
        super().__init__(text)
        self.limit = limit


class SizeMismatch(ContentError):
    """A body that is shorter or longer than its descriptor says.

    `want` and `got` are bytes; `got` is None if reading stopped at the first excess byte.
    """

    def __init__(self, what: str, *, want: int, got: int | None) -> None:
        found = "more" if got is None else f"{got} bytes"
        super().__init__(f"{what} should have {want} bytes and has {found}.")
        self.want = want
        self.got = got

    @property
    def transient(self) -> bool:
        """True for a short body, as after a cut connection; a long one stays wrong."""
        return self.got is not None and self.got < self.want


class DigestMismatch(ContentError):
    """A body of the right size with the wrong digest. `want` and `got` are digests."""

    def __init__(self, what: str, *, want: str, got: str) -> None:
        super().__init__(
            f"{what} does not match its digest: expected {want}, found {got}.",
            hint="The content was changed in transit or at its source, and has been discarded.",
        )
        self.want = want
        self.got = got


class StaleMirror(ContentError):
    """Wrong content from a mirror. It is not asked for that content again, so another attempt may succeed."""

    @property
    def transient(self) -> bool:
        return True


class BrokenLayout(ContentError):
    """A directory whose `oci-layout` or `index.json` is invalid."""


class BrokenArchive(ContentError):
    """A file whose tar headers or list of images are invalid.

    `unsupported`: it is not known to be damaged, but its form is not one that mirror reads.
    """

    def __init__(self, message: str, *, hint: str | None = None, unsupported: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.unsupported = unsupported


class InvalidRecord(ContentError):
    """A digest record with a line that cannot be parsed, or contradicts another one. `line` counts from 1."""

    def __init__(self, message: str, *, line: int | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.line = line


class PartialFailure(MirrorError):
    """Some images failed with --keep-going (`failures`), or some referrers of images that succeeded.

    If nothing succeeded (`nothing_done`), the exit code is that of the first failure.
    """

    exit_code = 4

    def __init__(self, message: str, failures: Sequence[MirrorError], *, nothing_done: bool = False) -> None:
        super().__init__(message)
        self.failures = tuple(failures)
        if nothing_done:
            self.exit_code = failures[0].exit_code
