"""Tests that CONTRIBUTING.md and the import contract list the same packages."""

import configparser
import re
from pathlib import Path

import mirror

ROOT = Path(__file__).parents[1]
PACKAGE = Path(mirror.__file__).parent


def layers() -> list[str]:
    """Return the modules at the top of the package in the order of the import contract, if they exist."""
    contracts = configparser.ConfigParser()
    contracts.read(ROOT / ".importlinter")
    (contract,) = (one for one in contracts.values() if one.get("containers", "").strip() == "mirror")
    names = re.split(r"[\s|]+", contract["layers"].strip())
    return [name.strip("()") for name in names if exists(name.strip("()"))]


def exists(name: str) -> bool:
    return (PACKAGE / name / "__init__.py").exists() or (PACKAGE / f"{name}.py").exists()


def listed() -> list[str]:
    """Return the names in the table under "Packages"; each has a description."""
    section = (ROOT / "CONTRIBUTING.md").read_text().partition("\n## Packages\n")[2].partition("\n## ")[0]
    return re.findall(r"^\| `(\w+)` \| \S.* \|$", section, re.MULTILINE)


def test_every_package_is_listed_in_the_order_of_the_import_contract() -> None:
    assert listed() == layers()


def test_import_contract_contains_every_package() -> None:
    there = {path.stem for path in PACKAGE.iterdir() if exists(path.stem)} - {"__init__", "__main__"}
    assert set(layers()) == there


def test_at_most_eight_modules_are_outside_of_packages() -> None:
    flat = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__", "__main__"}
    assert len(flat) <= 8
