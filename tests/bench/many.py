"""Write a layout with BLOBS small blobs, LAYERS in each image: `python -m tests.bench.many DIR BLOBS [LAYERS]`."""

import sys
from pathlib import Path

from tests.support.images import OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, Json, digest_of, encode
from tests.support.layouts import write_index


def write(layout: Path, blobs: int, layers: int = 100) -> None:
    folder = layout / "blobs" / "sha256"
    folder.mkdir(parents=True)

    def put(data: bytes, media_type: str) -> Json:
        digest = digest_of(data)
        (folder / digest.removeprefix("sha256:")).write_bytes(data)
        return {"mediaType": media_type, "digest": digest, "size": len(data)}

    entries = []
    for image in range(blobs // (layers + 2)):
        nodes = [put(f"layer {layer} of {image}".encode(), OCI_LAYER) for layer in range(layers)]
        config = put(encode({"architecture": "amd64", "os": "linux", "number": image}), OCI_CONFIG)
        document = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": nodes}
        name = {"io.containerd.image.name": f"registry.example/team/image-{image}:v1"}
        entries.append({**put(encode(document), OCI_MANIFEST), "annotations": name})
    write_index(layout, entries)


if __name__ == "__main__":
    write(Path(sys.argv[1]), *map(int, sys.argv[2:]))
