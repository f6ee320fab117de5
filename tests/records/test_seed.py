"""The record of redis:4.0 as it was published in 2017, read to the last figure: the real manifests are the judge."""

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

# What else the page says, as a person reads it there.
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


def test_the_list_is_the_one_that_was_published(record: Record) -> None:
    assert record.name == "redis:4.0"
    assert repository_of(record.name) == "redis"
    assert record.digest == Digest.of(LIST)
    assert record.media_type == json.loads(LIST)["mediaType"] == DOCKER_LIST


def test_the_manifests_are_those_of_the_list_in_its_order(record: Record) -> None:
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
def test_what_the_image_runs_is_read(record: Record, number: int) -> None:
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


def test_only_the_number_of_platforms_is_written_otherwise(record: Record) -> None:
    assert markdown(record) == PAGE.decode().replace("-\tPlatforms:\n", "-\tPlatforms: 2\n")


def test_both_forms_of_the_list_of_platforms_are_read_as_the_same(record: Record) -> None:
    assert parse_records(markdown(record).encode(), "it") == [record]


# Against the real manifests, without the configs, which nobody has any more


def found_without_configs() -> Record:
    root = Descriptor(DOCKER_LIST, Digest.of(LIST), len(LIST))
    documents: dict[Digest, Document] = {
        Digest.of(data): parse_manifest(data, None, "it") for data in (LIST, *MANIFESTS)
    }
    return build_record("redis:4.0", root, documents, {})


def test_the_real_manifests_agree_with_the_record_and_the_absent_configs_are_said(record: Record) -> None:
    result = compare(record, found_without_configs())
    assert result.differences == []
    assert result.agreed == {"digest": 1, "manifest": 2, "image ID": 2, "layer": 12}
    assert [one.where for one in result.not_compared] == [
        "manifest 1 (linux/amd64): entrypoint, command and history",
        "manifest 2 (linux/arm/v7): entrypoint, command and history",
    ]
    assert {one.reason for one in result.not_compared} == {Reason.NO_CONFIG}


# Every figure, with one digit changed


def figures() -> list[tuple[int, int]]:
    """The place of every digest and size, each by a digit in it: the first, one in the middle and the last."""
    head, *blocks = re.split(rb"(```dockerfile\n.*?```\n)", PAGE, flags=re.DOTALL)
    shown = head + b"".join(block if i % 2 else b"." * len(block) for i, block in enumerate(blocks))
    places = []
    for found in re.finditer(rb"sha256:([0-9a-f]{64})|([0-9]+\.[0-9]) [KM]?B|\(([0-9]+) bytes\)", shown):
        start, end = next(found.span(group) for group in (1, 2, 3) if found[group])
        places += [(start, end)]
    return places


PLACES = figures()


def with_other_digit(place: int) -> bytes:
    digit = PAGE[place : place + 1]
    other = b"1" if digit != b"1" else b"2"
    return PAGE[:place] + other + PAGE[place + 1 :]


def test_every_figure_of_the_page_is_among_those_that_are_changed() -> None:
    digests = 1 + 2 + 2 + 12
    sizes = (2 + 12) + (2 + 8)  # rounded, and exactly where that is more than bytes
    assert len(PLACES) == digests + sizes


@pytest.mark.parametrize(("start", "end"), PLACES)
def test_a_figure_with_one_digit_changed_is_caught(start: int, end: int) -> None:
    for place in sorted({start, (start + end) // 2, end - 1}):
        if PAGE[place : place + 1] == b".":
            continue
        assert caught(with_other_digit(place)), PAGE[start:end]


def caught(page: bytes) -> bool:
    try:
        [changed] = parse_records(page, "record.md")
    except InvalidRecord as error:
        return error.line is not None
    return bool(compare(changed, found_without_configs()).differences)


@pytest.mark.parametrize(("start", "end"), [place for place in PLACES if place[1] - place[0] != 64])
def test_a_size_with_one_digit_changed_contradicts_the_page_itself(start: int, end: int) -> None:
    place = end - 1
    with pytest.raises(InvalidRecord, match=r"record\.md, line \d+: .*(contradicts itself|bytes in total)"):
        parse_records(with_other_digit(place), "record.md")


def test_the_rounded_figure_alone_is_enough_to_contradict_the_bytes() -> None:
    with pytest.raises(InvalidRecord, match=r"line 20: .*39372240 bytes are '39\.4 MB \(39372240 bytes\)'"):
        parse_records(PAGE.replace(b"39.4 MB", b"39.5 MB"), "record.md")


def test_a_change_that_keeps_the_page_consistent_is_caught_by_the_manifests() -> None:
    """Whoever forges a size forges the total too."""
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
def test_a_history_with_one_digit_changed_is_caught_where_the_config_is_there(record: Record, part: int) -> None:
    """Digests in commands, versions, dates: every digit of the dockerfile blocks."""
    for place in IN_HISTORY[part::8]:
        found = outcome(partial(parse_records, with_other_digit(place), "record.md"))
        if isinstance(found, InvalidRecord):  # a date on a day of the week that it was not
            assert found.line == PAGE.count(b"\n", 0, place) + 1
        else:
            assert isinstance(found, list)
            assert compare(found[0], record).differences


def test_a_platform_that_was_swapped_is_caught(record: Record) -> None:
    swapped = replace(record, manifests=record.manifests[::-1])
    assert [one.where for one in compare(swapped, record).differences] == ["order of the manifests"]


def test_a_platform_that_was_taken_away_is_caught(record: Record) -> None:
    shorter = replace(record, manifests=record.manifests[:1])
    [difference] = compare(shorter, record).differences
    assert (difference.recorded, difference.found) == ("nothing", record.manifests[1].digest)
    [difference] = compare(record, shorter).differences
    assert (difference.recorded, difference.found) == (record.manifests[1].digest, "nothing")
