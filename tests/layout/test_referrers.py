"""Which entries are about which image: by their tag and their repository, whoever wrote the layout."""

import asyncio

import pytest

from mirror.content.select import INDEX
from mirror.content.walk import walk
from mirror.layout import Entry
from mirror.layout.names import IMAGE_NAME, ORIGIN, REF_NAME
from mirror.layout.referrers import LayoutReferrers, Referrer, is_attachable, is_list, subjects_of
from mirror.oci.descriptor import Descriptor
from mirror.oci.digest import Digest
from tests.support import images
from tests.support.images import Image, cosign_tag, signature
from tests.support.memory import MemorySource, descriptor_of

IMAGE = images.image("linux/amd64", images.layer(1, 100))
SIGNATURE = signature(IMAGE)
OVER = signature(SIGNATURE)
PLAIN = images.artifact("a/b", images.Blob.of(b"simple", "a/b"))


def tag_of(subject: Image) -> str:
    return subject.root.replace(":", "-")


def entry_of(image: Image, tag: str, repo: str | None = "quay.io/a/b", **annotations: str) -> Entry:
    named = {REF_NAME: tag} | ({IMAGE_NAME: f"{repo}:{tag}"} if repo else {})
    root = descriptor_of(image)
    return Entry.of(Descriptor(root.media_type, root.digest, root.size, annotations={**named, **annotations}))


def about(entry: Entry, image: Image, *others: tuple[Entry, Image]) -> list[Referrer]:
    source = MemorySource(image, *(one for _, one in others))

    async def main() -> list[Referrer]:
        graph = await walk(source, entry.root)
        return await LayoutReferrers(source, [entry, *(other for other, _ in others)]).of(entry, graph)

    return asyncio.run(main())


LIST = images.index([SIGNATURE])


@pytest.mark.parametrize("repo", ["quay.io/a/b", None])
def test_a_list_and_cosigns_tags_are_about_their_image(repo: str | None) -> None:
    image = entry_of(IMAGE, "v1", repo)
    listed, signed = entry_of(LIST, tag_of(IMAGE), repo), entry_of(PLAIN, cosign_tag(IMAGE), repo)
    found = about(image, IMAGE, (listed, LIST), (signed, PLAIN))
    assert [(one.entry, one.subject, one.is_list) for one in found] == [
        (listed, IMAGE.root, True),
        (signed, IMAGE.root, False),
    ]
    assert [one.members for one in found] == [(SIGNATURE.root,), (PLAIN.root,)]


def test_what_is_about_a_referrer_is_about_the_image_too() -> None:
    over = images.index([OVER])
    entries = [(entry_of(LIST, tag_of(IMAGE)), LIST), (entry_of(over, tag_of(SIGNATURE)), over)]
    assert len(about(entry_of(IMAGE, "v1"), IMAGE, *entries)) == 2


@pytest.mark.parametrize("repo", ["quay.io/c/d", "docker.io/a/b", None])
def test_another_repository_has_nothing_to_say(repo: str | None) -> None:
    assert about(entry_of(IMAGE, "v1"), IMAGE, (entry_of(PLAIN, cosign_tag(IMAGE), repo), PLAIN)) == []


def test_a_tag_of_another_digest_is_about_another_image() -> None:
    assert about(entry_of(IMAGE, "v1"), IMAGE, (entry_of(PLAIN, cosign_tag(SIGNATURE)), PLAIN)) == []


def test_a_list_has_to_be_an_index() -> None:
    entry = entry_of(PLAIN, tag_of(IMAGE))
    assert not is_list(entry)
    assert not is_attachable(entry)
    assert about(entry_of(IMAGE, "v1"), IMAGE, (entry, PLAIN)) == []


def test_what_cannot_be_read_is_attached_all_the_same() -> None:
    gone = images.index([signature(IMAGE, 5)])
    bare = Image(gone.root, gone.root_media_type, {gone.root: gone.manifests[gone.root]}, {})
    (found,) = about(entry_of(IMAGE, "v1"), IMAGE, (entry_of(gone, tag_of(IMAGE)), bare))
    assert found.failure is not None
    assert found.members == (signature(IMAGE, 5).root,)


@pytest.mark.parametrize("recorded", [{INDEX: SIGNATURE.root}, {ORIGIN: f"quay.io/a/b:v1@{SIGNATURE.root}"}])
def test_the_index_that_a_platform_was_chosen_from_counts(recorded: dict[str, str]) -> None:
    image, source = entry_of(IMAGE, "v1", **recorded), MemorySource(IMAGE)
    graph = asyncio.run(walk(source, image.root))
    assert subjects_of(image, graph) == [IMAGE.root, SIGNATURE.root]


@pytest.mark.parametrize("recorded", [{INDEX: "../../x"}, {ORIGIN: "nonsense"}, {ORIGIN: "a@b@"}])
def test_nonsense_in_annotations_is_no_subject(recorded: dict[str, str]) -> None:
    image = entry_of(IMAGE, "v1", **recorded)
    assert subjects_of(image, asyncio.run(walk(MemorySource(IMAGE), image.root))) == [Digest(IMAGE.root)]
