"""Run the `mirror` command with other settings, or in which a system call hangs, as on a file server that is gone.

`python -m tests.support.hang CALL FILE SETTINGS ARGUMENT...`: no call of the function CALL of `os` returns, if CALL is
not empty. FILE is created when the first of them begins. SETTINGS is a JSON object with the values of variables of
modules.
"""

import json
import os
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import NoReturn

from mirror.cli.imports import cheap_imports


def main() -> NoReturn:
    name, began, settings = (sys.argv.pop(1) for _ in range(3))

    def hanging(*_: object) -> NoReturn:
        Path(began).touch()
        while True:
            time.sleep(3600)

    if name:
        setattr(os, name, hanging)
    with cheap_imports():  # as the command does
        for path, value in json.loads(settings).items():
            module, _, variable = path.rpartition(".")
            setattr(import_module(module), variable, value)
    from mirror.cli import main as mirror

    mirror()


if __name__ == "__main__":
    main()
