"""Compare the two lists of images in an archive.

A docker archive has two: `index.json`, which containerd reads and mirror verifies, and `manifest.json`, which older
versions of docker load. If they lead to different content, one tool verifies what another one does not run (see
CVE-2021-41190).
"""

from __future__ import annotations

from collections.abc import Iterator

from mirror.archive import docker_manifest
from mirror.archive.docker_manifest import FILE, Image
from mirror.content.finding import Finding, Kind, Severity, reason
from mirror.errors import ContentError
from mirror.layout.blobs import place
from mirror.oci.descriptor import DOCKER_MANIFEST, OCI_MANIFEST
from mirror.verify.structure import Structure


def disagreements(listed: bytes, structure: Structure) -> Iterator[Finding]:
    """Yield a finding for each image of `manifest.json`, given as `listed`, that `index.json` does not lead to.

    `structure` is the archive, walked from every entry of its `index.json`.
    """
    if not structure.is_whole:
        yield not_comparable(Severity.UNVERIFIED, "too many manifests")
        return
    named = _images(structure)
    everything = {image for images in named.values() for image in images}
    try:
        for image, names in docker_manifest.images_of(listed):
            for name in names or [""]:
                if image not in named.get(name, everything):
                    shown = name or "an image without a name"
                    yield Finding(Kind.AMBIGUOUS_ARCHIVE, Severity.ERROR, FILE, shown, "another image")
    except ContentError as error:
        yield not_comparable(Severity.ERROR, reason(error, FILE))


def not_comparable(severity: Severity, found: str) -> Finding:
    """Return the finding for a `manifest.json` that cannot be compared."""
    return Finding(Kind.AMBIGUOUS_ARCHIVE, severity, FILE, None, found)


def _images(structure: Structure) -> dict[str, set[Image]]:
    """Return the images of `index.json` as `manifest.json` would list them, by name."""
    table = structure.table
    found: dict[str, set[Image]] = {name: set() for root in structure.roots for name in root.names}
    for number in range(len(table)):
        links = structure.documents.links(number)
        if not links or table.media_type(number) not in (OCI_MANIFEST, DOCKER_MANIFEST):
            continue
        config, *layers = (place(table.digest(link)) for link in links)  # both types have a config
        for root in {use.image for use in table.uses(number)}:
            for name in structure.roots[root].names:
                found[name].add((config, tuple(layers)))
    return found
