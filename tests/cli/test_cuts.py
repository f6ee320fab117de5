"""The exhaustive cut: every request of a pull fails in every way, and nothing wrong is ever stored, said or needed.

A small image for two platforms is pulled in one process, one request after the other. Each test takes one way to fail
and strikes each request of the pull with it. The first run may fail, in one sentence; the second finishes; the layout
is then, byte for byte, that of a pull to which nothing happened.
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

SHARED = images.layer(1, 2000)
IMAGE = images.index(
    [
        images.image("linux/amd64", SHARED, images.layer(2, 300)),
        images.image("linux/arm64", SHARED, images.layer(3, 400)),
    ]
)
HTML = b"<html><head><title>\x1b[31mBad gateway</title></head><body>nginx/1.22.1</body></html>"


@dataclass(frozen=True)
class Ended:
    """How a run ended, and what it said on stderr."""

    code: int
    err: str


Run = Callable[..., Ended]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """The command in this process: a hundred pulls in the time of five."""
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
    """What a pull asks for, one after the other."""
    registry.clear_log()
    assert run(*pull(registry, "clean")).code == 0
    found = registry.requests
    assert len(found) >= 8  # an index, two manifests, two configs, three layers
    yield found
    registry.clear_faults()


def pull(registry: EmbeddedRegistry, folder: str, *more: object) -> list[object]:
    return ["pull", f"{registry.host}/team/app:v1", "--all", "--no-referrers", "-j", 1, "-o", folder, *more]


def positions(size: int) -> list[int]:
    """Before the first byte, after it, before the last one, after it."""
    return sorted({0, min(1, size), max(size - 1, 0), size})


def strike(registry: EmbeddedRegistry, request: Seen, action: Action | tuple[Action, ...]) -> None:
    """Let exactly this request fail, once."""
    registry.clear_faults()
    registry.fault(Fault(method=request.method, path=f"{request.path}$", times=1, action=action))


def assert_a_sentence(ended: Ended, registry: EmbeddedRegistry, request: Seen) -> None:
    """One sentence that names host and request, perhaps another one that helps, and nothing that a terminal obeys."""
    lines = ended.err.splitlines()
    assert 1 <= len(lines) <= 2, ended.err
    assert lines[0].startswith("error: ")
    assert lines[0].endswith((".", '."'))
    assert registry.host in lines[0]
    assert request.path.rpartition("/")[2] in lines[0] or "/v2/" in request.path, ended.err
    assert ended.err.replace("\n", "").isprintable()
    assert "html" not in ended.err.lower()


def assert_comes_through(
    registry: EmbeddedRegistry, run: Run, request: Seen, action: Action | tuple[Action, ...], codes: set[int]
) -> None:
    """Strike one request: the first run ends with one of the codes, and what happens then is as at the top."""
    folder = Path("struck")
    shutil.rmtree(folder, ignore_errors=True)
    strike(registry, request, action)
    ended = run(*pull(registry, "struck", "--retries", 0, "--timeout", 0.3))
    assert ended.code in codes, (request, action, ended)
    if ended.code:
        assert_a_sentence(ended, registry, request)
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
def test_a_connection_cut_anywhere(
    registry: EmbeddedRegistry, requests: list[Seen], run: Run, kind: type[Cut] | type[Reset], position: int
) -> None:
    for request in every(gets(requests)):
        places = positions(request.sent)
        if position < len(places):
            whole = places[position] == request.sent
            assert_comes_through(registry, run, request, kind(after=places[position]), {0, 1} if whole else {1})


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Cut, Reset])
def test_a_connection_cut_before_any_answer(
    registry: EmbeddedRegistry, requests: list[Seen], run: Run, kind: type[Cut] | type[Reset]
) -> None:
    for request in every(requests):
        assert_comes_through(registry, run, request, kind(after=None), {0, 1})


@pytest.mark.slow
@pytest.mark.parametrize("position", [None, *range(3)])
def test_silence_anywhere(registry: EmbeddedRegistry, requests: list[Seen], run: Run, position: int | None) -> None:
    for request in every(gets(requests)):
        after = None if position is None else positions(request.sent)[min(position, len(positions(request.sent)) - 2)]
        assert_comes_through(registry, run, request, Stall(after=after), {1})


@pytest.mark.slow
@pytest.mark.parametrize("change", [-1, 1, 1000, 2**62])
def test_a_wrong_content_length(registry: EmbeddedRegistry, requests: list[Seen], run: Run, change: int) -> None:
    for request in every(gets(requests)):
        if request.sent:
            length = Header("Content-Length", str(request.sent + change))
            assert_comes_through(registry, run, request, length, {1, 3})


@pytest.mark.slow
@pytest.mark.parametrize("action", [Header("Content-Length", None), Chunked()])
def test_a_missing_content_length_is_fine(
    registry: EmbeddedRegistry, requests: list[Seen], run: Run, action: Action
) -> None:
    for request in every(gets(requests)):
        assert_comes_through(registry, run, request, action, {0})


@pytest.mark.slow
def test_a_doubled_content_length(registry: EmbeddedRegistry, requests: list[Seen], run: Run) -> None:
    """Two that differ are how a request is smuggled (RFC 9112, 6.3); two that agree may be refused or not."""
    for request in every(gets(requests)):
        for length in (request.sent, request.sent + 1):
            doubled = Header("Content-Length", str(length), add=True)
            assert_comes_through(registry, run, request, doubled, {1, 3} if length > request.sent else {0, 1})


@pytest.mark.slow
@pytest.mark.parametrize("place", ["first", "middle", "last"])
def test_a_flipped_bit(registry: EmbeddedRegistry, requests: list[Seen], run: Run, place: str) -> None:
    for request in every(gets(requests)):
        if request.sent:
            at = {"first": 0, "middle": request.sent // 2, "last": -1}[place]
            named = request.path.rpartition("/")[2] != "v1"  # by its tag, a manifest may be any; it has to be one
            codes = {3} if named else {0, 1, 2, 3}
            if named:
                assert_comes_through(registry, run, request, Flip(at), codes)


@pytest.mark.slow
@pytest.mark.parametrize("code", [408, 429, 500, 502, 503, 504])
def test_what_passes_is_an_error_in_words_and_then_well(
    registry: EmbeddedRegistry, requests: list[Seen], run: Run, code: int
) -> None:
    for request in every(gets(requests)):
        page = Status(code, body=HTML, content_type="text/html")
        codes = {0, 1} if request.path in ("/v2/", "/v2") else {1}
        assert_comes_through(registry, run, request, page, codes)


@pytest.mark.slow
@pytest.mark.parametrize("code", [429, 500, 502, 503, 504])
def test_what_passes_is_not_even_noticed_where_it_may_be_tried_again(
    registry: EmbeddedRegistry, requests: list[Seen], run: Run, code: int
) -> None:
    for request in every(requests):
        shutil.rmtree("struck", ignore_errors=True)
        strike(registry, request, Status(code, (("Retry-After", "0"),), HTML, "text/html"))
        assert run(*pull(registry, "struck")).code == 0
        assert tree(Path("struck")) == tree(Path("clean"))


@pytest.mark.slow
@pytest.mark.parametrize("code", [400, 401, 403, 404, 405, 410, 418, 451, 501])
def test_what_does_not_pass_is_an_error_in_words(
    registry: EmbeddedRegistry, requests: list[Seen], run: Run, code: int
) -> None:
    for request in every(gets(requests)):
        page = Status(code, body=HTML, content_type="text/html")
        codes = {0, 1, 2} if request.path in ("/v2/", "/v2") or "/manifests/" in request.path else {1}
        assert_comes_through(registry, run, request, page, codes)


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
def test_a_lie_about_the_rest_after_a_cut(
    registry: EmbeddedRegistry, requests: list[Seen], run: Run, lie: Action
) -> None:
    shutil.rmtree("struck", ignore_errors=True)
    registry.clear_faults()
    registry.fault(Fault(path=SHARED.digest, times=1, action=Cut(after=1000)))
    registry.fault(Fault(path=SHARED.digest, times=1, skip=1, action=lie))
    assert run(*pull(registry, "struck")).code == 0
    assert tree(Path("struck")) == tree(Path("clean"))
