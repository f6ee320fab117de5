"""Tests of docs/tutorial.md."""

import pytest

from tests import tutorial


@pytest.mark.slow
def test_the_tutorial_shows_the_output_of_the_commands() -> None:
    page = tutorial.PAGE.read_text()
    assert tutorial.without_durations(tutorial.replayed(page)) == tutorial.without_durations(page), (
        "update the page with: python -m tests.tutorial --write"
    )
