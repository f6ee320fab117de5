"""Tests of `tests.language`, and that code, documentation and scripts have none of the habits that it finds."""

import re
from pathlib import Path

import pytest

from tests.language import (
    PAGES,
    ROOT,
    SCRIPTS,
    Hit,
    Text,
    comments,
    files,
    hash_comments,
    hits,
    prose,
    strings,
    texts_of,
)

CHECKER = ("language.py", "test_language.py")  # they quote bad English
RIDDLE = re.compile(
    r"^(what|whatever|who|whoever|whom|where|that|those|which|whether)_"
    r"|(?<!there)_(is|are)_no_|(no|some|any|every)body|_(is|are)_(said|told)(_|$)"
)


def parts_of(top: str) -> list[str]:
    """Return the modules and packages of a directory."""
    found = [path for path in (ROOT / top).iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()]
    return sorted(f"{top}/{path.name}" for path in found if path.name not in CHECKER)


def report(paths: list[Path]) -> str:
    found = [f"{path.relative_to(ROOT)}:{hit}" for path in paths for hit in hits(texts_of(path))]
    return "\n".join([f"{len(found)} to rewrite:", *found]) if found else ""


@pytest.mark.parametrize("page", [str(path.relative_to(ROOT)) for path in files(PAGES)])
def test_the_documentation_is_in_plain_english(page: str) -> None:
    if found := report([ROOT / page]):
        pytest.fail(found, pytrace=False)


@pytest.mark.parametrize("script", [str(path.relative_to(ROOT)) for path in files(SCRIPTS)])
def test_comments_of_scripts_and_settings_are_in_plain_english(script: str) -> None:
    if found := report([ROOT / script]):
        pytest.fail(found, pytrace=False)


@pytest.mark.parametrize("part", [*parts_of("mirror"), *parts_of("tests")])
def test_the_code_is_in_plain_english(part: str) -> None:
    if found := report(files([part])):
        pytest.fail(found, pytrace=False)


def test_names_of_tests_are_in_plain_english() -> None:
    names = {name for path in files(["tests"]) for name in re.findall(r"def test_(\w+)", path.read_text())}
    assert len(names) > 1000
    assert [name for name in sorted(names) if RIDDLE.search(name)] == []


# The checker


def docstring(text: str) -> list[Hit]:
    return hits([Text(1, text, is_docstring=True)])


@pytest.mark.parametrize(
    "text",
    [
        "'amd64' is no platform.",
        "These are no images.",
        "None, where nobody is to learn who we are.",
        "Whoever has logged in need not do it again.",
        "A page about whomever.",
        "signed by one whom the user trusts",
        "Who has logged in with docker need not do it again.",
        "What the registry has is skipped.",
        "Sizes are checked. Whatever is left, stays.",
        "Where it is full, the disk is named.",
        "grouped by the images that it hurts",
        "compared with what came another way",
        "If some cannot be had, the image is whole.",
        "Name the one that is meant: what is meant?",
        "hash what is there already",
        "two lists, of which one is empty",
        "the name by which the image is called",
        "The registry gives its word.",
        "What failed is said.",
        "in one buffer or by turns in two",
        "kept, for to allocate costs time",
        "Choose another folder.",
        "a layout from a stranger's stick",
        "whether this core pours",
        "None, since\n    nobody\n    asked.",
    ],
)
def test_a_habit_is_found(text: str) -> None:
    assert hits([Text(1, text)])


@pytest.mark.parametrize(
    "text",
    [
        "'amd64' is not a valid platform.",
        "There is no image, and there are no tags.",
        "It is no longer there, and is no more than 4 MiB.",
        "Is there no network?",
        "Who are you? What changed? Where is it?",
        "Return what was removed, and where it was.",
        "the URL to which the request was sent, and the tags by which signatures are found",
        "pull -o /media/stick/layout",
        "Report which images are affected. It is said to be fast.",
        "Its word count is small.",
        "`folder`: the directory.",
        "another way to write it",
        "Shipping is not supported.",
    ],
)
def test_good_english_is_left_alone(text: str) -> None:
    assert hits([Text(1, text)]) == []


@pytest.mark.parametrize(
    "text", ["What it holds.", "Whether it is there.", "How to pull.", "One that is there.", "That."]
)
def test_a_docstring_that_begins_badly_is_found(text: str) -> None:
    assert docstring(text)


@pytest.mark.parametrize(
    "text", ["Return whether it is there.", "Options of a pull.", "The one image.", "Howling winds."]
)
def test_a_docstring_that_begins_well_is_left_alone(text: str) -> None:
    assert docstring(text) == []


def test_a_hit_has_a_line_a_reason_and_an_alternative() -> None:
    (hit,) = hits([Text(10, "The first line.\n\n    The third: it is no image.\n")])
    assert (hit.line, "it is no image" in hit.found) == (12, True)
    assert str(hit).startswith("12: “")
    assert str(hit).endswith("” — 'x is no y' reads like a riddle; write: 'x' is not a valid y / there is no y")


SOURCE = '''"""A module."""

# A comment that goes
# on for two lines.
NAME = "one"  # beside the code


def function(value: int) -> str:
    """A docstring."""
    return f"{value} of {NAME!r}" "and more"
'''


def test_strings_docstrings_and_comments_are_texts() -> None:
    assert sorted(strings(SOURCE), key=lambda text: text.line) == [
        Text(1, "A module.", is_docstring=True),
        Text(5, "one"),
        Text(9, "A docstring.", is_docstring=True),
        Text(10, "… of …and more"),
    ]
    assert [text for text in comments(SOURCE) if text.text] == [
        Text(3, "A comment that goes\non for two lines."),
        Text(5, "beside the code"),
    ]


SCRIPT = """#!/usr/bin/env bash
# A comment that goes
# on for two lines.
name=${path##*/} # beside the code
    # indented
port=${1#*:}

# the last one: it is no # exception
"""


def test_comments_of_a_script_are_texts() -> None:
    assert [text for text in hash_comments(SCRIPT) if text.text] == [
        Text(2, "A comment that goes\non for two lines."),
        Text(4, "beside the code\nindented"),
        Text(8, "the last one: it is no # exception"),
    ]
    assert [hit.line for hit in hits(hash_comments(SCRIPT))] == [8]


def test_comments_of_scripts_and_settings_are_read() -> None:
    found = {str(path.relative_to(ROOT)) for path in files(SCRIPTS)}
    assert {"pyproject.toml", "mirror.toml", "scripts/test", "scripts/docs_hooks.py", ".ci/run"} <= found
    assert all(texts_of(ROOT / name) for name in found)


PAGE = """# What is left out

A paragraph with `code` and **bold
words**.

```console
$ nobody
```

- one item
- another
1. and a third

| cell | other |
|---|---|
"""


def test_headings_and_code_of_a_page_are_not_prose() -> None:
    assert [text for text in prose(PAGE) if text.text.strip("-")] == [
        Text(3, "A paragraph with x and bold\nwords."),
        Text(10, "one item"),
        Text(11, "another"),
        Text(12, "and a third"),
        Text(14, "cell"),
        Text(14, "other"),
    ]
