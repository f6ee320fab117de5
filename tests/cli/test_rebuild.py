"""Tests of repairs of what mirror has built itself: an index for some platforms, and lists of referrers."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.test_repair import content, flip
from tests.support import images
from tests.support.command import Mirror, blob_path, entries, names
from tests.support.images import signature
from tests.support.registry import EmbeddedRegistry, serving

CHILDREN = [images.image(f"linux/a{number}", images.layer(number, 200)) for number in range(16)]
IMAGE = images.index([*CHILDREN, *map(images.attestation, CHILDREN)])
SIGNATURE, LATER = signature(CHILDREN[3]), signature(CHILDREN[3], 1)


@pytest.fixture
def registry() -> Iterator[EmbeddedRegistry]:
    """A registry with the referrers API, which does not store lists of referrers."""
    with serving(EmbeddedRegistry(referrers=True)) as found:
        yield found


@pytest.fixture
def layout(mirror: Mirror, registry: EmbeddedRegistry, tmp_path: Path) -> Path:
    """Two of sixteen platforms, and a signature of one; `good` is a copy."""
    IMAGE.publish(registry, "team/app", "v1")
    SIGNATURE.publish(registry, "team/app", None)
    mirror("pull", f"{registry.host}/team/app:v1", "--platform", "linux/a3,linux/a7", "--referrers")
    shutil.copytree(tmp_path / "layout", tmp_path / "good")
    return tmp_path / "layout"


def roots(layout: Path) -> dict[str, str]:
    """Return the digest of the built index, and that of the list of referrers."""
    found = {
        name.rpartition(":")[2]: entry["digest"] for name, entry in zip(names(layout), entries(layout), strict=True)
    }
    assert len(found) == 2
    return {"index": found.pop("v1"), "list": found.popitem()[1]}


@pytest.mark.slow
@pytest.mark.parametrize("built", ["index", "list"])
def test_damaged_object_that_mirror_built_is_built_again(
    mirror: Mirror, registry: EmbeddedRegistry, layout: Path, built: str
) -> None:
    digest = roots(layout)[built]
    flip(blob_path(layout, digest))
    result = mirror("verify", "layout", "--repair", "--from", registry.host, "--json").json
    assert (result["verdict"], result["repair"]["healed"]) == ("ok", [digest])
    assert content(layout) == content(layout.parent / "good")


@pytest.mark.slow
def test_built_index_is_found_without_the_manifests_that_it_lists(
    mirror: Mirror, registry: EmbeddedRegistry, layout: Path
) -> None:
    few = images.index(CHILDREN[:5])
    few.publish(registry, "team/few", "v1")
    mirror("pull", f"{registry.host}/team/few:v1", "--platform", "linux/a1,linux/a4", "-o", "few")
    shutil.copytree(layout.parent / "few", layout.parent / "whole")
    for path in (layout.parent / "few").glob("blobs/sha256/*"):
        path.unlink()
    mirror("verify", "few", "--repair", "--from", registry.host)
    assert content(layout.parent / "few") == content(layout.parent / "whole")


@pytest.mark.slow
def test_built_index_is_built_again_from_a_layout_with_the_published_one(
    mirror: Mirror, registry: EmbeddedRegistry, layout: Path
) -> None:
    mirror("pull", f"{registry.host}/team/app:v1", "--all", "-o", "all")
    blob_path(layout, roots(layout)["index"]).unlink()
    mirror("verify", "layout", f"{registry.host}/team/app:v1", "--repair", "--from", "./all")
    assert content(layout) == content(layout.parent / "good")


@pytest.mark.slow
def test_list_of_referrers_is_built_again_although_there_are_more_by_now(
    mirror: Mirror, registry: EmbeddedRegistry, layout: Path
) -> None:
    LATER.publish(registry, "team/app", None)
    blob_path(layout, roots(layout)["list"]).unlink()
    mirror("verify", "layout", "--repair", "--from", registry.host)
    assert content(layout) == content(layout.parent / "good")


@pytest.mark.slow
@pytest.mark.parametrize(("built", "flags"), [("index", ["--platform", "linux/a3,linux/a7"]), ("list", ["--all"])])
def test_failure_names_the_command_that_restores_what_mirror_built(
    mirror: Mirror, registry: EmbeddedRegistry, layout: Path, built: str, flags: list[str]
) -> None:
    digest = roots(layout)[built]
    blob_path(layout, digest).unlink()
    mirror("pull", f"{registry.host}/team/app:v1", "--platform", "linux/a9", "--no-referrers", "-o", "other")
    result = mirror("verify", "layout", "--repair", "--from", "./other", code=3)
    (line,) = [line for line in result.err.splitlines() if "built by mirror" in line]
    assert digest in line
    words = line[line.index("mirror pull ") :].split()
    subject = IMAGE.root if built == "index" else CHILDREN[3].root
    name = f"{registry.host}/team/app{':v1' if built == 'index' else ''}"
    assert words[2] == f"{name}@{subject}"
    assert words[-2:] == ["-o", "layout"]
    mirror("pull", words[2], *flags, "--referrers", *words[-2:])
    mirror("verify", "layout")
    if built == "index":  # the published index, which is better, takes its place
        assert roots(layout)["index"] == subject
    else:
        assert blob_path(layout, digest).exists()
