"""A blob from where it stopped: which answers to a Range are believed, and what happens to all others."""

import asyncio
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mirror.errors import SizeMismatch, TransferError
from mirror.oci.descriptor import Descriptor
from mirror.oci.digest import Digest
from mirror.registry import Client, RegistryOptions, Repository
from mirror.registry.blobs import ranges
from mirror.registry.blobs.parallel import ConnectionScaler
from tests.registry.test_errors import answer
from tests.support.profiles import every
from tests.support.registry import (
    Action,
    Chunked,
    Cut,
    EmbeddedRegistry,
    Fault,
    Header,
    Redirect,
    RequestHeader,
    Slow,
    Status,
    Truncate,
    serving,
)
from tests.support.registry.messages import Answer, Call
from tests.support.strategies import QUICK, nasty_text

DATA = random.Random(3).randbytes(10_000)
NODE = Descriptor("a/b", Digest.of(DATA), len(DATA))


@pytest.fixture(autouse=True)
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """We have no credentials."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))


@pytest.fixture
def registry() -> Iterator[EmbeddedRegistry]:
    """A registry that holds one blob."""
    with serving(EmbeddedRegistry()) as running:
        running.put_blob("a", DATA)
        yield running


def download(registry: EmbeddedRegistry, *starts: int, connections: int | None = None) -> list[tuple[int, bytes]]:
    """Open the blob once for each start; gives where each body began, and what it had."""

    async def main() -> list[tuple[int, bytes]]:
        found = []
        async with Client(RegistryOptions(connections_per_blob=connections)) as client:
            repository = Repository(client.registry(registry.host), "a")
            for start in starts:
                async with repository.open_blob(NODE, start) as body:
                    found.append((body.start, b"".join([chunk async for chunk in body.chunks])))
        return found

    return asyncio.run(main())


def asked(registry: EmbeddedRegistry) -> list[str | None]:
    """The Range of every request for the blob."""
    return [seen.headers.get("range") for seen in registry.requests if "/blobs/" in seen.path]


@pytest.mark.parametrize("start", [1, 5000, len(DATA) - 1])
def test_a_blob_begins_where_it_is_wanted(registry: EmbeddedRegistry, start: int) -> None:
    assert download(registry, start) == [(start, DATA[start:])]
    assert asked(registry) == [f"bytes={start}-"]


def test_a_blob_from_its_beginning_is_no_part(registry: EmbeddedRegistry) -> None:
    assert download(registry, 0) == [(0, DATA)]
    assert asked(registry) == [None]


@dataclass(frozen=True)
class ToParts(Action):
    """Does something else to requests for a part; whoever asks for all gets all."""

    actions: tuple[Action, ...]

    def on_call(self, call: Call) -> Call | Answer:
        for action in self.actions if "range" in call.headers else ():
            step = action.on_call(call)
            if isinstance(step, Answer):
                return step
            call = step
        return call

    def on_answer(self, call: Call, given: Answer) -> Answer:
        for action in self.actions if "range" in call.headers else ():
            given = action.on_answer(call, given)
        return given


def part(text: str | None, *more: Action, add: bool = False) -> Action:
    return ToParts((Header("Content-Range", text, add), *more))


SIZE = len(DATA)
LIARS: dict[str, Action] = {
    "a part that begins too early": part(f"bytes 4999-{SIZE - 1}/{SIZE}"),
    "a part that begins too late": part(f"bytes 5001-{SIZE - 1}/{SIZE}"),
    "a part that ends too early": part(f"bytes 5000-{SIZE - 2}/{SIZE}", Truncate(1)),
    "a part of something longer": part(f"bytes 5000-{SIZE - 1}/{SIZE + 1}"),
    "a part of nothing": part(None),
    "two parts": part(f"bytes 5000-{SIZE - 1}/{SIZE}", add=True),
    "another unit": part(f"lines 5000-{SIZE - 1}/{SIZE}"),
    "digits that are none": part(f"bytes 5_000-{SIZE - 1}/{SIZE}"),
    "more bytes than it says": ToParts((Header("Content-Length", str(SIZE - 4999)),)),
    "416": ToParts((Status(416),)),
    "416 and a size": ToParts((Status(416, (("Content-Range", f"bytes */{SIZE}"),)),)),
}


@pytest.mark.parametrize("lie", LIARS)
def test_a_lie_about_a_part_is_answered_by_asking_for_all(registry: EmbeddedRegistry, lie: str) -> None:
    registry.fault(Fault(path="/blobs/", times=None, action=LIARS[lie]))
    assert download(registry, 5000, 5000) == [(0, DATA), (0, DATA)]
    assert asked(registry) == ["bytes=5000-", None, None]


def test_who_knows_no_ranges_sends_all_and_is_asked_for_no_part_again(registry: EmbeddedRegistry) -> None:
    registry.fault(Fault(path="/blobs/", times=None, action=RequestHeader("Range")))
    assert download(registry, 5000, 6000) == [(0, DATA), (0, DATA)]
    assert asked(registry) == ["bytes=5000-", None]


def test_a_size_that_nobody_knows_is_no_lie(registry: EmbeddedRegistry) -> None:
    registry.fault(Fault(path="/blobs/", action=part(f"bytes 5000-{SIZE - 1}/*")))
    assert download(registry, 5000) == [(5000, DATA[5000:])]


def test_a_part_without_a_length_is_no_lie(registry: EmbeddedRegistry) -> None:
    registry.fault(Fault(path="/blobs/", action=Chunked()))
    assert download(registry, 5000) == [(5000, DATA[5000:])]


def test_all_of_another_size_is_refused_before_it_is_read(registry: EmbeddedRegistry) -> None:
    registry.fault(Fault(path="/blobs/", times=None, action=(RequestHeader("Range"), Truncate(1))))
    with pytest.raises(SizeMismatch):
        download(registry, 5000)


@pytest.mark.parametrize("start", [0, 5000])
def test_a_cut_is_transient(registry: EmbeddedRegistry, start: int) -> None:
    registry.fault(Fault(path="/blobs/", action=Cut(after=100)))
    with pytest.raises(TransferError, match="cut") as caught:
        download(registry, start)
    assert caught.value.transient


def test_every_attempt_begins_at_the_registry(registry: EmbeddedRegistry) -> None:
    registry.fault(Fault(path="/v2/a/blobs/", times=1, action=Redirect(f"/v2/a/blobs/{NODE.digest}?signature=1")))
    registry.fault(Fault(path="signature=1", times=None, skip=1, action=Status(403)))
    assert download(registry, 0, 5000) == [(0, DATA), (5000, DATA[5000:])]
    assert [seen.target for seen in registry.requests][2] == f"/v2/a/blobs/{NODE.digest}"


# Several connections


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments of a size that a test can afford, from the first look on."""
    monkeypatch.setattr("mirror.registry.blobs.parallel.SEGMENT", 500)
    monkeypatch.setattr("mirror.registry.blobs.segment.SEGMENT", 500)
    monkeypatch.setattr("mirror.registry.blobs.parallel._MIN_REMAINING", 1000)
    monkeypatch.setattr("mirror.registry.blobs.parallel._MIN_INTERVAL", 0.0)


def slowly(registry: EmbeddedRegistry, *more: Action, times: int | None = None, path: str = "/blobs/") -> None:
    registry.fault(Fault(path=path, times=times, action=(*more, Slow(rate=20_000))))


@pytest.mark.slow
@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("start", [0, 1, 4999, 9500])
@pytest.mark.parametrize("connections", every([5, None, 1, 2, 20]))
def test_several_connections_bring_the_same_bytes(
    registry: EmbeddedRegistry, start: int, connections: int | None
) -> None:
    slowly(registry)
    assert download(registry, start, connections=connections) == [(start, DATA[start:])]


@pytest.mark.slow
@pytest.mark.usefixtures("tiny")
def test_several_connections_are_several_requests(registry: EmbeddedRegistry) -> None:
    slowly(registry)
    download(registry, 0, connections=4)
    assert len(asked(registry)) > 5
    assert sum(seen.sent for seen in registry.requests) < 1.5 * SIZE


@pytest.mark.slow
@pytest.mark.usefixtures("tiny")
def test_one_connection_is_one_request(registry: EmbeddedRegistry) -> None:
    slowly(registry)
    download(registry, 0, connections=1)
    assert asked(registry) == [None]


@pytest.mark.slow
@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("lie", every([RequestHeader("Range"), *LIARS.values()]))
def test_who_lies_about_parts_is_read_to_its_end(registry: EmbeddedRegistry, lie: Action) -> None:
    registry.fault(Fault(path="/blobs/", times=1, action=Slow(rate=20_000)))
    registry.fault(Fault(path="/blobs/", times=None, skip=1, action=lie))
    assert download(registry, 0, 5000, connections=4) == [(0, DATA), (0, DATA)]


@pytest.mark.slow
@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("refusal", [Status(429), Status(503), Cut(after=None)])
def test_a_registry_that_has_no_more_to_give_gives_one_stream(registry: EmbeddedRegistry, refusal: Action) -> None:
    registry.fault(Fault(path="/blobs/", times=1, action=Slow(rate=20_000)))
    registry.fault(Fault(path="/blobs/", times=None, skip=1, action=refusal))
    assert download(registry, 0, connections=4) == [(0, DATA)]


@pytest.mark.slow
@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("fault", [Cut(after=100), Status(503), Status(403), Truncate(1), RequestHeader("Range")])
def test_a_segment_that_fails_is_a_cut(registry: EmbeddedRegistry, fault: Action) -> None:
    slowly(registry)
    registry.fault(Fault(path="/blobs/", times=1, skip=6, action=fault))
    with pytest.raises(TransferError) as caught:
        download(registry, 0, connections=3)
    assert caught.value.transient


@pytest.mark.slow
@pytest.mark.usefixtures("tiny")
def test_segments_save_the_redirect(registry: EmbeddedRegistry) -> None:
    registry.fault(Fault(path=f"{NODE.digest}$", action=Redirect(f"/v2/a/blobs/{NODE.digest}?signature=1")))
    slowly(registry)
    download(registry, 0, connections=4)
    targets = [seen.target for seen in registry.requests if "/blobs/" in seen.path]
    assert [target for target in targets if "signature" not in target] == [f"/v2/a/blobs/{NODE.digest}"]


@pytest.mark.slow
@pytest.mark.usefixtures("tiny")
def test_a_reader_that_stops_stops_all_connections(registry: EmbeddedRegistry) -> None:
    async def main() -> int:
        async with Client(RegistryOptions(connections_per_blob=4)) as client:
            known = client.registry(registry.host)
            for _ in range(5):  # a budget that leaked would be used up
                async with Repository(known, "a").open_blob(NODE) as body:
                    taken = 0
                    async for chunk in body.chunks:
                        taken += len(chunk)
                        if taken > 2000:
                            break
            return len(asyncio.all_tasks())

    slowly(registry)
    assert asyncio.run(main()) == 1


# How many connections


def connections_over_time(
    monkeypatch: pytest.MonkeyPatch, rate: Callable[[int], float], left: int = 10**9
) -> list[int]:
    """What a blob comes to have over time, where `rate` is what so many connections bring: bytes per second."""
    clock, received, found = 0.0, 0, []
    monkeypatch.setattr("mirror.registry.blobs.parallel.monotonic", lambda: clock)
    scaler = ConnectionScaler(None)
    for _ in range(200):
        clock += 0.1
        received += int(rate(scaler.connections) * 0.1)
        scaler.measure(received, left)
        found.append(scaler.connections)
    return [count for count, _ in groupby(found)]


def test_connections_grow_as_long_as_they_help(monkeypatch: pytest.MonkeyPatch) -> None:
    assert connections_over_time(monkeypatch, lambda count: count * 10e6) == [1, 3, 8]


def test_a_link_that_is_full_gets_no_more_than_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    assert connections_over_time(monkeypatch, lambda count: min(count, 3) * 10e6)[-1] == 3
    assert connections_over_time(monkeypatch, lambda count: 10e6)[-1] == 1


def test_a_link_that_is_fast_stays_with_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert connections_over_time(monkeypatch, lambda count: 500e6) == [1]


def test_what_is_almost_here_is_not_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    assert connections_over_time(monkeypatch, lambda count: count * 1e6, left=1_000_000) == [1]


# Content-Range


@QUICK
@given(text=nasty_text | st.from_regex(r"bytes [0-9]{1,3}-[0-9]{1,3}/[0-9*]{1,3}", fullmatch=True))
@example(text="bytes 10-99/100\n")
@example(text="bytes 10-99/+100")
@example(text="bytes 10-99/٣")
@example(text="bytes 10-99/" + "9" * 5000)
def test_only_one_content_range_is_the_right_one(text: str) -> None:
    response = answer(206, Content_Range=text)
    assert ranges.matches(response, 10, 99, 100) == (text in ("bytes 10-99/100", "bytes 10-99/*"))
