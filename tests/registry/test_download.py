"""Tests of downloads: range requests, responses that do not match them, and several connections for one blob."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mirror.content.extents import Extents
from mirror.content.ranged import RangedCopy
from mirror.content.stream import Verifier
from mirror.errors import SizeMismatch, TransferError
from mirror.oci.descriptor import Descriptor
from mirror.oci.digest import Digest
from mirror.registry import Client, RegistryOptions, Repository
from mirror.registry.blobs import ranges
from mirror.registry.blobs.parallel import ConnectionScaler
from mirror.registry.transport.rate_limit import RateLimit
from tests.content.test_ranged import MemoryFile, tiny_regions
from tests.registry.test_errors import answer
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
)
from tests.support.registry.messages import Answer, Call
from tests.support.strategies import QUICK, nasty_text

DATA = random.Random(3).randbytes(10_000)
NODE = Descriptor("a/b", Digest.of(DATA), len(DATA))

pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture
def registry(registry: EmbeddedRegistry) -> EmbeddedRegistry:
    """A registry that holds one blob."""
    registry.put_blob("a", DATA)
    return registry


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Repeat a request for a range without a pause."""
    monkeypatch.setattr("mirror.registry.blobs.download._PAUSE", 0)


def download(registry: EmbeddedRegistry, *starts: int, connections: int | None = None) -> list[tuple[int, bytes]]:
    """Open the blob once for each start; return the start and the content of each body."""

    async def read(repository: Repository, start: int) -> tuple[int, bytes]:
        async with repository.open_blob(NODE, start) as body:
            return body.start, b"".join([chunk async for chunk in body.chunks])

    async def main() -> list[tuple[int, bytes]]:
        found = []
        async with Client(RegistryOptions(connections_per_blob=connections)) as client:
            repository = Repository(client.registry(registry.host), "a")
            for start in starts:
                found.append(await read(repository, start))
        return found

    return asyncio.run(main())


def requested_ranges(registry: EmbeddedRegistry) -> list[str | None]:
    """Return the Range header of every request for the blob."""
    return [seen.headers.get("range") for seen in registry.requests if "/blobs/" in seen.path]


@pytest.mark.parametrize("start", [1, 5000, len(DATA) - 1])
def test_download_starts_at_the_requested_offset(registry: EmbeddedRegistry, start: int) -> None:
    assert download(registry, start) == [(start, DATA[start:])]
    assert requested_ranges(registry) == [f"bytes={start}-"]


def test_download_from_the_beginning_sends_no_range(registry: EmbeddedRegistry) -> None:
    assert download(registry, 0) == [(0, DATA)]
    assert requested_ranges(registry) == [None]


@dataclass(frozen=True)
class OnRangeRequests(Action):
    """Applies actions to requests with a Range header only."""

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


def content_range(text: str | None, *more: Action, add: bool = False) -> Action:
    return OnRangeRequests((Header("Content-Range", text, add), *more))


SIZE = len(DATA)
LIARS: dict[str, Action] = {
    "a part that begins too early": content_range(f"bytes 4999-{SIZE - 1}/{SIZE}"),
    "a part that begins too late": content_range(f"bytes 5001-{SIZE - 1}/{SIZE}"),
    "a part that ends too early": content_range(f"bytes 5000-{SIZE - 2}/{SIZE}", Truncate(1)),
    "a part of a larger blob": content_range(f"bytes 5000-{SIZE - 1}/{SIZE + 1}"),
    "no Content-Range": content_range(None),
    "two Content-Range headers": content_range(f"bytes 5000-{SIZE - 1}/{SIZE}", add=True),
    "another unit": content_range(f"lines 5000-{SIZE - 1}/{SIZE}"),
    "a number with an underscore": content_range(f"bytes 5_000-{SIZE - 1}/{SIZE}"),
    "a Content-Length that does not match": OnRangeRequests((Header("Content-Length", str(SIZE - 4999)),)),
    "400": OnRangeRequests((Status(400),)),
    "403": OnRangeRequests((Status(403),)),
    "404": OnRangeRequests((Status(404),)),
    "405": OnRangeRequests((Status(405),)),
    "501": OnRangeRequests((Status(501),)),
    "416": OnRangeRequests((Status(416),)),
    "416 with a size": OnRangeRequests((Status(416, (("Content-Range", f"bytes */{SIZE}"),)),)),
}


@pytest.mark.parametrize("lie", LIARS)
def test_wrong_range_response_is_followed_by_requests_without_range(registry: EmbeddedRegistry, lie: str) -> None:
    registry.fault(Fault(path="/blobs/", times=None, action=LIARS[lie]))
    assert download(registry, 5000, 5000) == [(0, DATA), (0, DATA)]
    assert requested_ranges(registry) == ["bytes=5000-", None, None]


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_busy_server_is_asked_for_a_range_again(registry: EmbeddedRegistry, status: int) -> None:
    """The part that has arrived before is not lost."""
    for skip in (0, 2):
        registry.fault(Fault(path="/blobs/", times=1, skip=skip, action=Status(status)))
    assert download(registry, 5000, 5000) == [(5000, DATA[5000:])] * 2
    assert requested_ranges(registry) == ["bytes=5000-"] * 4


@pytest.mark.usefixtures("at_once")
def test_server_that_fails_for_ranges_only_is_asked_for_the_whole(registry: EmbeddedRegistry) -> None:
    registry.fault(Fault(path="/blobs/", times=None, action=OnRangeRequests((Status(503),))))
    assert download(registry, 5000) == [(0, DATA)]
    assert requested_ranges(registry) == ["bytes=5000-", "bytes=5000-", None]


def test_error_of_the_request_without_range_decides(registry: EmbeddedRegistry) -> None:
    registry.fault(Fault(path="/blobs/", times=None, action=Status(404)))
    with pytest.raises(TransferError, match="404"):
        download(registry, 5000)
    assert requested_ranges(registry) == ["bytes=5000-", None]


def test_server_without_ranges_gets_no_second_range_request(registry: EmbeddedRegistry) -> None:
    registry.fault(Fault(path="/blobs/", times=None, action=RequestHeader("Range")))
    assert download(registry, 5000, 6000) == [(0, DATA), (0, DATA)]
    assert requested_ranges(registry) == ["bytes=5000-", None]


def test_content_range_with_unknown_size_is_accepted(registry: EmbeddedRegistry) -> None:
    registry.fault(Fault(path="/blobs/", action=content_range(f"bytes 5000-{SIZE - 1}/*")))
    assert download(registry, 5000) == [(5000, DATA[5000:])]


def test_chunked_range_response_is_accepted(registry: EmbeddedRegistry) -> None:
    registry.fault(Fault(path="/blobs/", action=Chunked()))
    assert download(registry, 5000) == [(5000, DATA[5000:])]


def test_whole_blob_of_another_size_is_refused(registry: EmbeddedRegistry) -> None:
    registry.fault(Fault(path="/blobs/", times=None, action=(RequestHeader("Range"), Truncate(1))))
    with pytest.raises(SizeMismatch):
        download(registry, 5000)


@pytest.mark.parametrize("start", [0, 5000])
def test_cut_connection_is_a_transient_error(registry: EmbeddedRegistry, start: int) -> None:
    registry.fault(Fault(path="/blobs/", action=Cut(after=100)))
    with pytest.raises(TransferError, match="cut") as caught:
        download(registry, start)
    assert caught.value.transient


def test_redirect_target_is_not_reused_for_the_next_download(registry: EmbeddedRegistry) -> None:
    registry.fault(Fault(path="/v2/a/blobs/", times=1, action=Redirect(f"/v2/a/blobs/{NODE.digest}?signature=1")))
    registry.fault(Fault(path="signature=1", times=None, skip=1, action=Status(403)))
    assert download(registry, 0, 5000) == [(0, DATA), (5000, DATA[5000:])]
    assert [seen.target for seen in registry.requests][2] == f"/v2/a/blobs/{NODE.digest}"


@pytest.mark.slow
def test_limited_download_reads_little_ahead(registry: EmbeddedRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection on which nothing is read until much has been used up would be silent for long."""
    monkeypatch.setattr("mirror.registry.transport.route.SMALLEST", 2**63)
    data = bytes(3_000_000)
    registry.put_blob("a", data)
    node = Descriptor("a/b", Digest.of(data), len(data))

    async def largest(limit: int | None) -> int:
        sizes: list[int] = []
        options = RegistryOptions(limit_rate=limit, jobs=40, connections_per_blob=1)
        async with Client(options) as client, Repository(client.registry(registry.host), "a").open_blob(node) as body:
            async for chunk in body.chunks:
                sizes.append(len(chunk))
                await asyncio.sleep(0.05)  # in which the next bytes arrive, at least once on a slow machine
        return max(sizes)

    received = 256 * 1024  # bytes that asyncio receives at once
    assert asyncio.run(largest(2_000_000)) <= received + 2 * RateLimit(2_000_000).piece(40)
    assert asyncio.run(largest(None)) > 2 * received


# Several connections


@pytest.fixture(params=["loop", "threads"])
def tiny(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Use small regions, and add connections at the first measurement; over both kinds of connections."""
    monkeypatch.setattr("mirror.registry.transport.route.SMALLEST", 1 if request.param == "threads" else 1_000_000)
    monkeypatch.setattr("mirror.registry.blobs.download.MIN_REMAINING", 1000)
    monkeypatch.setattr("mirror.registry.blobs.parallel.MIN_REMAINING", 1000)
    monkeypatch.setattr("mirror.registry.blobs.parallel._MIN_INTERVAL", 0.0)
    monkeypatch.setattr("mirror.registry.blobs.parallel._MEASURED", 500)
    tiny_regions(monkeypatch)


def receive(registry: EmbeddedRegistry, start: int = 0, connections: int | None = None) -> bytes:
    """Receive the blob from an offset on, over several connections."""

    async def main() -> bytes:
        async with Client(RegistryOptions(connections_per_blob=connections)) as client:
            return await receive_with(client)

    async def receive_with(client: Client) -> bytes:
        file, check = MemoryFile(DATA[:start]), Verifier(NODE)
        check.update([DATA[:start]])
        async with Repository(client.registry(registry.host), "a").open_blob(NODE, start) as body:
            assert body.ranges
            held = Extents([(0, start)])
            await RangedCopy(body, body.ranges, NODE, file, check, held, None, recorded=False).run()
        assert client.registry(registry.host).limits.connections._value == 10
        return bytes(file.data)

    return asyncio.run(main())


def slow_down(registry: EmbeddedRegistry, *more: Action, times: int | None = None, path: str = "/blobs/") -> None:
    registry.fault(Fault(path=path, times=times, action=(*more, Slow(rate=20_000))))


def slow_down_first(registry: EmbeddedRegistry) -> None:
    """Let the first response take seconds, so that ranges are requested even if this process stands still."""
    slow_down(registry)
    registry.fault(Fault(path="/blobs/", times=1, action=Slow(rate=2_000)))


@pytest.mark.slow
@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("start", [0, 1, 4999, 9500])
@pytest.mark.parametrize("connections", [5, None, 1, 2, 20])
def test_several_connections_receive_the_same_bytes(
    registry: EmbeddedRegistry, start: int, connections: int | None
) -> None:
    slow_down(registry)
    assert receive(registry, start, connections) == DATA


@pytest.mark.slow
@pytest.mark.usefixtures("tiny")
def test_several_connections_make_several_requests(registry: EmbeddedRegistry) -> None:
    slow_down_first(registry)
    receive(registry, connections=4)
    assert len(requested_ranges(registry)) > 5
    assert sum(seen.sent for seen in registry.requests) < 1.5 * SIZE


@pytest.mark.slow
@pytest.mark.usefixtures("tiny")
def test_one_connection_makes_one_request(registry: EmbeddedRegistry) -> None:
    slow_down(registry)
    receive(registry, connections=1)
    assert requested_ranges(registry) == [None]


@pytest.mark.slow
@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("lie", [RequestHeader("Range"), *LIARS.values()])
def test_first_response_is_read_to_its_end_if_ranges_do_not_work(registry: EmbeddedRegistry, lie: Action) -> None:
    registry.fault(Fault(path="/blobs/", times=1, action=Slow(rate=20_000)))
    registry.fault(Fault(path="/blobs/", times=None, skip=1, action=lie))
    assert receive(registry, connections=4) == DATA


@pytest.mark.slow
@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("lie", [RequestHeader("Range"), LIARS["416"], LIARS["a part that begins too late"]])
def test_registry_that_refuses_the_first_range_gets_no_more_range_requests(
    registry: EmbeddedRegistry, lie: Action
) -> None:
    registry.fault(Fault(path="/blobs/", times=1, action=Slow(rate=20_000)))
    registry.fault(Fault(path="/blobs/", times=None, skip=1, action=lie))
    assert receive(registry, connections=2) == DATA
    assert len(requested_ranges(registry)) == 2


@pytest.mark.slow
@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("refusal", [Status(429), Status(503), Cut(after=None)])
def test_download_uses_one_connection_if_the_registry_refuses_more(registry: EmbeddedRegistry, refusal: Action) -> None:
    registry.fault(Fault(path="/blobs/", times=1, action=Slow(rate=20_000)))
    registry.fault(Fault(path="/blobs/", times=None, skip=1, action=refusal))
    assert receive(registry, connections=4) == DATA


@pytest.mark.slow
@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(
    "fault", [Cut(after=100), Cut(after=None), Status(503), Status(403), Truncate(1), RequestHeader("Range")]
)
def test_region_of_a_connection_that_fails_is_received_by_another(registry: EmbeddedRegistry, fault: Action) -> None:
    slow_down_first(registry)
    registry.fault(Fault(path="/blobs/", times=1, skip=3, action=fault))
    assert receive(registry, connections=3) == DATA
    assert registry.count("GET", "/blobs/") > 4


@pytest.mark.slow
@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("fault", [Cut(after=50), Status(503), Status(403), RequestHeader("Range")])
def test_download_without_any_connection_left_is_a_transient_error(registry: EmbeddedRegistry, fault: Action) -> None:
    slow_down_first(registry)
    registry.fault(Fault(path="/blobs/", times=None, skip=3, action=fault))
    with pytest.raises(TransferError) as caught:
        receive(registry, connections=3)
    assert caught.value.transient


@pytest.mark.slow
@pytest.mark.usefixtures("tiny")
def test_ranges_are_requested_from_the_redirect_target(registry: EmbeddedRegistry) -> None:
    registry.fault(Fault(path=f"{NODE.digest}$", action=Redirect(f"/v2/a/blobs/{NODE.digest}?signature=1")))
    slow_down(registry)
    receive(registry, connections=4)
    targets = [seen.target for seen in registry.requests if "/blobs/" in seen.path]
    assert [target for target in targets if "signature" not in target] == [f"/v2/a/blobs/{NODE.digest}"]


@pytest.mark.slow
@pytest.mark.usefixtures("tiny")
def test_ranges_are_requested_from_the_registry_when_a_signature_has_expired(registry: EmbeddedRegistry) -> None:
    registry.fault(Fault(path=f"{NODE.digest}$", times=1, action=Redirect(f"/v2/a/blobs/{NODE.digest}?signature=1")))
    slow_down_first(registry)
    registry.fault(Fault(path="signature=1", times=None, skip=3, action=Status(403)))
    assert receive(registry, connections=3) == DATA
    assert registry.requests[-1].target == f"/v2/a/blobs/{NODE.digest}"


@pytest.mark.slow
@pytest.mark.usefixtures("tiny")
def test_all_connections_stop_when_the_receiver_is_cancelled(registry: EmbeddedRegistry) -> None:
    async def main() -> int:
        async with Client(RegistryOptions(connections_per_blob=4)) as client:
            known = client.registry(registry.host)
            for _ in range(5):  # a budget of connections that is not returned would be used up
                async with Repository(known, "a").open_blob(NODE) as body:
                    assert body.ranges
                    file = MemoryFile()
                    copy = RangedCopy(body, body.ranges, NODE, file, Verifier(NODE), Extents(), None, recorded=False)
                    running = asyncio.create_task(copy.run())
                    while len(file.data) < 2000:
                        await asyncio.sleep(0.01)
                    running.cancel()
                    with pytest.raises(asyncio.CancelledError):
                        await running
            return len(asyncio.all_tasks())

    slow_down(registry)
    assert asyncio.run(main()) == 1


# How many connections


def connections_over_time(
    monkeypatch: pytest.MonkeyPatch, rate: Callable[[int], float], left: int = 10**9
) -> list[int]:
    """Return the changing number of connections; `rate` gives the bytes per second of so many connections."""
    clock, received, found = 0.0, 0, []
    monkeypatch.setattr("mirror.registry.blobs.parallel.monotonic", lambda: clock)
    scaler = ConnectionScaler(None)
    for _ in range(200):
        clock += 0.1
        received += int(rate(scaler.connections) * 0.1)
        scaler.measure(received, left)
        found.append(scaler.connections)
    return [count for count, _ in groupby(found)]


def test_connections_are_added_while_they_increase_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    assert connections_over_time(monkeypatch, lambda count: count * 10e6) == [1, 3, 8]


def test_full_link_gets_no_more_connections_than_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    assert connections_over_time(monkeypatch, lambda count: min(count, 3) * 10e6)[-1] == 3
    assert connections_over_time(monkeypatch, lambda count: 10e6)[-1] == 1


def test_silence_does_not_count_as_a_slow_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes arrive together at 1 MB/s, the first ones late: any number of connections is as fast."""
    clock, received, scaler, found = 0.0, 0, ConnectionScaler(None), set[int]()
    monkeypatch.setattr("mirror.registry.blobs.parallel.monotonic", lambda: clock)
    for tick in range(400):
        clock += 0.05
        received += 250_000 if tick > 20 and tick % 5 == 0 else 0
        scaler.measure(received, 10**9)
        found.add(scaler.connections)
    assert found == {1, 3}
    assert scaler.connections == 1


def test_nothing_is_measured_while_a_connection_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, scaler, opening = 0.0, ConnectionScaler(None), range(6, 60)
    monkeypatch.setattr("mirror.registry.blobs.parallel.monotonic", lambda: clock)
    received, found = 0, list[int]()
    for tick in range(100):
        clock += 0.1
        received += 1_000_000 if tick in opening else scaler.connections * 1_000_000
        scaler.measure(received, 10**9, steady=tick not in opening)
        found.append(scaler.connections)
    assert found[5] == found[59] == 3
    assert found[-1] == 8


def test_fast_link_keeps_one_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    assert connections_over_time(monkeypatch, lambda count: 500e6) == [1]


def test_download_that_is_almost_complete_keeps_one_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    assert connections_over_time(monkeypatch, lambda count: count * 1e6, left=1_000_000) == [1]


# Content-Range


@QUICK
@given(text=nasty_text | st.from_regex(r"bytes [0-9]{1,3}-[0-9]{1,3}/[0-9*]{1,3}", fullmatch=True))
@example(text="bytes 10-99/100\n")
@example(text="bytes 10-99/+100")
@example(text="bytes 10-99/٣")
@example(text="bytes 10-99/" + "9" * 5000)
def test_only_the_requested_content_range_matches(text: str) -> None:
    response = answer(206, Content_Range=text)
    assert ranges.matches(response, 10, 99, 100) == (text in ("bytes 10-99/100", "bytes 10-99/*"))
