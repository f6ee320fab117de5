"""The tutorial shows what the commands print."""

from tests import tutorial


def test_the_tutorial_shows_what_the_commands_print() -> None:
    page = tutorial.PAGE.read_text()
    assert tutorial.without_durations(tutorial.replayed(page)) == tutorial.without_durations(page), (
        "update the page with: python -m tests.tutorial --write"
    )
