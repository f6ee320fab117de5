"""The `mirror` command, also as `python -m mirror`.

A Ctrl-C during the imports would end it with a traceback. So it is held until they are over; a second one ends the
process. For the same reason, `mirror/__init__.py` imports next to nothing.
"""

from __future__ import annotations

import signal

TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import NoReturn


def main() -> NoReturn:
    """Run the command line and exit."""
    held: list[int] = []

    def hold(number: int, _: object) -> None:
        signal.signal(number, signal.SIG_DFL)
        held.append(number)

    def release() -> None:
        if signal.getsignal(signal.SIGINT) is hold:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if held:
            raise KeyboardInterrupt

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not ignored, as with nohup
        signal.signal(signal.SIGINT, hold)
    from mirror.cli import main as run

    run(release)


if __name__ == "__main__":
    main()
