"""Tests of `mirror verify` with invalid `oci-layout` and `index.json` files."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support import images
from tests.support.command import Json, Mirror, blob_path

IMAGE = images.image("linux/amd64", images.layer(1, 100))
GOOD = '{"imageLayoutVersion":"1.0.0"}'


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    """A valid layout with one image, as another tool writes it."""
    folder = tmp_path / "layout"
    for digest, data in {**IMAGE.blobs, IMAGE.root: IMAGE.data}.items():
        path = blob_path(folder, digest)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (folder / "index.json").write_bytes(index())
    (folder / "oci-layout").write_text(GOOD)
    return folder


def index(**fields: Any) -> bytes:
    return json.dumps({"schemaVersion": 2, "manifests": [IMAGE.descriptor()], **fields}).encode()


def entry(**fields: Any) -> bytes:
    """An index whose only entry has these fields changed."""
    return index(manifests=[{**IMAGE.descriptor(), **fields}])


def serious(report: Json) -> list[tuple[str, str]]:
    return [(each["kind"], each["subject"]) for each in report["findings"] if each["severity"] != "warning"]


OCI_LAYOUT: dict[str, bytes] = {
    "empty": b"",
    "not JSON": b"{",
    "a list": b"[]",
    "null": b"null",
    "text": b'"1.0.0"',
    "no version": b"{}",
    "another version": b'{"imageLayoutVersion":"1.0.1"}',
    "a number": b'{"imageLayoutVersion":1.0}',
    "null for a version": b'{"imageLayoutVersion":null}',
    "another case": b'{"ImageLayoutVersion":"1.0.0"}',
    "two versions": b'{"imageLayoutVersion":"1.0.0","imageLayoutVersion":"2.0.0"}',
    "NaN": b'{"imageLayoutVersion":"1.0.0","x":NaN}',
    "a byte order mark": b"\xef\xbb\xbf" + GOOD.encode(),
    "UTF-16": GOOD.encode("utf-16"),
    "more after it": GOOD.encode() + b"{}",
    "too long": GOOD.encode() + b" " * 5000,
}

INDEX: dict[str, bytes] = {
    "empty": b"",
    "not JSON": b'{"schemaVersion": 2, "manifests": [',
    "a list": b"[]",
    "null": b"null",
    "a number": b"7",
    "an empty object": b"{}",
    "not UTF-8": index().replace(b"manifests", b"manifest\xff"),
    "a byte order mark": b"\xef\xbb\xbf" + index(),
    "more after it": index() + b"x",
    "too deep": b'{"manifests": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "NaN": index(x=1).replace(b'"x": 1', b'"x": NaN'),
    "infinity": index(x=1).replace(b'"x": 1', b'"x": -Infinity'),
    "a number of 5000 digits": index(x=1).replace(b'"x": 1', b'"x": ' + b"1" * 5000),
    "a key twice": index(x=1).replace(b'"x": 1', b'"manifests": []'),
    "another case": index(Manifests=[]),
    "version 1": index(schemaVersion=1),
    "version 3": index(schemaVersion=3),
    "a version that is text": index(schemaVersion="2"),
    "another type": index(mediaType=images.OCI_MANIFEST),
    "a type that is a number": index(mediaType=7),
    "a config": index(config=images.EMPTY.descriptor()),
    "layers": index(layers=[]),
    "manifests that are an object": index(manifests={}),
    "an entry that is null": index(manifests=[None]),
    "an entry that is text": index(manifests=[IMAGE.root]),
    "no digest": entry(digest=None),
    "a digest that is a path": entry(digest="sha256:../../../etc/passwd"),
    "an upper-case digest": entry(digest=IMAGE.root.upper()),
    "a digest with a newline": entry(digest=IMAGE.root + "\n"),
    "a digest that is a list": entry(digest=[IMAGE.root]),
    "no size": entry(size=None),
    "a negative size": entry(size=-1),
    "a huge size": entry(size=10**30),
    "a size that is a float": entry(size=float(len(IMAGE.data))),
    "a size that is true": entry(size=True),
    "a type that is a list": entry(mediaType=[images.OCI_MANIFEST]),
    "annotations that are a list": entry(annotations=[]),
    "annotations with a number": entry(annotations={"a": 1}),
    "a platform that is text": entry(platform="linux/amd64"),
    "a platform with a number": entry(platform={"os": 1, "architecture": "amd64"}),
    "urls that are text": entry(urls="http://127.0.0.1:9"),
    "data that is not base64": entry(data="?"),
    "data of something else": entry(data="e30="),
}


@pytest.mark.parametrize("flaw", OCI_LAYOUT)
def test_broken_oci_layout_is_found_and_the_rest_is_verified(mirror: Mirror, layout: Path, flaw: str) -> None:
    (layout / "oci-layout").write_bytes(OCI_LAYOUT[flaw])
    report = mirror("verify", "layout", "--json", code=3).json
    assert serious(report) == [("broken-layout", "oci-layout")]
    assert report["images"][0]["digest"] == IMAGE.root


@pytest.mark.slow
@pytest.mark.parametrize("flaw", INDEX)
def test_broken_index_is_found(mirror: Mirror, layout: Path, flaw: str) -> None:
    (layout / "index.json").write_bytes(INDEX[flaw])
    report = mirror("verify", "layout", "--json", code=3).json
    assert serious(report) == [("broken-index", "index.json")]
    assert report["files"] == len(IMAGE.blobs) + 1  # unreferenced blobs are hashed, too


def gone(path: Path) -> None:
    path.unlink()


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def link(path: Path) -> None:
    outside = path.parents[1] / "outside"
    path.rename(outside)
    path.symlink_to(outside)


@pytest.mark.parametrize("how", [gone, folder, fifo, link])
@pytest.mark.parametrize(
    ("name", "kind"), [("oci-layout", "broken-layout"), ("index.json", "broken-index")], ids=["oci-layout", "index"]
)
def test_oci_layout_or_index_that_is_not_a_regular_file_is_found(
    mirror: Mirror, layout: Path, name: str, kind: str, how: Callable[[Path], None]
) -> None:
    how(layout / name)
    assert serious(mirror("verify", "layout", "--json", code=3).json) == [(kind, name)]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["oci-layout", "index.json"])
def test_unreadable_oci_layout_or_index_is_reported(mirror: Mirror, layout: Path, name: str) -> None:
    (layout / name).chmod(0)
    assert serious(mirror("verify", "layout", "--json", code=1, bound=True).json) == [("unreadable", name)]


@pytest.mark.parametrize("name", ["blobs", "blobs/sha256"])
@pytest.mark.parametrize("how", ["gone", "file", "link"])
def test_missing_or_replaced_blobs_directory_is_an_error(mirror: Mirror, layout: Path, name: str, how: str) -> None:
    (layout / name).rename(layout.parent / "outside")
    if how == "file":
        (layout / name).touch()
    elif how == "link":
        (layout / name).symlink_to(layout.parent / "outside")
    report = mirror("verify", "layout", "--json", code=3).json
    about_image = [each for each in report["findings"] if each["subject"] == IMAGE.root]
    assert [each["severity"] for each in about_image] == ["error"]


@pytest.mark.parametrize("manifests", [[], None])
def test_layout_without_images_is_not_ok(mirror: Mirror, layout: Path, manifests: list[Json] | None) -> None:
    (layout / "index.json").write_bytes(index(manifests=manifests))
    assert serious(mirror("verify", "layout", "--json", code=3).json) == [("no-images", "index.json")]


def test_empty_directory_is_not_ok(mirror: Mirror, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    report = mirror("verify", "empty", "--json", code=3).json
    assert report["verdict"] == "not ok"
    assert {kind for kind, _ in serious(report)} == {"broken-layout", "broken-index"}


def test_unknown_fields_are_ignored(mirror: Mirror, layout: Path) -> None:
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0", "new": [1]}\n')
    (layout / "index.json").write_bytes(index(new={"a": [1.5, None]}, annotations={"a": "b"}))
    assert mirror("verify", "layout", "--json").json["findings"] == []
