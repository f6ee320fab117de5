"""What of an image agrees with something that came another way."""

from __future__ import annotations

from dataclasses import dataclass

from mirror.strictjson import JsonObject


@dataclass(frozen=True, slots=True)
class Anchored:
    """One comparison of one image.

    `by` is what it was compared with, `agreed` what is the same on both sides; `whole` is whether nothing differs.
    """

    by: str
    image: str
    agreed: str
    whole: bool = True

    def to_json(self) -> JsonObject:
        return {"by": self.by, "image": self.image, "agreed": self.agreed, "whole": self.whole}

    def line(self) -> str:
        return f"{'agrees' if self.whole else 'partly':<7} {self.image} with {self.by}: {self.agreed}"
