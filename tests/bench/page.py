"""The page of the documentation: what was measured is between two lines, and is written by this program."""

from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs/explanation/benchmarks.md"
BEGIN = "<!-- scripts/bench --write: begin -->"
END = "<!-- scripts/bench --write: end -->"


def write(path: Path, text: str) -> None:
    """Replace what is between the two lines in a file."""
    before, begin, rest = path.read_text().partition(f"{BEGIN}\n")
    _, end, after = rest.partition(f"{END}\n")
    if not begin or not end:
        raise SystemExit(f"{path}: the lines {BEGIN} and {END} are missing.")
    path.write_text(f"{before}{begin}\n{text}\n\n{end}{after}")
