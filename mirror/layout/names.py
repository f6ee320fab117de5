"""How images are called in a layout: by us, and by every tool whose layouts we read.

    io.containerd.image.name             the full name       containerd, BuildKit, nerdctl, mirror
    org.opencontainers.image.ref.name    a tag, or any name  everybody; its grammar has no `__`, which tags may have

Annotations are names only, never paths (CVE-2025-62725).
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping
from dataclasses import replace

from mirror.errors import InvalidReference
from mirror.oci.reference import Reference, is_tag

IMAGE_NAME = "io.containerd.image.name"
REF_NAME = "org.opencontainers.image.ref.name"

# What mirror itself records with an image. Sidecar files get lost in copies; annotations travel.
ORIGIN = "dev.oci-mirror.origin"  # registry/repository[:tag]@digest that was asked for, with the digest that it had
SPARSE = "dev.oci-mirror.sparse"  # the children that were kept, by comma; the others are absent on purpose
FOREIGN = "dev.oci-mirror.foreign"  # the foreign layers that are absent on purpose, by comma

_PART = r"[A-Za-z0-9]+(?:(?:[-._:@+]|--)[A-Za-z0-9]+)*"
_LEGAL = re.compile(
    rf"{_PART}(?:/{_PART})*", re.ASCII
)  # OCI image-spec, annotations.md, org.opencontainers.image.ref.name


def full_name(annotations: Mapping[str, str]) -> Reference | None:
    """The image's whole name, where the annotations give one; a bare tag is none.

    umoci gives an image another tag by another ref.name and copies the rest, so the tag of a ref.name is the last word.
    """
    ref_name = annotations.get(REF_NAME, "")
    for text in (annotations.get(IMAGE_NAME), ref_name):
        if text and ("/" in text or ":" in text or "@" in text):
            try:
                found = Reference.parse(text)
            except InvalidReference:
                continue
            return replace(found, tag=ref_name, digest=None) if is_tag(ref_name) else found
    return None


def bare_tag(annotations: Mapping[str, str]) -> str | None:
    """The tag of an image whose layout does not say which repository it is from (skopeo, umoci, oras)."""
    text = annotations.get(REF_NAME)
    return text if text and is_tag(text) and full_name(annotations) is None else None


def annotate(name: str, taken: Container[str]) -> dict[str, str]:
    """The naming annotations for an image called `name`, where `taken` are the ref.names of other images.

    The tag alone serves most tools best; where it would collide, the full name; where it is illegal, nothing.
    """
    reference = Reference.parse(name)
    short = reference.tag or name
    ref_name = name if short in taken else short
    return {IMAGE_NAME: name} | ({REF_NAME: ref_name} if _LEGAL.fullmatch(ref_name) else {})


def given(annotations: Mapping[str, str]) -> dict[str, str]:
    """Those annotations that name an image."""
    return {key: text for key, text in annotations.items() if key in (IMAGE_NAME, REF_NAME)}
