"""Tests of layouts of other tools: referrers and children of indexes, wherever those tools store them."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import images, layouts, tools
from tests.support.command import Mirror, blob_path, blobs, entries
from tests.support.images import Blob, Image, cosign_tag, signature
from tests.support.registry import EmbeddedRegistry, serving

CHILD = images.image("linux/amd64", images.layer(1, 300))
IMAGE = images.index([CHILD, images.image("linux/arm64", images.layer(2, 200))])
SIGNATURE, BILL = signature(IMAGE), signature(CHILD, 1)
OVER = signature(BILL)
OTHER = images.image("linux/arm64", images.layer(6, 250))
REFERRERS = (SIGNATURE, BILL, OVER)
LOOSE = signature(images.image("linux/amd64", images.layer(9, 100)), 5)  # its subject is nowhere
PLAIN = images.artifact("a/b", Blob.of(b"simple", "application/vnd.dev.cosign.simplesigning.v1+json"))
NAME = "quay.io/a/b:v1"
REF_NAME = "org.opencontainers.image.ref.name"


def add(layout: Path, *some: Image) -> None:
    """Store images without an entry."""
    for image in some:
        for digest, data in {**image.blobs, **{name: data for name, (data, _) in image.manifests.items()}}.items():
            layouts.add(layout, digest, data)


def annotated(image: Image, **annotations: str) -> images.Json:
    return {**image.descriptor(), "annotations": annotations}


def cosign3(folder: Path) -> Path:
    """Return a layout as `cosign save` 3 writes it: no entry leads to the signatures."""
    layout = folder / "layout"
    layouts.write(layout, IMAGE, ref=NAME, kind="dev.cosignproject.cosign/imageIndex")
    add(layout, *REFERRERS)
    return layout


def cosign2(folder: Path) -> Path:
    """Return a layout as `cosign save` 2 writes it: the signatures have the name of their image, and a kind."""
    layout, named = folder / "layout", {REF_NAME: NAME}
    add(layout, IMAGE, PLAIN)
    kinds = ((IMAGE, "imageIndex"), (PLAIN, "sigs"))
    layouts.write_index(
        layout, [annotated(one, **named, kind=f"dev.cosignproject.cosign/{kind}") for one, kind in kinds]
    )
    return layout


def oras(folder: Path) -> Path:
    return tools.oras_1_3_layout(folder / "layout", IMAGE, "v1", *REFERRERS)


def everything(*some: Image) -> set[str]:
    return {digest for image in some for digest in (*image.manifests, *image.blobs)}


Build = Callable[[Path], Path]
BUILDS = pytest.mark.parametrize(
    ("build", "referrers"), [(cosign3, REFERRERS), (oras, REFERRERS), (cosign2, (PLAIN,))], ids=["cosign3", "oras", "2"]
)


@pytest.fixture
def modern() -> Iterator[EmbeddedRegistry]:
    with serving(EmbeddedRegistry(referrers=True)) as running:
        yield running


@BUILDS
def test_layout_has_one_image_and_its_referrers(
    mirror: Mirror, tmp_path: Path, build: Build, referrers: tuple[Image, ...]
) -> None:
    layout = build(tmp_path)
    (image,) = mirror("ls", "layout", "--json").json["images"]
    assert (image["digest"], image["referrers"]) == (IMAGE.root, len(referrers))
    (inspected,) = mirror("inspect", "layout", "--json").json["images"]
    assert {one["manifest"]["digest"] for one in inspected["referrers"]} == {one.root for one in referrers}
    verified = mirror("verify", "layout", "--json")
    assert verified.json["findings"] == []
    assert verified.json["size"] == sum(path.stat().st_size for path in layout.glob("blobs/sha256/*"))  # hashed once
    assert f"1 image, {len(referrers)} referrer" in mirror("verify", "layout").err
    assert "nothing to prune" in mirror("prune", "layout").err


@pytest.mark.slow
@pytest.mark.parametrize("named", [False, True])
@BUILDS
def test_referrers_are_copied_exported_and_imported(
    mirror: Mirror, tmp_path: Path, build: Build, referrers: tuple[Image, ...], named: bool
) -> None:
    build(tmp_path)
    image = [IMAGE.root] if named else []
    mirror("copy", "oci:layout", "oci:other")
    mirror("export", "layout", "images.tar", *image)
    mirror("import", "images.tar", "third", *image)
    for target in ("other", "third"):
        assert everything(IMAGE, *referrers) <= blobs(tmp_path / target)
        (listed,) = mirror("ls", target, "--json").json["images"]
        assert listed["referrers"] == len(referrers)
        mirror("verify", target)


@pytest.mark.slow
@BUILDS
def test_the_only_image_gets_another_name_with_its_referrers(
    mirror: Mirror, tmp_path: Path, build: Build, referrers: tuple[Image, ...]
) -> None:
    shutil.make_archive(str(tmp_path / "of-the-tool"), "tar", build(tmp_path))
    name = "registry.internal/c/d:v2"
    commands = (
        "copy oci:layout oci:first",
        "export layout images.tar",
        "import images.tar second",
        "import of-the-tool.tar third",
    )
    for command in commands:
        assert mirror(*command.split(), "--as", name).out.split() == [f"{name}@{IMAGE.root}"]
    for target in ("first", "second", "third"):
        (listed,) = mirror("ls", target, "--json").json["images"]
        assert (listed["name"], listed["referrers"]) == (name, len(referrers))
        assert everything(IMAGE, *referrers) <= blobs(tmp_path / target)
        assert "nothing to prune" in mirror("prune", target).err


def test_new_name_for_an_image_says_what_is_left_out(mirror: Mirror, tmp_path: Path) -> None:
    tag = cosign_tag(OTHER)
    add(tmp_path / "layout", IMAGE, PLAIN)
    named = [annotated(IMAGE, **{REF_NAME: NAME}), annotated(PLAIN, **{REF_NAME: f"quay.io/a/b:{tag}"})]
    layouts.write_index(tmp_path / "layout", named)
    mirror("export", "layout", "all.tar")
    for command in ("export layout one.tar", "import all.tar other", "copy oci:layout oci:third"):
        err = mirror(*command.split(), "--as", "c/d:v2").err
        assert "warning: Entries that refer to other images were left out: 1." in err


@pytest.mark.slow
def test_archive_of_another_tool_has_referrers_too(mirror: Mirror, tmp_path: Path) -> None:
    layout = cosign3(tmp_path)
    shutil.make_archive(str(tmp_path / "images"), "tar", layout)
    assert f"1 image, {len(REFERRERS)} referrers" in mirror("verify", "images.tar").err
    mirror("import", "images.tar", "other")
    assert everything(IMAGE, *REFERRERS) <= blobs(tmp_path / "other")


@pytest.mark.slow
@BUILDS
def test_referrers_are_pushed(
    mirror: Mirror, modern: EmbeddedRegistry, tmp_path: Path, build: Build, referrers: tuple[Image, ...]
) -> None:
    build(tmp_path)
    assert f"{len(referrers)} referrer" in mirror("push", "layout", modern.host, "--as", "c/d:v1").err
    assert modern.manifests("c/d") == {digest for one in (IMAGE, *referrers) for digest in one.manifests}
    tags = {cosign_tag(IMAGE): PLAIN.root} if build is cosign2 else {}
    assert modern.tags("c/d") == {"v1": IMAGE.root, **tags}


@BUILDS
def test_referrers_are_removed_with_their_image(
    mirror: Mirror, tmp_path: Path, build: Build, referrers: tuple[Image, ...]
) -> None:
    layout = build(tmp_path)
    mirror("rm", "layout", next(entry for entry in (NAME, "v1") if (entry == "v1") == (build is oras)))
    assert (entries(layout), blobs(layout)) == ([], set())
    assert referrers


def test_prune_keeps_referrers_and_deletes_those_of_nothing(mirror: Mirror, tmp_path: Path) -> None:
    layout = cosign3(tmp_path)
    add(layout, LOOSE)
    mirror("prune", "layout", "--delete")
    assert blobs(layout) == everything(IMAGE, *REFERRERS)


def test_referrer_of_nothing_is_an_orphan(mirror: Mirror, tmp_path: Path) -> None:
    add(cosign3(tmp_path), LOOSE)
    found = mirror("verify", "layout", "--json").json["findings"]
    sizes = {one["subject"]: one["message"] for one in found if one["kind"] == "orphan"}
    assert set(sizes) == everything(LOOSE) - everything(*REFERRERS)
    assert f"({len(LOOSE.data)} B)" in sizes[LOOSE.root]


def test_content_of_a_referrer_must_be_there(mirror: Mirror, tmp_path: Path) -> None:
    layout = cosign3(tmp_path)
    missing = next(digest for digest in SIGNATURE.blobs if digest != images.EMPTY.digest)
    blob_path(layout, missing).unlink()
    (found,) = mirror("verify", "layout", "--json", code=3).json["findings"]
    assert (found["kind"], found["subject"], found["images"]) == ("missing", missing, [SIGNATURE.root])


def test_corrupt_referrer_is_a_problem_of_its_image(mirror: Mirror, tmp_path: Path) -> None:
    layout = cosign3(tmp_path)
    path = blob_path(layout, SIGNATURE.root)
    path.write_bytes(path.read_bytes().replace(b'"n":"0"', b'"n":"1"'))
    found = mirror("verify", "layout", "--json", code=3).json["findings"]
    assert ("corrupt", SIGNATURE.root) in [(one["kind"], one["subject"]) for one in found]
    (image,) = mirror("ls", "layout", "--json").json["images"]
    assert SIGNATURE.root in image["problem"]


@pytest.mark.slow
def test_list_of_referrers_is_extended_by_those_that_it_lacks(mirror: Mirror, tmp_path: Path) -> None:
    other, listed = signature(IMAGE, 8), images.index([SIGNATURE])
    add(tmp_path / "layout", IMAGE, listed, other)
    tag = IMAGE.root.replace(":", "-")
    layouts.write_index(
        tmp_path / "layout",
        [annotated(IMAGE, **{REF_NAME: NAME}), annotated(listed, **{REF_NAME: f"quay.io/a/b:{tag}"})],
    )
    mirror("export", "layout", "images.tar")
    mirror("import", "images.tar", "other")
    assert everything(IMAGE, SIGNATURE, other) <= blobs(tmp_path / "other")
    assert "1 image, 2 referrers" in mirror("ls", "other").err


@pytest.mark.slow
def test_child_that_has_an_entry_can_still_be_named(mirror: Mirror, tmp_path: Path) -> None:
    oras(tmp_path)
    mirror("copy", f"oci:layout:{CHILD.root}", "oci:other")
    assert everything(CHILD) <= blobs(tmp_path / "other")
    assert IMAGE.root not in blobs(tmp_path / "other")


def test_children_with_names_are_images(mirror: Mirror, tmp_path: Path) -> None:
    add(tmp_path / "layout", IMAGE)
    named = [annotated(IMAGE, **{REF_NAME: "v1"}), annotated(CHILD, **{REF_NAME: "v1-amd64"})]
    layouts.write_index(tmp_path / "layout", named)
    assert len(mirror("ls", "layout", "--json").json["images"]) == 2


def test_subject_of_an_artifact_is_kept(mirror: Mirror, tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    add(layout, IMAGE, SIGNATURE, BILL)
    layouts.write_index(layout, [annotated(SIGNATURE, **{REF_NAME: "signature"})])
    assert mirror("verify", "layout", "--json").json["findings"] == []
    mirror("prune", "layout", "--delete")
    assert blobs(layout) == everything(IMAGE, SIGNATURE, BILL)


def test_rm_keeps_what_the_subject_of_an_artifact_shares(mirror: Mirror, tmp_path: Path) -> None:
    """No entry leads to the subject, an image with a layer that the removed image has, too."""
    layout, shared = tmp_path / "layout", images.layer(3, 400)
    subject = images.image("linux/amd64", shared, images.layer(4, 100))
    other = images.image("linux/arm64", shared, images.layer(5, 100))
    bill = signature(subject)
    add(layout, subject, other, bill)
    layouts.write_index(layout, [annotated(bill, **{REF_NAME: "bill"}), annotated(other, **{REF_NAME: "other"})])
    mirror("rm", "layout", "other")
    assert blobs(layout) == everything(subject, bill)
    assert mirror("verify", "layout", "--json").json["findings"] == []


@pytest.mark.slow
def test_repair_fetches_what_no_entry_leads_to(mirror: Mirror, tmp_path: Path) -> None:
    """Blobs of a referrer, and everything of an image that is only the subject of an artifact."""
    layout, artifact = tmp_path / "layout", signature(CHILD)
    add(layout, CHILD, artifact, OTHER, signed := signature(OTHER))
    layouts.write_index(layout, [annotated(OTHER, **{REF_NAME: "other"}), annotated(artifact, **{REF_NAME: "bill"})])
    shutil.copytree(layout, tmp_path / "good")
    for digest in (*signed.blobs, *CHILD.blobs, CHILD.root):
        good = blob_path(layout, digest).read_bytes()
        blob_path(layout, digest).write_bytes(b"bad")
        mirror("verify", "layout", "--repair", "--from", "good")
        assert blob_path(layout, digest).read_bytes() == good


def test_repair_from_a_registry_says_what_it_cannot_name(
    mirror: Mirror, registry: EmbeddedRegistry, tmp_path: Path
) -> None:
    layout, bill = tmp_path / "layout", signature(CHILD)
    add(layout, CHILD, bill)
    layouts.write_index(layout, [annotated(bill, **{REF_NAME: "bill"})])
    blob_path(layout, CHILD.root).write_bytes(b"bad")
    result = mirror("verify", "layout", "--repair", "--from", f"{registry.host}/x", "--plain-http", code=3)
    assert f"error: {CHILD.root}: " in result.err


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """A layout whose signature, which no entry leads to, is damaged; `good` is a copy from before."""
    layout = cosign3(tmp_path)
    shutil.copytree(layout, tmp_path / "good")
    path = blob_path(layout, SIGNATURE.root)
    path.write_bytes(path.read_bytes().replace(b"}}", b"|}"))
    return layout


@pytest.mark.slow
def test_damaged_referrer_is_not_lost_without_a_word(mirror: Mirror, damaged: Path, modern: EmbeddedRegistry) -> None:
    before = blobs(damaged)
    assert SIGNATURE.root in mirror("prune", "layout", "--delete", code=3).err
    assert blobs(damaged) == before
    assert SIGNATURE.root in mirror("export", "layout", "images.tar", code=3).err
    for command in ("copy oci:layout oci:other", f"push layout {modern.host}"):
        result = mirror(*command.split(), code=4)
        assert f"{NAME} is complete, but may lack referrers: {SIGNATURE.root}" in result.err
    (found,) = (one for one in mirror("verify", "layout", "--json", code=3).json["findings"] if one["kind"] != "orphan")
    assert (found["kind"], found["subject"], found["images"]) == ("corrupt", SIGNATURE.root, [SIGNATURE.root])


@pytest.mark.parametrize("content", [None, b"", b"\0" * 300])
def test_damaged_referrer_is_repaired_from_a_good_copy(mirror: Mirror, damaged: Path, content: bytes | None) -> None:
    path = blob_path(damaged, SIGNATURE.root)
    if content is not None:
        path.write_bytes(content)
    mirror("verify", "layout", "--repair", "--from", "good")
    assert path.read_bytes() == SIGNATURE.data
    assert mirror("verify", "layout", "--json").json["findings"] == []


def test_damaged_referrer_is_an_error_if_the_good_copy_lacks_it(mirror: Mirror, damaged: Path) -> None:
    blob_path(damaged.parent / "good", SIGNATURE.root).unlink()
    before = blobs(damaged)
    mirror("verify", "layout", "--repair", "--from", "good", code=3)
    assert blobs(damaged) == before


def test_copy_replaces_a_damaged_referrer(mirror: Mirror, damaged: Path) -> None:
    mirror("copy", "oci:good", "oci:layout")
    assert blob_path(damaged, SIGNATURE.root).read_bytes() == SIGNATURE.data
    assert mirror("verify", "layout", "--json").json["findings"] == []


def test_image_with_a_damaged_referrer_is_removed_with_it(mirror: Mirror, damaged: Path) -> None:
    mirror("rm", "layout", NAME)
    assert entries(damaged) == []
    assert SIGNATURE.root not in blobs(damaged)
