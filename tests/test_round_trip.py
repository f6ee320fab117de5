"""Registry → layout → registry → layout: whatever refers to an image is there at the end, byte for byte."""

import asyncio
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from mirror import Choice, PullOptions, pull_image, push_layout, verify_layout
from mirror.report.transfers import TransferReport
from tests import images
from tests.command import blobs, entries
from tests.images import Image
from tests.registry import EmbeddedRegistry, serving
from tests.strategies import Family, families

EVERYTHING = PullOptions(choice=Choice(everything=True))


def publish(family: Family, registry: EmbeddedRegistry, api: bool) -> None:
    """As its publisher would: without the API, the lists are theirs to keep."""
    family.image.publish(registry, "a/b", "v1")
    for one, _ in family.referring:
        one.publish(registry, "a/b", None)
    for tag, one in family.tagged:
        one.publish(registry, "a/b", tag)
    lists: dict[str, list[Image]] = {}
    for one, subject in () if api else family.referring:
        lists.setdefault(subject.root, []).append(one)
    for root, some in lists.items():
        nodes = [{**one.descriptor(), "artifactType": "wrong/type"} for one in some]
        data = images.encode({"schemaVersion": 2, "mediaType": images.OCI_INDEX, "manifests": nodes})
        registry.put_manifest("a/b", root.replace(":", "-"), data, images.OCI_INDEX)


def pulled(registry: EmbeddedRegistry, layout: Path) -> TransferReport:
    report = asyncio.run(pull_image(f"{registry.host}/a/b:v1", layout, EVERYTHING))
    report.raise_failures()
    assert report.warnings == ()
    return report


def tags(layout: Path) -> dict[str, str]:
    """The tags of a layout with one repository."""
    return {
        entry["annotations"]["io.containerd.image.name"].rpartition(":")[2]: entry["digest"]
        for entry in entries(layout)
    }


@given(families(), st.booleans(), st.booleans())
@settings(max_examples=40, deadline=None)
def test_everything_arrives_and_comes_back(family: Family, first_api: bool, second_api: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        out, back = Path(folder, "out"), Path(folder, "back")
        with serving(EmbeddedRegistry(referrers=first_api)) as registry:
            publish(family, registry, first_api)
            report = pulled(registry, out)
        wanted = {one.root for one, _ in family.referring} | {one.root for _, one in family.tagged}
        assert report.images[0].referrers is not None
        assert report.images[0].referrers.count == len(wanted)
        assert wanted <= blobs(out)
        with serving(EmbeddedRegistry(referrers=second_api)) as private:
            asyncio.run(push_layout(out, private.host)).raise_failures()
            for one in (family.image, *(one for one, _ in family.referring), *(one for _, one in family.tagged)):
                assert {digest: private.get_manifest("a/b", digest) for digest in one.manifests} == one.manifests
            pulled(private, back)
        assert (blobs(back), tags(back)) == (blobs(out), tags(out))
        assert asyncio.run(verify_layout(back)).exit_code == 0
