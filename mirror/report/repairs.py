"""What a repair has healed."""

from __future__ import annotations

from dataclasses import dataclass

from mirror.strictjson import JsonObject
from mirror.text import count


@dataclass(frozen=True, slots=True)
class Repair:
    """What was brought from `source`.

    `healed` are the digests of the blobs that were bad and are right now; `aside` is where the bad ones are; `failures`
    are sentences about images that could not be mended.
    """

    source: str
    healed: tuple[str, ...] = ()
    aside: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()

    def to_json(self) -> JsonObject:
        return {
            "source": self.source,
            "healed": list(self.healed),
            "movedAside": list(self.aside),
            "failures": list(self.failures),
        }

    def remarks(self) -> list[str]:
        """What a person should know besides the verdict."""
        return [*self.failures, *(f"What was bad is now at {path}." for path in self.aside)]

    def summary(self) -> str:
        return f"{count(len(self.healed), 'blob')} healed from {self.source}."
