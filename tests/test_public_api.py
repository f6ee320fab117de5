"""Tests of the library: public names are documented and typed, and an import loads only the modules that it needs."""

import ast
import asyncio
import dataclasses
import inspect
import os
import pydoc
import re
import subprocess
import sys
import typing
from collections.abc import Callable, Coroutine, Iterable, Iterator
from pathlib import Path
from typing import Any

import griffe
import pytest

import mirror
from mirror import (
    MirrorError,
    PlatformSelection,
    PullOptions,
    PushOptions,
    errors,
    inspect_images,
    list_images,
    pull_image,
    pull_images,
    push_images,
    remove_images,
    to_text,
    verify_layout,
)
from tests.support import images
from tests.support.registry import EmbeddedRegistry, serving

IMAGE = images.multi_arch()
PACKAGE = Path(mirror.__file__).parent
MODULES = {path: ast.parse(path.read_bytes()) for path in sorted(PACKAGE.rglob("*.py"))}
PUBLIC = sorted(mirror.__all__)
FUNCTIONS = [name for name in PUBLIC if not inspect.isclass(getattr(mirror, name))]


# Names


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_exists_and_is_documented(name: str) -> None:
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
def test_a_public_function_documents_its_exceptions(name: str) -> None:
    text = inspect.getdoc(getattr(mirror, name)) or ""
    assert "Raises:" in text or "see `" in text


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_public_function_takes_its_settings_as_one_options_object(name: str) -> None:
    parameters = inspect.signature(getattr(mirror, name)).parameters
    assert [one.name for one in parameters.values() if one.kind is one.KEYWORD_ONLY] == []
    if "options" in parameters:
        kind = parameters["options"].annotation.removesuffix(" | None")
        assert kind in PUBLIC
        assert kind.endswith("Options")
        assert kind != "RegistryOptions"


def classes(hint: object) -> Iterator[type]:
    """Yield the classes of the package in a type."""
    if isinstance(hint, type) and hint.__module__.startswith("mirror."):
        yield hint
    for argument in typing.get_args(hint):
        yield from classes(argument)


def reachable(types: Iterable[type]) -> set[type]:
    """Return these classes, and those of their fields and properties, and so on."""
    found, todo = set[type](), list(types)
    while todo:
        kind = todo.pop()
        if kind in found:
            continue
        found.add(kind)
        if not dataclasses.is_dataclass(kind):
            continue
        public = {name: getattr(mirror, name) for name in PUBLIC}  # for names that a module imports for types only
        hints = typing.get_type_hints(kind, localns=public)
        fields = [hints[field.name] for field in dataclasses.fields(kind) if not field.name.startswith("_")]
        getters = [value.fget for _, value in inspect.getmembers(kind, lambda value: isinstance(value, property))]
        fields += [typing.get_type_hints(getter, localns=public).get("return") for getter in getters]
        todo += [one for field in fields for one in classes(field)]
    return found


@pytest.mark.parametrize("name", FUNCTIONS)
def test_everything_in_the_result_of_a_public_function_is_public(name: str) -> None:
    returned = set(classes(typing.get_type_hints(getattr(mirror, name))["return"]))
    assert {kind.__name__ for kind in reachable(returned)} - set(PUBLIC) == set()


def test_everything_in_the_fields_of_public_values_is_public() -> None:
    values = [getattr(mirror, name) for name in PUBLIC if dataclasses.is_dataclass(getattr(mirror, name))]
    found = reachable(values)
    assert len(found) > len(values)
    assert {kind.__name__ for kind in found} - set(PUBLIC) == set()
    assert all(getattr(mirror, kind.__name__) is kind for kind in found)


def test_every_error_is_public() -> None:
    found = {name for name, value in vars(errors).items() if inspect.isclass(value) and issubclass(value, MirrorError)}
    assert found - set(PUBLIC) == set()


def test_dir_lists_the_public_names_and_no_others() -> None:
    assert sorted(name for name in dir(mirror) if not name.startswith("__")) == PUBLIC
    assert "__version__" in dir(mirror)


@pytest.mark.slow
def test_help_describes_every_public_name() -> None:
    text = pydoc.render_doc(mirror, renderer=pydoc.plaintext)  # type: ignore[attr-defined]
    described = set(re.findall(r"^    (?:class |async )?(\w+)\(", text, re.MULTILINE))
    assert set(PUBLIC) - described == set()


@pytest.mark.slow
def test_the_reference_describes_every_public_name() -> None:
    package = griffe.load("mirror", search_paths=[PACKAGE.parent], allow_inspection=False)
    described = {name for name in PUBLIC if package[name].is_public and package[name].has_docstring}
    assert set(PUBLIC) - described == set()
    assert "::: mirror\n" in (PACKAGE.parent / "docs" / "reference" / "api.md").read_text()


def test_type_checker_and_interpreter_import_the_same_names() -> None:
    imports = [node for node in ast.walk(MODULES[PACKAGE / "__init__.py"]) if isinstance(node, ast.ImportFrom)]
    of_the_package = {node.module: node for node in imports if (node.module or "").startswith("mirror.")}
    ours = {module: [name.name for name in node.names] for module, node in of_the_package.items()}
    assert ours.pop("mirror.version") == ["VERSION"]
    assert ours == {f"mirror.{module}": names.split() for module, names in mirror._MODULES.items()}
    assert sorted(mirror._MODULE_OF) == PUBLIC


def test_star_import_imports_all_public_names() -> None:
    space: dict[str, object] = {}
    exec("from mirror import *", space)  # as an interactive user would
    assert set(PUBLIC) <= space.keys()


@pytest.mark.parametrize("name", ["nothing", "_private", "aiohttp"])
def test_access_to_an_unknown_name_raises_attribute_error(name: str) -> None:
    with pytest.raises(AttributeError, match=name):
        getattr(mirror, name)


def test_the_package_has_a_py_typed_file() -> None:
    assert (Path(mirror.__file__).parent / "py.typed").is_file()


def test_the_version_has_three_numbers() -> None:
    assert [part.isdigit() for part in mirror.__version__.split(".")] == [True, True, True]


# Logging


@pytest.mark.slow
@pytest.mark.parametrize(
    "module", ["layout", "fs.directory", "layout.verifiable", "registry", "serve", "transfer.pull"]
)
def test_nothing_is_printed_if_the_program_configures_no_logging(module: str) -> None:
    code = f"import logging, mirror.{module}; logging.getLogger('mirror.layout.writer').warning('hello')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_logs_through_its_own_logger(path: Path) -> None:
    nodes = list(ast.walk(MODULES[path]))
    calls = [node for node in nodes if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("getLogger")]
    imported = {name.asname or name.name for node in nodes if isinstance(node, ast.ImportFrom) for name in node.names}
    if path.parent != PACKAGE / "cli" and path != PACKAGE / "errors.py":  # these are about the logs of other modules
        assert {ast.unparse(call) for call in calls} <= {"logging.getLogger(__name__)"}
    assert "log" not in imported
    assert not any(isinstance(node, ast.Attribute) and node.attr == "log" for node in nodes)
    if any(isinstance(node, ast.Name) and node.id == "log" for node in nodes):
        assert "\nlog = logging.getLogger(__name__)\n" in path.read_text()


# Loading

HTTP = {"aiohttp", "yarl", "mirror.registry"}
SCREEN = {"click", "tqdm"}
RESULTS = {"mirror.report.images", "mirror.report.layouts", "mirror.report.transfers", "mirror.report.json"}
ARCHIVES = {"mirror.archive.reader", "mirror.archive.verifiable", "tempfile"}
RARE = {  # what few verifications of a layout need
    "mirror.content.decompress",
    "mirror.content.walk",
    "mirror.layout.implied",
    "mirror.layout.referrers",
    "mirror.report.verify_parts",
    "mirror.retry",
    "shlex",
}


def loaded(statement: str) -> set[str]:
    """Return the modules of a new interpreter after a statement, without coverage, which loads more modules."""
    code = f"{statement}\nimport sys\nprint(*sys.modules)"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("statement", "unwanted"),
    [
        ("import mirror, mirror.__main__", HTTP | SCREEN | {"logging", "mirror.cli", "mirror.errors"}),
        ("from mirror import verify_layout, list_images, remove_images", HTTP | SCREEN),
        ("from mirror import Reference, Digest, Platform, MirrorError", HTTP | SCREEN | {"mirror.layout"}),
        ("from mirror import pull_image, push_images, verify_layout", SCREEN),
        ("import mirror.cli", HTTP | {"asyncio", "tqdm", "mirror.layout"}),
        ("import mirror.cli.verify, mirror.cli.ls, mirror.cli.rm", HTTP | {"http.client", "xml"}),
        ("import mirror.cli.completion", HTTP | {"asyncio", "ssl", "mirror.layout", "mirror.fs.atomic"}),
        (
            "import mirror.cli.verify",
            RESULTS
            | ARCHIVES
            | RARE
            | {"mirror.records", "mirror.layout.writer", "mirror.content.walk", "mirror.quota"},
        ),
        ("import mirror.cli.ls", RESULTS - {"mirror.report.images"} | ARCHIVES | {"mirror.layout.writer"}),
        ("import mirror.cli.pull", {"aiohttp.web", "mirror.records", "mirror.report.images", "mirror.report.findings"}),
    ],
)
def test_an_import_loads_no_unneeded_modules(statement: str, unwanted: set[str]) -> None:
    assert loaded(statement) & unwanted == set()


# Operations


@pytest.mark.slow
def test_an_image_is_pulled_verified_and_pushed(tmp_path: Path) -> None:
    async def main(source: str, target: str) -> None:
        pulled = await pull_image(f"{source}/a:v1", tmp_path / "layout", PullOptions(PlatformSelection(all=True)))
        assert to_text(pulled).lines == [f"{source}/a:v1@{IMAGE.root}"]
        verified = await verify_layout(tmp_path / "layout")
        assert (verified.verdict, verified.findings) == ("ok", ())
        pushed = await push_images(tmp_path / "layout", f"{target}/mirror", options=PushOptions())
        assert to_text(pushed).lines == [f"{target}/mirror/a:v1@{IMAGE.root}"]

    with serving(EmbeddedRegistry()) as source, serving(EmbeddedRegistry()) as target:
        IMAGE.publish(source, "a", "v1")
        asyncio.run(main(source.host, target.host))
        assert target.tags("mirror/a") == {"v1": IMAGE.root}


@pytest.mark.slow
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
        assert (await remove_images(tmp_path / "layout", [f"{source}/a:v1"])).deleted.blobs == 0
        assert (await remove_images(tmp_path / "layout", [f"{source}/b:v1"])).deleted.blobs == len(
            IMAGE.blobs | IMAGE.manifests
        )

    with serving(EmbeddedRegistry()) as source:
        for repository in "ab":
            IMAGE.publish(source, repository, "v1")
        asyncio.run(main(source.host))
    assert list((tmp_path / "layout" / "blobs" / "sha256").iterdir()) == []


@pytest.mark.slow
def test_every_failure_is_a_mirror_error(tmp_path: Path) -> None:
    attempts: list[Callable[[], Coroutine[Any, Any, object]]] = [
        lambda: pull_image("No Name", tmp_path / "layout"),
        lambda: pull_image("127.0.0.1:1/a", tmp_path / "layout", PullOptions(retry=mirror.RetryPolicy(0))),
        lambda: verify_layout(tmp_path / "missing"),
        lambda: push_images(tmp_path / "missing", "127.0.0.1:1"),
        lambda: push_images(tmp_path, "no registry!"),
        lambda: list_images(tmp_path / "missing"),
        lambda: remove_images(tmp_path / "missing", ["redis"]),
    ]
    for attempt in attempts:
        with pytest.raises(MirrorError):
            asyncio.run(attempt())
    assert list(tmp_path.iterdir()) == []
