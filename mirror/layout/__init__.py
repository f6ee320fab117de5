"""OCI image layouts on disk (OCI image-spec, image-layout.md).

`blobs`           stored content by digest: find, open and list it, unverified
`names`           the annotations that name the images of a layout, ours and those of other tools
`index`           index.json, parsed: its entries, and finding them by name
`index_editor`    index.json, changed in memory
`index_writer`    index.json on disk, written in batches
`reader`          a layout as a source; `has` hashes a blob before it is reused
`ingest`          a blob that is being written, and how an interrupted one resumes
`writer`          a layout as a sink
`referring`       entries that refer to others, judging by their tags
`referrers`       those entries, with what they lead to
`related`         manifests that may relate to others, read before anything is known about them
`implied`         referrers and children wherever other tools store them, as entries
`verifiable`      a layout as something to verify
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mirror.layout.index import Entry

if TYPE_CHECKING:
    from mirror.layout.reader import Layout
    from mirror.layout.writer import LayoutWriter
else:  # imported on first use: a verification needs neither

    def __getattr__(name: str) -> Any:
        module = {"Layout": "reader", "LayoutWriter": "writer"}.get(name)
        if module is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{module}"), name)


__all__ = ["Entry", "Layout", "LayoutWriter"]
