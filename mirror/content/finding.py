"""Findings of a verification as values: what is wrong, where, and which images are affected.

`mirror.content.kinds` has the kinds, `mirror.content.finding_text` the texts.
"""

from __future__ import annotations

from dataclasses import dataclass

from mirror.content import finding_text
from mirror.content.finding_text import Fact
from mirror.content.kinds import Kind, Severity, StoreKind

NAMED = 50  # images and platforms per finding that JSON lists; a base layer can belong to thousands

__all__ = ["Finding", "Kind", "Severity", "StoreKind", "reason"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One problem that a verification found.

    Attributes:
        kind: a stable word.
        severity: how bad it is.
        subject: a digest, a name, or a path inside the store.
        expected, found: the facts behind the message; which ones depends on the kind.
        images: the names of the affected images.
        platforms: those of their platforms that are affected, if an index tells them apart.
        size: bytes that the subject should have, if known.
        place: where it was found.
        advice: a better hint than that of the kind.
    """

    kind: Kind
    severity: Severity
    subject: str
    expected: Fact = None
    found: Fact = None
    images: tuple[str, ...] = ()
    platforms: tuple[str, ...] = ()
    size: int | None = None
    place: StoreKind = StoreKind.LAYOUT
    advice: str | None = None

    @property
    def message(self) -> str:
        """A description of the problem, as part of a sentence about the subject."""
        return finding_text.message(self)

    @property
    def hint(self) -> str:
        """Advice on what to do. `LAYOUT` stands for the path of the layout."""
        return self.advice or finding_text.hint(self.kind, self.place)


def reason(error: Exception, subject: str = "") -> str:
    """Return the text of an error as part of a sentence about `subject`, which it need not name again."""
    text = str(error).rstrip(".")
    return text.removeprefix(f"{subject}: ").removeprefix(f"{subject} ") if subject else text
