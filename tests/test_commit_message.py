"""Tests of `scripts/commit-message`, which checks the subject of a commit."""

import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "commit-message"


def check(path: Path, message: str) -> "subprocess.CompletedProcess[str]":
    path.write_text(message)
    return subprocess.run([SCRIPT, path], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "subject",
    [
        "registry: retry a refused Range without it",
        "registry, layout: share the retry policy",
        "registry/auth: need no second token",
        "ci: bring back the newest Python",
        "Merge branch 'main' into topic",
        'Revert "registry: retry a refused Range without it"',
        "fixup! registry: retry a refused Range without it",
    ],
)
def test_a_good_subject_passes(tmp_path: Path, subject: str) -> None:
    assert check(tmp_path / "message", f"{subject}\n\nWhy it is so. Added on purpose.\n").returncode == 0


@pytest.mark.parametrize(
    ("subject", "why"),
    [
        ("", "does not begin with an area"),
        ("retry a refused Range without it", "does not begin with an area"),
        ("Registry: retry it", "does not begin with an area"),
        ("registry: Retry it", "does not begin with an area"),
        ("registry: retried it", "'retried' is not an imperative"),
        ("registry: retrying it", "'retrying' is not an imperative"),
        ("registry: fixes it", "'fixes' is not an imperative"),
        ("registry: retry it.", "ends with a full stop"),
        ("registry: retry " + "x" * 60, "has 76 characters"),
    ],
)
def test_a_bad_subject_is_rejected_with_a_reason_and_an_example(tmp_path: Path, subject: str, why: str) -> None:
    done = check(tmp_path / "message", subject + "\n")
    assert done.returncode == 1
    assert why in done.stderr
    assert "for example: registry: retry a refused Range without it" in done.stderr
