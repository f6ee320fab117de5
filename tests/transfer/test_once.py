"""Tests of what a transfer does only once: hash each document of a store, and parse it."""

import asyncio
import hashlib
from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mirror import PlatformSelection, PullOptions, export_layout, import_archive, pull_images, push_images, strictjson
from mirror.oci import digest, manifest
from mirror.oci.manifest import Document
from mirror.recent import Recent
from mirror.report.transfers import TransferReport
from tests.support import images
from tests.support.images import digest_of
from tests.support.registry import EmbeddedRegistry

KINDS = [
    images.image(platform, images.layer(number, 300)) for number, platform in enumerate(("linux/amd64", "linux/arm"))
]
IMAGES = [
    images.index([*KINDS, images.attestation(KINDS[0])]),
    images.image("linux/arm64", images.layer(7, 300)),
]
SIGNATURES = [images.signature(one, payload=bytes([number])) for number, one in enumerate(IMAGES)]
DOCUMENTS = {found for one in (*IMAGES, *SIGNATURES) for found in one.manifests} | {
    one.root for one in (*IMAGES, *SIGNATURES)
}


class Counted:
    """The number of times that mirror has hashed and parsed each content."""

    def __init__(self) -> None:
        self.hashed, self.parsed = Counter[str](), Counter[str]()


class CountingHasher:
    """SHA-256 that notes each finished digest once."""

    def __init__(self, found: Counter[str], data: bytes = b"") -> None:
        self._found, self._hasher, self._noted = found, hashlib.sha256(data), ""

    def update(self, data: bytes | memoryview) -> None:
        self._hasher.update(data)

    def hexdigest(self) -> str:
        found = self._hasher.hexdigest()
        if found != self._noted:
            self._found[f"sha256:{found}"] += 1
            self._noted = found
        return found


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    counted, loads = Counted(), strictjson.loads

    def hasher(data: bytes = b"") -> CountingHasher:
        return CountingHasher(counted.hashed, data)

    def parse(data: bytes, what: str) -> Any:
        counted.parsed[digest_of(data)] += 1
        return loads(data, what)

    monkeypatch.setattr(digest, "hashlib", SimpleNamespace(sha256=hasher))
    monkeypatch.setitem(digest._HASHERS, "sha256", hasher)
    monkeypatch.setattr(strictjson, "loads", parse)
    monkeypatch.setattr("mirror.fs.filestate._COARSEST", -1.0)  # files are as good as old
    return counted


@pytest.fixture
def call(counted: Counted, monkeypatch: pytest.MonkeyPatch) -> Callable[[Coroutine[Any, Any, TransferReport]], Counted]:
    """Run one command as a process of its own would, and return what it has hashed and parsed."""

    def run(command: Coroutine[Any, Any, TransferReport]) -> Counted:
        monkeypatch.setattr(manifest, "_PARSED", Recent[tuple[bytes, str | None], Document](2**20))
        counted.hashed.clear()
        counted.parsed.clear()
        asyncio.run(command).raise_failures()
        return counted

    return run


def test_documents_are_hashed_and_parsed_once(
    registry: EmbeddedRegistry, call: Callable[[Coroutine[Any, Any, TransferReport]], Counted], tmp_path: Path
) -> None:
    for number, (image, signature) in enumerate(zip(IMAGES, SIGNATURES, strict=True)):
        image.publish(registry, f"team/app{number}", "v1")
        signature.publish(registry, f"team/app{number}", images.cosign_tag(image))
    layout, archive = tmp_path / "layout", tmp_path / "images.tar"
    names = [f"{registry.host}/team/app{number}:v1" for number in range(len(IMAGES))]
    options = PullOptions(platforms=PlatformSelection(all=True))

    def pull() -> Coroutine[Any, Any, TransferReport]:
        return pull_images(names, layout, options)

    for command in (
        pull(),
        pull(),
        export_layout(layout, archive),
        import_archive(archive, tmp_path / "other"),
    ):
        found = call(command)
        assert [found.hashed[one] for one in sorted(DOCUMENTS)] == [1] * len(DOCUMENTS)
        assert [found.parsed[one] for one in sorted(DOCUMENTS)] == [1] * len(DOCUMENTS)
    found = call(push_images(layout, f"{registry.host}/private"))
    roots = {one.root for one in (*IMAGES, *SIGNATURES)}  # are read back
    assert {one: found.hashed[one] for one in DOCUMENTS} == {one: 1 + (one in roots) for one in DOCUMENTS}
    assert [found.parsed[one] for one in sorted(DOCUMENTS)] == [1] * len(DOCUMENTS)
