"""The kinds of findings: each has a word, a hint, a place in the documentation, and a line of code that finds it."""

import re
from pathlib import Path

import pytest

from mirror.content.finding import HINTS, LOG_IN, REGISTRY_HINTS, Finding, Kind, Severity
from mirror.content.hashing import BlobFault

ROOT = Path(__file__).parents[2]


def documented() -> dict[str, list[str]]:
    """The rows of the table: severity, meaning, example and advice of each kind."""
    rows = [line.strip("|").split("|") for line in (ROOT / "docs/reference/findings.md").read_text().splitlines()]
    cells = [[cell.strip() for cell in row] for row in rows if len(row) == 5]
    return {cell[0].strip("`"): cell[1:] for cell in cells if cell[0].startswith("`")}


def test_every_kind_is_documented_and_every_documented_kind_is_there() -> None:
    assert list(documented()) == list(map(str, Kind))


@pytest.mark.parametrize("kind", Kind)
def test_a_documented_kind_has_a_severity_a_meaning_an_example_and_the_advice_that_is_given(kind: Kind) -> None:
    severity, meaning, example, advice = documented()[kind]
    assert severity in set(Severity)
    assert meaning
    assert "expected" in example
    assert "found" in example
    assert advice == HINTS[kind]


def test_the_advice_for_registries_is_documented() -> None:
    rows = [line.strip("|").split("|") for line in (ROOT / "docs/reference/findings.md").read_text().splitlines()]
    cells = [[cell.strip() for cell in row] for row in rows if len(row) == 2]
    documented = {kind.strip("`"): advice for kind, advice in cells if kind.startswith("`")}
    expected = {str(kind): advice for kind, advice in REGISTRY_HINTS.items()}
    assert documented == {**expected, "unreadable`, after a 401 or a 403": LOG_IN}


@pytest.mark.parametrize("kind", Kind)
def test_a_kind_can_be_found(kind: Kind) -> None:
    modules = [path for path in (ROOT / "mirror").rglob("*.py") if path.name != "finding.py"]
    used = {name for path in modules for name in re.findall(r"\bKind\.([A-Z_]+)", path.read_text())}
    assert kind.name in used or str(kind) in set(BlobFault)


@pytest.mark.parametrize("flaw", BlobFault)
def test_every_flaw_of_a_blob_is_a_kind(flaw: BlobFault) -> None:
    assert str(flaw) in set(Kind)


def test_a_finding_of_many_images_names_fifty_in_json_and_counts_the_rest() -> None:
    images = tuple(map(str, range(250)))
    found = Finding(Kind.MISSING, Severity.ERROR, "sha256:0", "a file", "nothing", images).to_json()
    assert (found["images"], found["moreImages"]) == (list(images[:50]), 200)
