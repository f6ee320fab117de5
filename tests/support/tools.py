"""Layouts and archives as particular versions of other tools write them; each builder is named after its tool."""

import gzip
import json
import os
from pathlib import Path
from typing import Any

from tests.support import archives, layouts
from tests.support.images import (
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER,
    OCI_MANIFEST,
    Blob,
    Image,
    config,
    digest_of,
    encode,
    layer,
    manifest,
    platform_of,
)

REF_NAME = "org.opencontainers.image.ref.name"
FOREIGN_LAYER = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"


def oras_1_3_layout(layout: Path, image: Image, tag: str, *referrers: Image) -> Path:
    """Write a layout of `oras cp -r --to-oci-layout` 1.3: every manifest has an entry, and one entry has a name."""
    layouts.write(layout, image, *referrers)
    named = {**image.descriptor(), "annotations": {REF_NAME: tag}}
    children = json.loads(image.data)["manifests"]
    layouts.write_index(layout, [*(one.descriptor() for one in referrers), *children, named])
    return layout


def umoci_0_4_layout(layout: Path, image: Image, name: str) -> Path:
    """Write a layout of `umoci` 0.4, whose names of images are any text, such as `v1.2/stable`."""
    layouts.write(layout, image)
    layouts.write_index(layout, [{**image.descriptor(), "annotations": {REF_NAME: name}}])
    return layout


def rules_oci_2_layout(layout: Path, image: Image) -> Path:
    """Write a layout of Bazel's rules_oci 2.0: blobs are symbolic links to those of the layout of the base image."""
    base = layouts.write(layout.with_name("base"), image)
    layouts.write(layout, image, name="quay.io/team/app:v1")
    for path in layout.glob("blobs/*/*"):
        target = base / path.relative_to(layout)
        path.unlink()
        path.symlink_to(os.path.relpath(target, path.parent))
    return layout


def docker_20_windows(own: Blob, foreign: Blob, *urls: str) -> Image:
    """Return an image of `docker build` 20.10 on Windows: its base layer is foreign, at URLs of its publisher."""
    configuration = config("windows", "amd64", layers=[own], docker=True)
    layers = [foreign.descriptor(urls=list(urls)), own.descriptor()]
    document = {"schemaVersion": 2, "mediaType": DOCKER_MANIFEST, "config": configuration.descriptor()}
    data = encode({**document, "layers": layers})
    held = {configuration.digest: configuration.data, own.digest: own.data}
    return Image(digest_of(data), DOCKER_MANIFEST, {digest_of(data): (data, DOCKER_MANIFEST)}, held)


def skopeo_1_9_encrypted(platform: str = "linux/amd64", *, seed: int = 1) -> Image:
    """Return an image of `skopeo copy --encryption-key` 1.9: encrypted layers, and the config of the plain ones."""
    plain = [layer(seed + number, 300) for number in range(2)]
    sealed = [Blob.of(bytes(byte ^ 0x5A for byte in one.data), f"{OCI_LAYER}+encrypted") for one in plain]
    return manifest(config(*platform.split("/"), layers=plain), sealed, platform_of(platform))


def opa_1_0_bundle(body: bytes = b"{}") -> Image:
    """Return a policy bundle of OPA 1.0, as `oras` and `policy` push it: a tar layer, and a config that is empty."""
    files = gzip.compress(b"bundle", mtime=0)
    return manifest(Blob.of(body, OCI_CONFIG), [Blob.of(files, OCI_LAYER)])


def docker_28_containerd_save(whole: Image, name: str, *platforms: Image, manifests: bool = False) -> dict[str, bytes]:
    """Return the files of `docker save` 28 from a containerd store: a whole index, with the content of some platforms.

    With `manifests`, those of the other platforms are in the archive too, as after `nerdctl pull`.
    """
    files = archives.layout(archives.named(whole, name), content=platforms)
    files |= {archives.place(whole.root): whole.data}
    if manifests:
        files |= {archives.place(digest): data for digest, (data, _) in whole.manifests.items()}
    listed = [json.loads(one.data) for one in platforms]
    items = [
        {
            "Config": archives.place(document["config"]["digest"]),
            "RepoTags": [name.removeprefix("docker.io/library/")],
            "Layers": [archives.place(layer["digest"]) for layer in document["layers"]],
        }
        for document in listed
    ]
    return archives.with_folders({**files, "manifest.json": archives.encode_list(items)})


def docker_24_linked(content: bytes, layers: int) -> tuple[dict[str, bytes], dict[str, str]]:
    """Return the files and links of an archive like those of docker 24: one compressed layer, several times."""
    folders = [digest_of(b"%d" % number).partition(":")[2] for number in range(layers)]
    first, *others = (f"{folder}/layer.tar" for folder in folders)
    document = encode({"rootfs": {"type": "layers", "diff_ids": [digest_of(content)] * layers}})
    listed = archives.encode_list([{"Config": "c.json", "RepoTags": None, "Layers": [first, *others]}])
    files = {first: gzip.compress(content, mtime=0), "c.json": document, "manifest.json": listed}
    return files, dict.fromkeys(others, f"../{first}")


def docker_25_0_save_by_id(*saved: archives.Saved) -> dict[str, bytes]:
    """Return the files of `docker save ID` of 25.0.0 to 25.0.1: `manifest.json`, and manifests that nothing names.

    Images with tags are in `index.json`, too.
    """
    files = {"oci-layout": archives.OCI_LAYOUT, "repositories": b"{}"}
    named: list[dict[str, Any]] = []
    for one in saved:
        document = encode({"schemaVersion": 2, "mediaType": OCI_MANIFEST, **one.manifest()})
        blobs = {one.config.digest: one.config.data, digest_of(document): document, **one.layers}
        files |= {archives.place(digest): data for digest, data in blobs.items()}
        node = {"mediaType": OCI_MANIFEST, "digest": digest_of(document), "size": len(document)}
        named += [{**node, "annotations": {"io.containerd.image.name": tag}} for tag in one.tags]
    listed = [
        {
            "Config": archives.place(one.config.digest),
            "RepoTags": one.tags or None,
            "Layers": [archives.place(diff_id) for diff_id in one.layers],
        }
        for one in saved
    ]
    names = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": named or None}
    return archives.with_folders({**files, "index.json": encode(names), "manifest.json": archives.encode_list(listed)})


def ggcr_0_20_layout(whole: Image) -> dict[str, bytes]:
    """Return the files of `layout.Write` of go-containerregistry 0.20: the manifest list itself is `index.json`."""
    files = {digest: data for digest, (data, _) in whole.manifests.items() if digest != whole.root} | whole.blobs
    named = {archives.place(digest): data for digest, data in files.items()}
    return {**named, "oci-layout": archives.OCI_LAYOUT, "index.json": whole.data}


def unpack(folder: Path, files: dict[str, bytes]) -> Path:
    """Write the files of an archive to a directory, as tar does."""
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            path.write_bytes(data)
    return folder
