"""Tests of the record of redis:4.0, published in 2017, against the manifests of this image."""

import json
import re
from dataclasses import replace
from functools import partial

import pytest

from mirror.errors import InvalidRecord
from mirror.oci.descriptor import DOCKER_LIST, DOCKER_MANIFEST, Descriptor, Platform
from mirror.oci.digest import Digest
from mirror.oci.manifest import Document
from mirror.oci.manifest import parse as parse_manifest
from mirror.records import Reason, build_record, compare, markdown, parse_records
from mirror.records.document import HistoryEntry, Record, repository_of
from mirror.records.json import to_json
from tests.support.images import DOCKER_LAYER, RECORD
from tests.support.strategies import outcome

PAGE = (RECORD / "record.md").read_bytes()
LIST = (RECORD / "manifest-list.json").read_bytes()
FILES = ["manifest-linux-amd64.json", "manifest-linux-arm-v7.json"]
MANIFESTS = [(RECORD / name).read_bytes() for name in FILES]
NUMBERS = [0, 1]

# More values of the page, copied by hand.
FIRST_DAY = "Wed, 13 Sep 2017 08:40:50 GMT"
COMMANDS = [
    (FIRST_DAY, "ADD file:bdab114a5717b42a5e02e6f602d5eeb48fc998a60d200704b4da1a7ce8552775 in / "),
    (FIRST_DAY, 'CMD ["bash"]'),
    ("Tue, 19 Sep 2017 03:32:28 GMT", "RUN groupadd -r redis && useradd -r -g redis redis"),
    ("Tue, 19 Sep 2017 03:32:28 GMT", "ENV GOSU_VERSION=1.10"),
]
DATES = [
    ["Thu, 07 Sep 2017 23:11:57 GMT", "Tue, 19 Sep 2017 03:38:55 GMT", "Tue, 19 Sep 2017 03:38:55 GMT"],
    ["Sat, 09 Sep 2017 01:51:42 GMT", "Tue, 19 Sep 2017 03:29:47 GMT", "Tue, 19 Sep 2017 03:29:47 GMT"],
]


@pytest.fixture(scope="module")
def record() -> Record:
    [found] = parse_records(PAGE, "record.md")
    return found


def test_name_digest_and_type_are_those_of_the_list(record: Record) -> None:
    assert record.name == "redis:4.0"
    assert repository_of(record.name) == "redis"
    assert record.digest == Digest.of(LIST)
    assert record.media_type == json.loads(LIST)["mediaType"] == DOCKER_LIST


def test_the_manifests_are_those_of_the_list_in_the_same_order(record: Record) -> None:
    published = [(node["digest"], node["platform"]) for node in json.loads(LIST)["manifests"]]
    assert [(one.digest, one.platform.to_json()) for one in record.manifests] == published
    assert [one.digest for one in record.manifests] == [Digest.of(data) for data in MANIFESTS]
    assert [one.platform for one in record.manifests] == [Platform("linux", "amd64"), Platform("linux", "arm", "v7")]


@pytest.mark.parametrize("number", NUMBERS)
def test_image_id_types_layers_and_sizes_are_those_of_the_manifest(record: Record, number: int) -> None:
    published, image = json.loads(MANIFESTS[number]), record.manifests[number].image
    assert image
    assert image.media_type == published["mediaType"] == DOCKER_MANIFEST
    assert image.image_id == published["config"]["digest"]
    assert [(one.digest, one.size, one.media_type) for one in image.layers] == [
        (node["digest"], node["size"], node["mediaType"]) for node in published["layers"]
    ]
    assert image.size == sum(node["size"] for node in published["layers"]) == [39372240, 35156734][number]
    assert {one.media_type for one in image.layers} == {DOCKER_LAYER}


@pytest.mark.parametrize("number", NUMBERS)
def test_the_dates_of_the_layers_are_read(record: Record, number: int) -> None:
    image = record.manifests[number].image
    assert image
    dates = [one["lastModified"] for one in to_json([record])["records"][0]["manifests"][number]["layers"]]
    assert len(dates) == 6
    assert dates[:3] == DATES[number]
    assert image.layers[0].modified == [1504825917, 1504921902][number]


@pytest.mark.parametrize("number", NUMBERS)
def test_docker_version_entrypoint_and_command_are_read(record: Record, number: int) -> None:
    image = record.manifests[number].image
    assert image
    assert image.config
    config = image.config
    assert (config.docker_version, config.shell) == ("17.06.2-ce", None)
    assert (config.entrypoint, config.command) == (("docker-entrypoint.sh",), ("redis-server",))


@pytest.mark.parametrize("number", NUMBERS)
def test_the_history_is_read_step_by_step(record: Record, number: int) -> None:
    section = PAGE.decode().split("```dockerfile\n")[number + 1].partition("```")[0]
    lines = section.splitlines()
    image = record.manifests[number].image
    assert image
    assert image.config
    history = to_json([record])["records"][0]["manifests"][number]["history"]
    steps = [(entry["created"], entry["command"]) for entry in history]
    assert steps == [(date.removeprefix("# "), text) for date, text in zip(lines[::2], lines[1::2], strict=True)]
    assert len(steps) == 16
    if number == 0:
        assert steps[:4] == COMMANDS
        assert image.config.history[1] == HistoryEntry(1505292050, 'CMD ["bash"]')


def test_the_written_page_differs_only_in_the_number_of_platforms(record: Record) -> None:
    assert markdown(record) == PAGE.decode().replace("-\tPlatforms:\n", "-\tPlatforms: 2\n")


def test_the_page_with_the_number_of_platforms_gives_the_same_record(record: Record) -> None:
    assert parse_records(markdown(record).encode(), "it") == [record]


# Against the real manifests; the configs are lost


def found_without_configs() -> Record:
    root = Descriptor(DOCKER_LIST, Digest.of(LIST), len(LIST))
    documents: dict[Digest, Document] = {
        Digest.of(data): parse_manifest(data, None, "it") for data in (LIST, *MANIFESTS)
    }
    return build_record("redis:4.0", root, documents, {})


def test_the_real_manifests_agree_and_missing_configs_are_reported(record: Record) -> None:
    result = compare(record, found_without_configs())
    assert result.differences == []
    assert result.agreed == {"digest": 1, "manifest": 2, "image ID": 2, "layer": 12}
    assert [one.where for one in result.not_compared] == [
        "manifest 1 (linux/amd64): entrypoint, command and history",
        "manifest 2 (linux/arm/v7): entrypoint, command and history",
    ]
    assert {one.reason for one in result.not_compared} == {Reason.NO_CONFIG}


# Every digest and size with one changed digit


def positions() -> list[tuple[int, int]]:
    """Return start and end of every digest and size in the page."""
    head, *blocks = re.split(rb"(```dockerfile\n.*?```\n)", PAGE, flags=re.DOTALL)
    shown = head + b"".join(block if i % 2 else b"." * len(block) for i, block in enumerate(blocks))
    places = []
    for found in re.finditer(rb"sha256:([0-9a-f]{64})|([0-9]+\.[0-9]) [KM]?B|\(([0-9]+) bytes\)", shown):
        start, end = next(found.span(group) for group in (1, 2, 3) if found[group])
        places += [(start, end)]
    return places


PLACES = positions()


def with_other_digit(place: int) -> bytes:
    digit = PAGE[place : place + 1]
    other = b"1" if digit != b"1" else b"2"
    return PAGE[:place] + other + PAGE[place + 1 :]


def test_every_digest_and_size_of_the_page_is_found() -> None:
    digests = 1 + 2 + 2 + 12
    sizes = (2 + 12) + (2 + 8)  # rounded; and exact, if it is more than 1000 bytes
    assert len(PLACES) == digests + sizes


@pytest.mark.parametrize(("start", "end"), PLACES)
def test_a_changed_digit_in_a_digest_or_size_is_detected(start: int, end: int) -> None:
    for place in sorted({start, (start + end) // 2, end - 1}):
        if PAGE[place : place + 1] == b".":
            continue
        assert is_detected(with_other_digit(place)), PAGE[start:end]


def is_detected(page: bytes) -> bool:
    try:
        [changed] = parse_records(page, "record.md")
    except InvalidRecord as error:
        return error.line is not None
    return bool(compare(changed, found_without_configs()).differences)


@pytest.mark.parametrize(("start", "end"), [place for place in PLACES if place[1] - place[0] != 64])
def test_a_changed_digit_in_a_size_contradicts_the_page_itself(start: int, end: int) -> None:
    place = end - 1
    with pytest.raises(InvalidRecord, match=r"record\.md, line \d+: .*(contradicts itself|bytes in total)"):
        parse_records(with_other_digit(place), "record.md")


def test_a_changed_rounded_size_contradicts_the_exact_size() -> None:
    with pytest.raises(InvalidRecord, match=r"line 20: .*39372240 bytes are '39\.4 MB \(39372240 bytes\)'"):
        parse_records(PAGE.replace(b"39.4 MB", b"39.5 MB"), "record.md")


def test_a_consistent_change_of_a_size_is_detected_by_the_manifests() -> None:
    """An attacker would also change the total."""
    page = PAGE.replace(b"(2090 bytes)", b"(2091 bytes)").replace(b"(39372240 bytes)", b"(39372241 bytes)")
    [forged] = parse_records(page, "record.md")
    [difference] = compare(forged, found_without_configs()).differences
    assert (difference.where, difference.recorded, difference.found) == (
        "manifest 1 (linux/amd64): layer 2: size",
        "2091",
        "2090",
    )


BLOCKS = [block.span(1) for block in re.finditer(rb"```dockerfile\n(.*?)```\n", PAGE, re.DOTALL)]
IN_HISTORY = [start + digit.start() for start, end in BLOCKS for digit in re.finditer(rb"[0-9]", PAGE[start:end])]


@pytest.mark.slow
@pytest.mark.parametrize("part", range(8))
def test_a_changed_digit_in_the_history_is_detected(record: Record, part: int) -> None:
    """Digests in commands, versions, dates: every digit of the dockerfile blocks."""
    for place in IN_HISTORY[part::8]:
        found = outcome(partial(parse_records, with_other_digit(place), "record.md"))
        if isinstance(found, InvalidRecord):  # a wrong day of the week
            assert found.line == PAGE.count(b"\n", 0, place) + 1
        else:
            assert isinstance(found, list)
            assert compare(found[0], record).differences


def test_swapped_platforms_are_detected(record: Record) -> None:
    swapped = replace(record, manifests=record.manifests[::-1])
    assert [one.where for one in compare(swapped, record).differences] == ["order of the manifests"]


def test_a_removed_platform_is_detected(record: Record) -> None:
    shorter = replace(record, manifests=record.manifests[:1])
    [difference] = compare(shorter, record).differences
    assert (difference.recorded, difference.found) == ("nothing", record.manifests[1].digest)
    [difference] = compare(record, shorter).differences
    assert (difference.recorded, difference.found) == (record.manifests[1].digest, "nothing")
