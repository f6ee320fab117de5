"""Tests that dependencies agree with their lock, and the source with the documentation."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
NEEDED = {
    "dev": [*PROJECT["project"]["dependencies"], *PROJECT["dependency-groups"]["dev"]],
    "release": PROJECT["dependency-groups"]["release"],
}
LOCKS = sorted(NEEDED)


def lock(group: str) -> str:
    return (ROOT / "requirements" / f"{group}.txt").read_text()


def locked(group: str) -> dict[str, str]:
    """Return the version of each locked package."""
    return dict(re.findall(r"^([\w.-]+)==([\w.]+)", lock(group), re.MULTILINE))


@pytest.mark.parametrize("group", LOCKS)
def test_the_lock_satisfies_the_requirements_of_the_project(group: str) -> None:
    versions = locked(group)
    for requirement in map(Requirement, NEEDED[group]):
        assert versions.get(canonicalize_name(requirement.name), "none") in requirement.specifier


@pytest.mark.parametrize("group", LOCKS)
def test_every_package_in_the_lock_has_a_hash(group: str) -> None:
    entries = re.split(r"^(?=[\w.-]+==)", lock(group), flags=re.MULTILINE)[1:]
    assert [entry.splitlines()[0] for entry in entries if "--hash=sha256:" not in entry] == []


@pytest.mark.parametrize("group", LOCKS)
def test_the_lock_names_no_index_and_no_path(group: str) -> None:
    assert re.findall(r"://|--(?:index|extra|find|trusted)\S*|^-|^/|@ ", lock(group), re.MULTILINE) == []


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 200


def test_every_page_that_the_source_refers_to_exists() -> None:
    text = "\n".join(path.read_text() for path in (ROOT / "mirror").rglob("*.py"))
    named = set(re.findall(r"\bdocs/(?:adr|explanation|how-to|reference)/[\w./-]*\w|\bdocs/\w+\.md", text))
    assert named
    assert sorted(page for page in named if not list(ROOT.glob(f"{page}*"))) == []
