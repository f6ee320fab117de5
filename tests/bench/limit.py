"""Compare hashing a layout with hashing the same bytes in memory, on all cores, without start-up.

`python -m tests.bench.limit make DIR` writes a layout of 4 GB; `… measure DIR PAIRS` prints a line with two numbers for
each pair: the seconds of a verification, and those of hashlib over bytes in memory.
"""

import asyncio
import hashlib
import os
import random
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mirror import verify_layout
from tests.bench.measure import warm
from tests.support.images import OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, digest_of, encode
from tests.support.layouts import add, write_index

_SIZES = [250_000_000] * 6 + [150_000_000] * 10 + [45_000_000] * 20


def make(layout: Path) -> None:
    """Write one image, whose layers are noise."""
    nodes = []
    for seed, size in enumerate(_SIZES):
        data = random.Random(seed).randbytes(size)
        nodes.append({"mediaType": OCI_LAYER, "digest": digest_of(data), "size": size})
        add(layout, digest_of(data), data)
    config = encode({"architecture": "amd64", "os": "linux"})
    node = {"mediaType": OCI_CONFIG, "digest": digest_of(config), "size": len(config)}
    document = encode({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": node, "layers": nodes})
    for data in (config, document):
        add(layout, digest_of(data), data)
    write_index(layout, [{"mediaType": OCI_MANIFEST, "digest": digest_of(document), "size": len(document)}])


def measure(layout: Path, pairs: int) -> None:
    warm(layout)
    contents = [path.read_bytes() for path in layout.glob("blobs/*/*")]
    for _ in range(pairs):
        started = time.perf_counter()
        assert asyncio.run(verify_layout(layout)).verdict == "ok"
        between = time.perf_counter()
        _hash(contents)
        print(between - started, time.perf_counter() - between, flush=True)


def _hash(contents: list[bytes]) -> None:
    """Hash the same bytes, largest first, on all cores."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(hashlib.sha256, sorted(contents, key=len, reverse=True)))


if __name__ == "__main__":
    make(Path(sys.argv[2])) if sys.argv[1] == "make" else measure(Path(sys.argv[2]), int(sys.argv[3]))
