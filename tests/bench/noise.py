"""Write a layout with one image whose layers are noise: `python -m tests.bench.noise DIR BYTES`."""

import random
import sys
from pathlib import Path

from tests.support.images import OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, digest_of, encode
from tests.support.layouts import add, write_index

_PARTS = [250] * 6 + [150] * 10 + [45] * 20  # of 3,900


def make(layout: Path, size: int) -> None:
    nodes = []
    for seed, part in enumerate(_PARTS):
        data = random.Random(seed).randbytes(size * part // sum(_PARTS))
        nodes.append({"mediaType": OCI_LAYER, "digest": digest_of(data), "size": len(data)})
        add(layout, digest_of(data), data)
    config = encode({"architecture": "amd64", "os": "linux"})
    node = {"mediaType": OCI_CONFIG, "digest": digest_of(config), "size": len(config)}
    document = encode({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": node, "layers": nodes})
    for data in (config, document):
        add(layout, digest_of(data), data)
    write_index(layout, [{"mediaType": OCI_MANIFEST, "digest": digest_of(document), "size": len(document)}])


if __name__ == "__main__":
    make(Path(sys.argv[1]), int(sys.argv[2]))
