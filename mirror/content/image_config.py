"""Image configs: platform, diff_ids and a summary. Artifacts have other configs, or none."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from mirror.content.store import Source
from mirror.errors import ContentError
from mirror.oci.descriptor import CONFIG_TYPES, Platform
from mirror.oci.digest import Digest
from mirror.oci.manifest import Node
from mirror.strictjson import Fields, JsonObject

if TYPE_CHECKING:
    from mirror.retry import RetryPolicy


def platform_of(config: bytes) -> Platform | None:
    """Return the platform of an image config; None if it has none or is broken, since that does not prevent a copy."""
    try:
        found = Platform.from_fields(Fields.load(config, ""))
    except ContentError:
        return None
    return found if found.known else None


def diff_ids_of(config: bytes, what: str) -> list[Digest]:
    """Return the diff_ids of an image config, the digests of the unpacked layers; raise ContentError if broken."""
    rootfs = Fields.load(config, what).nested("rootfs")
    return [Digest.parse(text) for text in rootfs.array("diff_ids")] if rootfs else []


def has_rootfs(config: bytes) -> bool:
    """Return False for the config of an artifact that has the media type of an image's, such as `{}`."""
    with suppress(ContentError):
        return Fields.load(config, "").get("rootfs") is not None
    return False


async def read_config(source: Source, image: Node, retry: RetryPolicy | None = None) -> bytes | None:
    """Return the verified config of an image; None for an artifact."""
    config = image.document.config
    if config is None or config.media_type not in CONFIG_TYPES:
        return None
    from mirror.content.walk import read_small  # a verification needs neither
    from mirror.retry import ONCE

    return await read_small(source, config, retry or ONCE)


def summarize(config: bytes) -> JsonObject:
    """Return the fields `created`, `entry` and `command` of an image config, if set; raise ContentError if broken."""
    document = Fields.load(config, "the config")
    fields = {"created": document.get("created")}
    if runtime := document.nested("config"):
        fields |= {"entry": runtime.get("Entrypoint"), "command": runtime.get("Cmd")}
    return {name: value for name, value in fields.items() if value}
