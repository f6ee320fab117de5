"""OCI image layouts on disk (OCI image-spec, image-layout.md).

`blobs`           stored content by digest: find, open and list it, unverified
`names`           the annotations that name the images of a layout, ours and those of other tools
`index`           index.json, parsed: its entries, and finding them by name
`index_editor`    index.json, changed in memory
`index_writer`    index.json on disk, written in batches
`reader`          a layout as a source; `has` hashes a blob before it is reused
`ingest`          a blob that is being written, and how an interrupted one resumes
`writer`          a layout as a sink
`referrers`       entries that refer to other entries
`implied`         referrers and children wherever other tools store them, as entries
`verifiable`      a layout as something to verify
"""

from mirror.layout.index import Entry
from mirror.layout.reader import Layout
from mirror.layout.writer import LayoutWriter

__all__ = ["Entry", "Layout", "LayoutWriter"]
