"""Tests of unpacking layers: wrong content, broken streams and decompression bombs."""

import asyncio
import gzip
import hashlib
import io
import lzma
import random
import sys
import tarfile
import tracemalloc
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror import VerifyOptions, verify_layout
from mirror.content import decompress
from mirror.content.decompress import Allowance
from mirror.content.finding import Finding, Kind, Severity
from mirror.content.hashing import hash_blob
from mirror.oci.digest import Digest
from mirror.verify.unpack import Layer
from tests.content.test_hashing import MemoryReader
from tests.support import layouts
from tests.support.images import OCI_LAYER, Blob, digest_of, image
from tests.support.strategies import QUICK

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

NOISE = random.Random(1).randbytes(300_000)
EMPTY_GZIP = gzip.compress(b"")
SKIPPABLE = b"\x50\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"aside"


def tar() -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for number in range(3):
            info = tarfile.TarInfo(f"file{number}")
            info.size = len(NOISE) // 3
            archive.addfile(info, io.BytesIO(NOISE[number * info.size :]))
    return packed.getvalue()


TAR = tar()
HALVES = TAR[:100_000], TAR[100_000:]
PACKED: dict[str, bytes] = {
    "nothing": TAR,
    "gzip": gzip.compress(TAR),
    "gzip, stored": gzip.compress(TAR, 0),
    "gzip, two members": b"".join(map(gzip.compress, HALVES)),
    "gzip, empty members": EMPTY_GZIP + gzip.compress(TAR) + EMPTY_GZIP,
    "gzip, a member for each kilobyte": b"".join(gzip.compress(TAR[at : at + 1000]) for at in range(0, len(TAR), 1000)),
    "zstd": zstd.compress(TAR),
    "zstd, two frames": b"".join(map(zstd.compress, HALVES)),
    "zstd, skippable frames": SKIPPABLE + zstd.compress(HALVES[0]) + SKIPPABLE + zstd.compress(HALVES[1]) + SKIPPABLE,
}


def findings(packed: bytes, content: bytes = TAR, wanted: str | None = None, *, is_tar: bool = True) -> list[Finding]:
    """Return the findings in a layer that should unpack to `content`."""
    digest = Digest.of(packed)
    diff_ids, allowance = [Digest.parse(wanted or Digest.of(content))], Allowance(len(packed))
    layer = Layer(digest, len(packed), diff_ids, tar=is_tar, allowance=allowance)
    assert hash_blob(MemoryReader(packed), digest, len(packed), through=layer).ok
    return list(layer.findings())


def kinds(found: list[Finding]) -> list[Kind]:
    return [finding.kind for finding in found]


@pytest.mark.parametrize("form", PACKED)
def test_correct_layer_has_no_findings_in_any_compression(form: str) -> None:
    assert findings(PACKED[form]) == []


@pytest.mark.parametrize("form", PACKED)
def test_wrong_content_is_found_in_any_compression(form: str) -> None:
    (found,) = findings(PACKED[form], TAR + b"\0")
    assert (found.kind, found.severity) == (Kind.WRONG_DIFF_ID, Severity.ERROR)
    assert found.found == Digest.of(TAR)
    assert found.expected == Digest.of(TAR + b"\0")


@pytest.mark.parametrize("algorithm", ["sha256", "sha384", "sha512"])
def test_diff_id_may_use_any_supported_algorithm(algorithm: str) -> None:
    assert findings(PACKED["gzip"], wanted=f"{algorithm}:{hashlib.new(algorithm, TAR).hexdigest()}") == []
    wrong = f"{algorithm}:{hashlib.new(algorithm, b'').hexdigest()}"
    assert kinds(findings(PACKED["gzip"], wanted=wrong)) == [Kind.WRONG_DIFF_ID]


def test_diff_id_with_an_unsupported_algorithm_is_unverified() -> None:
    (found,) = findings(PACKED["gzip"], wanted="blake3:abc")
    assert (found.kind, found.severity) == (Kind.UNHASHABLE, Severity.UNVERIFIED)


@pytest.mark.parametrize("content", [b"", b"x"])
def test_tiny_layers_are_accepted(content: bytes) -> None:
    for packed in (content, gzip.compress(content), zstd.compress(content)):
        assert findings(packed, content, is_tar=False) == []


# Broken streams


@pytest.mark.parametrize("form", [form for form in PACKED if form != "nothing"])
@pytest.mark.parametrize("cut", [3, 9, 0.3, 0.999, -1])
def test_truncated_stream_is_found(form: str, cut: float) -> None:
    packed = PACKED[form]
    short = packed[: int(cut * len(packed)) if 0 < cut < 1 else int(cut)]
    assert kinds(findings(short)) in ([Kind.BROKEN_LAYER], [Kind.WRONG_DIFF_ID])
    assert Severity.ERROR in {finding.severity for finding in findings(short)}


@pytest.mark.parametrize("form", ["gzip", "zstd", "gzip, two members", "zstd, two frames"])
@pytest.mark.parametrize("garbage", [b"x", bytes(512), b"\x1f\x8b", b"garbage" * 50_000])
def test_garbage_after_a_stream_is_found(form: str, garbage: bytes) -> None:
    (found,) = findings(PACKED[form] + garbage)
    assert (found.kind, found.severity) == (Kind.BROKEN_LAYER, Severity.ERROR)


@pytest.mark.parametrize("form", ["gzip", "zstd"])
@QUICK
@given(data=st.data())
def test_damaged_stream_does_not_raise(form: str, data: st.DataObject) -> None:
    packed = bytearray(PACKED[form])
    at = data.draw(st.integers(12, len(packed) - 1))
    packed[at] ^= data.draw(st.integers(1, 255))
    found = findings(bytes(packed))
    assert {finding.severity for finding in found} <= {Severity.ERROR, Severity.UNVERIFIED, Severity.WARNING}


@pytest.mark.parametrize("at", [-1, -5])
def test_wrong_gzip_checksum_or_length_is_found(at: int) -> None:
    packed = bytearray(PACKED["gzip"])
    packed[at] ^= 1
    assert kinds(findings(bytes(packed))) == [Kind.BROKEN_LAYER]


@pytest.mark.parametrize(
    "packed", [lzma.compress(TAR), b"BZh91AY&SY" + NOISE, b"\x04\x22\x4d\x18" + NOISE], ids=["xz", "bzip2", "lz4"]
)
def test_unknown_compressions_are_unverified(packed: bytes) -> None:
    (found,) = findings(packed)
    assert (found.kind, found.severity) == (Kind.UNKNOWN_COMPRESSION, Severity.UNVERIFIED)


def test_huge_zstd_window_is_unverified() -> None:
    options: dict[int, int] = {zstd.CompressionParameter.window_log: 30, zstd.CompressionParameter.checksum_flag: 1}
    compressor = zstd.ZstdCompressor(options=options)
    packed = compressor.compress(TAR) + compressor.flush()
    (found,) = findings(packed)
    assert (found.kind, found.severity) == (Kind.UNKNOWN_COMPRESSION, Severity.UNVERIFIED)


# Archives


def test_content_that_is_not_a_tar_archive_warns_if_one_is_expected() -> None:
    (found,) = findings(gzip.compress(b"{}"), b"{}")
    assert (found.kind, found.severity) == (Kind.NOT_A_TAR, Severity.WARNING)
    assert findings(gzip.compress(b"{}"), b"{}", is_tar=False) == []


def test_dangerous_and_duplicate_paths_are_warnings() -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name in ("../x", "a", "a"):
            archive.addfile(tarfile.TarInfo(name))
    found = findings(gzip.compress(packed.getvalue()), packed.getvalue())
    assert [(one.kind, one.severity, one.found) for one in found] == [
        (Kind.DUPLICATE_PATH, Severity.WARNING, "a"),
        (Kind.DANGEROUS_PATH, Severity.WARNING, "../x"),
    ]


# Bombs


def zeros(size: int) -> bytes:
    """Return zeros compressed with gzip to about a thousandth of `size`."""
    compressor = zlib.compressobj(9, wbits=31)
    block = bytes(1 << 20)
    return b"".join(compressor.compress(block) for _ in range(size >> 20)) + compressor.flush()


@pytest.fixture
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decompress, "FREE", 8 << 20)
    monkeypatch.setattr(decompress, "RATIO", 10)


@pytest.mark.usefixtures("small_limits")
@pytest.mark.parametrize("packed", [zeros(64 << 20), zstd.compress(bytes(64 << 20))], ids=["gzip", "zstd"])
def test_bomb_is_found_before_it_is_fully_unpacked(packed: bytes) -> None:
    tracemalloc.start()
    (found,) = findings(packed, b"")
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (found.kind, found.severity) == (Kind.BOMB, Severity.ERROR)
    assert most < 6 << 20


@pytest.mark.slow
@pytest.mark.usefixtures("small_limits")
def test_zeros_up_to_the_limit_are_not_a_bomb() -> None:
    assert findings(zeros(8 << 20), bytes(8 << 20), is_tar=False) == []


@pytest.mark.slow
@pytest.mark.usefixtures("small_limits")
def test_large_content_with_a_low_ratio_is_not_a_bomb() -> None:
    content = NOISE * 40
    packed = b"".join(gzip.compress(NOISE, 0) for _ in range(40))
    assert findings(packed, content, is_tar=False) == []


@pytest.mark.slow
@pytest.mark.timeout(60)
def test_ten_gigabytes_of_zeros_are_a_bomb() -> None:
    """Unpack 10,000 gzip members of a megabyte of zeros each."""
    member = gzip.compress(bytes(1 << 20), 9)
    (found,) = findings(member * 10_000, b"")
    assert found.kind is Kind.BOMB


@pytest.mark.usefixtures("small_limits")
def test_layers_that_unpack_to_too_much_together_are_a_bomb(tmp_path: Path) -> None:
    contents = [bytes([number]) * (3 << 20) for number in range(3)]
    layers = [Blob.of(gzip.compress(one), OCI_LAYER, digest_of(one)) for one in contents]
    layout = layouts.write(tmp_path / "layout", image("linux/amd64", *layers))
    report = asyncio.run(verify_layout(layout, options=VerifyOptions("layers", threads=1)))
    bombs = [finding for finding in report.findings if finding.kind is Kind.BOMB]
    assert [one.message for one in bombs] == ["unpacks to more than is allowed"]
    assert report.verdict == "not ok"
