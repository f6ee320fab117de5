"""Tests of the exceptions: exit codes, messages, and whether a retry may help."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from mirror import errors
from mirror.errors import (
    DigestMismatch,
    MirrorError,
    PartialFailure,
    SizeMismatch,
    StaleMirror,
    TransferError,
    Unauthorized,
)

CODES = {
    "MirrorError": 1,
    "UsageError": 2,
    "InvalidReference": 2,
    "ConfigError": 2,
    "NotFound": 2,
    "TransferError": 1,
    "Unauthorized": 1,
    "BlobsUnknown": 1,
    "StorageError": 1,
    "ListenError": 1,
    "ContentError": 3,
    "InvalidDigest": 3,
    "InvalidContent": 3,
    "SizeConflict": 3,
    "TypeConflict": 3,
    "LimitExceeded": 3,
    "UnsupportedManifest": 3,
    "CorruptCompression": 3,
    "UnsupportedCompression": 3,
    "DecompressionBomb": 3,
    "SizeMismatch": 3,
    "DigestMismatch": 3,
    "StaleMirror": 3,
    "BrokenLayout": 3,
    "BrokenArchive": 3,
    "InvalidRecord": 3,
    "PartialFailure": 4,
}


def tree(root: type[MirrorError] = MirrorError) -> Iterator[type[MirrorError]]:
    yield root
    for child in root.__subclasses__():
        yield from tree(child)


def test_every_error_has_its_exit_code() -> None:
    assert {error.__name__: error.exit_code for error in tree()} == CODES


def test_docstring_lists_every_error_and_its_exit_code() -> None:
    drawn = re.findall(r"^[ │├└─]*(\w+) +(\d) ", errors.__doc__ or "", re.MULTILINE)
    assert {name: int(code) for name, code in drawn} == CODES


def test_codes_are_documented() -> None:
    text = (Path(__file__).parent.parent / "docs/reference/exit-codes.md").read_text()
    documented = dict(re.findall(r"^\| `([a-z-]+)` \| (\d+) \| \S", text, re.MULTILINE))
    codes = {error.code: str(error.exit_code) for error in tree()}
    assert documented == codes | {"interrupted": "130"}


def test_code_is_the_name_of_the_class_in_kebab_case() -> None:
    assert (MirrorError.code, errors.NotFound.code) == ("mirror-error", "not-found")
    assert errors.DecompressionBomb("It grows.", limit=1).code == "decompression-bomb"


def test_docstring_shows_the_base_of_every_error() -> None:
    parents: dict[int, str] = {}
    for indent, name in re.findall(r"^([ │├└─]*)(\w+) +\d ", errors.__doc__ or "", re.MULTILINE):
        parents[len(indent)] = name
        above = [parents[depth] for depth in sorted(parents) if depth < len(indent)]
        bases = [base.__name__ for base in getattr(errors, name).__mro__[1:]]
        assert not above or above[-1] == bases[0]


def test_hint_is_not_part_of_the_message() -> None:
    error = MirrorError("It broke.", hint="Mend it.")
    assert (str(error), error.hint) == ("It broke.", "Mend it.")


@pytest.mark.parametrize(("got", "again"), [(0, True), (9, True), (11, False), (None, False)])
def test_size_mismatch_is_transient_only_if_the_body_is_short(got: int | None, again: bool) -> None:
    assert SizeMismatch("It", want=10, got=got).transient is again


@pytest.mark.parametrize(("got", "says"), [(9, "has 9 bytes"), (None, "has more")])
def test_size_mismatch_names_both_sizes(got: int | None, says: str) -> None:
    text = str(SizeMismatch("It", want=10, got=got))
    assert "10 bytes" in text
    assert says in text


def test_digest_mismatch_names_both_digests_and_is_not_transient() -> None:
    error = DigestMismatch("It", want="sha256:a", got="sha256:b")
    assert (error.want, error.got, error.transient) == ("sha256:a", "sha256:b", False)
    assert "expected sha256:a, found sha256:b" in str(error)


def test_stale_mirror_is_transient() -> None:
    """The next attempt does not use that mirror."""
    assert StaleMirror("It broke.").transient is True


SPECIAL = (
    PartialFailure,
    DigestMismatch,
    StaleMirror,
    SizeMismatch,
    errors.SizeConflict,
    errors.TypeConflict,
    errors.DecompressionBomb,
)


@pytest.mark.parametrize("error", [error for error in tree() if error not in SPECIAL])
def test_errors_are_not_transient_by_default(error: type[MirrorError]) -> None:
    assert error("It broke.").transient is False


@pytest.mark.parametrize("error", [TransferError, Unauthorized])
def test_transfer_error_has_status_and_retry_after(error: type[TransferError]) -> None:
    raised = error("It broke.", status=429, transient=True, retry_after=7.0)
    assert (raised.status, raised.transient, raised.retry_after) == (429, True, 7.0)


def test_partial_failure_has_the_failures() -> None:
    failures = [MirrorError("one"), SizeMismatch("It", want=1, got=0)]
    assert PartialFailure("2 of 3 images failed.", failures).failures == tuple(failures)
