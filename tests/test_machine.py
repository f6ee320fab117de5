"""Tests with random images, faults and damage in random order: layouts stay consistent, and a pull repairs them."""

import asyncio
import itertools
import random
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from mirror import (
    MirrorError,
    PlatformSelection,
    PullOptions,
    RegistryOptions,
    RetryPolicy,
    pull_image,
    push_images,
    verify_layout,
)
from tests.support.command import Mirror, blob_path, blobs, lacking, names, wrong_blobs
from tests.support.images import Image
from tests.support.profiles import examples
from tests.support.registry import (
    Action,
    Chunked,
    Cut,
    EmbeddedRegistry,
    Fault,
    Flip,
    Header,
    RequestHeader,
    Reset,
    Status,
    Truncate,
    serving,
)
from tests.support.strategies import graphs

EVERYTHING = PullOptions(
    platforms=PlatformSelection(all=True), retry=RetryPolicy(0), registries=RegistryOptions(jobs=2)
)
HURRIED = PullOptions(
    platforms=PlatformSelection(all=True), retry=RetryPolicy(4, delay=0.0), registries=RegistryOptions(jobs=2)
)


@pytest.fixture(scope="module", autouse=True)
def nobody() -> Iterator[None]:
    """Run without the user's credentials and settings."""
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as home:
        for name in ("HOME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR", "DOCKER_CONFIG"):
            patch.setenv(name, home)
        yield


# Round trips


@pytest.fixture(scope="module")
def registries() -> Iterator[tuple[EmbeddedRegistry, EmbeddedRegistry]]:
    with serving(EmbeddedRegistry()) as here, serving(EmbeddedRegistry()) as there:
        yield here, there


numbers = itertools.count()


@pytest.mark.slow
@examples(40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(image=graphs())
def test_any_graph_is_unchanged_after_push_and_pull(
    registries: tuple[EmbeddedRegistry, EmbeddedRegistry], tmp_path: Path, image: Image
) -> None:
    here, there = registries
    repository = f"random/{next(numbers)}"
    image.publish(here, repository, "v1")
    with tempfile.TemporaryDirectory(dir=tmp_path) as folder:
        first, second = Path(folder, "first"), Path(folder, "second")
        asyncio.run(pull_image(f"{here.host}/{repository}:v1", first, EVERYTHING))
        report = asyncio.run(verify_layout(first))
        assert [finding for finding in report.findings if finding.severity != "warning"] == []
        asyncio.run(push_images(first, there.host))
        assert there.tags(repository) == {"v1": image.root}
        assert there.manifests(repository) == set(image.manifests)
        asyncio.run(pull_image(f"{there.host}/{repository}:v1", second, EVERYTHING))
        assert {digest: blob_path(second, digest).read_bytes() for digest in blobs(second)} == {
            digest: blob_path(first, digest).read_bytes() for digest in blobs(first)
        }


# Random operations, faults and damage

FAULTS: list[Action] = [
    Cut(after=None),
    Cut(after=0),
    Cut(after=7),
    Reset(after=11),
    Status(429),
    Status(500),
    Status(404),
    Flip(-1),
    Truncate(1),
    Chunked(),
    Header("Content-Length", None),
    Header("Content-Range", "bytes 1-2/3"),
    RequestHeader("Range"),
]


class Layouts(RuleBasedStateMachine):
    """One layout, two images whose tags move, faults of the registry, killed pulls and damaged files."""

    def __init__(self) -> None:
        super().__init__()
        self._stack = ExitStack()
        self._folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        self._registry = self._stack.enter_context(serving(EmbeddedRegistry()))
        self._published: dict[str, Image] = {}
        self._damaged: set[str] = set()  # blobs that are damaged by this test and not repaired yet

    def teardown(self) -> None:
        self._stack.close()

    @property
    def _layout(self) -> Path:
        return self._folder / "layout"

    def _name(self, repository: str) -> str:
        return f"{self._registry.host}/{repository}:v1"

    @initialize(first=graphs(), second=graphs())
    def begin(self, first: Image, second: Image) -> None:
        for repository, image in (("one", first), ("two", second)):
            self.publish(repository, image)

    @rule(repository=st.sampled_from(["one", "two"]), image=graphs())
    def publish(self, repository: str, image: Image) -> None:
        image.publish(self._registry, repository, "v1")
        self._published[repository] = image

    @rule(
        repository=st.sampled_from(["one", "two"]),
        action=st.sampled_from(FAULTS),
        skip=st.integers(0, 8),
        times=st.integers(1, 3),
    )
    def pull_with_fault(self, repository: str, action: Action, skip: int, times: int) -> None:
        self._registry.clear_faults()
        self._registry.fault(Fault(action=action, skip=skip, times=times))
        try:
            asyncio.run(pull_image(self._name(repository), self._layout, EVERYTHING))
        except MirrorError:
            return
        self._healed(repository)

    @rule(
        repository=st.sampled_from(["one", "two"]), moment=st.integers(0, 40), how=st.sampled_from(["before", "after"])
    )
    def pull_and_kill(self, repository: str, moment: int, how: str) -> None:
        """Kill a pull before or after a call that syncs, renames or removes files."""
        self._registry.clear_faults()
        done = Mirror(self._folder).fail(f"{how}:{moment}", "pull", self._name(repository), "--all", "-j", 1)
        assert done.code in (0, -signal.SIGKILL), done.err
        if done.code == 0:
            self._healed(repository)

    @rule(data=st.data(), how=st.sampled_from(["flip", "cut", "empty", "longer", "gone", "directory"]))
    def damage(self, data: st.DataObject, how: str) -> None:
        there = sorted(blobs(self._layout)) if self._layout.exists() else []
        if there:
            digest = data.draw(st.sampled_from(there))
            _damage(blob_path(self._layout, digest), how)
            self._damaged.add(digest)

    @rule(data=st.data(), how=st.sampled_from(["flip", "cut", "longer", "gone"]))
    def damage_partial_file(self, data: st.DataObject, how: str) -> None:
        found = sorted((self._layout / ".mirror/partial").glob("*"))
        if found:
            _damage(data.draw(st.sampled_from(found)), how)

    @rule(repository=st.sampled_from(["one", "two"]))
    def pull(self, repository: str) -> None:
        self._registry.clear_faults()
        asyncio.run(pull_image(self._name(repository), self._layout, HURRIED))
        self._healed(repository)
        report = asyncio.run(verify_layout(self._layout, [self._name(repository)]))
        image = self._published[repository]
        assert [finding for finding in report.findings if image.root in finding.subject] == []
        assert [verified.digest for verified in report.images] == [image.root]
        for digest, content in self._content(repository).items():
            assert blob_path(self._layout, digest).read_bytes() == content

    @invariant()
    def only_damaged_blobs_are_wrong(self) -> None:
        if (self._layout / "index.json").exists():
            assert set(wrong_blobs(self._layout)) <= self._damaged
            if not self._damaged:  # the content below a damaged manifest is unknown
                assert lacking(self._layout) == []
            assert len(names(self._layout)) == len(set(names(self._layout)))

    def _content(self, repository: str) -> dict[str, bytes]:
        image = self._published[repository]
        return {**image.blobs, **{digest: data for digest, (data, _) in image.manifests.items()}}

    def _healed(self, repository: str) -> None:
        self._damaged -= set(self._content(repository))


def _damage(path: Path, how: str) -> None:
    data = path.read_bytes() if path.is_file() else b""
    if path.is_dir():
        shutil.rmtree(path)
    if how == "gone":
        path.unlink(missing_ok=True)
    elif how == "directory":
        path.unlink(missing_ok=True)
        path.mkdir()
    else:
        changed = bytearray(data)
        if changed:
            changed[random.Random(len(data)).randrange(len(data))] ^= 1
        path.write_bytes({"flip": bytes(changed), "cut": data[:-1], "empty": b"", "longer": data + b"!"}[how])


TestLayouts = Layouts.TestCase
TestLayouts.settings = examples(12, stateful_step_count=20, phases=(Phase.explicit, Phase.reuse, Phase.generate))
