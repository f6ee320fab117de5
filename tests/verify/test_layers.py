"""Tests of level `layers`: each config has to agree with its manifest, its index and its layers."""

import asyncio
import gzip
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mirror import VerifyOptions, verify_layout
from mirror.content.finding import Finding, Kind, Severity
from mirror.report.findings import VerifyReport
from tests.support import images, layouts, tools
from tests.support.images import Blob, Image, Json

LAYERS = [images.layer(1, 3000), images.layer(2, 100)]
AMD64 = {"architecture": "amd64", "os": "linux"}


def verified(path: Path, level: str = "layers", **fields: Any) -> VerifyReport:
    return asyncio.run(verify_layout(path, options=VerifyOptions(level, **fields)))


def found(tmp_path: Path, *roots: Image, level: str = "layers") -> list[Finding]:
    names: Any = {"name": "docker.io/a/b:v1"} if len(roots) == 1 else {}
    return list(verified(layouts.write(tmp_path / "layout", *roots, **names), level).findings)


def kinds(findings: list[Finding]) -> list[tuple[Kind, Severity]]:
    return [(finding.kind, finding.severity) for finding in findings]


def image(platform: Json | None = AMD64, layers: list[Blob] = LAYERS, **fields: Any) -> Image:
    """Make an image whose config has different fields; `...` removes a field."""
    rootfs = {"type": "layers", "diff_ids": [layer.diff_id for layer in LAYERS]}
    document = {**AMD64, "rootfs": rootfs, **fields}
    config = Blob.of(
        images.encode({key: value for key, value in document.items() if value is not ...}), images.OCI_CONFIG
    )
    return images.manifest(config, layers, platform)


def test_valid_images_are_ok(tmp_path: Path) -> None:
    docker = images.multi_arch(docker=True)
    of_two = images.index([image(), images.attestation(image()), images.image("linux/arm/v7", LAYERS[0])])
    report = verified(layouts.write(tmp_path / "layout", docker, of_two, images.artifact("a/b", images.layer(5, 200))))
    assert (report.findings, report.verdict) == ((), "ok")


@pytest.mark.slow
def test_published_image_of_2017_has_only_a_warning_about_its_variant(tmp_path: Path) -> None:
    findings = found(tmp_path, images.seed_image())
    assert kinds(findings) == [(Kind.VARIANT, Severity.WARNING)]
    assert findings[0].platforms == ("linux/arm/v7",)


WRONG = images.digest_of(b"")
CONFIGS: dict[str, tuple[dict[str, Any], Kind, Severity]] = {
    "another diff_id": (
        {"rootfs": {"type": "layers", "diff_ids": [LAYERS[0].diff_id, WRONG]}},
        Kind.WRONG_DIFF_ID,
        Severity.ERROR,
    ),
    "a diff_id of zeros": (
        {"rootfs": {"type": "layers", "diff_ids": [LAYERS[0].diff_id, "sha256:" + "0" * 64]}},
        Kind.WRONG_DIFF_ID,
        Severity.ERROR,
    ),
    "swapped diff_ids": (
        {"rootfs": {"type": "layers", "diff_ids": [LAYERS[1].diff_id, LAYERS[0].diff_id]}},
        Kind.WRONG_DIFF_ID,
        Severity.ERROR,
    ),
    "too few diff_ids": (
        {"rootfs": {"type": "layers", "diff_ids": [LAYERS[0].diff_id]}},
        Kind.LAYER_COUNT,
        Severity.ERROR,
    ),
    "no diff_ids": ({"rootfs": {"type": "layers", "diff_ids": None}}, Kind.LAYER_COUNT, Severity.ERROR),
    "another type of rootfs": (
        {"rootfs": {"type": "other", "diff_ids": [layer.diff_id for layer in LAYERS]}},
        Kind.BROKEN_CONFIG,
        Severity.ERROR,
    ),
    "no rootfs": ({"rootfs": ...}, Kind.NOT_AN_IMAGE, Severity.UNVERIFIED),
    "a rootfs without a type": (
        {"rootfs": {"diff_ids": [layer.diff_id for layer in LAYERS]}},
        Kind.UNUSUAL_CONFIG,
        Severity.WARNING,
    ),
    "a rootfs in another case": ({"RootFS": {}}, Kind.BROKEN_CONFIG, Severity.ERROR),
    "invalid diff_ids": (
        {"rootfs": {"type": "layers", "diff_ids": ["x", "y"]}},
        Kind.BROKEN_CONFIG,
        Severity.ERROR,
    ),
    "diff_ids that are a string": ({"rootfs": {"type": "layers", "diff_ids": "x"}}, Kind.BROKEN_CONFIG, Severity.ERROR),
    "a history too short": ({"history": [{"created_by": "x"}]}, Kind.HISTORY_COUNT, Severity.WARNING),
    "an invalid history": ({"history": "x"}, Kind.BROKEN_CONFIG, Severity.ERROR),
    "a second config": ({"config": {}, "Config": {"Cmd": ["x"]}}, Kind.BROKEN_CONFIG, Severity.ERROR),
    "a second command": ({"config": {"Cmd": ["x"], "CMD": ["y"]}}, Kind.BROKEN_CONFIG, Severity.ERROR),
    "an entrypoint in another case": ({"config": {"entrypoint": ["x"]}}, Kind.BROKEN_CONFIG, Severity.ERROR),
    "a second environment": ({"config": {"Env": [], "env": ["X=1"]}}, Kind.BROKEN_CONFIG, Severity.ERROR),
    "a second user": ({"config": {"User": "ann", "user": "root"}}, Kind.BROKEN_CONFIG, Severity.ERROR),
    "a config that is a list": ({"config": []}, Kind.BROKEN_CONFIG, Severity.ERROR),
    "another architecture": ({"architecture": "arm64"}, Kind.WRONG_PLATFORM, Severity.ERROR),
    "another os": ({"os": "windows"}, Kind.WRONG_PLATFORM, Severity.ERROR),
    "an os that is a number": ({"os": 1}, Kind.BROKEN_CONFIG, Severity.ERROR),
    "a variant only in the config": ({"variant": "v2"}, Kind.VARIANT, Severity.WARNING),
}


@pytest.mark.parametrize("what", CONFIGS)
def test_config_that_contradicts_its_image_is_found_only_at_level_layers(tmp_path: Path, what: str) -> None:
    fields, kind, severity = CONFIGS[what]
    index = images.index([image(**fields)])
    findings = found(tmp_path, index)
    assert set(kinds(findings)) == {(kind, severity)}
    assert {finding.images for finding in findings} == {("docker.io/a/b:v1",)}
    assert {finding.platforms for finding in findings} == {("linux/amd64",)}
    assert found(tmp_path, index, level="content") == []


@pytest.mark.parametrize(
    "fields",
    [
        {"history": []},
        {"history": None},
        {"history": [{}, {"empty_layer": True}, {"empty_layer": False}]},
        {"architecture": ...},
        {"os": ""},
        {"os.version": "10.0"},
        {"unknown": [1]},
        {"config": None},
        {"config": {}},
        {"config": {"Entrypoint": None, "Cmd": None, "Env": None, "User": None}},
        {"config": {"Entrypoint": [], "Cmd": [], "Env": [], "User": ""}},
        {"config": {"Entrypoint": "x", "Cmd": "y", "Labels": {"cmd": "x", "Cmd": "y"}, "unknown": 1}},
    ],
)
def test_missing_and_unknown_config_fields_are_accepted(tmp_path: Path, fields: dict[str, Any]) -> None:
    assert found(tmp_path, images.index([image(**fields)])) == []


def test_different_variants_are_different_platforms(tmp_path: Path) -> None:
    arm = {"architecture": "arm", "os": "linux", "variant": "v7"}
    index = images.index([image(arm, architecture="arm", variant="v6")])
    assert kinds(found(tmp_path, index)) == [(Kind.WRONG_PLATFORM, Severity.ERROR)]


def test_two_indexes_with_different_platforms_for_an_image_are_found(tmp_path: Path) -> None:
    one = image()
    other = replace(one, platform={"architecture": "s390x", "os": "linux"})
    findings = found(tmp_path, images.index([one]), images.index([other]))
    assert kinds(findings) == [(Kind.WRONG_PLATFORM, Severity.ERROR)]


def test_two_configs_with_different_diff_ids_for_a_layer_are_found(tmp_path: Path) -> None:
    rootfs = {"type": "layers", "diff_ids": [LAYERS[0].diff_id, WRONG]}
    findings = found(tmp_path, image(), image(rootfs=rootfs))
    assert kinds(findings) == [(Kind.WRONG_DIFF_ID, Severity.ERROR)]


@pytest.mark.parametrize("of", ["index", "config"])
def test_config_of_an_unknown_platform_is_not_checked(tmp_path: Path, of: str) -> None:
    unknown = images.platform_of("unknown/unknown")
    one = image(unknown, rootfs={}) if of == "index" else image(None, rootfs={}, os="unknown", architecture="unknown")
    assert found(tmp_path, images.index([one])) == []


def test_config_of_an_artifact_is_not_checked(tmp_path: Path) -> None:
    chart = Blob.of(b"no JSON", "application/vnd.cncf.helm.config.v1+json")
    assert found(tmp_path, images.artifact("a/b", images.layer(1, 100), configuration=chart)) == []


@pytest.mark.parametrize("data", [b"no", b'{"a":1,"a":2}', b'{"a":NaN}', b"[" * 100_000, b" " * (5 << 20)], ids=len)
def test_config_that_is_not_json_is_found(tmp_path: Path, data: bytes) -> None:
    broken = images.manifest(Blob.of(data, images.OCI_CONFIG), LAYERS)
    assert kinds(found(tmp_path, broken)) == [(Kind.BROKEN_CONFIG, Severity.ERROR)]


def test_corrupt_layer_has_only_one_finding(tmp_path: Path) -> None:
    layout = layouts.write(tmp_path / "layout", image())
    layouts.add(layout, LAYERS[0].digest, b"\x1f\x8b" + LAYERS[0].data[2:-1] + b"x")
    assert [finding.kind for finding in verified(layout).findings] == [Kind.CORRUPT]


def test_missing_foreign_layer_is_only_reported_as_absent(tmp_path: Path) -> None:
    foreign = replace(LAYERS[0], media_type="application/vnd.docker.image.rootfs.foreign.diff.tar.gzip")
    layout = layouts.write(tmp_path / "layout", image(layers=[foreign, LAYERS[1]]))
    layout.joinpath("blobs", *foreign.digest.split(":")).unlink()
    assert [finding.kind for finding in verified(layout).findings] == [Kind.ABSENT]


@pytest.mark.slow
def test_wrong_diff_ids_are_found_by_several_threads(tmp_path: Path) -> None:
    layers = [images.layer(seed, 500 + seed) for seed in range(60)]
    right = images.image("linux/amd64", *layers)
    wrong = [replace(layer, diff_id=WRONG) for layer in layers[::2]]
    layout = layouts.write(tmp_path / "layout", right, images.image("linux/s390x", *wrong))
    findings = verified(layout, threads=8).findings
    assert sorted(finding.subject for finding in findings) == sorted(layer.digest for layer in wrong)
    assert {finding.kind for finding in findings} == {Kind.WRONG_DIFF_ID}


def test_layer_that_is_not_a_tar_archive_warns(tmp_path: Path) -> None:
    layer = Blob.of(gzip.compress(b"hello"), images.OCI_LAYER, images.digest_of(b"hello"))
    assert kinds(found(tmp_path, images.image("linux/amd64", layer))) == [(Kind.NOT_A_TAR, Severity.WARNING)]


@pytest.mark.parametrize("body", [b"{}", b"", b"[]", b"null", b'{"config":{}}'], ids=repr)
def test_artifact_with_the_config_type_of_images_is_ok(tmp_path: Path, body: bytes) -> None:
    findings = found(tmp_path, tools.opa_1_0_bundle(body))
    assert kinds(findings) == [(Kind.NOT_AN_IMAGE, Severity.WARNING)]


@pytest.mark.parametrize("by", ["index", "config"])
def test_image_for_a_platform_needs_a_config_with_a_rootfs(tmp_path: Path, by: str) -> None:
    """Otherwise a publisher could disable the check of the layers."""
    one = image(rootfs=..., os=..., architecture=...) if by == "index" else image(None, rootfs=...)
    assert kinds(found(tmp_path, images.index([one]))) == [(Kind.NOT_AN_IMAGE, Severity.UNVERIFIED)]


def test_encrypted_layers_could_not_be_checked(tmp_path: Path) -> None:
    layout = layouts.write(tmp_path / "layout", tools.skopeo_1_9_encrypted())
    report = verified(layout)
    assert kinds(list(report.findings)) == 2 * [(Kind.NOT_UNPACKED, Severity.UNVERIFIED)]
    assert {finding.found for finding in report.findings} == {"it is encrypted"}
    assert report.verdict == "could not check"
    assert verified(layout, "content").verdict == "ok"


def test_layer_of_another_type_is_proven_only_by_a_diff_id_that_is_its_digest(tmp_path: Path) -> None:
    own = Blob.of(b"{}", "application/vnd.dev.cosign.simplesigning.v1+json", images.digest_of(b"{}"))
    assert found(tmp_path / "own", images.image("linux/amd64", own)) == []
    other = Blob.of(b"{} ", "application/wasm", images.digest_of(b"{}"))
    findings = found(tmp_path, images.image("linux/amd64", other))
    assert kinds(findings) == [(Kind.NOT_UNPACKED, Severity.UNVERIFIED)]
    assert findings[0].found == "its type is application/wasm"


@pytest.mark.parametrize(
    "media_type",
    [
        "application/vnd.oci.image.layer.v1.tar",
        "application/vnd.oci.image.layer.v1.tar+zstd",
        "application/vnd.docker.image.rootfs.diff.tar.gzip",
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        "application/x-tar",
        "application/vnd.example.rootfs.tar+gzip; level=9",
    ],
)
def test_layers_are_checked_if_their_type_is_a_tar_of_any_vendor(tmp_path: Path, media_type: str) -> None:
    layer = replace(LAYERS[0], media_type=media_type, diff_id=WRONG)
    assert kinds(found(tmp_path, images.image("linux/amd64", layer))) == [(Kind.WRONG_DIFF_ID, Severity.ERROR)]


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"os": 1}, Kind.BROKEN_CONFIG),
        ({"history": 1}, Kind.BROKEN_CONFIG),
        ({"config": []}, Kind.BROKEN_CONFIG),
        ({"OS": "linux"}, Kind.BROKEN_CONFIG),
        ({"rootfs": {"type": "other", "diff_ids": [WRONG, LAYERS[1].diff_id]}}, Kind.BROKEN_CONFIG),
        ({"rootfs": {"diff_ids": [WRONG, LAYERS[1].diff_id]}}, Kind.UNUSUAL_CONFIG),
        ({"rootfs": {"type": "layers", "diff_ids": [WRONG, "x"]}}, Kind.BROKEN_CONFIG),
    ],
    ids=repr,
)
def test_one_unusual_field_does_not_stop_the_check_of_the_others(
    tmp_path: Path, fields: dict[str, Any], kind: Kind
) -> None:
    wrong = {"rootfs": {"type": "layers", "diff_ids": [WRONG, LAYERS[1].diff_id]}, "variant": "v2"}
    findings = found(tmp_path, images.index([image(**{**wrong, **fields})]))
    expected = {kind, Kind.WRONG_DIFF_ID} | (set() if {"os", "OS"} & fields.keys() else {Kind.VARIANT})
    assert {finding.kind for finding in findings} == expected
