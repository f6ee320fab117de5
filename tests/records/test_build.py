"""Tests of records that are built from manifests and configs, also from hostile ones."""

import json
from collections.abc import Collection, Mapping
from typing import Any

import pytest

from mirror.errors import InvalidContent
from mirror.oci.descriptor import OCI_INDEX, Descriptor, Platform
from mirror.oci.digest import Digest
from mirror.oci.manifest import parse as parse_manifest
from mirror.records import build_record, compare, markdown, parse_records
from mirror.records.document import HistoryEntry, Record, RecordedConfig, RecordedImage
from tests.support import images
from tests.support.images import Blob, Image

LAYER = images.layer(1, 300)


def record_of(image: Image, *, without: Collection[str] = (), modified: Mapping[str, float] | None = None) -> Record:
    """Return the record of an image; `without` are the digests of missing manifests and configs."""
    documents = {
        Digest(digest): parse_manifest(data, media_type, "it")
        for digest, (data, media_type) in image.manifests.items()
        if digest not in without
    }
    configs = {Digest(digest): data for digest, data in image.blobs.items() if digest not in without}
    root = Descriptor(image.root_media_type, Digest(image.root), len(image.data))
    return build_record("some/image:tag", root, documents, configs, _dates(modified or {}))


def _dates(modified: Mapping[str, float]) -> dict[Digest, float | None]:
    return {Digest(digest): time for digest, time in modified.items()}


def only(record: Record) -> RecordedImage:
    [manifest] = record.manifests
    assert manifest.image
    return manifest.image


def config_of(**fields: Any) -> RecordedConfig:
    config = images.config("linux", "amd64", layers=[LAYER], **fields)
    found = only(record_of(images.manifest(config, [LAYER]))).config
    assert found
    return found


# A current image

CPUS = ["amd64", "arm/v5", "arm/v6", "arm/v7", "arm64/v8", "386", "ppc64le", "riscv64", "s390x"]
WINDOWS = ["10.0.26100.33438", "10.0.20348.5622"]


def current_image() -> Image:
    """Twenty manifests in an OCI index: nine for Linux, an attestation for each, two for Windows."""
    children = []
    for number, cpu in enumerate(CPUS):
        layer = images.layer(number, [300, 1000, 1001, 2415][number % 4])
        runtime = {"Cmd": ["/hello"], "Entrypoint": None}
        history = [{"created": "2026-03-23T21:33:59.123Z", "created_by": "COPY hello / # buildkit"}]
        config = images.config("linux", *cpu.split("/"), layers=[layer], config=runtime, history=history)
        child = images.manifest(config, [layer], images.platform_of(f"linux/{cpu}"))
        children += [child, images.attestation(child)]
    for number, version in enumerate(WINDOWS):
        layer = images.layer(90 + number, 900, docker=True)
        runtime = {"Cmd": ["cmd", "/C", r"type C:\hello.txt"], "Shell": ["cmd", "/s", "/c"]}
        config = images.config("windows", "amd64", layers=[layer], docker=True, config=runtime)
        platform = {"os": "windows", "architecture": "amd64", "os.version": version}
        children.append(images.manifest(config, [layer], platform, docker=True))
    return images.index(children)


CURRENT = current_image()


def test_the_record_of_a_current_image_has_the_published_format() -> None:
    lines = markdown(record_of(CURRENT)).splitlines()
    assert lines[6:9] == [f"-\tManifest MIME: `{OCI_INDEX}`", "-\tPlatforms: 20", "\t-\tlinux; amd64"]
    assert lines.count("\t-\tunknown; unknown") == len(CPUS)
    assert lines[26:28] == [
        "\t-\twindows version 10.0.26100.33438; amd64",
        "\t-\twindows version 10.0.20348.5622; amd64",
    ]
    assert "### `some/image:tag` - linux; arm64 variant v8" in lines
    assert r'-	Default Command: `["\/hello"]`' in lines
    assert r'-	Default Command: `["cmd","\/C","type C:\\hello.txt"]`' in lines
    assert r'-	`SHELL`: `["cmd","\/s","\/c"]`' in lines
    assert "\t\tMIME: application/vnd.in-toto+json" in lines
    assert {"\t\tSize: 300.0 B  ", "\t\tSize: 1000.0 B  ", "\t\tSize: 1.0 KB (1001 bytes)  "} <= set(lines)


def test_the_record_of_a_current_image_is_read_back() -> None:
    record = record_of(CURRENT)
    assert parse_records(markdown(record).encode(), "it") == [record]
    assert len(record.manifests) == 20


def test_an_attestation_has_an_image_id_and_an_empty_history() -> None:
    attestation = record_of(CURRENT).manifests[1]
    assert attestation.platform == Platform("unknown", "unknown")
    assert attestation.image
    assert attestation.image.image_id
    assert attestation.image.config == RecordedConfig()


def test_an_oci_manifest_that_is_recorded_with_the_docker_type_agrees() -> None:
    """The public generator writes the Docker type for both."""
    record = record_of(CURRENT)
    page = markdown(record).replace(images.OCI_MANIFEST, images.DOCKER_MANIFEST)
    result = compare(parse_records(page.encode(), "it")[0], record)
    assert result.differences == []
    assert result.agreed["manifest"] == 20


def test_a_docker_manifest_that_is_recorded_with_the_oci_type_differs() -> None:
    record = record_of(images.multi_arch(docker=True))
    page = markdown(record).replace(images.DOCKER_MANIFEST, images.OCI_MANIFEST)
    differences = compare(parse_records(page.encode(), "it")[0], record).differences
    assert [one.found for one in differences] == [images.DOCKER_MANIFEST] * 2


# Images without an index, and nested indexes


def test_an_image_without_an_index_has_the_platform_of_its_config() -> None:
    record = record_of(images.image("linux/arm/v7", LAYER))
    assert (record.media_type, record.manifests[0].digest) == (None, record.digest)
    assert record.manifests[0].platform == Platform("linux", "arm")  # records of such images have no variant
    lines = markdown(record).splitlines()
    assert lines[6:10] == ["-\tPlatforms: 1", "\t-\tlinux; arm", "", "### `some/image:tag` - linux; arm"]
    assert sum(line.startswith("$ docker pull") for line in lines) == 1
    assert parse_records(markdown(record).encode(), "it") == [record]


def test_the_children_of_a_nested_index_are_recorded_once() -> None:
    inner = images.index([images.image("linux/arm64", LAYER)])
    outer = images.index([images.image("linux/amd64", LAYER), inner, inner])
    assert [str(one.platform) for one in record_of(outer).manifests] == ["linux/amd64", "linux/arm64"]


def test_a_child_without_a_platform_has_the_platform_of_its_config() -> None:
    bare = images.manifest(images.config("linux", "s390x", layers=[LAYER]), [LAYER])
    artifact = images.artifact("a/b", images.EMPTY)
    record = record_of(images.index([bare, artifact]))
    assert [str(one.platform) for one in record.manifests] == ["linux/s390x", "unknown/unknown"]


def test_one_manifest_for_two_platforms_is_recorded_twice() -> None:
    child = images.image("linux/arm/v6", LAYER)
    both = images.index([child, Image(**{**vars(child), "platform": images.platform_of("linux/arm/v7")})])
    record = record_of(both)
    assert len({one.digest for one in record.manifests}) == 1
    assert parse_records(markdown(record).encode(), "it") == [record]
    assert compare(record, record).differences == []


def test_features_of_a_platform_are_recorded() -> None:
    platform = {"os": "windows", "architecture": "amd64", "os.version": "10.0", "os.features": ["win32k"]}
    record = record_of(images.index([images.manifest(images.config("windows", "amd64"), [], platform)]))  # type: ignore[arg-type]
    assert "\t-\twindows version 10.0 ft. win32k; amd64" in markdown(record).splitlines()


def test_dates_of_layers_are_whole_seconds_or_unknown() -> None:
    image = images.image("linux/amd64", LAYER)
    assert only(record_of(image, modified={LAYER.digest: 1505292050.75})).layers[0].modified == 1505292050
    assert only(record_of(image)).layers[0].modified is None
    assert "Last Modified" not in markdown(record_of(image))


# Missing documents


def test_a_record_with_a_missing_manifest_cannot_be_written() -> None:
    image = images.multi_arch()
    first, second = list(image.manifests)[:2]
    config = str(json.loads(image.manifests[second][0])["config"]["digest"])
    record = record_of(image, without={first, config})
    assert record.manifests[0].image is None
    assert record.manifests[1].image
    assert record.manifests[1].image.config is None
    with pytest.raises(ValueError, match=first):
        markdown(record)


# Configs


def test_the_fields_of_a_config_are_recorded() -> None:
    found = config_of(
        docker_version="23.0.6",
        config={"Entrypoint": ["/a"], "Cmd": [], "Shell": ["sh"]},
        history=[{"created": "2026-01-01T00:00:00Z", "created_by": "CMD []", "empty_layer": True}, {}],
    )
    steps = (HistoryEntry(1767225600, "CMD []"), HistoryEntry(None, "RUN "))
    assert found == RecordedConfig("23.0.6", ("/a",), (), ("sh",), steps)


def test_nulls_and_empty_entrypoints_are_recorded_as_absent() -> None:
    assert config_of(docker_version="", config={"Entrypoint": [], "Cmd": None}, history=None) == RecordedConfig()
    assert config_of(config=None) == RecordedConfig()


@pytest.mark.parametrize(
    "fields",
    [
        {"config": []},
        {"config": {"Entrypoint": "sh"}},
        {"config": {"Cmd": [1]}},
        {"config": {"Shell": {"a": "b"}}},
        {"Config": {}},
        {"history": {}},
        {"history": ["RUN a"]},
        {"history": [{"created_by": ["RUN", "a"]}]},
        {"docker_version": 17},
    ],
)
def test_an_invalid_config_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidContent):
        config_of(**fields)


@pytest.mark.parametrize("created", [17, "yesterday", None, "", "9999-99-99T00:00:00Z"])
def test_an_invalid_date_is_unknown(created: object) -> None:
    assert config_of(history=[{"created": created, "created_by": "X y"}]).history == (HistoryEntry(None, "X y"),)


def test_newlines_in_the_docker_version_are_escaped() -> None:
    config = images.config("linux", "amd64", layers=[LAYER], docker_version="17\n-\tImage ID: `x`\x1b[2J")
    record = record_of(images.manifest(config, [LAYER]))
    assert parse_records(markdown(record).encode(), "it") == [record]
    assert "-\tDocker Version: 17\\n-\tImage ID: `x`\\x1b[2J" in markdown(record).splitlines()


def test_a_hostile_history_does_not_add_layers() -> None:
    forged = "/bin/sh -c #(nop) A b\n```\n\n-\tLayers:\n\t-\t`sha256:" + "0" * 64 + "`  "
    config = images.config("linux", "amd64", layers=[LAYER], history=[{"created_by": forged}])
    record = record_of(images.manifest(config, [LAYER]))
    assert parse_records(markdown(record).encode(), "it") == [record]
    assert [layer.digest for layer in only(record).layers] == [LAYER.digest]


@pytest.mark.parametrize(
    "platform",
    [
        {"os": "linux; amd64", "architecture": "arm"},
        {"os": "linux", "architecture": "amd64\n### `x`"},
        {"os": "linux", "architecture": "arm", "variant": "v7 ft. a"},
        {"os": "windows", "architecture": "amd64", "os.version": "10 ft. a"},
        {"os": "\x1b[2J", "architecture": "amd64"},
    ],
)
def test_a_platform_that_the_format_cannot_express_is_refused(platform: dict[str, str]) -> None:
    with pytest.raises(InvalidContent, match="cannot be written in a record"):
        record_of(images.index([images.manifest(images.config("linux", "amd64"), [], platform)]))


@pytest.mark.parametrize("media_type", ["a/b`\n", "a\tb", "é/ü", " a/b", "a/b ", "\x1b[2J/x"])
def test_a_media_type_that_the_format_cannot_express_is_refused(media_type: str) -> None:
    blob = Blob.of(b"x", media_type)
    with pytest.raises(InvalidContent, match="cannot be written in a record"):
        record_of(images.manifest(images.config("linux", "amd64"), [blob]))
