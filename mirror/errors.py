"""Every way in which `mirror` fails, in one tree.

    MirrorError                 1  something failed
    ├── UsageError              2  the person asked for something that cannot be
    │   ├── InvalidReference    2  an image name that no registry can have
    │   ├── ConfigError         2  a settings file that cannot be used
    │   └── NotFound            2  an image, a platform or a folder that does not exist
    ├── TransferError           1  a registry could not be reached, or refused
    │   ├── Unauthorized        1  … because of who we are
    │   └── BlobsUnknown        1  … a manifest, since it lacks blobs that it said it had
    ├── StorageError            1  a disk that is full, read-only or broken
    ├── ListenError             1  an address that a server cannot have
    ├── ContentError            3  content that is not what it should be
    │   ├── InvalidDigest       3  text that is no digest
    │   ├── InvalidContent      3  JSON or a manifest that breaks its specification
    │   │   ├── SizeConflict    3  … two descriptors that give one digest two sizes
    │   │   ├── TypeConflict    3  … two descriptors that give one digest two types
    │   │   ├── LimitExceeded   3  … more manifests than a genuine image has
    │   │   ├── CorruptCompression      3  … a compressed stream that is broken
    │   │   ├── UnsupportedCompression  3  … a compression that cannot be unpacked here
    │   │   └── DecompressionBomb       3  … content that unpacks to too much
    │   ├── SizeMismatch        3  fewer or more bytes than the descriptor says
    │   ├── DigestMismatch      3  bytes that hash to something else
    │   ├── StaleMirror         3  … from a mirror, while there is somebody else to ask
    │   ├── BrokenLayout        3  a folder that should be an OCI image layout and is not
    │   ├── BrokenArchive       3  a file that should be an archive of images and is not
    │   └── InvalidRecord       3  a digest record that cannot be understood, or contradicts itself
    └── PartialFailure          4  some is done and some failed: of several images, or of what refers to them; where
                                   nothing is done, the code of the first failure

The message is one sentence that says what happened, to what, and where; `hint` is what the person can do about it.
Only `mirror.cli` turns an error into an exit.
"""

from __future__ import annotations

from collections.abc import Sequence


class MirrorError(Exception):
    """The root of the tree: catch this to catch everything that `mirror` raises on purpose."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint

    @property
    def transient(self) -> bool:
        """Whether the same request may succeed when it is made again."""
        return False


class UsageError(MirrorError):
    """What was asked for cannot be: a flag, a name, a folder."""

    exit_code = 2


class InvalidReference(UsageError):
    """An image name outside the grammar of the distribution specification."""


class ConfigError(UsageError):
    """A settings file with an unknown key, a wrong type or broken TOML."""


class NotFound(UsageError):
    """An image, a platform or a folder that is not there."""


class TransferError(MirrorError):
    """A request that a registry refused, or that never got an answer.

    `status` is the HTTP status where there was one; `retry_after` the pause in seconds that the server asked for.
    `said` is what it said in the specification's form: error codes, each with its message.
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
        self.said = said
        self._transient = transient

    @property
    def transient(self) -> bool:
        return self._transient


class Unauthorized(TransferError):
    """The registry wants credentials, or others than it was given (401, 403)."""


class BlobsUnknown(TransferError):
    """The registry has said that it has blobs, and says now that it has not. They have to be put without asking."""


class StorageError(MirrorError):
    """The operating system refused a read or a write."""


class ListenError(MirrorError):
    """An address that is taken, or is not this machine's."""


class ContentError(MirrorError):
    """Bytes that are not what was named. Nothing of them is kept."""

    exit_code = 3


class InvalidDigest(ContentError):
    """Text that should be a digest and is outside the grammar of the image specification."""


class InvalidContent(ContentError):
    """JSON, a descriptor or a manifest that breaks its specification."""


class SizeConflict(InvalidContent):
    """Two descriptors that give one digest two sizes (`sizes`, in bytes)."""

    def __init__(self, digest: str, sizes: tuple[int, int]) -> None:
        super().__init__(f"Two manifests disagree about the size of {digest}: {sizes[0]} and {sizes[1]} bytes.")
        self.sizes = sizes


class TypeConflict(InvalidContent):
    """Two descriptors that give one digest two media types (`types`), at least one of them a manifest's."""

    def __init__(self, digest: str, types: tuple[str, str]) -> None:
        super().__init__(f"Two manifests disagree about the type of {digest}: {types[0]} and {types[1]}.")
        self.types = types


class LimitExceeded(InvalidContent):
    """An image with more manifests, or a deeper nesting of them, than any genuine image has."""


class CorruptCompression(InvalidContent):
    """A compressed stream that breaks its format, or ends too early."""


class UnsupportedCompression(InvalidContent):
    """Content that may be right, but cannot be unpacked here."""


class DecompressionBomb(InvalidContent):
    """Content that unpacks to more than `limit` bytes."""

    def __init__(self, text: str, *, limit: int) -> None:
        super().__init__(text)
        self.limit = limit


class SizeMismatch(ContentError):
    """A body that is shorter or longer than its descriptor says. `want` and `got` are bytes.

    `got` is None where reading stopped at the first byte too many.
    """

    def __init__(self, what: str, *, want: int, got: int | None) -> None:
        found = "more" if got is None else f"{got} bytes"
        super().__init__(f"{what} should have {want} bytes and has {found}.")
        self.want = want
        self.got = got

    @property
    def transient(self) -> bool:
        """A short body is what a cut connection looks like; a long one is a lie, and stays one."""
        return self.got is not None and self.got < self.want


class DigestMismatch(ContentError):
    """A body of the right size that hashes to something else. `want` and `got` are digests."""

    def __init__(self, what: str, *, want: str, got: str) -> None:
        super().__init__(
            f"{what} does not match its digest: expected {want}, found {got}.",
            hint="The bytes were changed on the way or at their source. Nothing of them was kept.",
        )
        self.want = want
        self.got = got


class StaleMirror(ContentError):
    """A mirror has sent something else than what was named. It is not asked for it again, so asking again may help."""

    @property
    def transient(self) -> bool:
        return True


class BrokenLayout(ContentError):
    """A folder whose `oci-layout` or `index.json` cannot be trusted."""


class BrokenArchive(ContentError):
    """A file whose tar headers, or whose list of images, cannot be trusted."""


class InvalidRecord(ContentError):
    """A digest record with a line that cannot be understood, or that contradicts another one. `line` counts from 1."""

    def __init__(self, message: str, *, line: int | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.line = line


class PartialFailure(MirrorError):
    """With --keep-going, images have failed (`failures`); or all are done, but not all that refers to them.

    Where nothing is done, it counts as its first failure does.
    """

    exit_code = 4

    def __init__(self, message: str, failures: Sequence[MirrorError], *, nothing_done: bool = False) -> None:
        super().__init__(message)
        self.failures = tuple(failures)
        if nothing_done:
            self.exit_code = failures[0].exit_code
