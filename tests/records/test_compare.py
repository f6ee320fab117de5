"""Tests of the comparison of two records of one image."""

from dataclasses import fields, is_dataclass, replace
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mirror.oci.descriptor import Platform
from mirror.oci.digest import Digest
from mirror.records import Difference, NotCompared, Reason, compare
from mirror.records.document import HistoryEntry, Record, RecordedConfig, RecordedImage, RecordedLayer, RecordedManifest
from tests.records import drawn
from tests.support import strategies

ZERO, ONE, TWO = (Digest("sha256:" + digit * 64) for digit in "012")
LAYER = RecordedLayer(ONE, 10, "a/layer", 5)
STEPS = (HistoryEntry(0, "RUN a"), HistoryEntry(None, "# ARGS: A=b\nRUN b"))
IMAGE = RecordedImage("a/manifest", TWO, (LAYER, LAYER), RecordedConfig("17", ("e",), ("c",), ("s",), STEPS))
AMD, ARM = Platform("linux", "amd64"), Platform("linux", "arm", "v7")
RECORD = Record("a:b", ZERO, "a/list", (RecordedManifest(AMD, ONE, IMAGE), RecordedManifest(ARM, TWO, IMAGE)))


def with_image(**changes: Any) -> Record:
    first = replace(RECORD.manifests[0], image=replace(IMAGE, **changes))
    return replace(RECORD, manifests=(first, RECORD.manifests[1]))


def with_layer(**changes: Any) -> Record:
    return with_image(layers=(LAYER, replace(LAYER, **changes)))


def with_config(**changes: Any) -> Record:
    assert IMAGE.config
    return with_image(config=replace(IMAGE.config, **changes))


def with_manifest(**changes: Any) -> Record:
    return replace(RECORD, manifests=(replace(RECORD.manifests[0], **changes), RECORD.manifests[1]))


FIRST = "manifest 1 (linux/amd64)"
CHANGES: dict[str, tuple[Record, str, str, str]] = {
    "digest": (replace(RECORD, digest=TWO), "digest", TWO, ZERO),
    "media type": (replace(RECORD, media_type=None), "media type", "nothing", "a/list"),
    "manifest": (with_manifest(digest=ZERO), f"{FIRST}: digest", ZERO, ONE),
    "platform": (with_manifest(platform=Platform("linux", "386")), "platform", "linux; 386", "linux; amd64"),
    "manifest type": (with_image(media_type="b"), f"{FIRST}: media type", "b", "a/manifest"),
    "image ID": (with_image(image_id=ZERO), f"{FIRST}: image ID", ZERO, TWO),
    "no image ID": (with_image(image_id=None), f"{FIRST}: image ID", "nothing", TWO),
    "layer": (with_layer(digest=TWO), f"{FIRST}: layer 2: digest", TWO, ONE),
    "other layer": (with_layer(digest=TWO, size=11), "layer 2: digest", f"{TWO}, 11 bytes", f"{ONE}, 10 bytes"),
    "size": (with_layer(size=11), f"{FIRST}: layer 2: size", "11", "10"),
    "layer type": (with_layer(media_type="b"), f"{FIRST}: layer 2: media type", "b", "a/layer"),
    "fewer layers": (with_image(layers=(LAYER,)), f"{FIRST}: layer 2", "nothing", ONE),
    "more layers": (with_image(layers=(LAYER,) * 3), f"{FIRST}: layer 3", ONE, "nothing"),
    "Docker version": (with_config(docker_version="18"), f"{FIRST}: Docker version", "18", "17"),
    "entrypoint": (with_config(entrypoint=("x",)), f"{FIRST}: entrypoint", '["x"]', '["e"]'),
    "command": (with_config(command=None), f"{FIRST}: command", "nothing", '["c"]'),
    "shell": (with_config(shell=()), f"{FIRST}: shell", "[]", '["s"]'),
    "step": (
        with_config(history=(STEPS[0], HistoryEntry(None, "# ARGS: A=c\nRUN b"))),
        "step 2",
        "# ARGS: A=c",
        "# ARGS: A=b",
    ),
    "date": (
        with_config(history=(HistoryEntry(1, "RUN a"), STEPS[1])),
        "history, step 1",
        "00:00:01 GMT: RUN a",
        "00:00:00 GMT: RUN a",
    ),
    "no date": (
        with_config(history=(HistoryEntry(None, "RUN a"), STEPS[1])),
        "step 1",
        "no date: RUN a",
        "00:00:00 GMT: RUN a",
    ),
    "fewer steps": (with_config(history=STEPS[:1]), "step 2", "nothing", "no date: # ARGS: A=b\nRUN b"),
    "other steps": (with_config(history=(HistoryEntry(0, "RUN b"),)), "history, step 1 and 1 more", "RUN b", "RUN a"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_difference_has_its_place_and_both_values(name: str) -> None:
    changed, where, recorded, found = CHANGES[name]
    [difference] = compare(changed, RECORD).differences
    assert where in difference.where
    assert recorded in difference.recorded
    assert found in difference.found


def test_values_that_agree_are_counted() -> None:
    result = compare(RECORD, RECORD)
    assert result.agreed == {"digest": 1, "manifest": 2, "image ID": 2, "layer": 4, "config": 2}
    assert (result.differences, result.not_compared) == ([], [])
    assert compare(with_layer(size=11), RECORD).agreed["layer"] == 3
    assert compare(with_config(shell=None), RECORD).agreed["config"] == 1


def test_the_dates_of_layers_are_not_compared() -> None:
    assert compare(with_layer(modified=99), RECORD).differences == []


def test_a_size_that_is_not_recorded_is_not_compared() -> None:
    result = compare(with_layer(size=None), RECORD)
    assert result.differences == []
    assert result.not_compared == [NotCompared(f"{FIRST}: sizes of layers", Reason.NOT_RECORDED, ONE)]


def test_missing_manifests_and_configs_are_not_compared() -> None:
    result = compare(RECORD, with_image(config=None))
    assert result.not_compared == [NotCompared(f"{FIRST}: entrypoint, command and history", Reason.NO_CONFIG, ONE)]
    result = compare(RECORD, with_manifest(image=None))
    assert result.not_compared == [NotCompared(FIRST, Reason.NO_MANIFEST, ONE)]
    assert result.differences == []


def test_the_platform_of_a_single_image_without_config_is_not_compared() -> None:
    lone = replace(RECORD, media_type=None, manifests=RECORD.manifests[:1])
    unknown = replace(
        lone, manifests=(RecordedManifest(Platform("unknown", "unknown"), ONE, replace(IMAGE, config=None)),)
    )
    assert compare(lone, unknown).differences == []


def test_a_partial_image_is_compared_without_the_missing_platforms() -> None:
    lone = replace(RECORD.manifests[1], platform=Platform("linux", "arm"))  # records of single images have no variant
    part = Record("a:b", TWO, None, (lone,))
    result = compare(RECORD, part, partial=True)
    assert result.differences == []
    assert result.not_compared == [NotCompared(FIRST, Reason.NOT_SELECTED, ONE)]
    assert result.agreed["manifest"] == 1
    [difference] = compare(with_image(image_id=ZERO), replace(RECORD, digest=ONE), partial=True).differences
    assert difference.where == f"{FIRST}: image ID"


def test_an_additional_manifest_is_a_difference_also_in_a_partial_image() -> None:
    extra = RecordedManifest(Platform("linux", "s390x"), ZERO, IMAGE)
    for part in (False, True):
        found = replace(RECORD, manifests=(*RECORD.manifests, extra))
        assert compare(RECORD, found, partial=part).differences == [
            Difference("additional manifest 3 (linux/s390x)", "nothing", ZERO)
        ]


def test_manifests_in_another_order_are_one_difference() -> None:
    swapped = replace(RECORD, manifests=RECORD.manifests[::-1])
    assert compare(RECORD, swapped).differences == [Difference("order of the manifests", "1, 2", "2, 1")]


def test_attestations_are_distinguished_by_their_digests() -> None:
    unknown = Platform("unknown", "unknown")
    many = replace(RECORD, manifests=tuple(RecordedManifest(unknown, digest, IMAGE) for digest in (ZERO, ONE, TWO)))
    second = replace(many.manifests[1], digest=Digest("sha256:" + "f" * 64))
    changed = replace(many, manifests=(many.manifests[0], second, many.manifests[2]))
    [difference] = compare(changed, many).differences
    assert difference.where == "manifest 2 (unknown/unknown): digest"
    assert difference.found == ONE


@pytest.mark.parametrize("older", ["RUN COPY a b # buildkit", " COPY a b # buildkit", "RUN RUN  COPY a b # buildkit"])
def test_prefixes_of_older_generators_are_not_a_difference(older: str) -> None:
    now = with_config(history=(HistoryEntry(0, "COPY a b # buildkit"),))
    assert compare(with_config(history=(HistoryEntry(0, older),)), now).differences == []
    assert compare(with_config(history=(HistoryEntry(0, f"{older} c"),)), now).differences


def test_a_difference_in_a_long_text_is_shown_with_its_context() -> None:
    start, end = "RUN " + "a" * 5000, "b" * 5000
    one, other = (with_config(history=(HistoryEntry(0, start + char + end),)) for char in "xy")
    [difference] = compare(one, other).differences
    assert difference.recorded == "…" + "a" * 40 + "x" + "b" * 79 + "…"
    assert difference.found == "…" + "a" * 40 + "y" + "b" * 79 + "…"


@pytest.mark.slow
def test_a_command_of_four_megabytes_is_compared() -> None:
    """An algorithm that backtracks takes days."""
    long = with_config(history=(HistoryEntry(0, "RUN " * 1_000_000),))
    assert compare(long, RECORD).differences


@pytest.mark.slow
@strategies.QUICK
@given(drawn.records())
def test_a_record_agrees_with_itself(record: Record) -> None:
    assert compare(record, record).differences == []


@pytest.mark.slow
@strategies.THOROUGH
@given(drawn.records(), st.data())
def test_a_change_of_any_single_value_is_found(record: Record, data: st.DataObject) -> None:
    places = [place for place in leaves(record) if place[-1] not in ("name", "modified")]
    place = data.draw(st.sampled_from(places))
    changed = altered(record, place)
    assume(changed != record)
    result = compare(changed, record)
    assert result.differences or result.not_compared


def leaves(value: object, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the paths of all values of a record."""
    if is_dataclass(value) and not isinstance(value, type):
        return [leaf for one in fields(value) for leaf in leaves(getattr(value, one.name), (*path, one.name))]
    if isinstance(value, tuple):
        return [leaf for place, one in enumerate(value) for leaf in leaves(one, (*path, place))]
    return [path]


def altered(value: Any, path: tuple[Any, ...]) -> Any:
    """Return the record with one changed value."""
    key, *rest = path
    inner = value[key] if isinstance(value, tuple) else getattr(value, key)
    new = altered(inner, tuple(rest)) if rest else other(inner, key)
    return (*value[:key], new, *value[key + 1 :]) if isinstance(value, tuple) else replace(value, **{key: new})


def other(value: Any, key: object) -> Any:
    if key in ("created", "size"):
        return 7 if value is None else value - 1 if value > 0 else value + 1
    if key in ("digest", "image_id"):
        return Digest("sha256:" + "e" * 64)
    return ("z",) if key in ("entrypoint", "command", "shell") and value is None else f"{value}z"
