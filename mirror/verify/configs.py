"""What the config of an image has to agree with: the layers of its manifest, and the platform that an index gives it.

OCI image-spec, config.md. Configs of artifacts are something else, and are not looked at; nor are those of
attestations, whose platform is `unknown/unknown`. Pure: bytes in, findings out.
"""

from __future__ import annotations

from collections.abc import Iterator

from mirror.content.finding import Finding, Kind, Severity
from mirror.errors import ContentError
from mirror.oci.descriptor import CONFIG_TYPES, Platform
from mirror.oci.digest import Digest
from mirror.oci.manifest import Document
from mirror.strictjson import Fields
from mirror.text import count


class Config:
    """The config of an image, as far as it can be compared. `subject` is the digest of its manifest."""

    def __init__(self, data: bytes, subject: str) -> None:
        """Parse it.

        Raises:
            ContentError: it is no config.
        """
        self._subject, self._fields = subject, Fields.load(data, "")
        self.platform = Platform.from_fields(self._fields)
        # Nobody runs an attestation, so nothing has to agree.
        self.is_attestation = self._fields.get("os") == self._fields.get("architecture") == "unknown"
        self.diff_ids = [] if self.is_attestation else self._read_diff_ids()

    def _read_diff_ids(self) -> list[Digest]:
        rootfs = self._fields.nested("rootfs") or self._fields.missing("rootfs")
        if rootfs.get("type") != "layers":
            raise rootfs.invalid("'type' is not 'layers'")
        return [Digest.parse(text) for text in rootfs.array("diff_ids")]

    def compare(self, document: Document, offered: Platform | None) -> Iterator[Finding]:
        """Compare it with its manifest, and with the platform of its entry in an index."""
        if self.is_attestation:
            return
        if len(self.diff_ids) != len(document.layers):
            found = f"{len(self.diff_ids)} diff_ids in the config"
            yield self._finding(Kind.LAYER_COUNT, Severity.ERROR, count(len(document.layers), "layer"), found)
        yield from self._history(len(document.layers))
        if offered:
            yield from self._platforms(offered, self.platform)

    def _history(self, layers: int) -> Iterator[Finding]:
        try:
            history = list(self._fields.objects("history"))
        except ContentError as error:
            yield broken(self._subject, error)
            return
        steps = sum(not step.document.get("empty_layer") for step in history)
        if history and steps != layers:
            found = f"{count(steps, 'step')} of the history with a layer"
            yield self._finding(Kind.HISTORY_COUNT, Severity.WARNING, count(layers, "layer"), found)

    def _platforms(self, offered: Platform, own: Platform) -> Iterator[Finding]:
        pairs = [(offered.os, own.os), (offered.architecture, own.architecture)]
        differ = any(one != other for one, other in pairs if "unknown" not in (one, other))
        if differ or (offered.variant and own.variant and offered.variant != own.variant):
            yield self._finding(
                Kind.WRONG_PLATFORM, Severity.ERROR, f"{offered} as in the index", f"{own} in the config"
            )
        elif bool(offered.variant) != bool(own.variant):
            yield self._finding(Kind.VARIANT, Severity.WARNING, f"{offered} as in the index", f"{own} in the config")

    def _finding(self, kind: Kind, severity: Severity, expected: str, found: str) -> Finding:
        return Finding(kind, severity, self._subject, expected, found)


def applies(document: Document, offered: Platform | None) -> bool:
    """Whether a manifest is an image's, with a config that says what its layers unpack to."""
    attestation = offered is not None and not offered.known
    return document.config is not None and document.config.media_type in CONFIG_TYPES and not attestation


def broken(subject: str, error: ContentError) -> Finding:
    return Finding(Kind.BROKEN_CONFIG, Severity.ERROR, subject, "a valid image config", str(error))
