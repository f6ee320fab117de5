"""Tests of interrupted pulls whose range requests get any response: no response leaves a layout stuck."""

import asyncio
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import strategies as st

from mirror.content.select import PlatformSelection
from mirror.errors import MirrorError
from mirror.oci.descriptor import Platform
from mirror.retry import ONCE
from mirror.transfer.pull import PullOptions, pull_image
from tests.support import images
from tests.support.command import Mirror, assert_whole, partials
from tests.support.profiles import examples
from tests.support.registry import Action, Cut, EmbeddedRegistry, Fault
from tests.support.registry.messages import Answer, Call, answer

pytestmark = pytest.mark.usefixtures("each_exchange")

LAYER = images.layer(1, 1000)
IMAGE = images.image("linux/amd64", LAYER)
RECEIVED = 500  # bytes of the layer that the first run received
REST = LAYER.data[RECEIVED:]
RIGHT = f"bytes {RECEIVED}-{LAYER.size - 1}/{LAYER.size}"


@dataclass(frozen=True)
class OnRange(Action):
    """Sends this response to every request with a Range header, or cuts it off after so many bytes."""

    given: Answer
    cut: int | None = None

    def on_answer(self, call: Call, given: Answer) -> Answer:
        if "range" not in call.headers:
            return given
        return self.given if self.cut is None else Cut(after=self.cut).on_answer(call, self.given)


@pytest.fixture
def interrupted(mirror: Mirror, registry: EmbeddedRegistry, tmp_path: Path) -> str:
    """Interrupt a pull in the middle of the layer, and return the name of the image."""
    IMAGE.publish(registry, "a", "v1")
    name = f"{registry.host}/a:v1"
    registry.fault(Fault(path=f"/blobs/{LAYER.digest}", action=Cut(after=RECEIVED)))
    mirror("pull", name, "--platform", "linux/amd64", "--retries", "0", "-j", "1", code=1)
    assert partials(tmp_path / "layout") == {LAYER.digest: LAYER.data[:RECEIVED]}
    registry.clear_faults()
    return name


@pytest.mark.slow
@pytest.mark.parametrize("status", [301, 304, 400, 401, 403, 404, 405, 408, 410, 416, 429, 500, 501, 503])
def test_refused_range_request_is_followed_by_one_without_range(
    mirror: Mirror, registry: EmbeddedRegistry, interrupted: str, tmp_path: Path, status: int
) -> None:
    registry.fault(Fault(path="/blobs/", times=None, action=OnRange(answer(status))))
    before = len(registry.requests)
    mirror("pull", interrupted, "--platform", "linux/amd64", "--retries", "0")
    assert_whole(tmp_path / "layout")
    sent = [seen.headers.get("range") for seen in registry.requests[before:] if LAYER.digest in seen.path]
    attempts = 2 if status in (408, 429, 500, 503) else 1  # the registry may only be busy
    assert sent == [*[f"bytes={RECEIVED}-"] * attempts, None]


@pytest.mark.slow
@pytest.mark.parametrize("cut", [0, None])
def test_range_without_content_is_requested_again_as_a_whole(
    mirror: Mirror, registry: EmbeddedRegistry, interrupted: str, tmp_path: Path, cut: int | None
) -> None:
    empty = replace(answer(206, REST if cut == 0 else b"", Content_Range=RIGHT), chunked=cut is None)
    registry.fault(Fault(path="/blobs/", times=None, action=OnRange(empty.without("Content-Length"), cut)))
    mirror("pull", interrupted, "--platform", "linux/amd64", "--retries", "0")
    assert_whole(tmp_path / "layout")


@pytest.mark.slow
def test_partial_file_is_kept_if_the_registry_cannot_be_reached(
    mirror: Mirror, registry: EmbeddedRegistry, interrupted: str, tmp_path: Path
) -> None:
    registry.fault(Fault(path="/blobs/", times=None, action=Cut(after=None)))
    mirror("pull", interrupted, "--platform", "linux/amd64", "--retries", "0", code=1)
    assert partials(tmp_path / "layout") == {LAYER.digest: LAYER.data[:RECEIVED]}


_statuses = st.sampled_from([206, 206, 206, 200]) | st.integers(200, 599)
_bodies = st.one_of(
    st.sampled_from([REST, REST[:-1], REST + b"!", LAYER.data, b""]),
    st.integers(0, len(REST)).map(lambda length: REST[:length]),
    st.binary(max_size=100),
    st.binary(min_size=100, max_size=100).map(lambda bad: bad + REST[100:]),
)
_content_ranges = st.one_of(
    st.just(RIGHT),
    st.none(),
    st.from_regex(r"bytes [0-9]{1,4}-[0-9]{1,4}/([0-9]{1,4}|\*)", fullmatch=True),
    st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=20),
)
_headers = st.lists(st.sampled_from([("Content-Length", "500"), ("Location", "/"), ("Retry-After", "0")]), max_size=2)


@st.composite
def responses(draw: st.DrawFn) -> OnRange:
    """Draw a response to a range request, which may be cut off."""
    given = Answer(draw(_statuses), draw(_bodies), tuple(draw(_headers)))
    framing, text = draw(st.sampled_from(["length", "chunked", "close"])), draw(_content_ranges)
    if framing == "length":
        given = given.with_body(given.body)
    elif framing == "chunked":
        given = replace(given.without("Content-Length"), chunked=True)
    return OnRange(given if text is None else given.plus("Content-Range", text), draw(st.none() | st.integers(0, 200)))


def pull(image: str, layout: Path) -> MirrorError | None:
    """Pull the image without retries; return the error, if any."""
    options = PullOptions(PlatformSelection((Platform.parse("linux/amd64"),)), retry=ONCE)
    try:
        asyncio.run(pull_image(image, layout, options))
    except MirrorError as error:
        return error
    return None


@pytest.mark.slow
@examples(400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(response=responses())
@example(response=OnRange(answer(206, REST[:-1], Content_Range=RIGHT).without("Content-Length")))
@example(response=OnRange(answer(206, bytes(len(REST)), Content_Range=RIGHT)))
@example(response=OnRange(answer(206, REST, Content_Range=RIGHT), cut=1))
@example(response=OnRange(Answer(200, bytes(500), chunked=True)))
@example(response=OnRange(answer(201, REST), cut=0))
def test_layout_is_whole_after_one_further_run(
    registry: EmbeddedRegistry, interrupted: str, tmp_path: Path, response: OnRange
) -> None:
    layout = tmp_path / "again"
    shutil.rmtree(layout, ignore_errors=True)
    shutil.copytree(tmp_path / "layout", layout)
    registry.clear_faults()
    registry.fault(Fault(path="/blobs/", times=None, action=response))
    error = pull(interrupted, layout)
    assert error is None or error.transient, error
    if response.cut:  # a connection that is always cut is another fault
        registry.clear_faults()
    assert error is None or pull(interrupted, layout) is None
    assert_whole(layout)
