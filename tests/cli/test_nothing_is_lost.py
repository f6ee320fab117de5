"""A state machine over commands: none loses an image, a platform or a referrer that it was not told to remove.

See docs/adr/0019. After each command, the layouts are read without mirror's own code, and compared with what they had
before.
"""

import json
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from tests.cli.test_kept_platforms import SPARSE
from tests.support import images, inprocess
from tests.support.command import Json, Mirror, blob_path, entries, wrong_blobs
from tests.support.profiles import examples
from tests.support.registry import EmbeddedRegistry, serving

PLATFORMS = ("linux/amd64", "linux/arm64", "linux/s390x")
VERSIONS = [
    images.index(
        [images.image(platform, images.layer(10 * number + seed, 300)) for seed, platform in enumerate(PLATFORMS)]
    )
    for number in range(3)
]
REPOSITORIES = ("a", "b")
LAYOUTS = ("one", "two")

layouts = st.sampled_from(LAYOUTS)
repositories = st.sampled_from(REPOSITORIES)
selections = st.lists(st.sampled_from(PLATFORMS), min_size=1, max_size=3, unique=True)


@dataclass(frozen=True)
class Content:
    """The images of a layout with their complete platforms, and its referrers by their digests, with what they sign.

    A sparse image has the platforms that its entry names, although another image may bring the content of others.
    Of cosign's tags, it has the layers, since a manifest with more layers may replace another.
    """

    platforms: dict[str, frozenset[str]]
    referrers: dict[str, str]


def read(layout: Path) -> Content:
    platforms: dict[str, set[str]] = {}
    referrers: dict[str, str] = {}
    for entry in entries(layout) if (layout / "index.json").exists() else ():
        name = entry["annotations"]["io.containerd.image.name"]
        for digest, document in manifests(layout, entry):
            if name.endswith(".sig"):
                referrers |= {layer["digest"]: name for layer in document["layers"]}
            elif subject := document.get("subject"):
                referrers[digest] = subject["digest"]
            elif is_complete(layout, document) and digest in entry["annotations"].get(SPARSE, digest):
                config = json.loads(blob_path(layout, document["config"]["digest"]).read_bytes())
                platforms.setdefault(name, set()).add(f"{config['os']}/{config['architecture']}")
    return Content({name: frozenset(found) for name, found in platforms.items()}, referrers)


def manifests(layout: Path, node: Json) -> Iterator[tuple[str, Json]]:
    """Yield the manifests below a descriptor that are there, without indexes."""
    path = blob_path(layout, node["digest"])
    if not path.exists():
        return
    document = json.loads(path.read_bytes())
    if "manifests" not in document:
        yield node["digest"], document
    for child in document.get("manifests", ()):
        yield from manifests(layout, child)


def is_complete(layout: Path, document: Json) -> bool:
    return all(blob_path(layout, blob["digest"]).exists() for blob in (document["config"], *document["layers"]))


class Commands(RuleBasedStateMachine):
    """Commands on two layouts, from one registry whose tags move."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.folder = Path(self.stack.enter_context(tempfile.TemporaryDirectory()))
        self.registry = self.stack.enter_context(serving(EmbeddedRegistry(referrers=True)))
        self.mirror = Mirror(self.folder)

    def teardown(self) -> None:
        self.stack.close()

    def name(self, repository: str) -> str:
        return f"{self.registry.host}/{repository}:v1"

    def run(self, *arguments: Any, codes: tuple[int, ...] = (0,), removes: str | None = None) -> None:
        """Run a command, which may end with one of these codes, and may remove one image with its referrers."""
        before = {layout: read(self.folder / layout) for layout in LAYOUTS}
        code, _, err = inprocess.run([*map(str, arguments)], cwd=self.folder, env=self.mirror.env, stdin=b"")
        assert code in codes, err
        for layout in LAYOUTS:
            after = read(self.folder / layout)
            for name, platforms in before[layout].platforms.items():
                if (layout, name) != (arguments[1] if removes else None, removes):
                    assert platforms <= after.platforms.get(name, frozenset()), (arguments, layout, name)
            if not removes:
                assert before[layout].referrers.keys() <= after.referrers.keys(), (arguments, layout)
            if (self.folder / layout).exists():
                assert wrong_blobs(self.folder / layout) == []

    @initialize()
    def publish_all(self) -> None:
        for repository in REPOSITORIES:
            VERSIONS[0].publish(self.registry, repository, "v1")

    @rule(repository=repositories, version=st.sampled_from(VERSIONS))
    def publish(self, repository: str, version: images.Image) -> None:
        version.publish(self.registry, repository, "v1")

    @rule(repository=repositories, version=st.sampled_from(VERSIONS), number=st.integers(0, 2))
    def sign(self, repository: str, version: images.Image, number: int) -> None:
        images.signature(version, number).publish(self.registry, repository, None)

    @rule(repository=repositories, version=st.sampled_from(VERSIONS), numbers=st.sets(st.integers(0, 2)))
    def cosign(self, repository: str, version: images.Image, numbers: set[int]) -> None:
        """Let the tag of cosign have these signatures only, or none; those that it had are dropped."""
        signed = [images.Blob.of(f"{version.root} {number}".encode(), "a/b") for number in sorted(numbers)]
        tag = images.cosign_tag(version)
        if signed:
            images.artifact("a/b", *signed).publish(self.registry, repository, tag)
        elif tag in self.registry.tags(repository):
            self.registry.remove_tag(repository, tag)

    @rule(repository=repositories, version=st.sampled_from(VERSIONS), number=st.integers(0, 2))
    def drop(self, repository: str, version: images.Image, number: int) -> None:
        """Let upstream drop a signature."""
        root = images.signature(version, number).root
        if root in self.registry.manifests(repository):
            self.registry.remove_manifest(repository, root)

    @rule(layout=layouts, repository=repositories, platforms=selections, sparse=st.booleans(), pinned=st.booleans())
    def pull(self, layout: str, repository: str, platforms: list[str], sparse: bool, pinned: bool) -> None:
        digest = self.registry.tags(repository)["v1"]
        name = f"{self.registry.host}/{repository}@{digest}" if pinned else self.name(repository)
        self.run("pull", name, "-o", layout, "--platform", ",".join(platforms), *(["--sparse"] if sparse else []))

    @rule(layout=layouts, repository=repositories, referrers=st.booleans())
    def pull_all(self, layout: str, repository: str, referrers: bool) -> None:
        flag = "--referrers" if referrers else "--no-referrers"
        self.run("pull", self.name(repository), "-o", layout, "--all", flag)

    @rule(source=layouts, to=layouts, selected=st.none() | selections)
    def copy(self, source: str, to: str, selected: list[str] | None) -> None:
        flags = ["--platform", ",".join(selected)] if selected else []
        if source != to and read(self.folder / source).platforms:
            self.run("copy", f"oci:{source}", f"oci:{to}", *flags, codes=(0, 2))

    @rule(source=layouts, to=layouts)
    def carry(self, source: str, to: str) -> None:
        if read(self.folder / source).platforms:
            self.run("export", source, "images.tar")
            self.run("import", "images.tar", to, codes=(0, 2))

    @rule(layout=layouts)
    def push(self, layout: str) -> None:
        if read(self.folder / layout).platforms:
            self.run("push", layout, f"{self.registry.host}/pushed", codes=(0, 1, 4))

    @rule(layout=layouts)
    def prune(self, layout: str) -> None:
        if (self.folder / layout).exists():
            self.run("prune", layout, "--delete")

    @rule(layout=layouts, which=st.integers(0, 99))
    def repair(self, layout: str, which: int) -> None:
        folder = self.folder / layout
        if read(folder).platforms:
            nodes = [node for entry in entries(folder) for node in manifests(folder, entry)]
            layers = sorted({blob["digest"] for _, document in nodes for blob in document.get("layers", ())})
            blob_path(folder, layers[which % len(layers)]).write_bytes(b"damaged")
            self.run("verify", layout, "--repair", "--from", self.registry.host)

    @rule(layout=layouts, repository=repositories)
    def remove(self, layout: str, repository: str) -> None:
        name = self.name(repository)
        if name in read(self.folder / layout).platforms:
            self.run("rm", layout, name, removes=name)


@pytest.mark.slow
@pytest.mark.timeout(1800)  # 1200 commands, with coverage on a slow machine
def test_no_sequence_of_commands_loses_what_none_was_told_to_remove() -> None:
    run_state_machine_as_test(Commands, settings=examples(60, stateful_step_count=20))
