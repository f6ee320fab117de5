"""Image archives: a layout in a tar archive, or what `docker save` writes. Nothing is ever unpacked.

`header`            tar headers: one block of 512 bytes, parsed and built
`extents`           one pass over the headers, and everything that is refused
`sparse`            files with holes
`tar`               the open file
`docker_manifest`   `manifest.json`, docker's list of images
`docker`            docker archives, presented as a layout
`files`             where the bytes of each file of the layout are
`reader`            an archive as a source, from a file or from stdin
`verifiable`        an archive as a store that can be verified
`member_writer`     one blob of an archive that is being written
`writer`            an archive as a sink

A new kind of archive is recognised by its content in `files`, and by its name in `mirror.stores.location`.
"""
