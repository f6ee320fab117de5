"""OCI image layouts on a disk (OCI image-spec, image-layout.md).

`folder`  directories held open, files that appear whole or not at all, locks
`blobs`   content by digest: look, examine, open
`names`   how images are called in a layout, by us and by every other tool
`index`   index.json: its entries, and a changed copy of its bytes
`reader`  a layout as a source; nothing is ever created
`writer`  a layout as a sink
`inventory` a layout as something to verify
"""

from mirror.layout.index import Entry
from mirror.layout.reader import Layout
from mirror.layout.writer import LayoutWriter

__all__ = ["Entry", "Layout", "LayoutWriter"]
