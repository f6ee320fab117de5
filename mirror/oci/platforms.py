"""Selection of platforms among the descriptors of an index."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mirror.errors import NotFound
from mirror.oci.descriptor import Descriptor, Platform

INDEX = "dev.oci-mirror.index"  # annotation: the published index that the platforms were selected from

_ARM_VARIANTS = ("v7", "v6", "v5", None)  # of 32-bit ARM, by default preference, as in containerd and Docker


def select(children: Sequence[Descriptor], wanted: Iterable[Platform], image: str) -> list[Descriptor]:
    """Return one child for each wanted platform, in the published order; raise the error `absent` if there is none."""
    chosen: set[int] = set()
    for platform in wanted:
        best = min(
            (position for position, child in enumerate(children) if fits(platform, child.platform)),
            key=lambda position: (_rank(platform, children[position].platform), position),
            default=None,
        )
        if best is None:
            raise absent(platform, (child.platform for child in children), image)
        chosen.add(best)
    return [children[position] for position in sorted(chosen)]


def with_attestations(children: Sequence[Descriptor], chosen: Iterable[Descriptor]) -> list[Descriptor]:
    """Return the chosen children and their attestations, in the published order."""
    images = list(chosen)
    digests = {child.digest for child in images}
    return [child for child in children if child in images or child.attests in digests]


def fits(wanted: Platform, offered: Platform | None) -> bool:
    """Return whether an image for `offered` suits `wanted`, whose variant and version may be None to match any."""
    if offered is None or not offered.known or (wanted.os, wanted.architecture) != (offered.os, offered.architecture):
        return False
    if wanted.os_version and wanted.os_version != offered.os_version:
        return False
    return wanted.variant is None or _variant(wanted) == _variant(offered)


def absent(wanted: Platform, offered: Iterable[Platform | None], image: str) -> NotFound:
    """Return the error for a platform that is not available."""
    available = dict.fromkeys(str(platform) for platform in offered if platform and platform.known)
    return NotFound(
        f"{image} has no image for {wanted}.",
        hint=f"It has: {', '.join(available)}." if available else "Its platforms are not known; try --all-platforms.",
    )


def _variant(platform: Platform) -> str | None:
    """Return the variant; 64-bit ARM is v8 by default."""
    return platform.variant or ("v8" if platform.architecture == "arm64" else None)


def _rank(wanted: Platform, offered: Platform | None) -> int:
    variant = offered.variant if offered else None
    if wanted.architecture == "arm" and wanted.variant is None:
        return _ARM_VARIANTS.index(variant) if variant in _ARM_VARIANTS else len(_ARM_VARIANTS)
    return 0 if offered and _variant(offered) == _variant(wanted) else 1
