"""What the config of an image says. Artifacts have other configs, or none, and then nothing is said."""

from __future__ import annotations

from mirror.content import Source
from mirror.descriptor import CONFIG_TYPES, Platform
from mirror.errors import ContentError
from mirror.graph import Node, read_small
from mirror.retry import ONCE, Retry
from mirror.strictjson import JsonObject, load_object


async def image_platform(source: Source, image: Node, retry: Retry = ONCE) -> Platform | None:
    """The platform that an image is for; None for artifacts, and for configs that name none or are broken.

    Raises:
        MirrorError: the config could not be read, or is not what its digest names.
    """
    config = await read_config(source, image, retry)
    try:
        found = Platform.from_json(config, "the config") if config else None
    except ContentError:
        return None
    return found if found and found.known else None


async def read_config(source: Source, image: Node, retry: Retry = ONCE) -> JsonObject:
    """The config of an image as JSON; {} for artifacts, and for a config that is no JSON object.

    What a config says is no matter of copying it, so a broken one is no error here.

    Raises:
        MirrorError: it could not be read, or is not what its digest names.
    """
    config = image.document.config
    if config is None or config.media_type not in CONFIG_TYPES:
        return {}
    data = await read_small(source, config, retry)
    try:
        return load_object(data, str(config.digest))
    except ContentError:
        return {}


def summarize(config: JsonObject) -> JsonObject:
    """The few fields that tell what an image runs."""
    runtime = config.get("config")
    fields = {"created": config.get("created")}
    if isinstance(runtime, dict):
        fields |= {"entry": runtime.get("Entrypoint"), "command": runtime.get("Cmd")}
    return {name: value for name, value in fields.items() if value}
