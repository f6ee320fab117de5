"""Locations of images as users type them, and the stores that are opened there.

`location`   parse `docker://IMAGE`, `oci:PATH`, `oci-archive:PATH`, `docker-archive:PATH`, or a plain name or path
`images`     the interface of every store: its images by name, and their content
`local`      the images of a layout or an archive
`discovery`  the referrers of images in registries
`remote`     images of registries; with `open`, the only modules here that load an HTTP client
`open`       open the store at a location
"""

from mirror.stores.images import ImageStore, StoreImage
from mirror.stores.location import Location, Transport

__all__ = ["ImageStore", "Location", "StoreImage", "Transport"]
