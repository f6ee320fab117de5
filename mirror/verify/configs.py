"""Compare the config of an image with the layers of its manifest, and with its platform in an index.

OCI image-spec, config.md. The configs of artifacts and of attestations (platform `unknown/unknown`) are not checked.
Each check is independent of the others: one unusual field does not hide what is wrong with the rest.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from mirror.content.finding import Finding, Kind, Severity, reason
from mirror.errors import ContentError
from mirror.oci.descriptor import CONFIG_TYPES, Platform
from mirror.oci.digest import Digest
from mirror.oci.manifest import Document
from mirror.strictjson import Fields, loads
from mirror.text import count

_RUNTIME_FIELDS = ("Entrypoint", "Cmd", "Env", "User")  # what a container runs, and as which user


class Config:
    """The config of an image, `digest`; `manifest` is the digest of its manifest.

    `diff_ids` are those of the layers, in order, with None for one that is not a digest.
    """

    def __init__(self, data: bytes, digest: str, manifest: str) -> None:
        """Parse it; raise InvalidContent if it is not JSON, or if its rootfs can be read in two ways."""
        self._digest, self._manifest = digest, manifest
        # OPA, Helm and ORAS give a config of their own, often {} or nothing, the media type of an image's config.
        body = loads(data, "") if data else {}
        self._fields = Fields(body if isinstance(body, dict) else {}, "")
        self._rootfs = self._fields.nested("rootfs")
        self.diff_ids: list[Digest | None] = []

    def compare(self, document: Document, listed: Platform | None) -> Iterator[Finding]:
        """Compare the config with its manifest, and with the platform that an index gives the manifest."""
        if self._fields.document.get("os") == self._fields.document.get("architecture") == "unknown":
            return
        if self._rootfs is None:
            yield self._not_an_image(listed)
            return
        checks = (
            self._compare_layers(self._rootfs, document),
            self._compare_history(document),
            self._check_runtime(),
            self._compare_platforms(listed),
        )
        for check in checks:
            try:
                yield from check
            except ContentError as error:
                yield broken(self._digest, error)

    def _not_an_image(self, listed: Platform | None) -> Finding:
        """Return the finding for a config without a rootfs: harmless, unless it claims to be that of an image."""
        own = None
        with suppress(ContentError):
            own = Platform.from_fields(self._fields)
        claims = (listed is not None and listed.known) or (own is not None and own.known)
        severity = Severity.UNVERIFIED if claims else Severity.WARNING
        return self._finding(Kind.NOT_AN_IMAGE, severity, "the config of an image", "it has no rootfs")

    def _compare_layers(self, rootfs: Fields, document: Document) -> Iterator[Finding]:
        for text in rootfs.array("diff_ids"):
            try:
                self.diff_ids.append(Digest.parse(text))
            except ContentError as error:
                self.diff_ids.append(None)
                yield broken(self._digest, error)
        if len(self.diff_ids) != len(document.layers):
            layers = count(len(document.layers), "layer")
            yield self._finding(Kind.LAYER_COUNT, Severity.ERROR, layers, count(len(self.diff_ids), "diff_id"))
        if not rootfs.string("type"):
            found = "its rootfs has no type"
            yield Finding(Kind.UNUSUAL_CONFIG, Severity.WARNING, self._digest, "a rootfs of type layers", found)
        elif rootfs.string("type") != "layers":
            raise rootfs.invalid("'type' is not 'layers'")

    def _compare_history(self, document: Document) -> Iterator[Finding]:
        history = list(self._fields.objects("history"))
        steps = sum(not step.document.get("empty_layer") for step in history)
        if history and steps != len(document.layers):
            layers, found = count(len(document.layers), "layer"), f"{count(steps, 'step')} with a layer"
            yield self._finding(Kind.HISTORY_COUNT, Severity.WARNING, layers, found)

    def _check_runtime(self) -> Iterator[Finding]:
        """Raise ContentError if two readers could run the image differently. The types of fields are not checked."""
        if runtime := self._fields.nested("config"):
            for name in _RUNTIME_FIELDS:
                runtime.get(name)
        yield from ()

    def _compare_platforms(self, listed: Platform | None) -> Iterator[Finding]:
        config = Platform.from_fields(self._fields)
        if not listed:
            return
        pairs = [(listed.os, config.os), (listed.architecture, config.architecture)]
        differ = any(one != other for one, other in pairs if "unknown" not in (one, other))
        if differ or (listed.variant and config.variant and listed.variant != config.variant):
            yield self._finding(Kind.WRONG_PLATFORM, Severity.ERROR, str(listed), str(config))
        elif bool(listed.variant) != bool(config.variant):
            yield self._finding(Kind.VARIANT, Severity.WARNING, str(listed), str(config))

    def _finding(self, kind: Kind, severity: Severity, expected: str, found: str) -> Finding:
        return Finding(kind, severity, self._manifest, expected, found)


def applies(document: Document, listed: Platform | None) -> bool:
    """Return whether a manifest is that of an image, with a config to compare."""
    is_attestation = listed is not None and not listed.known
    return document.config is not None and document.config.media_type in CONFIG_TYPES and not is_attestation


def broken(subject: str, error: ContentError) -> Finding:
    """Return the finding for a config that is not valid."""
    return Finding(Kind.BROKEN_CONFIG, Severity.ERROR, subject, "a valid image config", reason(error))
