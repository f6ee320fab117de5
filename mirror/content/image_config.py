"""What the config of an image says. Artifacts have other configs, or none, and then nothing is said."""

from __future__ import annotations

from mirror.content.store import Source
from mirror.content.walk import read_small
from mirror.errors import ContentError, InvalidContent
from mirror.oci.descriptor import CONFIG_TYPES, Platform
from mirror.oci.digest import Digest
from mirror.oci.manifest import Node
from mirror.retry import ONCE, RetryPolicy
from mirror.strictjson import JsonObject, field, load_object


def platform_of(config: bytes) -> Platform | None:
    """The platform that an image config names; None where it names none, or is broken.

    What a config says is no matter of copying it, so a broken one is no error here.
    """
    try:
        found = Platform.from_json(load_object(config, "the config"), "the config")
    except ContentError:
        return None
    return found if found and found.known else None


def diff_ids_of(config: bytes, what: str) -> list[Digest]:
    """The digests that the layers of an image have when they are unpacked.

    Raises:
        ContentError: they are none.
    """
    rootfs = field(load_object(config, what), "rootfs", what)
    found = field(rootfs, "diff_ids", what) if isinstance(rootfs, dict) else None
    if not isinstance(found, list | None):
        raise InvalidContent(f"The diff_ids of {what} are no list.")
    return [Digest.parse(text) for text in found or []]


async def read_config(source: Source, image: Node, retry: RetryPolicy = ONCE) -> bytes | None:
    """The config of an image; None for artifacts, whose configs are something else.

    Raises:
        MirrorError: it could not be read, or is not what its digest names.
    """
    config = image.document.config
    if config is None or config.media_type not in CONFIG_TYPES:
        return None
    return await read_small(source, config, retry)


def summarize(config: bytes) -> JsonObject:
    """The few fields of an image config that tell what the image runs; {} where it is broken."""
    try:
        document = load_object(config, "the config")
    except ContentError:
        return {}
    runtime = document.get("config")
    fields = {"created": document.get("created")}
    if isinstance(runtime, dict):
        fields |= {"entry": runtime.get("Entrypoint"), "command": runtime.get("Cmd")}
    return {name: value for name, value in fields.items() if value}
