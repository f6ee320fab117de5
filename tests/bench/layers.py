"""A layout whose layers are as compressible as real ones: `python -m tests.bench.layers DIR`."""

import random
import sys
import tarfile
import zlib
from io import BytesIO
from pathlib import Path

from tests.images import OCI_LAYER, Blob, digest_of, image
from tests.layouts import write

SIZES = (150, 120, 90, 60, 40, 20, 10, 10)  # MB of each layer when it is unpacked
_WORDS = 5000


def layer(seed: int, megabytes: int) -> Blob:
    """Files of words and of noise, which gzip shrinks to a third or so."""
    draw = random.Random(seed)
    words = [draw.randbytes(draw.randint(2, 12)) for _ in range(_WORDS)]
    packed = BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for number in range(megabytes):
            info = tarfile.TarInfo(f"usr/share/{seed}/{number}.bin")
            data = b"".join(draw.choices(words, k=120_000)) + draw.randbytes(100_000)
            info.size = len(data)
            archive.addfile(info, BytesIO(data))
    content = packed.getvalue()
    compressor = zlib.compressobj(6, wbits=31)
    return Blob.of(compressor.compress(content) + compressor.flush(), OCI_LAYER, digest_of(content))


if __name__ == "__main__":
    write(Path(sys.argv[1]), image("linux/amd64", *(layer(seed, size) for seed, size in enumerate(SIZES))))
