"""Tests of referrers that are ambiguous, damaged, refused or only partly supported: none may be lost silently."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.test_referrers import Listing
from tests.cli.test_unsupported import UNKNOWN, artifact
from tests.support import images, layouts
from tests.support.command import Mirror, blob_path, entries
from tests.support.images import Image, cosign_tag, signature
from tests.support.registry import EmbeddedRegistry, Fault, Status, serving

IMAGE = images.image("linux/amd64", images.layer(1, 300))
LIST = IMAGE.root.replace(":", "-")
FIRST, SECOND = (images.artifact("a/b", images.Blob.of(text, "a/b")) for text in (b"first", b"second"))
REF_NAME = "org.opencontainers.image.ref.name"


@pytest.fixture
def modern() -> Iterator[EmbeddedRegistry]:
    with serving(EmbeddedRegistry(referrers=True)) as running:
        yield running


def stored(folder: Path, *named: tuple[Image, str], more: tuple[Image, ...] = ()) -> Path:
    """Write a layout with images under bare tags, as skopeo and umoci do, and `more` that no entry leads to."""
    layout = folder / "layout"
    layouts.write(layout, *(image for image, _ in named), *more)
    layouts.write_index(layout, [{**image.descriptor(), "annotations": {REF_NAME: tag}} for image, tag in named])
    return layout


def tagged(layout: Path) -> list[tuple[str, str]]:
    """The entries of a layout: tags and digests."""
    return sorted((entry["annotations"].get(REF_NAME, ""), entry["digest"]) for entry in entries(layout))


# Two entries under one tag


@pytest.fixture
def twice(tmp_path: Path) -> Path:
    """A layout with two signatures of one image under the same tag, from two repositories."""
    tag = cosign_tag(IMAGE)
    return stored(tmp_path, (IMAGE, "v1"), (FIRST, tag), (SECOND, tag))


def test_both_entries_with_one_tag_are_copied(mirror: Mirror, twice: Path, tmp_path: Path) -> None:
    mirror("copy", f"oci:{twice}", "oci:other")
    mirror("export", twice, "images.tar")
    mirror("import", "images.tar", "third")
    assert tagged(tmp_path / "other") == tagged(tmp_path / "third") == tagged(twice)
    (image,) = mirror("ls", "other", "--json").json["images"]
    assert image["referrers"] == 2


def test_two_signatures_for_one_tag_of_a_registry_are_refused(
    mirror: Mirror, modern: EmbeddedRegistry, twice: Path
) -> None:
    err = mirror("push", twice, modern.host, "--as", "a/b", code=2).err
    assert FIRST.root in err
    assert SECOND.root in err
    assert modern.count("POST|PUT|PATCH") == 0
    mirror("rm", twice, FIRST.root)
    mirror("push", twice, modern.host, "--as", "a/b")
    assert modern.tags("a/b") == {"v1": IMAGE.root, cosign_tag(IMAGE): SECOND.root}


def test_same_entry_twice_is_pushed_once(mirror: Mirror, modern: EmbeddedRegistry, tmp_path: Path) -> None:
    layout = stored(tmp_path, (IMAGE, "v1"), (FIRST, cosign_tag(IMAGE)), (FIRST, cosign_tag(IMAGE)))
    assert "1 referrer" in mirror("push", layout, modern.host, "--as", "a/b").err
    assert modern.tags("a/b") == {"v1": IMAGE.root, cosign_tag(IMAGE): FIRST.root}


def test_members_of_both_lists_with_one_tag_are_pushed(
    mirror: Mirror, modern: EmbeddedRegistry, tmp_path: Path
) -> None:
    some = [signature(IMAGE, number) for number in range(3)]
    lists = [(images.index([one]), LIST) for one in some[:2]]
    layout = stored(tmp_path, (IMAGE, "v1"), *lists, more=(some[2],))
    assert "3 referrers" in mirror("push", layout, modern.host, "--as", "a/b").err
    assert modern.manifests("a/b") == {IMAGE.root, *(one.root for one in some)}


def test_both_entries_with_one_tag_belong_to_a_recorded_image(mirror: Mirror, twice: Path) -> None:
    findings = mirror("verify", twice, "--expect", f"v1={IMAGE.root}", "--json").json["findings"]
    assert [finding["kind"] for finding in findings] == ["ambiguous-name"]


def test_each_image_of_a_shared_tag_is_inspected(mirror: Mirror, tmp_path: Path) -> None:
    other = images.image("linux/arm64", images.layer(2, 300))
    layout = stored(tmp_path, (IMAGE, "v1"), (other, "v1"))
    inspected = mirror("inspect", layout, "--json").json["images"]
    assert [image["digest"] for image in inspected] == [IMAGE.root, other.root]


# A referrer that cannot be checked or fetched


SIGNATURE, FORMER = signature(IMAGE), signature(IMAGE, 8)


@pytest.mark.parametrize("flags", [(), ("--keep-going",), ("--dry-run",)])
def test_referrer_that_the_target_cannot_be_asked_for_does_not_fail_its_image(
    mirror: Mirror, modern: EmbeddedRegistry, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    layout = stored(tmp_path, (IMAGE, "v1"), more=(SIGNATURE,))
    (blob,) = SIGNATURE.blobs.keys() - {images.EMPTY.digest}
    modern.fault(Fault(method="HEAD", path=f"/blobs/{blob}", times=None, action=Status(505)))
    result = mirror("push", layout, modern.host, "--as", "a/b", *flags, code=4)
    assert "may lack referrers" in result.err
    assert modern.tags("a/b") == ({} if "--dry-run" in flags else {"v1": IMAGE.root})


def test_blob_of_an_image_and_its_referrer_must_be_checked(
    mirror: Mirror, modern: EmbeddedRegistry, tmp_path: Path
) -> None:
    shared = images.layer(1, 300)
    both = images.artifact("a/b", shared, subject=IMAGE.subject())
    layout = stored(tmp_path, (IMAGE, "v1"), more=(both,))
    modern.fault(Fault(method="HEAD", path=f"/blobs/{shared.digest}", times=None, action=Status(505)))
    mirror("push", layout, modern.host, "--as", "a/b", code=1)
    assert modern.tags("a/b") == {}


# A tag that may not be read


@pytest.mark.parametrize("code", [401, 403, 405, 505])
@pytest.mark.parametrize("flags", [(), ("--dry-run",)])
def test_signature_is_left_out_if_its_tag_cannot_be_checked(
    mirror: Mirror, registry: EmbeddedRegistry, tmp_path: Path, code: int, flags: tuple[str, ...]
) -> None:
    tag = cosign_tag(IMAGE)
    layout = stored(tmp_path, (IMAGE, "v1"), (FIRST, tag))
    SECOND.publish(registry, "a", tag)
    registry.clear_log()
    registry.fault(Fault(method="HEAD|GET", path=f"/manifests/{tag}", times=None, action=Status(code)))
    result = mirror("push", layout, registry.host, "--as", "a", "--no-overwrite", *flags, code=4)
    assert f"v1 is complete, but may lack referrers: {registry.host} " in result.err
    assert registry.tags("a") == {tag: SECOND.root} | ({} if flags else {"v1": IMAGE.root})
    assert FIRST.root not in registry.manifests("a")


@pytest.mark.parametrize("flags", [(), ("--dry-run",)])
def test_signature_whose_tag_is_taken_is_not_sent(
    mirror: Mirror, registry: EmbeddedRegistry, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    tag = cosign_tag(IMAGE)
    over = signature(FIRST)
    layout = stored(tmp_path, (IMAGE, "v1"), (FIRST, tag), more=(over,))
    SECOND.publish(registry, "a", tag)
    result = mirror("push", layout, registry.host, "--as", "a", "--no-overwrite", "--json", *flags, code=4)
    assert "already stands for another image" in result.json["images"][0]["referrers"]["error"]
    assert registry.tags("a")[tag] == SECOND.root
    assert FIRST.root not in registry.manifests("a")
    assert (over.root in registry.manifests("a")) == (not flags)


# A referrer that the layout lists, and that is damaged there


@pytest.fixture
def name(mirror: Mirror, modern: EmbeddedRegistry) -> str:
    """An image in the layout, with FORMER, which the registry no longer lists; it lists SIGNATURE now."""
    IMAGE.publish(modern, "a", "v1")
    FORMER.publish(modern, "a", None)
    mirror("pull", f"{modern.host}/a:v1", "--all")
    SIGNATURE.publish(modern, "a", None)
    modern.fault(Fault(path=f"/referrers/{IMAGE.root}", times=None, action=Listing(SIGNATURE.descriptor())))
    return f"{modern.host}/a:v1"


def newer(mirror: Mirror, name: str, command: str) -> str:
    """Transfer the image with its new referrer into the layout, and return what was printed on stderr."""
    if command == "pull":
        return mirror("pull", name, "--all").err
    mirror("pull", name, "--all", "-o", "other")
    return mirror("copy", "oci:other", "oci:layout").err


def listed(layout: Path) -> set[str]:
    (entry,) = [one for one in entries(layout) if one["annotations"].get(REF_NAME) == LIST]
    return {child["digest"] for child in json.loads(blob_path(layout, entry["digest"]).read_bytes())["manifests"]}


@pytest.mark.slow
@pytest.mark.parametrize("command", ["pull", "copy"])
@pytest.mark.parametrize("part", ["manifest", "blob"])
def test_damaged_referrer_that_is_nowhere_else_is_named(
    mirror: Mirror, modern: EmbeddedRegistry, name: str, tmp_path: Path, command: str, part: str
) -> None:
    (blob,) = FORMER.blobs.keys() - {images.EMPTY.digest}
    blob_path(tmp_path / "layout", FORMER.root if part == "manifest" else blob).write_bytes(b"damaged")
    modern.remove_manifest("a", FORMER.root)
    modern.remove_blob("a", blob)
    err = newer(mirror, name, command)
    assert f"warning: {modern.host}/a:{LIST}: its referrer {FORMER.root} is damaged" in err
    assert listed(tmp_path / "layout") == {SIGNATURE.root} | ({FORMER.root} if part == "blob" else set())


@pytest.mark.slow
def test_damaged_referrer_is_fetched_again(mirror: Mirror, name: str, tmp_path: Path) -> None:
    for digest in (FORMER.root, *FORMER.blobs):
        blob_path(tmp_path / "layout", digest).write_bytes(b"damaged")
    assert "is damaged" not in newer(mirror, name, "pull")
    assert listed(tmp_path / "layout") == {SIGNATURE.root, FORMER.root}
    mirror("verify", "layout")


# Verification of one image with its referrers

PLAIN = images.artifact("a/b", images.Blob.of(b"simple", "a/b"))
OVER = signature(SIGNATURE)
BARE_LIST = images.index([SIGNATURE])
SEVERAL = {
    "in blobs only": ([(IMAGE, "v1")], (SIGNATURE, OVER), [*SIGNATURE.blobs, *OVER.blobs]),
    "in a list": ([(IMAGE, "v1"), (BARE_LIST, LIST)], (SIGNATURE, OVER), [BARE_LIST.root, SIGNATURE.root, *OVER.blobs]),
    "tagged": ([(IMAGE, "v1"), (PLAIN, cosign_tag(IMAGE))], (signature(PLAIN),), [PLAIN.root, *signature(PLAIN).blobs]),
}


@pytest.mark.slow
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(("named", "more", "needed"), SEVERAL.values(), ids=SEVERAL)
def test_referrers_of_one_image_are_verified_and_repaired_with_it(
    mirror: Mirror,
    tmp_path: Path,
    named: list[tuple[Image, str]],
    more: tuple[Image, ...],
    needed: list[str],
    packed: bool,
) -> None:
    other = images.image("linux/arm64", images.layer(2, 300))
    layout = stored(tmp_path, *named, (other, "v2"), more=(*more, signature(other)))
    shutil.copytree(layout, tmp_path / "good")
    assert "1 image, 2 referrers" in mirror("verify", layout, "v1").err
    for digest in needed:
        blob_path(layout, digest).write_bytes(b"damaged")
        where = shutil.make_archive(str(tmp_path / "images"), "tar", layout) if packed else layout
        found = mirror("verify", where, "v1", "--json", code=3).json["findings"]
        assert {finding["subject"] for finding in found} == {digest}
        mirror("verify", layout, "v2", code=3 if digest == images.EMPTY.digest else 0)
        mirror("verify", layout, "v1", "--repair", "--from", "good")
    mirror("verify", layout)


# A list with members that are not supported, or damaged

ODD, ODDER = artifact(UNKNOWN), artifact(UNKNOWN, "layers")


@pytest.mark.slow
@pytest.mark.parametrize("bad", ["unsupported", "damaged"])
def test_other_members_of_a_list_are_transferred(
    mirror: Mirror, modern: EmbeddedRegistry, tmp_path: Path, bad: str
) -> None:
    some = images.index([SIGNATURE, ODD, FORMER, ODDER] if bad == "unsupported" else [SIGNATURE, FORMER])
    layout = stored(tmp_path, (IMAGE, "v1"), (some, LIST))
    if bad == "damaged":
        blob_path(layout, FORMER.root).write_bytes(b"damaged")
    left = {ODD.root, ODDER.root} if bad == "unsupported" else {FORMER.root}
    kept = {SIGNATURE.root} | ({FORMER.root} if bad == "unsupported" else set())
    result = mirror("push", layout, modern.host, "--as", "a", code=4)
    assert "v1 is complete, but may lack referrers" in result.err
    assert all(digest in result.err for digest in left)
    assert modern.manifests("a") == {IMAGE.root, *kept}
    mirror("copy", f"oci:{layout}", "oci:other", code=4)
    assert listed(tmp_path / "other") == kept
    mirror("verify", "other")
