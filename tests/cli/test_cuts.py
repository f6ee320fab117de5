"""Tests of pulls in which each request fails in turn, in every way.

A small image for two platforms is pulled in one process, one request after the other. Each test applies one kind of
fault to each request of the pull. The first run may fail with one error message; the second succeeds. Then the layout
is identical to that of a pull without faults.
"""

import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mirror.cli import _run
from tests.support import images
from tests.support.command import lacking, leftovers, tree, wrong_blobs
from tests.support.profiles import every
from tests.support.registry import (
    Action,
    Chunked,
    Cut,
    EmbeddedRegistry,
    Fault,
    Flip,
    Header,
    Reset,
    Seen,
    Stall,
    Status,
    serving,
)

pytestmark = pytest.mark.usefixtures("each_exchange")

SHARED = images.layer(1, 2000)
IMAGE = images.index(
    [
        images.image("linux/amd64", SHARED, images.layer(2, 300)),
        images.image("linux/arm64", SHARED, images.layer(3, 400)),
    ]
)
INVALID = {0, 1, 3}  # a request whose response is invalid may be repeated on a new connection, which has no fault
HTML = b"<html><head><title>\x1b[31mBad gateway</title></head><body>nginx/1.22.1</body></html>"


@dataclass(frozen=True)
class Ended:
    """The exit code and the stderr of a run."""

    code: int
    err: str


Run = Callable[..., Ended]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Return a function that runs the command in this process, which is 20 times faster."""
    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR", "DOCKER_CONFIG"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.delenv("REGISTRY_AUTH_FILE", raising=False)
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["mirror", *map(str, arguments)])
        code = _run()
        return Ended(code, capsys.readouterr().err)

    return call


@pytest.fixture(scope="module")
def registry() -> Iterator[EmbeddedRegistry]:
    with serving(EmbeddedRegistry()) as running:
        IMAGE.publish(running, "team/app", "v1")
        yield running


@pytest.fixture
def requests(registry: EmbeddedRegistry, run: Run, tmp_path: Path) -> Iterator[list[Seen]]:
    """Return the requests of a pull in their order."""
    registry.clear_log()
    assert run(*pull(registry, "clean")).code == 0
    found = registry.requests
    assert len(found) >= 8  # an index, two manifests, two configs, three layers
    yield found
    registry.clear_faults()


def pull(registry: EmbeddedRegistry, folder: str, *more: object) -> list[object]:
    return ["pull", f"{registry.host}/team/app:v1", "--all", "--no-referrers", "-j", 1, "-o", folder, *more]


def cut_positions(size: int) -> list[int]:
    """Return the positions before and after the first byte, and before and after the last."""
    return sorted({0, min(1, size), max(size - 1, 0), size})


def strike(registry: EmbeddedRegistry, request: Seen, action: Action | tuple[Action, ...]) -> None:
    """Apply the fault to this request, once."""
    registry.clear_faults()
    registry.fault(Fault(method=request.method, path=f"{request.path}$", times=1, action=action))


def assert_error_message(ended: Ended, registry: EmbeddedRegistry, request: Seen) -> None:
    """Assert one line that names host and request, perhaps a second line, and no control characters."""
    lines = ended.err.splitlines()
    assert 1 <= len(lines) <= 2, ended.err
    assert lines[0].startswith("error: ")
    assert lines[0].endswith((".", '."'))
    assert registry.host in lines[0]
    assert request.path.rpartition("/")[2] in lines[0] or "/v2/" in request.path, ended.err
    assert ended.err.replace("\n", "").isprintable()
    assert "html" not in ended.err.lower()


def assert_recovers(
    registry: EmbeddedRegistry,
    run: Run,
    request: Seen,
    action: Action | tuple[Action, ...],
    codes: set[int],
    *more: object,
) -> None:
    """Assert that a run with a fault and `more` options ends with one of the codes, and that the next run succeeds."""
    folder = Path("struck")
    shutil.rmtree(folder, ignore_errors=True)
    strike(registry, request, action)
    ended = run(*pull(registry, "struck", "--retries", 0, *more))
    assert ended.code in codes, (request, action, ended)
    if ended.code:
        assert_error_message(ended, registry, request)
    assert wrong_blobs(folder) == []
    assert lacking(folder) == []
    again = run(*pull(registry, "struck"))
    assert again.code == 0, (request, action, again)
    assert tree(folder) == tree(Path("clean"))
    assert leftovers(folder) == []


def gets(requests: list[Seen]) -> list[Seen]:
    return [seen for seen in requests if seen.method == "GET"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Cut, Reset])
@pytest.mark.parametrize("position", range(4))
def test_pull_recovers_from_a_connection_cut_at_any_position(
    registry: EmbeddedRegistry, requests: list[Seen], run: Run, kind: type[Cut] | type[Reset], position: int
) -> None:
    for request in every(gets(requests)):
        places = cut_positions(request.sent)
        if position < len(places):
            whole = places[position] == request.sent
            assert_recovers(registry, run, request, kind(after=places[position]), {0, 1} if whole else {1})


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Cut, Reset])
def test_pull_recovers_from_a_connection_cut_before_the_response(
    registry: EmbeddedRegistry, requests: list[Seen], run: Run, kind: type[Cut] | type[Reset]
) -> None:
    for request in every(requests):
        assert_recovers(registry, run, request, kind(after=None), {0, 1})


@pytest.mark.slow
@pytest.mark.parametrize("position", [None, *range(3)])
def test_pull_recovers_from_a_stalled_response(
    registry: EmbeddedRegistry, requests: list[Seen], run: Run, position: int | None
) -> None:
    for request in every(gets(requests)):
        after = (
            None
            if position is None
            else cut_positions(request.sent)[min(position, len(cut_positions(request.sent)) - 2)]
        )
        assert_recovers(registry, run, request, Stall(after=after), {1}, "--timeout", 0.5)


@pytest.mark.slow
@pytest.mark.parametrize("change", [-1, 1, 1000, 2**62])
def test_pull_recovers_from_a_wrong_content_length(
    registry: EmbeddedRegistry, requests: list[Seen], run: Run, change: int
) -> None:
    for request in every(gets(requests)):
        if request.sent:
            length = Header("Content-Length", str(request.sent + change))
            assert_recovers(registry, run, request, length, INVALID)


@pytest.mark.slow
@pytest.mark.parametrize("action", [Header("Content-Length", None), Chunked()])
def test_missing_content_length_is_accepted(
    registry: EmbeddedRegistry, requests: list[Seen], run: Run, action: Action
) -> None:
    for request in every(gets(requests)):
        assert_recovers(registry, run, request, action, {0})


@pytest.mark.slow
def test_pull_recovers_from_two_content_length_headers(
    registry: EmbeddedRegistry, requests: list[Seen], run: Run
) -> None:
    """Different values allow request smuggling (RFC 9112, 6.3); equal values may be accepted or refused."""
    for request in every(gets(requests)):
        for length in (request.sent, request.sent + 1):
            doubled = Header("Content-Length", str(length), add=True)
            assert_recovers(registry, run, request, doubled, INVALID if length > request.sent else {0, 1})


@pytest.mark.slow
@pytest.mark.parametrize("place", ["first", "middle", "last"])
def test_flipped_bit_fails_the_pull(registry: EmbeddedRegistry, requests: list[Seen], run: Run, place: str) -> None:
    for request in every(gets(requests)):
        if request.sent:
            at = {"first": 0, "middle": request.sent // 2, "last": -1}[place]
            named = request.path.rpartition("/")[2] != "v1"  # a tag has no digest to compare with
            codes = {3} if named else {0, 1, 2, 3}
            if named:
                assert_recovers(registry, run, request, Flip(at), codes)


@pytest.mark.slow
@pytest.mark.parametrize("code", [408, 429, 500, 502, 503, 504])
def test_transient_status_without_retries_is_an_error(
    registry: EmbeddedRegistry, requests: list[Seen], run: Run, code: int
) -> None:
    for request in every(gets(requests)):
        page = Status(code, body=HTML, content_type="text/html")
        codes = {0, 1} if request.path in ("/v2/", "/v2") else {1}
        assert_recovers(registry, run, request, page, codes)


@pytest.mark.slow
@pytest.mark.parametrize("code", [429, 500, 502, 503, 504])
def test_transient_status_is_retried(registry: EmbeddedRegistry, requests: list[Seen], run: Run, code: int) -> None:
    for request in every(requests):
        shutil.rmtree("struck", ignore_errors=True)
        strike(registry, request, Status(code, (("Retry-After", "0"),), HTML, "text/html"))
        assert run(*pull(registry, "struck")).code == 0
        assert tree(Path("struck")) == tree(Path("clean"))


@pytest.mark.slow
@pytest.mark.parametrize("code", [400, 401, 403, 404, 405, 410, 418, 451, 501])
def test_permanent_status_is_an_error(registry: EmbeddedRegistry, requests: list[Seen], run: Run, code: int) -> None:
    for request in every(gets(requests)):
        page = Status(code, body=HTML, content_type="text/html")
        codes = {0, 1, 2} if request.path in ("/v2/", "/v2") or "/manifests/" in request.path else {1}
        assert_recovers(registry, run, request, page, codes)


@pytest.mark.slow
@pytest.mark.parametrize(
    "lie",
    [
        Status(416),
        Header("Content-Range", "bytes 1001-1999/2000"),
        Header("Content-Range", "bytes 999-1998/2000"),
        Header("Content-Range", None),
        Header("Content-Range", "bytes 0-1999/2000", add=True),
    ],
)
def test_pull_succeeds_despite_a_wrong_range_response_after_a_cut(
    registry: EmbeddedRegistry, requests: list[Seen], run: Run, lie: Action
) -> None:
    shutil.rmtree("struck", ignore_errors=True)
    registry.clear_faults()
    registry.fault(Fault(path=SHARED.digest, times=1, action=Cut(after=1000)))
    registry.fault(Fault(path=SHARED.digest, times=1, skip=1, action=lie))
    assert run(*pull(registry, "struck")).code == 0
    assert tree(Path("struck")) == tree(Path("clean"))
