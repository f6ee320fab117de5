"""Compare the config of an image with the layers of its manifest, and with its platform in an index.

OCI image-spec, config.md. The configs of artifacts and of attestations (platform `unknown/unknown`) are not checked.
"""

from __future__ import annotations

from collections.abc import Iterator

from mirror.content.finding import Finding, Kind, Severity, reason
from mirror.errors import ContentError
from mirror.oci.descriptor import CONFIG_TYPES, Platform
from mirror.oci.digest import Digest
from mirror.oci.manifest import Document
from mirror.strictjson import Fields
from mirror.text import count

_RUNTIME_FIELDS = ("Entrypoint", "Cmd", "Env", "User")  # what a container runs, and as which user


class Config:
    """The config of an image. `subject` is the digest of its manifest."""

    def __init__(self, data: bytes, subject: str) -> None:
        self._subject, self._fields = subject, Fields.load(data, "")
        self._platform = Platform.from_fields(self._fields)
        self._is_attestation = self._fields.get("os") == self._fields.get("architecture") == "unknown"
        self.diff_ids: list[Digest] = []
        if not self._is_attestation:
            rootfs = self._fields.nested("rootfs") or self._fields.missing("rootfs")
            if rootfs.get("type") != "layers":
                raise rootfs.invalid("'type' is not 'layers'")
            self.diff_ids = [Digest.parse(text) for text in rootfs.array("diff_ids")]

    def compare(self, document: Document, listed: Platform | None) -> Iterator[Finding]:
        """Compare the config with its manifest, and with the platform that an index gives the manifest."""
        if self._is_attestation:
            return
        layers = count(len(document.layers), "layer")
        if len(self.diff_ids) != len(document.layers):
            yield self._finding(Kind.LAYER_COUNT, Severity.ERROR, layers, count(len(self.diff_ids), "diff_id"))
        try:
            history = list(self._fields.objects("history"))
        except ContentError as error:
            yield broken(self._subject, error)
        else:
            steps = sum(not step.document.get("empty_layer") for step in history)
            if history and steps != len(document.layers):
                found = f"{count(steps, 'step')} with a layer"
                yield self._finding(Kind.HISTORY_COUNT, Severity.WARNING, layers, found)
        try:
            self._read_runtime()
        except ContentError as error:
            yield broken(self._subject, error)
        if listed:
            yield from self._compare_platforms(listed, self._platform)

    def _read_runtime(self) -> None:
        """Raise ContentError if two readers could run the image differently. The types of fields are not checked."""
        if runtime := self._fields.nested("config"):
            for name in _RUNTIME_FIELDS:
                runtime.get(name)

    def _compare_platforms(self, listed: Platform, config: Platform) -> Iterator[Finding]:
        pairs = [(listed.os, config.os), (listed.architecture, config.architecture)]
        differ = any(one != other for one, other in pairs if "unknown" not in (one, other))
        if differ or (listed.variant and config.variant and listed.variant != config.variant):
            yield self._finding(Kind.WRONG_PLATFORM, Severity.ERROR, str(listed), str(config))
        elif bool(listed.variant) != bool(config.variant):
            yield self._finding(Kind.VARIANT, Severity.WARNING, str(listed), str(config))

    def _finding(self, kind: Kind, severity: Severity, expected: str, found: str) -> Finding:
        return Finding(kind, severity, self._subject, expected, found)


def applies(document: Document, listed: Platform | None) -> bool:
    """Return whether a manifest is that of an image, with a config to compare."""
    is_attestation = listed is not None and not listed.known
    return document.config is not None and document.config.media_type in CONFIG_TYPES and not is_attestation


def broken(subject: str, error: ContentError) -> Finding:
    """Return the finding for a config that is not valid."""
    return Finding(Kind.BROKEN_CONFIG, Severity.ERROR, subject, "a valid image config", reason(error))
