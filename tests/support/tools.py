"""Layouts and archives as particular versions of other tools write them; each builder is named after its tool."""

import gzip
import json
from pathlib import Path

from tests.support import archives
from tests.support.images import OCI_CONFIG, OCI_LAYER, Blob, Image, config, layer, manifest, platform_of


def skopeo_1_9_encrypted(platform: str = "linux/amd64", *, seed: int = 1) -> Image:
    """Return an image of `skopeo copy --encryption-key`: encrypted layers, and the config of the plain ones."""
    plain = [layer(seed + number, 300) for number in range(2)]
    sealed = [Blob.of(bytes(byte ^ 0x5A for byte in one.data), f"{OCI_LAYER}+encrypted") for one in plain]
    return manifest(config(*platform.split("/"), layers=plain), sealed, platform_of(platform))


def opa_1_0_bundle(body: bytes = b"{}") -> Image:
    """Return a policy bundle of `opa build` as `oras` and `policy` push it: a tar layer, and a config that is empty."""
    files = gzip.compress(b"bundle", mtime=0)
    return manifest(Blob.of(body, OCI_CONFIG), [Blob.of(files, OCI_LAYER)])


def docker_28_containerd_save(whole: Image, name: str, *platforms: Image, manifests: bool = False) -> dict[str, bytes]:
    """Return the files of `docker save` from a containerd store: the whole index, with the content of some platforms.

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


def unpack(folder: Path, files: dict[str, bytes]) -> Path:
    """Write the files of an archive to a directory, as tar does."""
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            path.write_bytes(data)
    return folder
