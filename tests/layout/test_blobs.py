"""Tests of checking the files of blobs in a layout."""

import errno
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mirror.content.hashing import READ, BlobCheck, BlobFault, hash_blob
from mirror.errors import BrokenLayout, StorageError
from mirror.fs.directory import Directory
from mirror.layout.blobs import Blobs
from mirror.oci.digest import Digest
from tests.fs.test_directory import ODD, make
from tests.support.strategies import digest_by

DATA = b"0123456789"
DIGEST = Digest.of(DATA)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Create a directory with an empty `blobs/sha256`."""
    (tmp_path / "blobs" / "sha256").mkdir(parents=True)
    return tmp_path


@pytest.fixture
def blobs(root: Path) -> Iterator[Blobs]:
    with Directory.open(root) as folder:
        found = Blobs(folder)
        yield found
        found.close()


def path_of(root: Path, digest: str = DIGEST) -> Path:
    return root.joinpath("blobs", *digest.split(":"))


def store(root: Path, data: bytes, digest: str = DIGEST) -> Digest:
    path_of(root, digest).parent.mkdir(exist_ok=True)
    path_of(root, digest).write_bytes(data)
    return Digest.parse(digest)


def examine(
    blobs: Blobs, digest: Digest, size: int | None, advance: Callable[[int], None] = lambda _: None
) -> BlobCheck:
    return hash_blob(blobs.look(digest), digest, size, advance=advance)


# Correct blobs


@pytest.mark.parametrize("algorithm", ["sha256", "sha384", "sha512"])
@pytest.mark.parametrize("size", [0, 1, 10, READ - 1, READ, READ + 1, 3 * READ])
def test_correct_blob_is_ok(root: Path, blobs: Blobs, algorithm: str, size: int) -> None:
    data = os.urandom(size)
    verdict = examine(blobs, store(root, data, digest_by(algorithm, data)), size)
    assert (verdict.ok, verdict.fault, verdict.size) == (True, None, size)


def test_size_of_an_orphan_is_not_checked(root: Path, blobs: Blobs) -> None:
    assert examine(blobs, store(root, DATA), None).ok


def test_every_byte_that_is_read_is_counted(root: Path, blobs: Blobs) -> None:
    data = bytes(READ + 5)
    counted: list[int] = []
    examine(blobs, store(root, data, Digest.of(data)), len(data), advance=counted.append)
    assert sum(counted) == len(data)


def test_interrupted_check_closes_the_blob(root: Path, blobs: Blobs) -> None:
    def stop(_: int) -> None:
        raise KeyboardInterrupt

    open_before = len(os.listdir("/dev/fd"))
    store(root, DATA)
    blobs.directory("sha256")
    with pytest.raises(KeyboardInterrupt):
        examine(blobs, DIGEST, len(DATA), advance=stop)
    assert len(os.listdir("/dev/fd")) == open_before + 1  # the directory of the algorithm


# Faults


@pytest.mark.parametrize(
    ("data", "flaw", "expected", "found"),
    [
        (DATA[:-1], BlobFault.TOO_SHORT, "10 bytes", "9 bytes"),
        (b"", BlobFault.TOO_SHORT, "10 bytes", "0 bytes"),
        (DATA + b"\0", BlobFault.TOO_LONG, "10 bytes", "11 bytes"),
        (b"1" + DATA[1:], BlobFault.CORRUPT, DIGEST, Digest.of(b"1" + DATA[1:])),
        (DATA[:5] + b"4" + DATA[6:], BlobFault.CORRUPT, DIGEST, Digest.of(b"0123446789")),
        (DATA[:-1] + b"8", BlobFault.CORRUPT, DIGEST, Digest.of(DATA[:-1] + b"8")),
    ],
)
def test_fault_describes_the_wrong_content(
    root: Path, blobs: Blobs, data: bytes, flaw: BlobFault, expected: str, found: str
) -> None:
    verdict = examine(blobs, store(root, data), len(DATA))
    assert (verdict.fault, verdict.expected, verdict.found) == (flaw, expected, found)
    assert verdict.size == len(data)


def test_orphan_with_wrong_bytes_is_corrupt(root: Path, blobs: Blobs) -> None:
    assert examine(blobs, store(root, DATA[:-1]), None).fault is BlobFault.CORRUPT


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", ODD)
def test_blob_path_that_is_not_a_regular_file_is_a_fault(root: Path, blobs: Blobs, kind: str) -> None:
    make(path_of(root), kind)
    assert examine(blobs, DIGEST, len(DATA)).fault is BlobFault.NOT_A_FILE
    assert blobs.size(DIGEST) is None
    with pytest.raises(BrokenLayout, match="should be a file"):
        blobs.open(DIGEST)


def test_symbolic_link_to_correct_content_is_a_fault(root: Path, blobs: Blobs) -> None:
    (root / "right").write_bytes(DATA)
    path_of(root).symlink_to(root / "right")
    verdict = examine(blobs, DIGEST, len(DATA))
    assert (verdict.fault, verdict.found) == (BlobFault.NOT_A_FILE, "a symbolic link")


@pytest.mark.parametrize("where", ["blobs", "blobs/sha256"])
@pytest.mark.parametrize("kind", ["file", "link", "link to a directory", "dangling"])
def test_file_or_link_instead_of_a_blob_directory_is_a_fault(root: Path, blobs: Blobs, where: str, kind: str) -> None:
    store(root, DATA)
    (root / where).rename(root / "real")
    (root / where).write_bytes(b"") if kind == "file" else make(root / where, kind)
    verdict = examine(blobs, DIGEST, len(DATA))
    assert verdict.fault is BlobFault.NOT_A_FILE
    with pytest.raises(BrokenLayout):
        blobs.open(DIGEST)


@pytest.mark.parametrize("gone", ["blobs/sha256", "blobs"])
def test_blob_without_its_directory_is_missing(root: Path, blobs: Blobs, gone: str) -> None:
    (root / "blobs" / "sha256").rmdir()
    if gone == "blobs":
        (root / "blobs").rmdir()
    assert examine(blobs, DIGEST, len(DATA)).fault is BlobFault.MISSING
    assert blobs.size(DIGEST) is None
    with pytest.raises(BrokenLayout, match="is missing"):
        blobs.open(DIGEST)


def test_blob_of_an_unsupported_algorithm_is_unhashable(root: Path, blobs: Blobs) -> None:
    digest = store(root, DATA, "md5:781e5e245d69b566979b86e28d23f2c7")
    assert examine(blobs, digest, len(DATA)).fault is BlobFault.UNHASHABLE


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.ESTALE])
@pytest.mark.parametrize("call", ["readv", "open"])
def test_blob_with_a_read_error_is_unreadable(
    root: Path, blobs: Blobs, monkeypatch: pytest.MonkeyPatch, number: int, call: str
) -> None:
    def fail(*_: object, **__: object) -> int:
        raise OSError(number, "no")

    store(root, DATA)
    blobs.directory("sha256")
    monkeypatch.setattr(f"mirror.layout.blobs.os.{call}", fail)
    verdict = examine(blobs, DIGEST, len(DATA))
    assert verdict.fault is BlobFault.UNREADABLE
    assert verdict.found == os.strerror(number).lower()


def test_error_of_opening_a_blob_contains_the_reason(root: Path, blobs: Blobs, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> int:
        raise OSError(errno.EACCES, "no")

    store(root, DATA)
    blobs.directory("sha256")
    monkeypatch.setattr("mirror.fs.directory.os.open", fail)
    with pytest.raises(StorageError, match="permission denied"):
        blobs.open(DIGEST)


def test_digest_too_long_for_a_file_name_is_a_fault(blobs: Blobs) -> None:
    digest = Digest.parse("a:" + "b" * 254)
    assert not examine(blobs, digest, 1).ok


# Reading


def test_opened_blob_can_be_read(root: Path, blobs: Blobs) -> None:
    with os.fdopen(blobs.open(store(root, DATA)), "rb") as file:
        assert file.read() == DATA
    assert blobs.size(DIGEST) == len(DATA)


# Stored files


def test_stored_lists_all_file_names(root: Path, blobs: Blobs) -> None:
    store(root, DATA)
    store(root, b"", digest_by("sha512", b""))
    (root / "blobs" / "sha256" / "not a digest").write_bytes(b"")
    (root / "blobs" / "file").write_bytes(b"")
    make(root / "blobs" / "link", "link to a directory")
    found = set(blobs.stored())
    assert ("sha256", DIGEST.encoded) in found
    assert ("sha512", digest_by("sha512", b"").partition(":")[2]) in found
    assert {("sha256", "not a digest"), ("file", ""), ("link", "")} <= found


def test_stored_is_empty_without_a_blobs_directory(tmp_path: Path) -> None:
    with Directory.open(tmp_path) as folder:
        assert list(Blobs(folder).stored()) == []


def test_checks_create_no_files(root: Path, blobs: Blobs) -> None:
    looks: list[Callable[[], object]] = [
        lambda: examine(blobs, Digest.parse("sha512:" + "0" * 128), 1),
        lambda: blobs.size(DIGEST),
        lambda: list(blobs.stored()),
    ]
    for look in looks:
        look()
    assert sorted(path.name for path in root.rglob("*")) == ["blobs", "sha256"]


def test_directory_of_an_algorithm_is_created_on_request(root: Path, blobs: Blobs) -> None:
    blobs.directory("sha512", create=True)
    assert stat.S_ISDIR((root / "blobs" / "sha512").stat().st_mode)
