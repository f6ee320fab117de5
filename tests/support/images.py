"""Sample images: small builders, the shape of a published image, and a big image for measurements.

Everything is deterministic: the same call gives the same bytes, so digests can be compared between runs.
`python -m tests.support.images HOST REPO TAG` publishes the sample of `seed_image`.
"""

import argparse
import base64
import hashlib
import http.client
import json
import random
import re
import tarfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

RECORD = Path(__file__).parents[1] / "data" / "redis-4.0"

DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
IN_TOTO = "application/vnd.in-toto+json"

Json = dict[str, Any]


class Target(Protocol):
    """A registry that images are published to: the embedded one, or one behind HTTP."""

    def put_blob(self, repo: str, data: bytes) -> str: ...
    def put_manifest(self, repo: str, reference: str | None, data: bytes, media_type: str) -> str: ...


def digest_of(data: bytes | bytearray) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def encode(document: Json, indent: int | None = None) -> bytes:
    return json.dumps(document, indent=indent, separators=(",", ": " if indent else ":")).encode()


@dataclass(frozen=True)
class Blob:
    """A config, a layer or any other content; a layer knows the digest of its uncompressed tar archive."""

    data: bytes = field(repr=False)
    media_type: str
    digest: str
    size: int
    diff_id: str = ""

    @classmethod
    def of(cls, data: bytes, media_type: str, diff_id: str = "") -> "Blob":
        return cls(data, media_type, digest_of(data), len(data), diff_id)

    def descriptor(self, embed: bool = False, **fields: object) -> Json:
        """Return the descriptor of the blob; `embed` adds its content."""
        node = {"mediaType": self.media_type, "size": self.size, "digest": self.digest, **fields}
        return {**node, "data": base64.b64encode(self.data).decode()} if embed else node


EMPTY = Blob.of(b"{}", "application/vnd.oci.empty.v1+json")


@dataclass(frozen=True)
class Image:
    """An image or an index with all its content; among the manifests, children come before parents."""

    root: str
    root_media_type: str
    manifests: dict[str, tuple[bytes, str]]
    blobs: dict[str, bytes] = field(repr=False)
    platform: Mapping[str, str] | None = None  # the platform of this child in an index
    annotations: Mapping[str, str] | None = None

    def descriptor(self) -> Json:
        node: Json = {"mediaType": self.root_media_type, "size": len(self.data), "digest": self.root}
        node |= {"platform": dict(self.platform)} if self.platform else {}
        return node | ({"annotations": dict(self.annotations)} if self.annotations else {})

    def subject(self) -> Json:
        """Return the `subject` of a manifest that refers to this image."""
        return {"mediaType": self.root_media_type, "size": len(self.data), "digest": self.root}

    @property
    def data(self) -> bytes:
        """The bytes of the root."""
        return self.manifests[self.root][0]

    def publish(self, target: Target, repo: str, tag: str | None) -> str:
        """Upload blobs, then manifests, then the tag if there is one; return the digest of the root."""
        for data in self.blobs.values():
            target.put_blob(repo, data)
        for data, media_type in self.manifests.values():
            target.put_manifest(repo, None, data, media_type)
        return target.put_manifest(repo, tag, self.data, self.root_media_type)


# Layers


def layer(seed: int, size: int, docker: bool = False) -> Blob:
    """A gzip-compressed tar archive of exactly `size` bytes (at least 96) that holds one file.

    Random content does not shrink, so it is stored as it is, and its size can be computed. Small layers hold
    an empty file. The rest goes into the gzip header, where readers skip it.
    """
    archive_size = (size - 18 - 5 * -(-size // 0xFFFF)) // 512 * 512
    info = tarfile.TarInfo(f"{seed}.bin")
    info.size = max(archive_size - 1536, 0)
    archive = bytearray(info.tobuf(tarfile.USTAR_FORMAT))
    archive += random.Random(seed).randbytes(info.size)
    archive += bytes(1024)
    deflated = _stored(archive) if info.size else [zlib.compress(archive, 9, wbits=-15)]
    packed = _gzipped(archive, deflated, size)
    return Blob.of(packed, DOCKER_LAYER if docker else OCI_LAYER, digest_of(archive))


def _stored(data: bytearray) -> list[bytes | memoryview]:
    """Deflate without compression (RFC 1951, 3.2.4), in parts: a large layer is not copied more than needed."""
    view = memoryview(data)
    parts: list[bytes | memoryview] = []
    for start in range(0, len(data), 0xFFFF):
        block = view[start : start + 0xFFFF]
        last = start + len(block) == len(data)
        length = len(block).to_bytes(2, "little")
        parts += [bytes([last]), length, bytes(byte ^ 0xFF for byte in length), block]
    return parts


def _gzipped(data: bytearray, deflated: Sequence[bytes | memoryview], size: int) -> bytes:
    """A gzip member (RFC 1952) of exactly `size` bytes, without a time or a name."""
    gap = size - 18 - sum(map(len, deflated))
    if gap < 0:
        raise ValueError(f"a layer of {size} bytes is too small")
    # An extra field of n bytes takes n + 6; a smaller gap is a comment of so many bytes with its NUL.
    # No comment for the larger ones: Go refuses those over 511 bytes.
    flag, filling = 0, b""
    if gap >= 6:
        flag = 4
        filling = (gap - 2).to_bytes(2, "little") + b"xx" + (gap - 6).to_bytes(2, "little") + bytes(gap - 6)
    elif gap:
        flag, filling = 16, b"x" * (gap - 1) + b"\0"
    header = bytes((0x1F, 0x8B, 8, flag, 0, 0, 0, 0, 0, 255))
    checks = zlib.crc32(data).to_bytes(4, "little") + (len(data) & 0xFFFFFFFF).to_bytes(4, "little")
    return b"".join((header, filling, *deflated, checks))


# Configs, manifests, indexes


def config(
    os: str,
    architecture: str,
    variant: str | None = None,
    *,
    layers: Iterable[Blob] = (),
    docker: bool = False,
    **fields: Any,
) -> Blob:
    """The config of an image; other fields (`created`, `config`, `history` …) are taken as they are."""
    document: Json = {"architecture": architecture, "os": os}
    document |= {"variant": variant} if variant else {}
    document |= {"rootfs": {"type": "layers", "diff_ids": [one.diff_id for one in layers]}}
    return Blob.of(encode({**document, **fields}), DOCKER_CONFIG if docker else OCI_CONFIG)


def manifest(
    configuration: Blob,
    layers: Iterable[Blob],
    platform: Mapping[str, str] | None = None,
    docker: bool = False,
    indent: int | None = None,
    **fields: object,
) -> Image:
    """A manifest over its blobs; other fields (`subject`, `annotations` …) are taken as they are."""
    layers = list(layers)
    nodes = [one.descriptor() for one in layers]
    # The empty config comes with its content, as the tools that use it write it.
    first = configuration.descriptor(embed=configuration is EMPTY)
    document = {"config": first, "layers": nodes, **fields}
    below = Image("", "", {}, {one.digest: one.data for one in (configuration, *layers)}, platform)
    return _rooted(below, document, DOCKER_MANIFEST if docker else OCI_MANIFEST, indent)


def index(children: Iterable[Image], docker: bool = False, indent: int | None = None, **fields: object) -> Image:
    """An index, or Docker's manifest list; the children may be indexes themselves."""
    children = list(children)
    document = {"manifests": [child.descriptor() for child in children], **fields}
    manifests = {digest: one for child in children for digest, one in child.manifests.items()}
    blobs = {digest: data for child in children for digest, data in child.blobs.items()}
    below = Image("", "", manifests, blobs)
    return _rooted(below, document, DOCKER_LIST if docker else OCI_INDEX, indent)


def _rooted(below: Image, document: Json, media_type: str, indent: int | None) -> Image:
    data = encode({"schemaVersion": 2, "mediaType": media_type, **document}, indent)
    root = digest_of(data)
    manifests = {**below.manifests, root: (data, media_type)}
    return replace(below, root=root, root_media_type=media_type, manifests=manifests)


def platform_of(text: str) -> dict[str, str]:
    """Return a platform such as `linux/arm/v7` as in an index."""
    os, architecture, *variant = text.split("/")
    return {"architecture": architecture, "os": os} | ({"variant": variant[0]} if variant else {})


def image(platform: str, *layers: Blob, docker: bool = False) -> Image:
    """Return an image for one platform."""
    configuration = config(*platform.split("/"), layers=layers, docker=docker)
    return manifest(configuration, layers, platform_of(platform), docker)


def multi_arch(
    platforms: Iterable[str] = ("linux/amd64", "linux/arm/v7"),
    sizes: Iterable[int] = (3000, 100),
    docker: bool = False,
) -> Image:
    """A small image for several platforms, each with layers of its own and one that they all share."""
    sizes = list(sizes)
    shared = layer(99, 1000, docker)
    children = []
    for number, platform in enumerate(platforms):
        own = [layer(100 * number + position, size, docker) for position, size in enumerate(sizes)]
        children.append(image(platform, *own, shared, docker=docker))
    return index(children, docker)


def attestation(of: Image) -> Image:
    """Return an attestation of BuildKit: a manifest for no platform, tied to its image by annotations."""
    statement = encode({"_type": "https://in-toto.io/Statement/v0.1", "subject": [{"name": of.root}]})
    layers = [Blob.of(statement, IN_TOTO, digest_of(statement))]
    unknown = platform_of("unknown/unknown")
    bare = manifest(config("unknown", "unknown", layers=layers), layers, unknown)
    reference = {"type": "attestation-manifest", "digest": of.root}
    tied = {f"vnd.docker.reference.{key}": value for key, value in sorted(reference.items())}
    return replace(bare, annotations=tied)


def signature(of: Image, number: int = 0, payload: bytes = b"") -> Image:
    """A referrer: an artifact with a subject, such as notation's signatures and bills of materials."""
    blob = Blob.of(payload or f"signed {of.root} {number}".encode(), "application/jose+json")
    return artifact("application/vnd.cncf.notary.signature", blob, subject=of.subject(), annotations={"n": str(number)})


def cosign_tag(of: Image, kind: str = "sig") -> str:
    return f"{of.root.replace(':', '-')}.{kind}"


def artifact(artifact_type: str, *blobs: Blob, configuration: Blob = EMPTY, **fields: Any) -> Image:
    """Return a manifest of an artifact: a chart, a signature, anything but an image."""
    return manifest(configuration, blobs, artifactType=artifact_type, **fields)


# The sample


@cache
def seed_image() -> Image:
    """An image in the shape of redis:4.0 as it was published: types, sizes, formatting, history.

    The layers hold random bytes, so the digests are different.
    """
    sections = (RECORD / "record.md").read_text().split("\n### ")[1:]
    names = {"linux/amd64": "manifest-linux-amd64.json", "linux/arm/v7": "manifest-linux-arm-v7.json"}
    children = [
        _recorded(platform, json.loads((RECORD / name).read_bytes()), section, 100 * number)
        for number, ((platform, name), section) in enumerate(zip(names.items(), sections, strict=True), 1)
    ]
    return index(children, docker=True, indent=3)


def _recorded(platform: str, published: Json, section: str, seed: int) -> Image:
    layers = [layer(seed + number, node["size"], True) for number, node in enumerate(published["layers"])]
    fields = _recorded_config(section)
    place = platform.split("/")[:2]  # the configs of 2017 have no variant
    bare = config(*place, layers=layers, docker=True, **fields, comment="")
    comment = "." * (published["config"]["size"] - bare.size)
    configuration = config(*place, layers=layers, docker=True, **fields, comment=comment)
    return manifest(configuration, layers, platform_of(platform), docker=True, indent=3)


def _recorded_config(section: str) -> Json:
    """The fields of a config that the record shows as a Dockerfile."""
    steps = re.findall(r"^# \w+, (.*) GMT\n(.*)$", section, re.MULTILINE)
    settings: Json = {"Env": [text[4:] for _, text in steps if text.startswith("ENV ")]}
    settings |= {"ExposedPorts": {"6379/tcp": {}}, "Volumes": {"/data": {}}, "WorkingDir": "/data"}
    settings |= {"Entrypoint": ["docker-entrypoint.sh"], "Cmd": ["redis-server"]}
    history = [_step(when, text) for when, text in steps]
    return {
        "created": history[-1]["created"],
        "docker_version": "17.06.2-ce",
        "config": settings,
        "history": history,
    }


def _step(when: str, text: str) -> Json:
    day, month, year, clock = when.split()
    number = "JanFebMarAprMayJunJulAugSepOctNovDec".index(month) // 3 + 1
    command, _, rest = text.partition(" ")
    created_by = f"/bin/sh -c {rest}" if command == "RUN" else f"/bin/sh -c #(nop) {text}"
    step: Json = {"created": f"{year}-{number:02}-{day}T{clock}Z", "created_by": created_by}
    return step if command in ("ADD", "COPY", "RUN") else {**step, "empty_layer": True}


# The big image

BENCH_PLATFORMS = ("linux/amd64", "linux/arm64", "linux/arm/v7", "linux/s390x")
BENCH_SIZES = (150_000_000, 80_000_000, 40_000_000, 20_000_000, 9_000_000, 1_000_000)


def publish_bench(target: Target, repo: str, tag: str, divisor: int = 1) -> str:
    """Build and publish 1.2 GB in 24 layers over four platforms, with one layer in memory at a time.

    Each layer is smaller by `divisor`.
    """
    children = []
    for number, platform in enumerate(BENCH_PLATFORMS):
        layers = []
        for position, size in enumerate(BENCH_SIZES):
            one = layer(1000 * number + position, (size + 1009 * number) // divisor)
            target.put_blob(repo, one.data)
            layers.append(replace(one, data=b""))  # uploaded, so the data can be released
        children.append(image(platform, *layers))
    whole = index(children)
    unsent = {digest: data for digest, data in whole.blobs.items() if data}
    return replace(whole, blobs=unsent).publish(target, repo, tag)


# Publishing over HTTP


class Remote:
    """A registry behind plain HTTP without authentication, as far as publishing needs it."""

    def __init__(self, host: str) -> None:
        self._connection = http.client.HTTPConnection(host, timeout=600)

    def put_blob(self, repo: str, data: bytes) -> str:
        digest = digest_of(data)
        if self._ask("HEAD", f"/v2/{repo}/blobs/{digest}").status != 200:
            location = urlsplit(self._done("POST", f"/v2/{repo}/blobs/uploads/").headers["Location"])
            query = f"{location.query}&digest={digest}".lstrip("&")
            self._done("PUT", f"{location.path}?{query}", data)
        return digest

    def put_manifest(self, repo: str, reference: str | None, data: bytes, media_type: str) -> str:
        digest = digest_of(data)
        self._done("PUT", f"/v2/{repo}/manifests/{reference or digest}", data, media_type)
        return digest

    def close(self) -> None:
        self._connection.close()

    def _done(
        self, method: str, target: str, data: bytes = b"", media_type: str = "application/octet-stream"
    ) -> http.client.HTTPResponse:
        response = self._ask(method, target, data, media_type)
        if response.status not in (201, 202):
            raise SystemExit(f"{method} {target}: {response.status} {response.reason}")
        return response

    def _ask(self, method: str, target: str, data: bytes = b"", media_type: str = "") -> http.client.HTTPResponse:
        self._connection.request(method, target, data, {"Content-Type": media_type} if media_type else {})
        response = self._connection.getresponse()
        response.read()  # otherwise the connection cannot be used again
        return response


def main() -> None:
    parser = argparse.ArgumentParser("python -m tests.support.images", description="Publish a sample image.")
    parser.add_argument("--bench", action="store_true", help="1.2 GB in 24 layers, for measurements")
    parser.add_argument("--divisor", type=int, default=1, help="with --bench: the layers are smaller by this factor")
    for name in ("host", "repo", "tag"):
        parser.add_argument(name, metavar=name.upper())
    options = parser.parse_args()
    remote = Remote(options.host)
    if options.bench:
        print(publish_bench(remote, options.repo, options.tag, options.divisor))
    else:
        print(seed_image().publish(remote, options.repo, options.tag))
    remote.close()


if __name__ == "__main__":
    main()
