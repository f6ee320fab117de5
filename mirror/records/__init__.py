"""Digest records: what an image consists of, on a page that a person can read and carry apart from the image.

A layout can prove only that it agrees with itself. A record that came another way says what was published: the digest
of the list, and for each platform its manifest, image ID and layers, with sizes, entrypoint, command and history.
The form is that of docker-library/repo-info, which publishes such pages for Docker's official images.

    `document`  the values
    `figures`   sizes, dates, platforms and lists: value → text, text → value
    `history`   a config's history as lines of a Dockerfile
    `describe`  manifests and configs → a record
    `markdown`  a record → the page
    `parsing`   the page → records, or an error that names the line
    `compare`   two records → what differs, side by side

Pure: bytes in, values out.
"""

from mirror.records.compare import NOT_IN_PART, Comparison, Difference, Uncompared, compare
from mirror.records.describe import Modified, configs_of, describe
from mirror.records.document import Record, RecordedImage, RecordedLayer, RecordedManifest, Runtime, Step
from mirror.records.markdown import markdown
from mirror.records.parsing import CAP, parse_records

__all__ = [
    "CAP",
    "NOT_IN_PART",
    "Comparison",
    "Difference",
    "Modified",
    "Record",
    "RecordedImage",
    "RecordedLayer",
    "RecordedManifest",
    "Runtime",
    "Step",
    "Uncompared",
    "compare",
    "configs_of",
    "describe",
    "markdown",
    "parse_records",
]
