"""Whether the two lists of images in one archive agree.

An archive for docker has two: `index.json`, which containerd reads and mirror verifies, and `manifest.json`, which
older dockers load. If they lead to different content, one tool verifies what another one runs (as CVE-2021-41190).
"""

from __future__ import annotations

from collections.abc import Iterator

from mirror.archive import docker_manifest
from mirror.archive.docker_manifest import Image
from mirror.content.finding import Finding, Kind, Severity
from mirror.errors import ContentError
from mirror.layout.blobs import place
from mirror.oci.descriptor import DOCKER_MANIFEST, OCI_MANIFEST
from mirror.verify.structure import Structure


def disagreements(listed: bytes, structure: Structure) -> Iterator[Finding]:
    """What `manifest.json` lists and `index.json` does not lead to. What is wrong with the latter is said elsewhere.

    Args:
        listed: the content of `manifest.json`.
        structure: the archive, walked from every entry of its `index.json`.
    """
    if not structure.is_whole:
        yield finding(Severity.UNVERIFIED, "more manifests than can be compared")
        return
    named = _images(structure)
    everything = {image for images in named.values() for image in images}
    try:
        for image, names in docker_manifest.images_of(listed):
            for name in names or [""]:
                if image not in named.get(name, everything):
                    yield finding(Severity.ERROR, f"another one {name}".rstrip())
    except ContentError as error:
        yield finding(Severity.ERROR, str(error))


def finding(severity: Severity, found: str) -> Finding:
    return Finding(Kind.AMBIGUOUS_ARCHIVE, severity, docker_manifest.FILE, "the same images as in index.json", found)


def _images(structure: Structure) -> dict[str, set[Image]]:
    """The images that `index.json` leads to, as `manifest.json` would list them, by the names of its entries."""
    table = structure.ledger
    found: dict[str, set[Image]] = {name: set() for root in structure.roots for name in root.names}
    for number in range(len(table)):
        links = structure.documents.links(number)
        if not links or table.media_type(number) not in (OCI_MANIFEST, DOCKER_MANIFEST):
            continue
        config, *layers = (place(table.digest(link)) for link in links)  # both types of manifest have a config
        for root in {use.image for use in table.uses(number)}:
            for name in structure.roots[root].names:
                found[name].add((config, tuple(layers)))
    return found
