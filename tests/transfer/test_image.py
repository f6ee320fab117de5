"""Tests of the names that copied images get in the target."""

import pytest

from mirror.errors import UsageError
from mirror.layout import Entry
from mirror.layout.names import IMAGE_NAME, REF_NAME
from mirror.oci.descriptor import OCI_INDEX, Descriptor
from mirror.oci.digest import Digest
from mirror.stores.images import StoreImage
from mirror.transfer.image import ImageTransfer, name_images

REDIS = "docker.io/library/redis:4.0"


def image(content: str, **annotations: str) -> StoreImage:
    keys = {"name": IMAGE_NAME, "ref": REF_NAME}
    data, named = content.encode(), {keys[key]: text for key, text in annotations.items()}
    return StoreImage.of(Entry.of(Descriptor(OCI_INDEX, Digest.of(data), len(data), annotations=named)))


def named(*images: StoreImage, given: str | None = None) -> list[str]:
    return [found.name for found in name_images(images, given, "here")]


def test_images_keep_their_names() -> None:
    assert named(image("a", name=REDIS), image("b", ref="1"), image("c")) == [REDIS, "1", Digest.of(b"c")]


def test_a_single_image_may_get_another_name() -> None:
    assert named(image("a"), given="redis:4.0") == [REDIS]
    with pytest.raises(UsageError, match=r"here contains 2 images, but redis:4\.0 names one"):
        named(image("a"), image("b"), given="redis:4.0")


def test_a_duplicate_full_name_is_refused_but_a_duplicate_tag_is_not() -> None:
    with pytest.raises(UsageError, match=f"here has two images called {REDIS}"):
        named(image("a", name=REDIS), image("b", name=REDIS))
    assert named(image("a", name=REDIS), image("a", name=REDIS)) == [REDIS, REDIS]
    assert named(image("a", ref="1"), image("b", ref="1")) == ["1", "1"]


def test_image_that_is_transferred_again_has_nothing_of_the_attempt_before() -> None:
    transfer = ImageTransfer(image("a", name=REDIS), REDIS, before=Digest.of(b"b"), notes=["a note"])
    transfer.error = UsageError("failed")
    transfer.forget()
    assert (transfer.before, transfer.notes, transfer.failure) == (None, [], None)
