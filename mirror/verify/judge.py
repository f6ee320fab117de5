"""Step 4: what was found at each path, and what that means to whom."""

from __future__ import annotations

from collections.abc import Iterator

from mirror.examine import Flaw, Verdict
from mirror.finding import Finding, Severity
from mirror.verify.structure import Piece, Structure

_NOBODY_CAN_SAY = frozenset({Flaw.UNREADABLE, Flaw.UNHASHABLE, Flaw.CHANGED})


def judge(structure: Structure) -> list[Finding]:
    """All findings, those about the whole layout first, then by digest."""
    pieces = sorted(structure.pieces.values(), key=lambda piece: piece.digest)
    return [*structure.findings, *(finding for piece in pieces for finding in _judge(piece))]


def _judge(piece: Piece) -> Iterator[Finding]:
    images = tuple(piece.needed) or tuple(piece.optional)
    size = piece.size
    if len(piece.sizes) > 1:
        found = ", ".join(f"{size} bytes" for size in piece.sizes)
        yield Finding("size-conflict", Severity.ERROR, piece.digest, "one size", found, images)
    if piece.problem:
        yield Finding("broken-manifest", Severity.ERROR, piece.digest, "a valid manifest", piece.problem, images, size)
    verdict = piece.verdict
    if verdict and verdict.flaw:
        yield _flawed(piece, verdict, images)
    elif not images:
        yield Finding("orphan", Severity.WARNING, piece.digest, "something that names it", "nothing")


def _flawed(piece: Piece, verdict: Verdict, images: tuple[str, ...]) -> Finding:
    kind, severity = str(verdict.flaw), Severity.ERROR
    if verdict.flaw in _NOBODY_CAN_SAY:
        severity = Severity.UNVERIFIED
    elif verdict.flaw is Flaw.MISSING and (piece.foreign or not piece.needed):
        kind, severity = "absent", Severity.WARNING  # left out on purpose: a foreign layer, or a sparse image
    expected = f"{piece.size} bytes" if verdict.flaw is Flaw.MISSING else verdict.expected
    return Finding(kind, severity, piece.digest, expected, verdict.found, images, piece.size)
