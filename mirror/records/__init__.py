"""Digest records: pages that list what an image consists of, to be carried separately from it.

A layout can prove only that it agrees with itself. A record that was received separately says what was published: the
digest of the index and, for each platform, its manifest, image ID and layers with sizes, entrypoint, command and
history. The format is that of docker-library/repo-info, which publishes such pages for Docker's official images.

    `document`    the values
    `formatting`  sizes, dates, platforms and lists: value → text, text → value
    `history`     the history of a config as lines of a Dockerfile
    `build`       manifests and configs → a record
    `markdown`    a record → a page
    `json`        records → JSON
    `parsing`     a page → records, or an error that names the line
    `compare`     two records → the differences, side by side
    `capture`     an image of a registry or a layout → a record

Only `capture` does I/O.
"""

from mirror.records.build import ModificationTimes, build_record, image_configs
from mirror.records.compare import Comparison, Difference, NotCompared, Reason, compare
from mirror.records.document import Record
from mirror.records.markdown import markdown
from mirror.records.parsing import CAP, parse_records

__all__ = [
    "CAP",
    "Comparison",
    "Difference",
    "ModificationTimes",
    "NotCompared",
    "Reason",
    "Record",
    "build_record",
    "compare",
    "image_configs",
    "markdown",
    "parse_records",
]
