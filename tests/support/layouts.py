"""Layouts as other tools write them, valid or not."""

import json
from collections.abc import Mapping
from pathlib import Path

from tests.support.images import Image, Json

VERSION = '{"imageLayoutVersion":"1.0.0"}'


def add(layout: Path, digest: str, data: bytes) -> Path:
    """Write a file below `blobs/`; its content need not match the digest."""
    path = layout.joinpath("blobs", *digest.split(":"))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def write(layout: Path, *roots: Image, contents: Mapping[str, bytes] | None = None, **annotations: str) -> Path:
    """Write a layout of images with all their blobs, each with these annotations; `contents` are more blobs."""
    for root in roots:
        for digest, data in {**root.blobs, **{name: data for name, (data, _) in root.manifests.items()}}.items():
            add(layout, digest, data)
    for digest, data in (contents or {}).items():
        add(layout, digest, data)
    write_index(layout, [{**root.descriptor(), "annotations": _named(annotations)} for root in roots])
    return layout


def files(image: Image, name: str) -> dict[str, bytes]:
    """Return the files of a layout with one image."""
    contents = {**image.blobs, **{digest: data for digest, (data, _) in image.manifests.items()}}
    entry = {**image.descriptor(), "annotations": _named({"name": name})}
    index = json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()
    named = {f"blobs/{digest.replace(':', '/')}": data for digest, data in contents.items()}
    return {"oci-layout": VERSION.encode(), "index.json": index, **named}


def write_index(layout: Path, entries: list[Json]) -> None:
    (layout / "blobs" / "sha256").mkdir(parents=True, exist_ok=True)
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": entries}))
    (layout / "oci-layout").write_text(VERSION)


def _named(annotations: Mapping[str, str]) -> dict[str, str]:
    keys = {"name": "io.containerd.image.name", "ref": "org.opencontainers.image.ref.name"}
    return {keys.get(key, key): text for key, text in annotations.items()}
