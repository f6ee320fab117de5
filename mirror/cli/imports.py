"""Imports that cost no more than the command needs."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager

_CAS = "SSL_CERT_FILE"  # where OpenSSL reads the CAs of the system, instead of its own place


@contextmanager
def cheap_imports() -> Iterator[None]:
    """Import without garbage collection (20 ms), and without reading the CAs of the system twice (40 ms).

    aiohttp reads them when it is imported, for two default contexts that this process never uses: those of
    `mirror.registry.transport.tls` read the CAs themselves, when they are needed. Were a default context used after
    all, it would trust too few CAs, not too many. Only the command does this, while no other thread runs: in a program
    that uses the library, others may need aiohttp's defaults.
    """
    before = os.environ.get(_CAS)
    os.environ[_CAS] = os.devnull
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
        os.environ.pop(_CAS)
        if before is not None:
            os.environ[_CAS] = before
