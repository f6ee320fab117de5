"""Rows that have been measured, in a file, so that a run that was interrupted can be continued, and a row repeated."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from tests.bench.table import Row


class Results:
    """The rows of each benchmark that were measured on one day, on one machine, with one version of everything."""

    def __init__(self, path: Path, day: str, machine: str) -> None:
        """Read the file `path`; what is from another day or machine is forgotten."""
        self._path, self._where = path, {"day": day, "machine": machine}
        saved = json.loads(path.read_text()) if path.exists() else {}
        known = saved.get("where") == self._where
        rows: Mapping[str, Sequence[dict[str, object]]] = saved["rows"] if known else {}
        self.rows = {name: [Row(**row) for row in some] for name, some in rows.items()}  # type: ignore[arg-type]

    def save(self, name: str, rows: Sequence[Row]) -> None:
        """Replace the rows of a benchmark."""
        self.rows[name] = list(rows)
        document = {
            "where": self._where,
            "rows": {key: [asdict(row) for row in some] for key, some in self.rows.items()},
        }
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
