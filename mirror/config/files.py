"""Reading of small files that users name: settings, credentials, certificates, records, lists of names."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from mirror.errors import ConfigError

_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC  # O_NONBLOCK: do not wait for the writer of a FIFO


def read_file(path: Path, cap: int, hint: str | None = None, *, is_text: bool = True) -> bytes:
    """Return the content of a file, which may also be a pipe, as in `--config <(decrypt settings)`.

    Args:
        path: the file; links are followed.
        cap: the maximum of bytes.
        hint: what to do about any error.
        is_text: the content must be UTF-8.

    Raises:
        ConfigError: the file cannot be read, is a directory or a FIFO without a writer, or fails `check_content`.
    """
    try:
        with open(path, "rb", opener=lambda name, _: os.open(name, _READ)) as file:
            os.set_blocking(file.fileno(), True)
            is_fifo = stat.S_ISFIFO(os.fstat(file.fileno()).st_mode)
            data = file.read(cap + 1)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {os.strerror(error.errno or 0)}.", hint=hint) from None
    if is_fifo and not data:
        raise ConfigError(f"{path} cannot be read: it is a FIFO to which nothing is written.", hint=hint)
    check_content(data, str(path), cap, hint, is_text=is_text)
    return data


def check_content(data: bytes, what: str, cap: int, hint: str | None = None, *, is_text: bool = True) -> None:
    """Raise ConfigError if `data` is too large or not text. `what` names its source in errors."""
    if len(data) > cap:
        most = f"{cap // 1024**2} MiB" if cap >= 1024**2 else f"{cap // 1024} KiB"
        raise ConfigError(f"{what} has more than {most}, so it is not read.", hint=hint)
    if not is_text:
        return
    try:
        data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{what}, line {line}: byte {error.start} of the file is not UTF-8.", hint=hint) from None
