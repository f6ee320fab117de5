"""What agrees with something that is known about an image out of band."""

from __future__ import annotations

from dataclasses import dataclass

from mirror.strictjson import JsonObject


@dataclass(frozen=True, slots=True)
class Anchored:
    """One comparison of one image.

    `by` is what it was compared with, `agreed` what is equal; `whole` is whether nothing differs.
    """

    by: str
    image: str
    agreed: str
    whole: bool = True

    def to_json(self) -> JsonObject:
        return {"by": self.by, "image": self.image, "agreed": self.agreed, "whole": self.whole}

    def line(self) -> str:
        return f"{'agrees' if self.whole else 'partly':<7} {self.image} with {self.by}: {self.agreed}"
