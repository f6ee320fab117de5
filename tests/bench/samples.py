"""Publish images for the benchmarks: `python -m tests.bench.samples HOST KIND [NUMBER]`.

`small` is one image of 8 MB; `blobs` is one image with NUMBER blobs of 100 kB; `many` are NUMBER small images in
repositories of ten, and one image in ten has a signature. The names are printed, one per line.
"""

import sys
from collections.abc import Iterator

from tests.support.images import Blob, Remote, cosign_tag, image, layer, signature

_EACH = 10  # images in a repository, and images for each signature
_SIZES = {"blobs": 100_000, "edge": 1_000_000}  # bytes of each layer; one of 1 MiB would be received by a thread
_SMALL = (5_000_000, 2_000_000, 1_000_000)


def publish(remote: Remote, kind: str, number: int) -> Iterator[str]:
    """Publish images, and yield their names without the registry."""
    if kind == "many":
        yield from _many(remote, number)
        return
    layers = _layers(_SMALL) if kind == "small" else _layers([_SIZES[kind]] * (number - 1))
    image("linux/amd64", *layers).publish(remote, kind, "1")
    yield f"{kind}:1"


def _layers(sizes: tuple[int, ...] | list[int]) -> list[Blob]:
    return [layer(9000 + seed, size) for seed, size in enumerate(sizes)]


def _many(remote: Remote, number: int) -> Iterator[str]:
    for one in range(number):
        repo, tag = f"team/app-{one // _EACH:02}", f"v{one % _EACH}"
        built = image("linux/amd64", layer(20_000 + one, 2_000), layer(30_000 + one // _EACH, 3_000))
        built.publish(remote, repo, tag)
        if one % _EACH == 0:
            signature(built).publish(remote, repo, cosign_tag(built))
        yield f"{repo}:{tag}"


def main(host: str, kind: str, number: str = "0") -> None:
    remote = Remote(host)
    for name in publish(remote, kind, int(number)):
        print(f"{host}/{name}")
    remote.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
