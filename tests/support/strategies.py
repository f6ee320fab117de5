"""Strategies for Hypothesis: names, unexpected JSON, documents that are nearly valid, graphs of manifests."""

import base64
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from hypothesis import strategies as st

from mirror.errors import MirrorError
from tests.support import images
from tests.support.images import Blob, Image, Json
from tests.support.profiles import examples

T = TypeVar("T")
QUICK = examples(60)
THOROUGH = examples(300)

HEX = "0123456789abcdef"
_LOWER = "abcxyz0189"

# Text


def digests(algorithm: str = "sha256", length: int = 64) -> st.SearchStrategy[str]:
    return st.text(HEX, min_size=length, max_size=length).map(lambda encoded: f"{algorithm}:{encoded}")


any_digest = st.one_of(digests(), digests("sha384", 96), digests("sha512", 128))

_word = st.text(_LOWER, min_size=1, max_size=6)
_part = st.builds(
    str.__add__, _word, st.one_of(st.just(""), st.builds("{}{}".format, st.sampled_from([*"._-"]), _word))
)
repositories = st.lists(_part, min_size=1, max_size=4).map("/".join)
hosts = st.one_of(
    st.sampled_from(["docker.io", "localhost", "localhost:5000", "quay.io", "[::1]:5000", "10.0.0.1", "A.example:443"]),
    st.builds("{}.{}:{}".format, _word, _word, st.integers(1, 65535)),
)
tags = st.builds(str.__add__, st.sampled_from("aZ0_"), st.text("abcXYZ019_.-", max_size=20) | st.just("x" * 127))

nasty_text = st.text(st.characters() | st.sampled_from("\0\n\r\t\x1b/\\:@._-%"), max_size=40)


@st.composite
def names(draw: st.DrawFn) -> str:
    """A full image name with a registry, and possibly with a tag and a digest."""
    tag, digest = draw(st.none() | tags), draw(st.none() | any_digest)
    name = f"{draw(hosts)}/{draw(repositories)}"
    return f"{name}{':' + tag if tag else ''}{'@' + digest if digest else ''}"


# JSON

_scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([0, 1, 2, -1, 2**62, 2**63 - 1, 2**63, 10**400]),
    st.floats(allow_nan=False, allow_infinity=False),
    nasty_text,
)
json_values: st.SearchStrategy[Any] = st.recursive(
    _scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(nasty_text, inner, max_size=4),
    max_leaves=12,
)

_types = st.sampled_from(
    [images.OCI_INDEX, images.OCI_MANIFEST, images.DOCKER_LIST, images.DOCKER_MANIFEST, images.OCI_LAYER, "x/y", ""]
)


@st.composite
def descriptors(draw: st.DrawFn) -> Json:
    """A valid descriptor."""
    data = draw(st.binary(max_size=20))
    node: Json = {"mediaType": draw(_types.filter(bool)), "digest": images.digest_of(data), "size": len(data)}
    extras = {
        "platform": st.just({"os": "linux", "architecture": "amd64"}),
        "annotations": st.dictionaries(nasty_text, nasty_text, max_size=2),
        "urls": st.just(["https://example.invalid/x"]),
        "artifactType": st.just("a/b"),
        "data": st.just(base64.b64encode(data).decode()),
        "unknown": json_values,
    }
    for name in draw(st.sets(st.sampled_from(sorted(extras)))):
        node[name] = draw(extras[name])
    return node


_KEYS = [
    "manifests",
    "config",
    "layers",
    "blobs",
    "subject",
    "annotations",
    "artifactType",
    "mediaType",
    "schemaVersion",
]
_keys = st.sampled_from([*_KEYS, *map(str.title, _KEYS), "fsLayers", "signatures"]) | nasty_text


@st.composite
def documents(draw: st.DrawFn) -> Json:
    """A manifest or an index in which each field may be valid, missing or anything else."""
    right: Json = {"schemaVersion": 2, "mediaType": draw(_types), draw(st.sampled_from(["manifests", "layers"])): []}
    nodes = st.lists(descriptors() | json_values, max_size=3)
    changes = draw(st.dictionaries(_keys, st.one_of(json_values, descriptors(), nodes), max_size=4))
    return {**right, **changes}


def mutated(original: bytes) -> st.SearchStrategy[bytes]:
    """The bytes with a slice of them replaced by something else."""
    places = st.integers(0, len(original))
    filling = st.binary(max_size=8) | st.sampled_from([b'"', b"{", b"]", b"null", b"-1", b"1e999", b'{"size":0}'])

    def replaced(one: int, other: int, new: bytes) -> bytes:
        return original[: min(one, other)] + new + original[max(one, other) :]

    return st.builds(replaced, places, places, filling)


# Graphs


@st.composite
def graphs(draw: st.DrawFn) -> Image:
    """An index over manifests and indexes that share blobs and children at random."""
    blobs = [Blob.of(f"blob {number}".encode() * number, "x/y") for number in range(draw(st.integers(1, 6)))]
    nodes: list[Image] = []
    for number in range(draw(st.integers(1, 5))):
        layers = draw(st.lists(st.sampled_from(blobs), max_size=4))
        nodes.append(images.manifest(draw(st.sampled_from(blobs)), layers, annotations={"number": str(number)}))
    for number in range(draw(st.integers(0, 6))):
        children = draw(st.lists(st.sampled_from(nodes), max_size=4))
        nodes.append(images.index(children, annotations={"index": str(number)}))
    return images.index(draw(st.lists(st.sampled_from(nodes), min_size=1, max_size=5)))


@dataclass(frozen=True)
class Family:
    """An image, its referrers, and artifacts under cosign's tags; a referrer comes after its subject."""

    image: Image
    referring: tuple[tuple[Image, Image], ...]  # pairs of referrer and subject
    tagged: tuple[tuple[str, Image], ...]


@st.composite
def families(draw: st.DrawFn) -> Family:
    """A graph with referrers of its parts, and referrers of those."""
    image = draw(graphs())
    parts = [replace(image, root=root, root_media_type=kind) for root, (_, kind) in image.manifests.items()]
    levels = [(part, 0) for part in parts]
    referring: list[tuple[Image, Image]] = []
    for number in range(draw(st.integers(0, 6))):
        subject, level = draw(st.sampled_from([pair for pair in levels if pair[1] < 3]))
        annotations = {"number": str(number)}
        blob = Blob.of(str(number % 2).encode(), "x/y")
        if draw(st.booleans()):
            one = images.artifact("a/b", blob, subject=subject.subject(), annotations=annotations)
        else:
            below = [images.artifact("a/b", blob, annotations=annotations)] if draw(st.booleans()) else []
            one = images.index(below, subject=subject.subject(), annotations=annotations)
        referring.append((one, subject))
        levels.append((one, level + 1))
    kinds = st.sampled_from(["sig", "att", "sbom"])
    tagged = {
        images.cosign_tag(draw(st.sampled_from(parts)), draw(kinds)): images.artifact(
            "c/d", Blob.of(b"%d" % number, "x/y")
        )
        for number in range(draw(st.integers(0, 3)))
    }
    return Family(image, tuple(referring), tuple(tagged.items()))


def outcome(work: Callable[[], T]) -> T | MirrorError:
    """Return the result of some work, or the `MirrorError` that it raises; any other error is a bug."""
    try:
        return work()
    except MirrorError as error:
        return error


def digest_by(algorithm: str, data: bytes) -> str:
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


def as_json(value: object) -> bytes:
    """JSON as Python writes it; lone surrogates come out escaped."""
    return json.dumps(value).encode()
