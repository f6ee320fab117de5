"""The states of the hash of a blob along its content, so that any part of it can be verified by itself.

The prefix of a blob up to the end of a unit has the same hash only if it has the same bytes (SHA-256 is resistant to
collisions). So a unit is verified from the state before it: `copy`, `update` with the unit, and compare with the state
after it. This costs no second hash, neither when the blob is hashed as a whole nor in memory: 250 bytes for each unit.
"""

from __future__ import annotations

import os

from mirror.content.hashing import HashingReader
from mirror.oci.digest import Hasher

UNIT = 512 * 1024  # bytes that are verified, and held in memory, together


class ChangedError(Exception):
    """The content of a file is not what was hashed, so the client must not receive it."""


class Checkpoints:
    """The states of one blob, whose units can be read when it has been hashed as a whole."""

    def __init__(self) -> None:
        self._states: list[Hasher] = []
        self.is_valid = True  # False if a unit was not what was hashed

    def __len__(self) -> int:
        return len(self._states)

    def through(self, passing: HashingReader) -> None:
        """Read the whole blob, and keep the state after each unit (use as `through` of `hash_blob`)."""
        buffer, filled = memoryview(bytearray(UNIT)), 0
        self._states = [passing.state()]
        while count := passing.readinto(buffer[filled:]):
            filled = (filled + count) % UNIT
            if not filled:
                self._states.append(passing.state())
        if filled:
            self._states.append(passing.state())

    def read(self, fd: int, number: int, buffer: bytearray) -> memoryview:
        """Return a unit of the blob, read from `fd` into a buffer of `UNIT` bytes and verified.

        Raise ChangedError if it is not what was hashed, and OSError if it cannot be read. Blocks.
        """
        unit = memoryview(buffer)[: os.preadv(fd, [buffer], number * UNIT)]
        state = self._states[number].copy()
        state.update(unit)
        if not unit or state.digest() != self._states[number + 1].digest():
            self.is_valid = False
            raise ChangedError
        return unit
