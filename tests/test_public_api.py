"""The library: what is public is there, documented and typed, and loads no more than it needs."""

import asyncio
import inspect
import os
import subprocess
import sys
import typing
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

import mirror
from mirror import (
    MirrorError,
    PlatformSelection,
    PullOptions,
    PushOptions,
    inspect_images,
    list_images,
    pull_image,
    pull_images,
    push_images,
    remove_image,
    verify_layout,
)
from tests.support import images
from tests.support.registry import EmbeddedRegistry, serving

IMAGE = images.multi_arch()
PUBLIC = sorted(mirror.__all__)
FUNCTIONS = [name for name in PUBLIC if not inspect.isclass(getattr(mirror, name))]


# Names


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_is_there_and_documented(name: str) -> None:
    found = getattr(mirror, name)
    assert (inspect.getdoc(found) or "").strip()
    assert found.__module__.startswith("mirror.")


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_public_function_is_typed(name: str) -> None:
    found = getattr(mirror, name)
    signature = inspect.signature(found)
    assert signature.return_annotation is not inspect.Signature.empty
    assert all(one.annotation is not inspect.Parameter.empty for one in signature.parameters.values())
    assert typing.get_type_hints(found)["return"]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_public_function_says_what_it_raises_or_where_to_read_it(name: str) -> None:
    text = inspect.getdoc(getattr(mirror, name)) or ""
    assert "Raises:" in text or "see `" in text


def test_a_star_brings_all_public_names() -> None:
    space: dict[str, object] = {}
    exec("from mirror import *", space)  # as an interactive user would
    assert set(PUBLIC) <= space.keys()


@pytest.mark.parametrize("name", ["nothing", "_private", "aiohttp"])
def test_what_is_not_public_is_not_there(name: str) -> None:
    with pytest.raises(AttributeError, match=name):
        getattr(mirror, name)


def test_types_come_with_the_package() -> None:
    assert (Path(mirror.__file__).parent / "py.typed").is_file()


def test_the_version_is_a_version() -> None:
    assert [part.isdigit() for part in mirror.__version__.split(".")] == [True, True, True]


# Loading

HTTP = {"aiohttp", "yarl", "mirror.registry"}
SCREEN = {"click", "tqdm"}


def loaded(statement: str) -> set[str]:
    """Return the modules of a fresh interpreter after a statement; coverage, which has modules of its own, is off."""
    code = f"{statement}\nimport sys\nprint(*sys.modules)"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("statement", "unwanted"),
    [
        ("import mirror", HTTP | SCREEN | {"asyncio", "mirror.layout"}),
        ("from mirror import verify_layout, list_images, remove_image", HTTP | SCREEN),
        ("from mirror import Reference, Digest, Platform, MirrorError", HTTP | SCREEN | {"mirror.layout"}),
        ("from mirror import pull_image, push_images, verify_layout", SCREEN),
        ("import mirror.cli", HTTP | {"asyncio", "tqdm", "mirror.layout"}),
        ("import mirror.cli.verify, mirror.cli.ls, mirror.cli.rm", HTTP | {"http.client", "xml"}),
    ],
)
def test_nothing_is_loaded_that_is_not_needed(statement: str, unwanted: set[str]) -> None:
    assert loaded(statement) & unwanted == set()


# Operations


def test_the_whole_way_round_as_a_program_goes_it(tmp_path: Path) -> None:
    async def main(source: str, target: str) -> None:
        pulled = await pull_image(f"{source}/a:v1", tmp_path / "layout", PullOptions(PlatformSelection(all=True)))
        assert pulled.lines() == [f"{source}/a:v1@{IMAGE.root}"]
        verified = await verify_layout(tmp_path / "layout")
        assert (verified.verdict, verified.findings) == ("ok", ())
        pushed = await push_images(tmp_path / "layout", f"{target}/mirror", options=PushOptions())
        assert pushed.lines() == [f"{target}/mirror/a:v1@{IMAGE.root}"]

    with serving(EmbeddedRegistry()) as source, serving(EmbeddedRegistry()) as target:
        IMAGE.publish(source, "a", "v1")
        asyncio.run(main(source.host, target.host))
        assert target.tags("mirror/a") == {"v1": IMAGE.root}


def test_a_layout_is_listed_inspected_and_emptied(tmp_path: Path) -> None:
    async def main(source: str) -> None:
        everything = PullOptions(PlatformSelection(all=True))
        await pull_images([f"{source}/a:v1", f"{source}/b:v1"], str(tmp_path / "layout"), everything)
        assert [image.name for image in (await list_images(tmp_path / "layout")).images] == [
            f"{source}/a:v1",
            f"{source}/b:v1",
        ]
        assert [one.digest for one in await inspect_images(tmp_path / "layout")] == [IMAGE.root] * 2
        assert (await inspect_images(f"{source}/a:v1"))[0].raw == IMAGE.data
        assert (await remove_image(tmp_path / "layout", f"{source}/a:v1")).deleted.blobs == 0
        assert (await remove_image(tmp_path / "layout", f"{source}/b:v1")).deleted.blobs == len(
            IMAGE.blobs | IMAGE.manifests
        )

    with serving(EmbeddedRegistry()) as source:
        for repository in "ab":
            IMAGE.publish(source, repository, "v1")
        asyncio.run(main(source.host))
    assert list((tmp_path / "layout" / "blobs" / "sha256").iterdir()) == []


def test_every_failure_is_one_tree(tmp_path: Path) -> None:
    attempts: list[Callable[[], Coroutine[Any, Any, object]]] = [
        lambda: pull_image("No Name", tmp_path / "layout"),
        lambda: pull_image("127.0.0.1:1/a", tmp_path / "layout", PullOptions(retry=mirror.RetryPolicy(0))),
        lambda: verify_layout(tmp_path / "missing"),
        lambda: push_images(tmp_path / "missing", "127.0.0.1:1"),
        lambda: push_images(tmp_path, "no registry!"),
        lambda: list_images(tmp_path / "missing"),
        lambda: remove_image(tmp_path / "missing", "redis"),
    ]
    for attempt in attempts:
        with pytest.raises(MirrorError):
            asyncio.run(attempt())
    assert list(tmp_path.iterdir()) == []
