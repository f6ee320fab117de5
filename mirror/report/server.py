"""A running server: the result of `serve`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """A running server. `address` is HOST:PORT, `images` the number of images without referrers."""

    schema: ClassVar[str] = "mirror.serve/1"

    address: str
    url: str
    layouts: tuple[str, ...]
    repositories: tuple[str, ...]
    images: int
