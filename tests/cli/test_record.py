"""Tests of `mirror record`, and of `mirror verify` with `--record` and `--expect`."""

import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support import images
from tests.support.command import Mirror, Result, blob_path, names, tree
from tests.support.images import RECORD, Image
from tests.support.registry import EmbeddedRegistry, Fault, Header, Status, serving

SEED = images.seed_image()
PUBLISHED = (RECORD / "record.md").read_text()
HEX = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class Stock:
    """An image with the structure of the published one: in a registry that sends its dates, and in layouts."""

    folder: Path
    registry: EmbeddedRegistry
    name: str

    @property
    def layout(self) -> Path:
        return self.folder / "layout"


def published_order() -> list[str]:
    """The digests of the seed image, in the order of the digests in the published page."""
    document = json.loads(SEED.data)
    order = [SEED.root]
    for child in document["manifests"]:
        inner = json.loads(SEED.manifests[child["digest"]][0])
        order += [child["digest"], inner["config"]["digest"], *(node["digest"] for node in inner["layers"])]
    return order


ORDER = published_order()


def expected_page(name: str = "redis:4.0") -> str:
    """The published page with the digests of the seed image in place of its own."""
    outside = re.sub(r"```dockerfile\n.*?```\n", "", PUBLISHED, flags=re.DOTALL)
    theirs = [f"sha256:{found}" for found in HEX.findall(outside)]
    assert len(theirs) == len(ORDER) == 17
    page = PUBLISHED.replace("-\tPlatforms:\n", "-\tPlatforms: 2\n").replace("redis:4.0`", f"{name}`")
    for old, new in zip(theirs, ORDER, strict=True):
        page = page.replace(old, new)
    return page.replace("docker pull redis@", f"docker pull {name.rpartition(':')[0]}@")


def add_dates(registry: EmbeddedRegistry) -> None:
    """Send the dates of the published layers with the layers of the seed image."""
    dates = iter(re.findall("Last Modified: (.*?) *\n", PUBLISHED))
    for child in json.loads(SEED.data)["manifests"]:
        for node in json.loads(SEED.manifests[child["digest"]][0])["layers"]:
            when = Header("Last-Modified", next(dates))
            registry.fault(Fault(path=f"/blobs/{node['digest']}", times=None, action=when))


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stock]:
    folder = tmp_path_factory.mktemp("stock")
    with serving(EmbeddedRegistry()) as registry:
        SEED.publish(registry, "library/redis", "4.0")
        add_dates(registry)
        name = f"{registry.host}/library/redis:4.0"
        mirror = Mirror(folder)
        mirror("pull", name, "--all")
        mirror("pull", name, "--platform", "linux/arm/v7", "-o", "part")
        mirror("pull", name, "--platform", "linux/arm/v7", "-o", "sparse", "--sparse")
        mirror("record", name, "--as", "redis:4.0", "-o", "redis.md")
        yield Stock(folder, registry, name)


@pytest.fixture
def page(stock: Stock) -> str:
    return (stock.folder / "redis.md").read_text()


def check(mirror: Mirror, page: str, layout: Path, *args: object, code: int = 0) -> Result:
    """Verify a layout with the text of a record."""
    path = mirror.folder / "carried.md"
    path.write_text(page)
    return mirror("verify", layout, "--record", path, *args, code=code)


def kinds(result: Result) -> list[tuple[str, str]]:
    return [(finding["kind"], finding["severity"]) for finding in result.json["findings"]]


# Writing


@pytest.mark.slow
def test_record_from_a_registry_has_the_lines_of_the_published_record(page: str) -> None:
    assert page.splitlines() == expected_page().splitlines()


def test_record_from_a_layout_has_the_same_lines_and_the_dates_of_the_files(mirror: Mirror, stock: Stock) -> None:
    assert mirror("record", stock.layout, "--as", "redis:4.0").out == expected_page()
    assert mirror("record", stock.layout).out == expected_page(stock.name)


def test_record_does_not_fetch_layers(mirror: Mirror, stock: Stock) -> None:
    before = len(stock.registry.requests)
    mirror("record", stock.name)
    seen = stock.registry.requests[before:]
    layers = [one for one in seen if any(digest in one.path for digest in ORDER[3:9])]
    assert {one.method for one in layers} == {"HEAD"}
    assert len(layers) == 6


@pytest.mark.slow
def test_record_does_not_change_the_layout(mirror: Mirror, stock: Stock) -> None:
    before = tree(stock.layout)
    mirror("record", stock.layout)
    assert tree(stock.layout) == before


def test_json_output_has_the_data_of_the_record(mirror: Mirror, stock: Stock) -> None:
    document = mirror("record", stock.name, "--as", "redis:4.0", "--json").json
    assert document["schema"] == "mirror.record/1"
    [record] = document["records"]
    assert (record["name"], record["digest"]) == ("redis:4.0", SEED.root)
    amd64, arm = record["manifests"]
    assert arm["platform"] == {"architecture": "arm", "os": "linux", "variant": "v7"}
    assert (amd64["totalSize"], amd64["dockerVersion"], amd64["entrypoint"]) == (
        39372240,
        "17.06.2-ce",
        ["docker-entrypoint.sh"],
    )
    assert amd64["layers"][4] == {
        "digest": ORDER[7],
        "size": 98,
        "mediaType": images.DOCKER_LAYER,
        "lastModified": "Thu, 21 Sep 2017 21:02:35 GMT",
    }
    assert amd64["history"][1] == {"created": "Wed, 13 Sep 2017 08:40:50 GMT", "command": 'CMD ["bash"]'}


@pytest.mark.slow
def test_record_of_several_images_is_one_file_that_verifies(mirror: Mirror, registry: EmbeddedRegistry) -> None:
    for repo in ("a", "b"):
        images.multi_arch(sizes=[300 if repo == "a" else 400]).publish(registry, repo, "v1")
    mirror("pull", f"{registry.host}/a:v1", f"{registry.host}/b:v1", "--all")
    mirror("record", "layout", "-o", "both.md")
    result = mirror("verify", "layout", "--record", "both.md")
    assert sum(line.startswith("agrees") for line in result.lines) == 2
    mirror("record", "layout", "--as", "c:v1", code=2)


@pytest.fixture
def shop(registry: EmbeddedRegistry) -> list[str]:
    """Three images in a registry."""
    for number in range(3):
        images.image("linux/amd64", images.layer(number, 300)).publish(registry, f"app-{number}", "v1")
    return [f"{registry.host}/app-{number}:v1" for number in range(3)]


def test_several_images_of_registries_are_recorded_in_one_file(mirror: Mirror, shop: list[str]) -> None:
    (mirror.folder / "images.txt").write_text(f"# the rest\n{shop[1]}  # first\n\n{shop[2]}\n{shop[0]}\n")
    result = mirror("record", shop[0], "--from-file", "images.txt", "-o", "images.md")
    assert [line.partition("@")[0] for line in result.lines] == shop
    assert result.err.startswith("recorded 3 images in images.md (")
    assert mirror("record", *shop).out == (mirror.folder / "images.md").read_text()
    assert mirror("record", "--from-file", "-", stdin="\n".join(shop)).out == mirror("record", *shop).out
    assert [one["name"] for one in mirror("record", *shop, "--json").json["records"]] == shop


def test_file_of_names_selects_images_of_a_layout(mirror: Mirror, shop: list[str]) -> None:
    mirror("pull", *shop, "--all")
    (mirror.folder / "images.txt").write_text("app-2:v1\n")
    result = mirror("record", "./layout", "--from-file", "images.txt", "-o", "images.md", "-q")
    assert ([line.partition("@")[0] for line in result.lines], result.err) == ([shop[2]], "")
    assert mirror("record", "./layout", "-o", "images.json", "--json").out == ""


def test_record_needs_an_image(mirror: Mirror) -> None:
    assert "There is no image name in the file" in mirror("record", "--from-file", "-", stdin="# nothing\n", code=2).err
    assert "2 images cannot all be named" in mirror("record", "a", "b", "--as", "c", code=2).err


@pytest.mark.slow
def test_records_of_images_that_are_not_verified_are_not_reported(mirror: Mirror, shop: list[str]) -> None:
    mirror("record", *shop, "-o", "images.md")
    mirror("pull", *shop, "--all")
    for place in (["./layout", shop[0]], [f"docker://{shop[0]}"]):
        found = mirror("verify", *place, "--record", "images.md", "--json").json
        assert (found["verdict"], found["findings"], len(found["anchored"])) == ("ok", [], 1)


@pytest.mark.slow
def test_recorded_images_that_a_layout_lacks_are_warnings_if_all_others_agree(mirror: Mirror, shop: list[str]) -> None:
    mirror("record", *shop, "-o", "images.md")
    mirror("pull", shop[0], "--all")
    result = mirror("verify", "layout", "--record", "images.md", "--json")
    assert kinds(result) == 2 * [("record-missing", "warning")]
    mirror("verify", "layout", "--record", "images.md", "--fail-on", "warning", code=3)


@pytest.mark.slow
def test_recorded_image_that_a_layout_lacks_is_an_error_if_another_has_no_record(
    mirror: Mirror, shop: list[str]
) -> None:
    """It could be the recorded one under another name, and with other content."""
    mirror("record", *shop[:2], "-o", "images.md")
    mirror("pull", shop[0], shop[2], "--all")
    result = mirror("verify", "layout", "--record", "images.md", "--json", code=3)
    assert kinds(result) == [("record-missing", "error"), ("not-recorded", "warning")]
    result = mirror("verify", "layout", shop[2], "--record", "images.md", "--json", code=3)
    assert ("record-missing", "error") in kinds(result)  # nothing was compared


@pytest.mark.parametrize("action", [Status(401), Status(403), Status(405), Header("Last-Modified", "yesterday")])
def test_record_has_no_dates_if_the_registry_sends_none(
    mirror: Mirror, registry: EmbeddedRegistry, action: Any
) -> None:
    images.image("linux/amd64", images.layer(1, 300)).publish(registry, "a", "v1")
    registry.fault(Fault(method="HEAD", path="/blobs/", times=None, action=action))
    assert "Last Modified" not in mirror("record", f"{registry.host}/a:v1").out


def test_missing_layer_in_the_registry_is_an_error(mirror: Mirror, registry: EmbeddedRegistry) -> None:
    images.image("linux/amd64", images.layer(1, 300)).publish(registry, "a", "v1")
    registry.fault(Fault(method="HEAD", path="/blobs/", times=None, action=Status(404)))
    assert "404" in mirror("record", f"{registry.host}/a:v1", code=1).err


@pytest.mark.slow
def test_attestations_of_an_index_are_recorded(mirror: Mirror, registry: EmbeddedRegistry) -> None:
    image = images.image("linux/amd64", images.layer(1, 300))
    images.index([image, images.attestation(image)]).publish(registry, "a", "v1")
    mirror("pull", f"{registry.host}/a:v1", "--all")
    assert len(mirror("record", "layout", "-o", "a.md").lines) == 1
    assert "\t-\tunknown; unknown\n" in (mirror.folder / "a.md").read_text()
    assert "2 manifests, 2 image IDs, 2 layers, 2 configs" in mirror("verify", "layout", "--record", "a.md").out


def test_record_has_no_control_characters_of_a_hostile_config(mirror: Mirror, registry: EmbeddedRegistry) -> None:
    evil = "\x1b]0;evil\x07\n```\n# Wed, 13 Sep 2017 08:40:50 GMT\r\ud800"
    settings: dict[str, Any] = {"history": [{"created_by": evil}], "config": {"Cmd": [evil]}, "docker_version": evil}
    config = images.config("linux", "amd64", **settings)
    images.manifest(config, []).publish(registry, "a", "v1")
    out = mirror("record", f"{registry.host}/a:v1", "-o", "a.md").out + (mirror.folder / "a.md").read_text()
    assert all(char.isprintable() or char in "\n\t" for char in out)
    mirror("pull", f"{registry.host}/a:v1", "--all")
    mirror("verify", "layout", "--record", "a.md")


@pytest.mark.slow
def test_index_with_many_copies_of_one_manifest_is_refused(mirror: Mirror, registry: EmbeddedRegistry) -> None:
    """Two megabytes of manifests would make a page of gigabytes."""
    child = images.manifest(images.config("linux", "amd64"), [images.EMPTY] * 5000)
    images.index([child] * 9000).publish(registry, "library/redis", "4.0")
    name = f"{registry.host}/library/redis:4.0"
    assert "more than 16777216 bytes" in mirror("record", name, code=3).err
    mirror("pull", name, "--all")
    check(mirror, PUBLISHED, Path("layout"), code=3)


def test_errors_of_record_name_the_cause(mirror: Mirror, stock: Stock, registry: EmbeddedRegistry) -> None:
    assert "left out" in mirror("record", stock.folder / "sparse", code=2).err
    assert "no image" in mirror("record", stock.layout, "redis:5.0", code=2).err
    assert "not a valid image reference" in mirror("record", stock.layout, "--as", "Redis 4", code=2).err
    images.index([odd_child()]).publish(registry, "a", "v1")
    assert "cannot be written in a record" in mirror("record", f"{registry.host}/a:v1", code=3).err
    assert "--output" in mirror("record", stock.layout, "-o", "nowhere/record.md", code=1).err


def test_image_without_a_full_name_needs_the_option_as(mirror: Mirror, stock: Stock) -> None:
    layout = mirror.folder / "nameless"
    shutil.copytree(stock.layout, layout)
    index = json.loads((layout / "index.json").read_bytes())
    index["manifests"][0]["annotations"] = {"org.opencontainers.image.ref.name": "4.0"}
    (layout / "index.json").write_text(json.dumps(index))
    assert "--as" in mirror("record", layout, code=2).err
    assert mirror("record", layout, "--as", "redis:4.0").out == expected_page()


def test_record_ignores_the_output_setting(mirror: Mirror, stock: Stock) -> None:
    """`output` in mirror.toml is the layout that pull writes."""
    (mirror.folder / "mirror.toml").write_text('output = "elsewhere"\n')
    assert mirror("record", stock.layout).out
    assert not (mirror.folder / "elsewhere").exists()


# Verification


@pytest.mark.slow
def test_layout_agrees_with_its_record(mirror: Mirror, stock: Stock, page: str) -> None:
    result = check(mirror, page, stock.layout)
    agrees = "the digest, 2 manifests, 2 image IDs, 12 layers, 2 configs"
    assert f"agrees  {stock.name} with the record of redis:4.0: {agrees}" in result.lines
    document = check(mirror, page, stock.layout, "--json").json
    assert (document["verdict"], document["findings"]) == ("ok", [])
    assert document["anchored"] == [
        {"by": "the record of redis:4.0", "image": stock.name, "agreed": agrees, "whole": True}
    ]


@pytest.mark.slow
def test_archive_is_compared_with_a_record(mirror: Mirror, stock: Stock, page: str) -> None:
    mirror("export", stock.layout, "images.tar")
    assert "12 layers, 2 configs" in check(mirror, page, Path("images.tar")).out
    check(mirror, page.replace(ORDER[4], OTHER), Path("images.tar"), code=3)


@pytest.mark.slow
@pytest.mark.parametrize("level", ["structure", "content", "layers"])
def test_a_record_is_compared_at_every_level(mirror: Mirror, stock: Stock, page: str, level: str) -> None:
    check(mirror, page, stock.layout, "--level", level)
    check(mirror, page.replace(ORDER[4], OTHER), stock.layout, "--level", level, code=3)


def test_record_cannot_be_combined_with_repair(mirror: Mirror, stock: Stock, page: str) -> None:
    assert "after a repair" in check(mirror, page, stock.layout, "--repair", "--from", stock.layout, code=2).err


def from_registry(mirror: Mirror, name: str, page: str, *args: object, code: int = 0) -> Result:
    (mirror.folder / "carried.md").write_text(page)
    return mirror("verify", f"docker://{name}", "--record", "carried.md", *args, "--retries", 0, code=code)


@pytest.mark.slow
def test_image_in_a_registry_is_compared_with_a_record_and_expected_digests(
    mirror: Mirror, stock: Stock, page: str
) -> None:
    out = from_registry(mirror, stock.name, page, "--expect", f"redis:4.0={SEED.root}").out
    agrees = "the digest, 2 manifests, 2 image IDs, 12 layers, 2 configs"
    assert f"agrees  {stock.name} with the record of redis:4.0: {agrees}" in out
    assert f"agrees  {stock.name} with --expect: the digest" in out
    for digest in ORDER:
        wrong = from_registry(mirror, stock.name, page.replace(digest, OTHER), "--json", code=3)
        assert ("record-mismatch", "error") in kinds(wrong)
    result = mirror("verify", f"docker://{stock.name}", "--expect", f"redis:4.0={OTHER}", "--json", code=3)
    assert kinds(result) == [("not-expected", "error")]


def test_moved_tag_in_a_registry_does_not_agree_with_the_record(
    mirror: Mirror, registry: EmbeddedRegistry, page: str
) -> None:
    images.multi_arch(docker=True).publish(registry, "library/redis", "4.0")
    result = from_registry(mirror, f"{registry.host}/library/redis:4.0", page, code=3)
    assert f"the record has {SEED.root}, the image sha256:" in result.out


@pytest.mark.slow
def test_missing_content_in_a_registry_is_reported_as_not_compared(
    mirror: Mirror, registry: EmbeddedRegistry, page: str
) -> None:
    SEED.publish(registry, "library/redis", "4.0")
    for digest in ORDER[2], ORDER[1]:  # a config, then its manifest
        registry.fault(Fault(path=digest, times=None, action=Status(404)))
        found = kinds(from_registry(mirror, f"{registry.host}/library/redis:4.0", page, "--json", code=3))
        assert ("missing", "error") in found
        assert ("not-compared", "unverified") in found


@pytest.mark.parametrize("position", range(len(ORDER)))
def test_changed_digit_of_a_digest_in_a_record_is_found(mirror: Mirror, stock: Stock, page: str, position: int) -> None:
    digest = ORDER[position]
    other = digest[:-1] + ("0" if digest[-1] != "0" else "1")
    result = check(mirror, page.replace(digest, other, 1), stock.layout, "--json", code=3)
    mismatches = [one for one in result.json["findings"] if one["kind"] == "record-mismatch"]
    assert [(one["expected"], one["found"]) for one in mismatches] == [(other, digest)]


SIZES = sorted(set(re.findall(r"(?<=\()[0-9]+(?= bytes\))|[0-9.]+(?= [KM]?B)", PUBLISHED)))


@pytest.mark.parametrize("figure", SIZES)
def test_changed_digit_of_a_size_in_a_record_is_found(mirror: Mirror, stock: Stock, page: str, figure: str) -> None:
    other = ("2" if figure[0] != "2" else "3") + figure[1:]
    changed = re.sub(rf"(?<![0-9.]){re.escape(figure)}(?= )", other, page, count=1)
    assert changed != page
    error = check(mirror, changed, stock.layout, code=3).err
    assert re.search(r"carried\.md, line \d+: ", error)


@pytest.mark.slow
def test_replaced_image_that_is_valid_does_not_agree_with_the_record(
    mirror: Mirror, registry: EmbeddedRegistry, page: str
) -> None:
    images.multi_arch(docker=True).publish(registry, "library/redis", "4.0")
    mirror("pull", f"{registry.host}/library/redis:4.0", "--all")
    mirror("verify", "layout")
    result = check(mirror, page, Path("layout"), code=3)
    assert f"the record has {SEED.root}, the image sha256:" in result.out


# The image of a record


def renamed(stock: Stock, mirror: Mirror, annotations: dict[str, str]) -> Path:
    layout = mirror.folder / "renamed"
    shutil.copytree(stock.layout, layout, copy_function=os.link)
    index = json.loads((layout / "index.json").read_bytes())
    index["manifests"][0]["annotations"] = annotations
    (layout / "index.json").unlink()
    (layout / "index.json").write_text(json.dumps(index))
    return layout


FULL, REF = "io.containerd.image.name", "org.opencontainers.image.ref.name"


@pytest.mark.slow
@pytest.mark.parametrize(
    "annotations",
    [
        {FULL: "docker.io/library/redis:4.0", REF: "4.0"},
        {REF: "4.0"},
        {REF: "anything"},
        {},
        {FULL: "registry.internal:5000/hub/library/redis:4.0"},
        {FULL: "quay.io/another/name:v1"},
    ],
)
def test_an_image_is_found_by_its_name_or_its_digest(
    mirror: Mirror, stock: Stock, page: str, annotations: dict[str, str]
) -> None:
    assert "agrees" in check(mirror, page, renamed(stock, mirror, annotations)).out


OTHER = SEED.root[:-1] + ("0" if SEED.root[-1] != "0" else "1")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("docker.io/library/redis:4.0", "record-mismatch"),
        ("registry.internal:5000/hub/library/redis:4.0", "record-mismatch"),
        ("registry.internal:5000/redis:4.0", "record-mismatch"),
        ("docker.io/bitnami/redis:4.0", "record-missing"),  # another image of the same registry
        ("docker.io/evil/library/redis:4.0", "record-missing"),
        ("quay.io/bitnami/redis:4.0", "record-missing"),
        ("registry.internal:5000/hub/library/redis:4.1", "record-missing"),
    ],
)
def test_changed_image_is_matched_only_by_its_name(
    mirror: Mirror, stock: Stock, page: str, name: str, kind: str
) -> None:
    layout = renamed(stock, mirror, {FULL: name})
    result = check(mirror, page.replace(SEED.root, OTHER), layout, "--json", code=3)
    assert (kind, "error") in kinds(result)


@pytest.mark.slow
def test_match_by_name_has_priority_over_match_by_digest(mirror: Mirror, stock: Stock, page: str) -> None:
    """Otherwise, an attacker could keep the old image under another name beside the new one."""
    layout = renamed(stock, mirror, {FULL: "docker.io/library/old:4.0"})
    index = json.loads((layout / "index.json").read_bytes())
    child = json.loads(SEED.data)["manifests"][0]
    index["manifests"].append({**child, "annotations": {FULL: "docker.io/library/redis:4.0"}})
    (layout / "index.json").write_text(json.dumps(index))
    result = check(mirror, page.replace("redis@" + child["digest"], "redis@" + OTHER), layout, "--json", code=3)
    assert ("record-mismatch", "error") in kinds(result)
    assert ("not-recorded", "warning") in kinds(result)


# Content without a record, and content that cannot be compared


@pytest.mark.slow
def test_images_without_a_record_are_a_warning(mirror: Mirror, stock: Stock, page: str) -> None:
    layout = renamed(stock, mirror, {FULL: "docker.io/library/redis:4.0"})
    index = json.loads((layout / "index.json").read_bytes())
    child = json.loads(SEED.data)["manifests"][0]
    index["manifests"].append({**child, "annotations": {FULL: "docker.io/library/other:1"}})
    (layout / "index.json").write_text(json.dumps(index))
    result = check(mirror, page, layout, "--json")
    assert kinds(result) == [("not-recorded", "warning")]
    assert result.json["findings"][0]["subject"] == "docker.io/library/other:1"
    assert kinds(mirror("verify", layout, "--json")) == []


@pytest.mark.slow
def test_signatures_are_not_recorded_and_cause_no_finding(mirror: Mirror) -> None:
    image = images.multi_arch()
    with serving(EmbeddedRegistry(referrers=True)) as registry:
        image.publish(registry, "a", "v1")
        images.signature(image).publish(registry, "a", None)
        images.artifact("a/b", images.EMPTY).publish(registry, "a", images.cosign_tag(image))
        mirror("pull", f"{registry.host}/a:v1", "--all")
    assert len(names(mirror.folder / "layout")) == 3
    page = mirror("record", "layout").out
    assert page.count("\n## ") == 0
    assert kinds(check(mirror, page, Path("layout"), "--json")) == []
    page = page.replace(image.root, OTHER)
    assert ("not-recorded", "warning") not in kinds(check(mirror, page, Path("layout"), "--json", code=3))


@pytest.mark.parametrize("layout", ["part", "sparse"])
def test_omitted_platforms_are_a_warning(mirror: Mirror, stock: Stock, page: str, layout: str) -> None:
    result = check(mirror, page, stock.folder / layout, "--json")
    assert ("not-compared", "warning") in kinds(result)
    assert "1 image ID, 6 layers, 1 config" in result.json["anchored"][0]["agreed"]


def test_partial_image_is_compared_with_its_part_of_the_record(mirror: Mirror, stock: Stock, page: str) -> None:
    digest = ORDER[-1]
    result = check(mirror, page.replace(digest, OTHER), stock.folder / "part", "--json", code=3)
    [mismatch] = [one for one in result.json["findings"] if one["kind"] == "record-mismatch"]
    assert (mismatch["expected"], mismatch["found"]) == (OTHER, digest)
    assert mismatch["subject"] == "redis:4.0: manifest 2 (linux/arm/v7): layer 6: digest"


@pytest.mark.parametrize("children", [[], [images.image("linux/amd64", images.layer(1, 300))]])
def test_false_claim_to_be_a_partial_image_does_not_agree(
    mirror: Mirror, registry: EmbeddedRegistry, page: str, children: list[Image]
) -> None:
    """An attacker who replaces an image can write its annotations, too."""
    images.index(children, docker=True).publish(registry, "library/redis", "4.0")
    mirror("pull", f"{registry.host}/library/redis:4.0", "--all")
    path = mirror.folder / "layout" / "index.json"
    index = json.loads(path.read_bytes())
    index["manifests"][0]["annotations"]["dev.oci-mirror.origin"] = f"docker.io/library/redis:4.0@{SEED.root}"
    path.write_text(json.dumps(index))
    result = check(mirror, page, Path("layout"), "--json", code=3)
    assert ("record-mismatch", "error") in kinds(result)
    assert result.json["anchored"] == []


def manifests_alone(folder: Path) -> Path:
    """Write a layout with the manifests of the published image, without its blobs."""
    layout = folder / "real"
    files = ["manifest-list.json", "manifest-linux-amd64.json", "manifest-linux-arm-v7.json"]
    for data in [(RECORD / name).read_bytes() for name in files]:
        path = blob_path(layout, images.digest_of(data))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    root = (RECORD / files[0]).read_bytes()
    node = {"mediaType": images.DOCKER_LIST, "size": len(root), "digest": images.digest_of(root)}
    entry = {**node, "annotations": {FULL: "docker.io/library/redis:4.0"}}
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    (layout / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    return layout


def test_published_manifests_without_blobs_agree_with_the_published_record(mirror: Mirror) -> None:
    result = check(mirror, PUBLISHED, manifests_alone(mirror.folder), "--json", code=3)
    missing = [one for one in result.json["findings"] if one["kind"] == "missing"]
    assert len(missing) == 2 + 12
    assert sum(one["size"] for one in missing) == 74_540_576
    [open_] = [one for one in result.json["findings"] if one["kind"] == "not-compared"]
    assert (open_["severity"], open_["subject"]) == ("unverified", "redis:4.0")
    assert open_["expected"] == (
        "manifest 1 (linux/amd64): entrypoint, command and history; "
        "manifest 2 (linux/arm/v7): entrypoint, command and history"
    )
    assert "its config is not available" in open_["found"]
    assert result.json["anchored"] == [
        {
            "by": "the record of redis:4.0",
            "image": "docker.io/library/redis:4.0",
            "agreed": "the digest, 2 manifests, 2 image IDs, 12 layers",
            "whole": True,
        }
    ]
    assert {one["kind"] for one in result.json["findings"]} == {"missing", "not-compared"}


@pytest.mark.slow
@pytest.mark.parametrize("position", [0, 1])
def test_missing_manifest_is_reported_as_not_compared(mirror: Mirror, stock: Stock, page: str, position: int) -> None:
    layout = mirror.folder / "copy"
    shutil.copytree(stock.layout, layout)
    blob_path(layout, ORDER[position]).unlink()
    result = check(mirror, page, layout, "--json", code=3)
    assert ("not-compared", "unverified") in kinds(result)
    assert not any(kind == "record-mismatch" for kind, _ in kinds(result))


@pytest.mark.slow
def test_corrupt_config_is_not_compared(mirror: Mirror, stock: Stock, page: str) -> None:
    layout = mirror.folder / "copy"
    shutil.copytree(stock.layout, layout)
    path = blob_path(layout, ORDER[2])
    path.write_bytes(path.read_bytes().replace(b"redis-server", b"evil-server!"))
    assert ("not-compared", "unverified") in kinds(check(mirror, page, layout, "--json", code=3))


def odd_child() -> Image:
    """A manifest whose platform a record would show as another one."""
    return images.manifest(images.config("linux", "amd64"), [], {"os": "a; b", "architecture": "c"})


def test_image_that_cannot_be_recorded_does_not_agree(mirror: Mirror, registry: EmbeddedRegistry, page: str) -> None:
    images.index([odd_child()]).publish(registry, "library/redis", "4.0")
    mirror("pull", f"{registry.host}/library/redis:4.0", "--all")
    result = check(mirror, page, Path("layout"), "--json", code=3)
    assert ("record-mismatch", "error") in kinds(result)


# Expected digests


@pytest.mark.slow
def test_expected_digest_is_compared(mirror: Mirror, stock: Stock) -> None:
    for name in (stock.name, "redis:4.0", "4.0"):
        out = mirror("verify", stock.layout, "--expect", f"{name}={SEED.root}").out
        assert f"agrees  {stock.name} with --expect: the digest" in out
        result = mirror("verify", stock.layout, "--expect", f"{name}={OTHER}", "--json", code=3)
        [finding] = result.json["findings"]
        assert (finding["kind"], finding["severity"]) == ("not-expected", "error")
        assert (finding["expected"], finding["found"]) == (OTHER, SEED.root)


def test_missing_expected_image_is_an_error(mirror: Mirror, stock: Stock) -> None:
    result = mirror("verify", stock.layout, "--expect", f"redis:5.0={SEED.root}", "--json", code=3)
    assert ("not-expected", "error") in kinds(result)
    assert ("not-recorded", "warning") in kinds(result)


def test_partial_image_does_not_match_the_expected_digest_of_its_index(mirror: Mirror, stock: Stock) -> None:
    result = mirror("verify", stock.folder / "part", "--expect", f"{stock.name}={SEED.root}", "--json", code=3)
    [finding] = result.json["findings"]
    assert f"claims to be one platform of {SEED.root}" in finding["message"]


@pytest.mark.parametrize("text", ["redis:4.0", "redis:4.0=", "redis:4.0=sha256:abc", "=", "redis=4.0"])
def test_invalid_expectation_is_refused(mirror: Mirror, stock: Stock, text: str) -> None:
    assert "IMAGE=DIGEST" in mirror("verify", stock.layout, "--expect", text, code=2).err


def test_two_expected_digests_for_one_image_are_refused(mirror: Mirror, stock: Stock) -> None:
    both = ("--expect", f"a={SEED.root}", "--expect", f"a={OTHER}")
    assert "two digests" in mirror("verify", stock.layout, *both, code=2).err


# Invalid records


def test_invalid_record_is_an_error(mirror: Mirror, stock: Stock) -> None:
    (mirror.folder / "evil.md").write_bytes(b"## `\x1b[2Jevil`\r\n")
    assert "evil.md, line 1" in mirror("verify", stock.layout, "--record", "evil.md", code=3).err
