"""Tests of finding the entries that refer to an image, by their tags and repositories."""

import asyncio

import pytest

from mirror.content.walk import walk
from mirror.layout import Entry
from mirror.layout.names import IMAGE_NAME, ORIGIN, REF_NAME
from mirror.layout.referrers import LayoutReferrers, Referrer, subjects_of
from mirror.layout.referring import can_refer, is_list
from mirror.oci.descriptor import Descriptor
from mirror.oci.digest import Digest
from mirror.oci.platforms import INDEX
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


def referrers_of(entry: Entry, image: Image, *others: tuple[Entry, Image]) -> list[Referrer]:
    source = MemorySource(image, *(one for _, one in others))

    async def main() -> list[Referrer]:
        graph = await walk(source, entry.root)
        return await LayoutReferrers(source, [entry, *(other for other, _ in others)]).of(entry, graph)

    return asyncio.run(main())


LIST = images.index([SIGNATURE])


@pytest.mark.parametrize("repo", ["quay.io/a/b", None])
def test_referrers_list_and_cosign_tag_refer_to_their_image(repo: str | None) -> None:
    image = entry_of(IMAGE, "v1", repo)
    listed, signed = entry_of(LIST, tag_of(IMAGE), repo), entry_of(PLAIN, cosign_tag(IMAGE), repo)
    found = referrers_of(image, IMAGE, (listed, LIST), (signed, PLAIN))
    assert [(one.entry, one.subject, one.is_list) for one in found] == [
        (listed, IMAGE.root, True),
        (signed, IMAGE.root, False),
    ]
    assert [one.members for one in found] == [(SIGNATURE.root,), (PLAIN.root,)]


def test_referrers_of_a_referrer_are_found() -> None:
    over = images.index([OVER])
    entries = [(entry_of(LIST, tag_of(IMAGE)), LIST), (entry_of(over, tag_of(SIGNATURE)), over)]
    assert len(referrers_of(entry_of(IMAGE, "v1"), IMAGE, *entries)) == 2


@pytest.mark.parametrize("repo", ["quay.io/c/d", "docker.io/a/b", None])
def test_entries_of_another_repository_are_not_referrers(repo: str | None) -> None:
    assert referrers_of(entry_of(IMAGE, "v1"), IMAGE, (entry_of(PLAIN, cosign_tag(IMAGE), repo), PLAIN)) == []


def test_tag_for_another_digest_is_not_a_referrer() -> None:
    assert referrers_of(entry_of(IMAGE, "v1"), IMAGE, (entry_of(PLAIN, cosign_tag(SIGNATURE)), PLAIN)) == []


def test_referrers_list_must_be_an_index() -> None:
    entry = entry_of(PLAIN, tag_of(IMAGE))
    assert not is_list(entry)
    assert not can_refer(entry)
    assert referrers_of(entry_of(IMAGE, "v1"), IMAGE, (entry, PLAIN)) == []


def test_unreadable_referrers_list_is_found_with_its_failure() -> None:
    gone = images.index([signature(IMAGE, 5)])
    bare = Image(gone.root, gone.root_media_type, {gone.root: gone.manifests[gone.root]}, {})
    (found,) = referrers_of(entry_of(IMAGE, "v1"), IMAGE, (entry_of(gone, tag_of(IMAGE)), bare))
    assert found.failure is not None
    assert found.members == (signature(IMAGE, 5).root,)


@pytest.mark.parametrize("recorded", [{INDEX: SIGNATURE.root}, {ORIGIN: f"quay.io/a/b:v1@{SIGNATURE.root}"}])
def test_published_index_of_a_selected_platform_is_a_subject(recorded: dict[str, str]) -> None:
    image, source = entry_of(IMAGE, "v1", **recorded), MemorySource(IMAGE)
    graph = asyncio.run(walk(source, image.root))
    assert subjects_of(image, graph) == [IMAGE.root, SIGNATURE.root]


@pytest.mark.parametrize("recorded", [{INDEX: "../../x"}, {ORIGIN: "nonsense"}, {ORIGIN: "a@b@"}])
def test_invalid_annotations_are_not_subjects(recorded: dict[str, str]) -> None:
    image = entry_of(IMAGE, "v1", **recorded)
    assert subjects_of(image, asyncio.run(walk(MemorySource(IMAGE), image.root))) == [Digest(IMAGE.root)]
