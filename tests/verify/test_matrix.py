"""Tests of each kind of damage to each kind of file in each form of a layout.

A new kind of damage, kind of file or form takes one line.
"""

import asyncio
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from mirror import VerifyOptions, verify_layout
from mirror.errors import BrokenArchive
from mirror.report.findings import Verdict
from tests.support import images
from tests.support.images import Json

AMD64 = images.image("linux/amd64", images.layer(1, 900))
IMAGE = images.index([AMD64, images.image("linux/arm64", images.layer(2, 400))])
SIGNATURE = images.artifact("application/example", images.Blob.of(b"signed", "text/plain"), subject=IMAGE.descriptor())
MANIFEST = json.loads(AMD64.data)
KINDS = {
    "oci-layout": "oci-layout",
    "index.json": "index.json",
    "index": IMAGE.root,
    "manifest": AMD64.root,
    "config": MANIFEST["config"]["digest"],
    "layer": MANIFEST["layers"][0]["digest"],
    "referrer": SIGNATURE.root,
}
Files = dict[str, bytes]


def intact_files() -> Files:
    """Return the files of a layout with an image and a referrer: their contents by path."""
    contents = {digest: data for root in (IMAGE, SIGNATURE) for digest, (data, _) in root.manifests.items()}
    contents |= {**IMAGE.blobs, **SIGNATURE.blobs}
    entries: list[Json] = [IMAGE.descriptor(), SIGNATURE.descriptor()]
    index = {"schemaVersion": 2, "manifests": entries}
    return {
        "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
        "index.json": images.encode(index),
        **{path_of(digest): data for digest, data in contents.items()},
    }


def path_of(name: str) -> str:
    return f"blobs/{name.replace(':', '/')}" if ":" in name else name


def flip(part: float) -> Callable[[Files, str], None]:
    def flipped(files: Files, path: str) -> None:
        data = bytearray(files[path])
        data[min(int(len(data) * part), len(data) - 1)] ^= 1
        files[path] = bytes(data)

    return flipped


def delete(files: Files, path: str) -> None:
    del files[path]


def shorten(files: Files, path: str) -> None:
    files[path] = files[path][:-1]


def lengthen(files: Files, path: str) -> None:
    files[path] += b"!"


def empty(files: Files, path: str) -> None:
    files[path] = b""


def swap(files: Files, path: str) -> None:
    """Exchange the content with that of a blob of another size."""
    other = next(name for name in files if name.startswith("blobs/") and len(files[name]) != len(files[path]))
    files[path], files[other] = files[other], files[path]


DAMAGES: dict[str, tuple[Callable[[Files, str], None], set[str]]] = {
    "delete": (delete, {"missing"}),
    "shorten": (shorten, {"too-short"}),
    "lengthen": (lengthen, {"too-long"}),
    "empty": (empty, {"too-short"}),
    "first bit": (flip(0), {"corrupt"}),
    "middle bit": (flip(0.5), {"corrupt"}),
    "last bit": (flip(1), {"corrupt"}),
    "swap": (swap, {"too-short", "too-long", "corrupt"}),  # corrupt if it became an orphan by the swap
}


def directory(files: Files, where: Path) -> Path:
    (where / "layout/blobs/sha256").mkdir(parents=True)
    for name, data in files.items():
        (where / "layout" / name).write_bytes(data)
    return where / "layout"


def archive(files: Files, where: Path) -> Path:
    with tarfile.open(where / "layout.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return where / "layout.tar"


FORMS = {"directory": directory, "archive": archive}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("level", ["structure", "content", "layers"])
def test_intact_layout_has_no_errors_in_any_form(tmp_path: Path, form: str, level: str) -> None:
    report = asyncio.run(verify_layout(FORMS[form](intact_files(), tmp_path), options=VerifyOptions(level=level)))
    assert [finding.severity for finding in report.findings if finding.severity != "warning"] == []


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("damage", DAMAGES)
def test_every_damage_to_every_file_is_found_in_every_form(tmp_path: Path, form: str, kind: str, damage: str) -> None:
    files, path = intact_files(), path_of(KINDS[kind])
    how, expected = DAMAGES[damage]
    how(files, path)
    target = FORMS[form](files, tmp_path)
    if form == "archive" and (kind, damage) == ("oci-layout", "delete"):
        with pytest.raises(BrokenArchive):  # without `oci-layout`, the format of the archive is unknown
            asyncio.run(verify_layout(target))
        return
    report = asyncio.run(verify_layout(target, options=VerifyOptions(level="layers")))
    assert report.verdict is Verdict.NOT_OK
    errors = {(finding.kind, finding.subject) for finding in report.findings if finding.severity == "error"}
    if ":" in KINDS[kind]:
        assert {found for found, subject in errors if subject == KINDS[kind]} & expected
    else:
        assert errors
