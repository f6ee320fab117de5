"""The tutorial shows what the commands print."""

import pytest

from tests import tutorial


@pytest.mark.slow
def test_the_tutorial_shows_what_the_commands_print() -> None:
    page = tutorial.PAGE.read_text()
    assert tutorial.without_durations(tutorial.replayed(page)) == tutorial.without_durations(page), (
        "update the page with: python -m tests.tutorial --write"
    )
