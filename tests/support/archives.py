"""Archives of images as tools write them, and hostile ones; built without any code of mirror."""

import gzip
import io
import json
import tarfile
from collections.abc import Iterable, Mapping
from typing import Any

from tests.support.images import OCI_INDEX, OCI_MANIFEST, Blob, Image, Json, config, digest_of, encode, layer

BLOCK = 512
END = bytes(2 * BLOCK)
OCI_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
IMAGE_NAME, REF_NAME = "io.containerd.image.name", "org.opencontainers.image.ref.name"

Members = Mapping[str, bytes]


# Built by hand


def member(
    name: str | bytes = "x",
    data: bytes = b"",
    *,
    kind: bytes = b"0",
    size: bytes | int | None = None,
    link: str | bytes = "",
    prefix: bytes = b"",
    magic: bytes = b"ustar\x0000",
    checksum: bytes | None = None,
) -> bytes:
    """Return one member, valid except for the given fields. `size` is a number, or the twelve bytes of the field."""
    number = len(data) if size is None else size
    field = b"%011o\0" % number if isinstance(number, int) else number
    block = b"".join(
        (
            _bytes(name).ljust(100, b"\0")[:100],
            b"0000644\0" + 2 * b"0000000\0",
            field.ljust(12, b"\0"),
            b"%011o\0" % 0,
            b" " * 8,
            kind,
            _bytes(link).ljust(100, b"\0"),
            magic,
            bytes(80),
            prefix.ljust(155, b"\0"),
            bytes(12),
        )
    )
    assert len(block) == BLOCK
    own = b"%06o\0 " % sum(block) if checksum is None else checksum
    return block[:148] + own + block[156:] + padded(data)


def pax(*records: tuple[str | bytes, str | bytes], kind: bytes = b"x") -> bytes:
    """Return a pax header, which precedes another member."""
    return member("PaxHeaders/x", b"".join(record(*each) for each in records), kind=kind)


def record(key: str | bytes, value: str | bytes) -> bytes:
    rest = b" " + _bytes(key) + b"=" + _bytes(value) + b"\n"
    length = next(length for length in range(len(rest), len(rest) + 20) if length == len(rest) + len(str(length)))
    return b"%d" % length + rest


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % BLOCK)


def archive(*members: bytes) -> bytes:
    return b"".join(members) + END


def _bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode()


def sparse_member(name: str, size: int, regions: Iterable[tuple[int, bytes]]) -> tuple[bytes, bytes]:
    """Return the two members of a file with holes, as bsdtar 3.6 and GNU tar with --format=posix write them."""
    regions = list(regions)
    numbers = [len(regions), *(number for start, data in regions for number in (start, len(data)))]
    content = padded(b"".join(b"%d\n" % number for number in numbers)) + b"".join(data for _, data in regions)
    version = ("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0")
    fields = ("GNU.sparse.name", name), ("GNU.sparse.realsize", str(size))
    return pax(*version, *fields), member("GNUSparseFile.0/x", content)


# Built with tarfile


def packed(files: Members, form: int = tarfile.USTAR_FORMAT, links: Mapping[str, str] | None = None) -> bytes:
    """Return a tar archive; a name that ends with a slash is a directory."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=form) as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name.rstrip("/"))
            info.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        for name, link in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, link
            tar.addfile(info)
    return target.getvalue()


def unpacked(data: bytes) -> dict[str, bytes]:
    """Return the files of an archive, in its order."""
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return {info.name: tar.extractfile(info).read() for info in tar if info.isreg()}  # type: ignore[union-attr]


# As the tools write them


def named(image: Image, name: str) -> Json:
    """Return the entry of an image in `index.json`, with its full name and its tag."""
    return {**image.descriptor(), "annotations": {IMAGE_NAME: name, REF_NAME: name.rpartition(":")[2]}}


def layout(*entries: Json, content: Iterable[Image] = ()) -> dict[str, bytes]:
    """Return the files of an OCI image layout with these entries."""
    whole = encode({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": list(entries)})
    files = {"oci-layout": OCI_LAYOUT, "index.json": whole}
    for image in content:
        blobs = {**image.blobs, **{digest: data for digest, (data, _) in image.manifests.items()}}
        files |= {place(digest): data for digest, data in blobs.items()}
    return files


def oci_archive(image: Image, name: str) -> bytes:
    return packed(layout(named(image, name), content=[image]))


def place(digest: str) -> str:
    return "blobs/" + digest.replace(":", "/")


def with_folders(files: Members) -> dict[str, bytes]:
    """Return an archive as tools pack a directory: directories first, sorted."""
    return {"blobs/": b"", "blobs/sha256/": b"", **dict(sorted(files.items()))}


class Saved:
    """An image as docker stores it: a config, and uncompressed layers."""

    def __init__(self, seed: int, *tags: str, sizes: Iterable[int] = (3000, 200), shared: Iterable[Blob] = ()) -> None:
        self.tags = list(tags)
        packed_layers = [*shared, *(layer(seed + number, size) for number, size in enumerate(sizes))]
        self.layers = {one.diff_id: gzip.decompress(one.data) for one in packed_layers}
        self.compressed = {one.diff_id: one.data for one in packed_layers}
        self.config = config("linux", "amd64", layers=packed_layers, created="2020-01-01T00:00:00Z")
        self.id = self.config.digest.partition(":")[2]

    @property
    def hexes(self) -> list[str]:
        return [diff_id.partition(":")[2] for diff_id in self.layers]

    def manifest(self) -> Json:
        """Return the fields of the manifest for this image: config and layers."""
        nodes = [
            {"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": diff_id, "size": len(data)}
            for diff_id, data in self.layers.items()
        ]
        return {"config": self.config.descriptor(), "layers": nodes}


def docker_old(*images: Saved) -> bytes:
    """Return an archive of `docker save` before 25: a directory for each layer, a link to one of an earlier image."""
    files: dict[str, bytes] = {}
    links: dict[str, str] = {}
    seen: dict[str, str] = {}
    listed = []
    for image in images:
        paths = []
        for diff_id, data in image.layers.items():
            folder = digest_of((image.id + diff_id).encode()).partition(":")[2]
            files |= {f"{folder}/": b"", f"{folder}/VERSION": b"1.0", f"{folder}/json": b"{}"}
            paths.append(f"{folder}/layer.tar")
            if diff_id in seen:
                links[paths[-1]] = f"../{seen[diff_id]}"
            else:
                files[paths[-1]] = data
                seen[diff_id] = paths[-1]
        files[f"{image.id}.json"] = image.config.data
        listed.append({"Config": f"{image.id}.json", "RepoTags": image.tags or None, "Layers": paths})
    files |= {"manifest.json": encode_list(listed), "repositories": b"{}\n"}
    return packed(files, tarfile.PAX_FORMAT, links)


def docker_archive(image: Saved) -> bytes:
    """Return an archive of `podman save` 4 or `skopeo` 1.9: layers named by diff_ids, and links for older dockers."""
    files = {f"{name}.tar": data for name, data in zip(image.hexes, image.layers.values(), strict=True)}
    links = {f"{digest_of(name.encode())[7:]}/layer.tar": f"../{name}.tar" for name in image.hexes}
    files[f"{image.id}.json"] = image.config.data
    listed = {"Config": f"{image.id}.json", "RepoTags": image.tags, "Layers": list(files)[:-1]}
    return packed({**files, "manifest.json": encode_list([listed])}, links=links)


def crane_archive(image: Saved) -> bytes:
    """Return an archive of crane: compressed layers, and a config named by its full digest."""
    layers = {digest_of(data)[7:] + ".tar.gz": data for data in image.compressed.values()}
    listed = {"Config": f"sha256:{image.id}", "RepoTags": image.tags, "Layers": list(layers)}
    return packed({f"sha256:{image.id}": image.config.data, **layers, "manifest.json": encode_list([listed])})


def docker_new(image: Saved) -> bytes:
    """Return an archive of `docker save` since 25: a layout with uncompressed layers, and `manifest.json`."""
    manifest = encode({"schemaVersion": 2, "mediaType": OCI_MANIFEST, **image.manifest()})
    root = {"mediaType": OCI_MANIFEST, "digest": digest_of(manifest), "size": len(manifest)}
    annotations = {IMAGE_NAME: f"docker.io/library/{image.tags[0]}", REF_NAME: image.tags[0].partition(":")[2]}
    blobs = {image.config.digest: image.config.data, digest_of(manifest): manifest, **image.layers}
    listed = {
        "Config": place(image.config.digest),
        "RepoTags": image.tags,
        "Layers": [place(diff_id) for diff_id in image.layers],
        "LayerSources": {node["digest"]: node for node in image.manifest()["layers"]},
    }
    files = layout({**root, "annotations": annotations}) | {place(digest): data for digest, data in blobs.items()}
    return packed(with_folders({**files, "manifest.json": encode_list([listed]), "repositories": b"{}\n"}))


def containerd_archive(image: Image, name: str, *present: Image) -> bytes:
    """Return an archive of `ctr export` or `nerdctl save`: a whole index, and the platforms that are present."""
    files = layout(named(image, name), content=present or [image])
    files[place(image.root)] = image.data
    return packed(with_folders({**files, "manifest.json": b"[]"}))


def encode_list(items: list[Any]) -> bytes:
    return json.dumps(items).encode()


# Hostile archives

_GOOD = member("a", b"data")
_HEX = "ab" * 32

HOSTILE: dict[str, tuple[bytes, str]] = {
    "a name that climbs out": (archive(_GOOD, member("../../etc/passwd", b"x")), "unsafe name"),
    "a name that climbs out later": (archive(_GOOD, member("blobs/../../x", b"x")), "unsafe name"),
    "a name that climbs out in a pax header": (archive(_GOOD, pax(("path", "../x")), member("x")), "unsafe name"),
    "a name that climbs out in a GNU header": (
        archive(_GOOD, member("././@LongLink", b"../x\0", kind=b"L"), member("x")),
        "unsafe name",
    ),
    "a name that climbs out by its prefix": (archive(_GOOD, member("x", prefix=b"a/..")), "unsafe name"),
    "an absolute name": (archive(_GOOD, member("/etc/passwd", b"x")), "unsafe name"),
    "an absolute name after a dot and a slash": (archive(_GOOD, member(".//etc/passwd", b"x")), "unsafe name"),
    "a directory that climbs out": (archive(_GOOD, member("../up/", kind=b"5")), "unsafe name"),
    "an empty name": (archive(_GOOD, member("", b"x")), "unsafe name"),
    "a name with an empty part": (archive(_GOOD, member("blobs//x", b"x")), "unsafe name"),
    "a file with a slash at its end": (archive(_GOOD, member("blobs/", b"x")), "unsafe name"),
    "a name with a newline": (archive(_GOOD, member("x\ny", b"x")), "control characters"),
    "a name with an escape": (archive(_GOOD, member("\x1b[2Jx", b"x")), "control characters"),
    "a name that is not UTF-8": (archive(_GOOD, member(b"\xff\xfe", b"x")), "not UTF-8"),
    "a hard link": (archive(_GOOD, member("x", kind=b"1", link="a")), "a hard link 'x'"),
    "a symbolic link": (archive(_GOOD, member("x", kind=b"2", link="/etc/passwd")), "a symbolic link 'x'"),
    "a link in the place of a blob": (
        archive(_GOOD, member(f"blobs/sha256/{_HEX}", kind=b"2", link="/etc/passwd")),
        "a symbolic link",
    ),
    "a layer that is a link out of the archive": (
        archive(_GOOD, member(f"{_HEX}/layer.tar", kind=b"2", link="../../../etc/passwd")),
        "not one of its layers",
    ),
    "a layer that is a link to a missing member": (
        archive(_GOOD, member(f"{_HEX}/layer.tar", kind=b"2", link=f"../{'cd' * 32}/layer.tar")),
        "not one of its layers",
    ),
    "a layer that is a link to itself": (
        archive(_GOOD, member(f"{_HEX}/layer.tar", kind=b"2", link=f"../{_HEX}/layer.tar")),
        "not one of its layers",
    ),
    "a character device": (archive(_GOOD, member("x", kind=b"3")), "a device 'x'"),
    "a block device": (archive(_GOOD, member("x", kind=b"4")), "a device 'x'"),
    "a FIFO": (archive(_GOOD, member("x", kind=b"6")), "a FIFO 'x'"),
    "a sparse file without a map": (
        archive(_GOOD, member("x", b"x", kind=b"S", magic=b"ustar  \0")),
        "a sparse file with an invalid map",
    ),
    "a sparse file of an unknown format": (
        archive(_GOOD, pax(("GNU.sparse.major", "1"), ("GNU.sparse.realsize", "9")), member("x", b"x")),
        "a sparse file in an unknown format",
    ),
    "a sparse file with a region that overlaps another": (
        archive(_GOOD, *sparse_member("x", 9, [(0, b"abc"), (2, b"d")])),
        "a sparse file with an invalid map",
    ),
    "a sparse file with a region beyond its end": (
        archive(_GOOD, *sparse_member("x", 9, [(8, b"abc")])),
        "a sparse file with an invalid map",
    ),
    "a sparse file that expands too far": (
        archive(_GOOD, *sparse_member("x", 2**40, [(0, b"abc")])),
        "a sparse file 'x' that is larger than any genuine one",
    ),
    "a sparse file that leads outside": (archive(_GOOD, *sparse_member("../x", 9, [])), "unsafe name"),
    "an unknown type": (archive(_GOOD, member("x", kind=b"Z")), "of type b'Z'"),
    "the same member twice": (archive(_GOOD, member("a", b"other")), "two members 'a'"),
    "the same member twice in two spellings": (archive(_GOOD, member("./a", b"other")), "two members 'a'"),
    "a directory with content": (archive(_GOOD, member("d", b"x", kind=b"5")), "directory 'd' with content"),
    "a negative size": (archive(_GOOD, member("x", size=b"-0000000001\0")), "an invalid size"),
    "a negative size in base 256": (archive(_GOOD, member("x", size=b"\xff" * 12)), "an invalid size"),
    "a huge size in base 256": (archive(_GOOD, member("x", size=b"\x80" + b"\xff" * 11)), "an invalid size"),
    "a size that is garbage": (archive(_GOOD, member("x", size=b"12x4\0")), "an invalid size"),
    "a size with an underscore": (archive(_GOOD, member("x", size=b"0000000_001\0")), "an invalid size"),
    "no size": (archive(_GOOD, member("x", size=bytes(12))), "an invalid size"),
    "a size beyond the end": (archive(_GOOD, member("x", b"x", size=0o77777777777)), "truncated in the middle of 'x'"),
    "a size of 2**62": (
        archive(_GOOD, member("x", size=b"\x80" + (2**62).to_bytes(11, "big"))),
        "truncated in the middle",
    ),
    "a negative size by pax": (archive(_GOOD, pax(("size", "-1")), member("x")), "an invalid size"),
    "a size in other digits than ASCII": (archive(_GOOD, pax(("size", "٣")), member("x")), "an invalid size"),
    "a size of 2**63 by pax": (archive(_GOOD, pax(("size", str(2**63))), member("x")), "two sizes"),
    "two sizes": (archive(_GOOD, pax(("size", "1024")), member("x", b"y" * 1024, size=0)), "two sizes"),
    "a name twice by pax": (archive(_GOOD, pax(("path", "y"), ("path", "z")), member("x")), "two values of path"),
    "two pax headers": (
        archive(_GOOD, pax(("path", "y")), pax(("path", "z")), member("x")),
        "with the same field for one member",
    ),
    "a name in a global pax header": (archive(_GOOD, pax(("path", "y"), kind=b"g"), member("x")), "global pax header"),
    "a pax header with invalid content": (
        archive(_GOOD, member("p", b"hello", kind=b"x"), member("x")),
        "malformed pax header",
    ),
    "a pax record that is too long": (
        archive(_GOOD, member("p", b"99 a=b\n", kind=b"x"), member("x")),
        "malformed pax header",
    ),
    "a pax record that is too short": (
        archive(_GOOD, member("p", b"3 a=b\n", kind=b"x"), member("x")),
        "malformed pax header",
    ),
    "a pax bomb": (archive(_GOOD, pax(("path", "x" * 2_000_000)), member("x")), "extended header of"),
    "a pax header without a member": (archive(_GOOD, pax(("path", "y"))), "ends unexpectedly"),
    "a name bomb": (archive(_GOOD, member("L", b"x" * 2_000_000, kind=b"L"), member("x")), "extended header of"),
    "a wrong checksum": (archive(_GOOD, member("x", checksum=b"000001\0 ")), "a wrong checksum"),
    "another magic": (archive(_GOOD, member("x", magic=b"visor  \0")), "neither ustar nor GNU"),
    "one block of zeros in the middle": (archive(_GOOD, bytes(BLOCK), member("x")), "ends unexpectedly"),
    "no end": (_GOOD, "its end is missing"),
    "a cut in a header": (_GOOD + member("x")[:100], "its end is missing"),
    "a cut in a member": (_GOOD + member("x", b"x" * 5000)[:3000], "truncated in the middle of 'x'"),
    "a cut in a pax header": (_GOOD + pax(("path", "x" * 5000))[:3000], "truncated in the middle"),
}
