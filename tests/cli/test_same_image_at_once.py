"""Tests of processes that write the same image to one layout at the same time: none loses what another has added."""

import json
import subprocess
import threading
from pathlib import Path

import pytest

from tests.cli.test_crash import Gate, Seen
from tests.cli.test_kept_platforms import AMD64, ARM64, INDEX, NEXT, ORIGIN, PLATFORMS, SPARSE, only_entry, whole
from tests.support.command import Json, Mirror
from tests.support.images import Image
from tests.support.registry import EmbeddedRegistry, Fault

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("each_exchange")]


@pytest.fixture
def name(registry: EmbeddedRegistry) -> str:
    INDEX.publish(registry, "a", "v1")
    return f"{registry.host}/a:v1"


def held_up(
    mirror: Mirror, registry: EmbeddedRegistry, image: Image, *args: str
) -> tuple[Gate, subprocess.Popen[bytes]]:
    """Start a pull that stops in the layer of an image, after everything has been looked up."""
    gate, began = Gate(100), threading.Event()
    layer = max(image.blobs, key=lambda digest: len(image.blobs[digest]))
    registry.fault(Fault(method="GET", path=f"/blobs/{layer}", action=(gate, Seen(began))))
    process = mirror.start("pull", *args)
    assert began.wait(60)
    return gate, process


def end(gate: Gate, process: "subprocess.Popen[bytes]") -> tuple[Json, str]:
    gate.opened.set()
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return json.loads(out), err.decode()


@pytest.mark.parametrize("flags", [[], ["--sparse"]])
@pytest.mark.parametrize("is_new", [True, False])
def test_platforms_of_two_pulls_are_merged(
    mirror: Mirror, registry: EmbeddedRegistry, name: str, layout: Path, flags: list[str], is_new: bool
) -> None:
    if not is_new:
        mirror("pull", name, "--platform=linux/s390x", *flags)
    gate, process = held_up(mirror, registry, ARM64, name, "--platform=linux/arm64", "--json", *flags)
    mirror("pull", name, "--platform=linux/amd64", *flags)
    result, err = end(gate, process)
    digest, annotations = only_entry(layout)
    assert [image["digest"] for image in result["images"]] == [digest]
    assert "linux/amd64" in err
    if is_new:
        assert annotations.get(ORIGIN if not flags else SPARSE) == (
            f"{AMD64.root},{ARM64.root}" if flags else INDEX.root
        )
    else:
        assert digest == INDEX.root
    whole(layout, AMD64, ARM64)
    mirror("verify", layout)


def test_new_version_gets_the_platform_that_arrived_meanwhile(
    mirror: Mirror, registry: EmbeddedRegistry, name: str, layout: Path
) -> None:
    gate, process = held_up(mirror, registry, ARM64, name, "--platform=linux/arm64", "--json")
    NEXT.publish(registry, "a", "v1")
    mirror("pull", name, "--platform=linux/amd64")
    result, _ = end(gate, process)
    (image,) = result["images"]
    assert image["platforms"] == ["linux/amd64", "linux/arm64"]
    assert only_entry(layout)[1][ORIGIN] == NEXT.root
    mirror("verify", layout)


def test_replace_still_replaces(mirror: Mirror, registry: EmbeddedRegistry, name: str, layout: Path) -> None:
    gate, process = held_up(mirror, registry, ARM64, name, "--platform=linux/arm64", "--replace", "--json")
    mirror("pull", name, "--platform=linux/amd64")
    end(gate, process)
    assert only_entry(layout)[0] == ARM64.root


def test_only_the_image_that_changed_is_repeated(
    mirror: Mirror, registry: EmbeddedRegistry, name: str, layout: Path
) -> None:
    NEXT.publish(registry, "b", "v1")
    gate, process = held_up(mirror, registry, ARM64, name, f"{registry.host}/b:v1", "--platform=linux/arm64", "--json")
    mirror("pull", name, "--platform=linux/amd64")
    result, _ = end(gate, process)
    assert [image["platforms"] for image in result["images"]] == [["linux/amd64", "linux/arm64"], ["linux/arm64"]]
    assert registry.count("GET", f"/b/manifests/{NEXT.root}") + registry.count("GET", "/b/manifests/v1") == 1


def test_three_processes_that_start_together_lose_nothing(mirror: Mirror, name: str, layout: Path) -> None:
    processes = [mirror.start("pull", name, f"--platform={platform}") for platform in PLATFORMS]
    for process in processes:
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
    assert only_entry(layout)[0] == INDEX.root
    whole(layout, INDEX)


def test_only_line_of_a_repeated_image_is_of_what_was_merged(
    mirror: Mirror, registry: EmbeddedRegistry, name: str, layout: Path
) -> None:
    gate, process = held_up(mirror, registry, ARM64, name, "--platform=linux/arm64")
    mirror("pull", name, "--platform=linux/amd64")
    gate.opened.set()
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert out.decode().splitlines() == [f"{name}@{only_entry(layout)[0]}"]


def test_warnings_about_a_repeated_image_are_those_of_the_last_attempt(
    mirror: Mirror, registry: EmbeddedRegistry, name: str
) -> None:
    mirror("pull", name, "--platform=linux/s390x")
    gate, process = held_up(mirror, registry, ARM64, name, "--platform=linux/arm64", "--json")
    mirror("pull", name, "--platform=linux/amd64")
    result, _ = end(gate, process)
    (warning,) = result["warnings"]
    assert "linux/amd64" in warning
