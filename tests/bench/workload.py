"""The sizes and numbers of everything that is measured, in full and for a quick run."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Workload:
    """Sizes and numbers of what is moved, and how often.

    Attributes:
        pairs: how many runs of each command; short ones run more often.
        divisor: of the sizes of the 24 layers of the benchmark image.
        large: bytes of the large blob.
        distant: bytes of the blob that is pulled over a slow link.
        trickle: bytes of the blob that is pulled at 1 MB/s.
        blobs: blobs of the image that is pulled onto a disk with a slow fsync.
        images: images in the list that has nothing new.
        hashed: bytes of the layout that is hashed.
        unpacked: megabytes of each layer whose content is verified, when it is unpacked.
        structure: blobs of the layouts whose structure is verified; the memory of a blob is from the first and last.
        names: lengths of the lists of images.
    """

    pairs: int
    divisor: int
    large: int
    distant: int
    trickle: int
    blobs: int
    images: int
    hashed: int
    unpacked: tuple[int, ...]
    structure: tuple[int, int, int]
    names: tuple[int, int, int]


_UNPACKED = (300, 250, 200, 200, 150, 120, 90, 60, 40, 20, 10, 10)

FULL = Workload(
    pairs=5,
    divisor=1,
    large=2_000_000_000,
    distant=400_000_000,
    trickle=30_000_000,
    blobs=200,
    images=300,
    hashed=4_000_000_000,
    unpacked=_UNPACKED,
    structure=(1_000, 100_000, 200_000),
    names=(100, 1_000, 10_000),
)
QUICK = Workload(
    pairs=1,
    divisor=20,
    large=100_000_000,
    distant=40_000_000,
    trickle=3_000_000,
    blobs=5,
    images=30,
    hashed=200_000_000,
    unpacked=(10, 5, 1),
    structure=(1_000, 2_000, 5_000),
    names=(5, 10, 50),
)
