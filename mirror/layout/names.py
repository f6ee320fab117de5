"""The annotations that name images in a layout, as mirror and other tools write them.

    io.containerd.image.name             the full name       containerd, BuildKit, nerdctl, mirror
    org.opencontainers.image.ref.name    a tag, or any name  all tools; its grammar forbids `__`, which tags may contain

Annotations are only ever used as names, never as paths (CVE-2025-62725).
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping
from dataclasses import replace

from mirror.errors import InvalidReference
from mirror.oci.reference import Reference, is_tag

IMAGE_NAME = "io.containerd.image.name"
REF_NAME = "org.opencontainers.image.ref.name"

KIND = "kind"  # of an entry of cosign: an image, its signatures or its attestations (pkg/oci/layout in cosign)
NAMING = (IMAGE_NAME, REF_NAME, KIND)
_ATTACHED = {"dev.cosignproject.cosign/sigs": "sig", "dev.cosignproject.cosign/atts": "att"}
_SIGNED = ("dev.cosignproject.cosign/image", "dev.cosignproject.cosign/imageIndex")

# Facts that mirror records with an image: annotations are copied with it, while sidecar files get lost.
ORIGIN = "dev.oci-mirror.origin"  # registry/repository[:tag]@digest as it was pulled
SPARSE = "dev.oci-mirror.sparse"  # the children that were kept, comma-separated; the others are intentionally absent
FOREIGN = "dev.oci-mirror.foreign"  # the foreign layers that are intentionally absent, comma-separated

# OCI image-spec, annotations.md, org.opencontainers.image.ref.name
_PART = r"[A-Za-z0-9]+(?:(?:[-._:@+]|--)[A-Za-z0-9]+)*"
_VALID_REF_NAME = re.compile(rf"{_PART}(?:/{_PART})*", re.ASCII)


def full_name(annotations: Mapping[str, str]) -> Reference | None:
    """Return the full name of an image; None if the annotations contain at most a tag.

    umoci changes the tag of an image by changing its ref.name only, so a tag in ref.name takes precedence, and so does
    another name with a slash, such as `v1.2/stable`. cosign gives signatures the name of their image, which is
    therefore not theirs.
    """
    if attachment(annotations):
        return None
    ref_name = annotations.get(REF_NAME, "")
    if "/" in ref_name and ref_name != annotations.get(IMAGE_NAME) and not _is_image_name(ref_name):
        return None
    for text in (annotations.get(IMAGE_NAME), ref_name):
        if text and ("/" in text or ":" in text or "@" in text):
            try:
                found = Reference.parse(text)
            except InvalidReference:
                continue
            return replace(found, tag=ref_name, digest=None) if is_tag(ref_name) else found
    return None


def _is_image_name(ref_name: str) -> bool:
    """Return whether a ref.name with a slash is the name of an image: it has a registry, a tag or a digest.

    `v1.2` is not a registry: the last part of a host name is a word, unless it is an IP address.
    """
    first, _, rest = ref_name.partition("/")
    host, port, _ = first.partition(":")
    labels = host.split(".")
    is_address = len(labels) == 4 and all(label.isdigit() for label in labels)
    if len(labels) > 1 and labels[-1].isdigit() and not is_address:
        return False
    return bool(port) or host == "localhost" or len(labels) > 1 or ":" in rest or "@" in rest


def bare_tag(annotations: Mapping[str, str]) -> str | None:
    """Return the tag of an image whose layout does not record its repository (skopeo, umoci, oras), if any."""
    text = None if attachment(annotations) else annotations.get(REF_NAME)
    return text if text and is_tag(text) and full_name(annotations) is None else None


def annotate(name: str, taken: Container[str]) -> dict[str, str]:
    """Return the annotations that name an image `name`; `taken` are the ref.names of other images.

    The ref.name is the tag, as most tools expect; the full name if the tag is taken; absent if it would not be valid.
    """
    short = Reference.parse(name).tag or name
    ref_name = name if short in taken else short
    return {IMAGE_NAME: name} | ({REF_NAME: ref_name} if _VALID_REF_NAME.fullmatch(ref_name) else {})


def described(text: str) -> dict[str, str]:
    """Return the annotations for a text that is not a name of an image; none if an annotation may not have it."""
    return {REF_NAME: text} if _VALID_REF_NAME.fullmatch(text) else {}


def given(annotations: Mapping[str, str]) -> dict[str, str]:
    """Return the annotations that name an image."""
    if attachment(annotations):
        return {}
    return {key: text for key, text in annotations.items() if key in (IMAGE_NAME, REF_NAME)}


def attachment(annotations: Mapping[str, str]) -> str | None:
    """Return the kind of tag that an entry of cosign has in a registry, `sig` or `att`; None for other entries."""
    return _ATTACHED.get(annotations.get(KIND, ""))


def is_signed(annotations: Mapping[str, str]) -> bool:
    """Return whether an entry of cosign is the image that the signatures in its layout belong to."""
    return annotations.get(KIND) in _SIGNED
