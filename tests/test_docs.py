"""Tests that README and docs/ name only modules, classes, functions and files that exist."""

import ast
import re
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.language import strings

ROOT = Path(__file__).parents[1]
PAGES = {str(path.relative_to(ROOT)): path.read_text() for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]}
PRESENT = [page for page in PAGES if page != "CHANGELOG.md"]  # the changelog also names what was removed

_SPAN = re.compile(r"`([^`\n]+)`")
# The parts of a message that vary: names, numbers, and the words of registries and of the system
_NAME, _STATUS = r"\b(?:REGISTRY|HOST|IMAGE|NAME|DIR|DIGEST|PLATFORM)\b", r"\b\d{3} [A-Z]\w+(?: [A-Z]\w+)*"
_VALUE = re.compile(rf"{_NAME}|{_STATUS}|…|: |\d+\.\d MB|connection refused")
_FILE = re.compile(r"(?<![\w./-])(?:mirror|tests|scripts|requirements|docs)/[\w./-]*\w")
_CLASS = re.compile(r"[A-Z][A-Za-z]*[a-z][A-Za-z]*(?:\.[a-z_]+)?")


def modules(text: str) -> set[str]:
    """Return the dotted names in code spans; "`name` in `module`" is also one."""
    dotted = {name for name in _SPAN.findall(text) if re.fullmatch(r"mirror(?:\.\w+)+", name)} - {"mirror.toml"}
    return dotted | {f"{module}.{name}" for name, module in re.findall(r"`(\w+)`\s+in\s+`(mirror[\w.]+)`", text)}


def name_exists(name: str) -> bool:
    module, _, rest = name.rpartition(".")
    try:
        return find_spec(name) is not None or hasattr(import_module(module), rest)
    except ImportError:
        return module != "mirror" and name_exists(module) and hasattr(import_module(module), rest)


@cache
def classes() -> dict[str, set[str]]:
    """Return the classes of the package, with their attributes and methods."""
    found: dict[str, set[str]] = {}
    for path in (ROOT / "mirror").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                found.setdefault(node.name, set()).update(_members(node))
    return found


def _members(node: ast.ClassDef) -> set[str]:
    methods = {part.name for part in node.body if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef)}
    fields = {
        part.target.id for part in node.body if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name)
    }
    return methods | fields


@pytest.mark.parametrize("page", PRESENT)
def test_every_module_in_the_documentation_exists(page: str) -> None:
    assert {name for name in modules(PAGES[page]) if not name_exists(name)} == set()


@pytest.mark.parametrize("page", PRESENT)
def test_every_file_in_the_documentation_exists(page: str) -> None:
    named = set(_FILE.findall(PAGES[page]))
    assert {
        name for name in named if not (ROOT / name).exists() and not (ROOT / page).parent.joinpath(name).exists()
    } == set()


@pytest.mark.parametrize("page", [page for page in PRESENT if page.startswith("docs/adr/")])
def test_every_class_in_a_decision_exists(page: str) -> None:
    known = classes()
    named = {name for name in _SPAN.findall(PAGES[page]) if _CLASS.fullmatch(name)}
    wrong = {name for name in named if name.partition(".")[2] not in {"", *known.get(name.partition(".")[0], set())}}
    assert wrong | {name for name in named if name.partition(".")[0] not in known} == set()


def test_the_decisions_are_listed_with_their_titles() -> None:
    titles = {page: text.partition("\n")[0] for page, text in PAGES.items() if re.match(r"docs/adr/\d", page)}
    rows = re.findall(r"^\| \[(\d{4})\]\((\S+)\) \| (.*) \|$", PAGES["docs/adr/README.md"], re.MULTILINE)
    assert {f"docs/adr/{file}": f"# {number} {title}" for number, file, title in rows} == titles


def test_every_message_in_the_troubleshooting_guide_exists() -> None:
    texts = [text.text for path in (ROOT / "mirror").rglob("*.py") for text in strings(path.read_text())]
    page = PAGES["docs/how-to/troubleshooting.md"].partition("## Other questions")[0]
    bold = re.findall(r"\*\*(.+?)\*\*", page, re.DOTALL)
    parts = {part.strip(" .,:()") for message in bold for part in _VALUE.split(message)}
    assert len(parts) > 20
    assert {part for part in parts if not any(part in text for text in texts)} == set()


def test_missing_names_are_found() -> None:
    text = "`mirror.stream.overlap`, `mirror.layout.reader.Nothing` and `nothing` in `mirror.retry`"
    assert modules(text) == {
        "mirror.stream.overlap",
        "mirror.layout.reader.Nothing",
        "mirror.retry.nothing",
        "mirror.retry",
    }
    assert {name for name in modules(text) if name_exists(name)} == {"mirror.retry"}
