"""What a repair fixed."""

from __future__ import annotations

from dataclasses import dataclass

from mirror.strictjson import JsonObject
from mirror.text import count


@dataclass(frozen=True, slots=True)
class RepairReport:
    """What was fetched from `source`.

    Attributes:
        healed: digests of the blobs that were damaged or missing, and are correct now.
        moved_aside: paths of what was there before.
        failures: sentences about images that could not be repaired.
    """

    source: str
    healed: tuple[str, ...] = ()
    moved_aside: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()

    def to_json(self) -> JsonObject:
        return {
            "source": self.source,
            "healed": list(self.healed),
            "movedAside": list(self.moved_aside),
            "failures": list(self.failures),
        }

    def remarks(self) -> list[str]:
        """Return warnings."""
        return [*self.failures, *(f"the damaged file was moved to {path}" for path in self.moved_aside)]

    def summary(self) -> str:
        return f"{count(len(self.healed), 'blob')} repaired from {self.source}."
