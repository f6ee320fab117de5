"""Tests of random changes of a single byte in a layout."""

import asyncio
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror import VerifyOptions, verify_layout
from mirror.report.findings import Verdict
from tests.support import images, layouts
from tests.support.images import Image
from tests.support.profiles import examples
from tests.support.strategies import graphs

FEW = examples(80)
LAYERED = images.index(
    [
        images.image("linux/amd64", images.layer(1, 600), images.layer(2, 100)),
        images.image("linux/arm64", images.layer(3, 90 + 9)),
    ]
)


def verdict_of(layout: Path, level: str) -> Verdict:
    return asyncio.run(verify_layout(layout, options=VerifyOptions(level=level))).verdict


def changed(draw: st.DataObject, data: bytes) -> bytes:
    """Return the bytes with one of them changed, added or removed."""
    at = draw.draw(st.integers(0, max(len(data) - 1, 0)), label="at")
    how = draw.draw(st.sampled_from(["flip", "add", "cut"] if data else ["add"]), label="how")
    if how == "flip":
        return data[:at] + bytes([data[at] ^ (1 << draw.draw(st.integers(0, 7)))]) + data[at + 1 :]
    return data[:at] + (b"\0" + data[at:] if how == "add" else data[at + 1 :])


@pytest.mark.slow
@FEW
@given(root=graphs(), draw=st.data())
def test_changed_byte_of_a_blob_is_found_at_every_level_that_reads_it(root: Image, draw: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        layout = layouts.write(Path(folder), root)
        assert verdict_of(layout, "content") is Verdict.OK
        path = draw.draw(st.sampled_from(sorted(layout.glob("blobs/sha256/*"))), label="file")
        before = path.read_bytes()
        path.write_bytes(changed(draw, before))
        level = draw.draw(st.sampled_from(["content", "layers"]))
        assert verdict_of(layout, level) is Verdict.NOT_OK
        if path.stat().st_size != len(before):
            assert verdict_of(layout, "structure") is Verdict.NOT_OK


@pytest.mark.slow
@FEW
@given(draw=st.data())
def test_changed_byte_of_an_image_with_layers_is_found_at_level_layers(draw: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        layout = layouts.write(Path(folder), LAYERED)
        path = draw.draw(st.sampled_from(sorted(layout.glob("blobs/sha256/*"))), label="file")
        path.write_bytes(changed(draw, path.read_bytes()))
        assert verdict_of(layout, "layers") is Verdict.NOT_OK


@pytest.mark.slow
@FEW
@given(draw=st.data())
@pytest.mark.parametrize("name", ["index.json", "oci-layout"])
def test_changed_byte_of_index_json_or_oci_layout_gives_a_verdict(name: str, draw: st.DataObject) -> None:
    """Some changes do not matter, for example to white space; the others are findings. The type may become unknown."""
    with tempfile.TemporaryDirectory() as folder:
        layout = layouts.write(Path(folder), LAYERED)
        (layout / name).write_bytes(changed(draw, (layout / name).read_bytes()))
        assert verdict_of(layout, "layers") in (Verdict.OK, Verdict.NOT_OK, Verdict.COULD_NOT_CHECK)
