"""Archives of images: a layout in a tar archive, or what `docker save` writes. Nothing is ever unpacked.

`header`     one block of 512 bytes, read and written
`members`    one pass over the headers, and all that is refused
`tar`        the open file
`listing`    manifest.json, docker's own list of images
`docker`     docker's own form, shown as a layout
`files`      where the bytes of each file of the layout are
`reader`     an archive as a source
`spool`      … that comes from stdin
`agreement`  whether the two lists of images in one archive agree
`inventory`  an archive as something to verify
`member`     one blob of an archive that is being written
`writer`     an archive as a sink
"""
