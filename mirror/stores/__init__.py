"""Locations of images as users type them, and the stores that are opened there.

`location`         parse `docker://IMAGE`, `oci:PATH`, `oci-archive:PATH`, `docker-archive:PATH`, a name or a path
`images`           the interface of every store: its images by name, and their content
`local`            the images of a layout or an archive
`remote`           images of registries, with their referrers from `find_referrers`; loads an HTTP client
`open`             open the store at a location; loads an HTTP client if it is a registry
`outputs`          refuse output files that would destroy an input
"""
