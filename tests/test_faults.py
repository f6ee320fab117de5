"""Tests that tests/faults.md names existing tests for every fault."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FAULTS = (ROOT / "tests" / "faults.md").read_text()
COUNT = 57

_ENTRY = re.compile(r"^## (\d+)\. (.+)\n\n- Tests: (.+)\n- Related: (.+)$", re.MULTILINE)
_ENTRIES = {int(number): (tests, related) for number, _, tests, related in _ENTRY.findall(FAULTS)}


@cache
def names_in(path: str) -> frozenset[str]:
    """Return the names of the tests in a file, and of its test classes."""
    tree = ast.parse((ROOT / path).read_text())
    named = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    assigned = {
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    return frozenset({node.name for node in ast.walk(tree) if isinstance(node, named)} | assigned)


def test_every_fault_has_an_entry() -> None:
    assert list(_ENTRIES) == list(range(1, COUNT + 1))


@pytest.mark.parametrize("number", range(1, COUNT + 1))
def test_the_tests_of_a_fault_exist(number: int) -> None:
    tests, related = _ENTRIES[number]
    nodes = re.findall(r"`(tests/[\w/]+\.py)::(\w+)[^`]*`", tests)
    assert nodes
    assert [f"{path}::{name}" for path, name in nodes if name not in names_in(path)] == []
    assert len(related) > len("None.")
