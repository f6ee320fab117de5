"""Tests of the results of `scripts/bench`: where they are kept, and how they get into the documentation."""

from pathlib import Path

import pytest

from tests.bench import page
from tests.bench.cases import CASES
from tests.bench.results import Results
from tests.bench.table import Row, render

ROW = Row("pull, wall / skopeo", "1.00 s", "2.00 s", "0.50", 5, "≤ 0.4", False)
OTHER = Row("push, peak memory", "60 MiB", "", "", 3)


def test_the_table_replaces_what_is_between_the_two_lines(tmp_path: Path) -> None:
    file = tmp_path / "page.md"
    file.write_text(f"# Benchmarks\n\n{page.BEGIN}\n\nold\n\n{page.END}\n\nprose\n")
    page.write(file, render([ROW]))
    page.write(file, "new")
    assert file.read_text() == f"# Benchmarks\n\n{page.BEGIN}\n\nnew\n\n{page.END}\n\nprose\n"


@pytest.mark.parametrize("missing", [page.BEGIN, page.END])
def test_a_page_without_the_two_lines_is_left_alone(tmp_path: Path, missing: str) -> None:
    file = tmp_path / "page.md"
    text = f"{page.BEGIN}\nold\n{page.END}\n".replace(missing, "")
    file.write_text(text)
    with pytest.raises(SystemExit, match=r"page\.md"):
        page.write(file, "new")
    assert file.read_text() == text


def test_the_documentation_has_the_two_lines() -> None:
    text = page.PAGE.read_text()
    assert text.count(f"{page.BEGIN}\n") == text.count(f"{page.END}\n") == 1
    assert text.index(page.BEGIN) < text.index(page.END)


def test_results_of_the_same_day_and_machine_are_kept(tmp_path: Path) -> None:
    file = tmp_path / "build/bench.json"
    Results(file, "2026-01-02", "this").save("pull", [ROW])
    Results(file, "2026-01-02", "this").save("push", [OTHER])
    assert Results(file, "2026-01-02", "this").rows == {"pull": [ROW], "push": [OTHER]}


@pytest.mark.parametrize(("day", "machine"), [("2026-01-03", "this"), ("2026-01-02", "other")])
def test_results_of_another_day_or_machine_are_forgotten(tmp_path: Path, day: str, machine: str) -> None:
    file = tmp_path / "bench.json"
    Results(file, "2026-01-02", "this").save("pull", [ROW])
    results = Results(file, day, machine)
    assert results.rows == {}
    results.save("push", [OTHER])
    assert Results(file, day, machine).rows == {"push": [OTHER]}


def test_every_benchmark_names_its_commands() -> None:
    assert {name for name, case in CASES.items() if not case.commands} == set()
