"""The texts for an interrupted command."""

from __future__ import annotations

MESSAGE = "interrupted."
RESUME = "Run the same command again to resume."


class Interrupted(KeyboardInterrupt):
    """SIGINT or SIGTERM ended a command; `resumable` if the same command, run again, continues where it stopped."""

    def __init__(self, *, resumable: bool) -> None:
        super().__init__()
        self.resumable = resumable
