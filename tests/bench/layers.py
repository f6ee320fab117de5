"""Write a layout whose layers are as compressible as real ones: `python -m tests.bench.layers DIR MEGABYTES...`.

MEGABYTES are the sizes of the layers when they are unpacked.
"""

import random
import sys
import tarfile
import zlib
from concurrent.futures import ProcessPoolExecutor
from io import BytesIO
from pathlib import Path

from tests.support.images import OCI_LAYER, Blob, digest_of, image
from tests.support.layouts import write

_WORDS = 4000
_TEXTS = 16  # different texts in a layer; gzip looks back by 32 KiB only, and does not notice when one appears again
_LETTERS = b"etaoinshrdlucmfwypvbgkjqxz_-. 0123456789ETAOIN"


def layer(seed: int, megabytes: int) -> Blob:
    """Return files of words, frequent ones more often, and some noise: gzip shrinks them to 0.4, like a base image."""
    draw = random.Random(seed)
    words = [bytes(draw.choices(_LETTERS, k=draw.randint(2, 11))) + b" " for _ in range(_WORDS)]
    weights = [1 / rank for rank in range(1, _WORDS + 1)]
    texts = [b"".join(draw.choices(words, weights, k=120_000)) for _ in range(min(_TEXTS, megabytes))]
    packed = BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for number in range(megabytes):
            data = texts[number % _TEXTS] + draw.randbytes(100_000)
            info = tarfile.TarInfo(f"usr/share/{seed}/{number}.bin")
            info.size = len(data)
            archive.addfile(info, BytesIO(data))
    content = packed.getvalue()
    compressor = zlib.compressobj(6, wbits=31)
    return Blob.of(compressor.compress(content) + compressor.flush(), OCI_LAYER, digest_of(content))


if __name__ == "__main__":
    sizes = [int(text) for text in sys.argv[2:]]
    with ProcessPoolExecutor() as pool:
        write(Path(sys.argv[1]), image("linux/amd64", *pool.map(layer, range(len(sizes)), sizes)))
