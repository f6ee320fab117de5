"""Tests of the pages that show the output of commands."""

import re
from pathlib import Path

import pytest

from tests import readme, tutorial


@pytest.mark.slow
@pytest.mark.parametrize("page", tutorial.PAGES, ids=lambda page: page.stem)
def test_the_page_shows_the_output_of_the_commands(page: Path) -> None:
    text = page.read_text()
    assert tutorial.without_varying(tutorial.replayed(text)) == tutorial.without_varying(text), (
        "update the page with: python -m tests.tutorial --write"
    )


def test_every_schema_in_the_reference_has_an_example() -> None:
    schemas = set(re.findall(r"`(mirror\.\w+/\d)`", (tutorial.DOCS / "reference" / "json.md").read_text()))
    examples = re.findall(
        r'"schema": "(mirror\.\w+/\d)"', (tutorial.DOCS / "reference" / "json-examples.md").read_text()
    )
    assert schemas - {"mirror.error/1"} == set(examples)  # that of an unknown command


def test_every_command_with_json_is_in_the_reference() -> None:
    with_json = {name for name in readme.commands() if "--json" in readme.flags(name)}
    documented = set(re.findall(r"`mirror\.(\w+)/\d`", (tutorial.DOCS / "reference" / "json.md").read_text()))
    assert documented - {"receipt", "error"} == with_json
