"""Step 3: hash every file below `blobs/`, one thread for each core, largest first.

A thread reads into one buffer of its own, so memory does not grow with the layout's bytes.
"""

from __future__ import annotations

import asyncio
from collections import deque
from threading import Event

from mirror.content import Inventory, Progress
from mirror.examine import READ, examine, measure
from mirror.verify.structure import Piece, Structure

_TICK = 0.1  # seconds between two looks at how far the threads are


class _Stopped(Exception):
    """Somebody has lost interest."""


async def hash_all(structure: Structure, threads: int, progress: Progress) -> None:
    """Give every piece of a structure its verdict, unless it has one."""
    open_pieces = [piece for piece in structure.pieces.values() if piece.verdict is None]
    sizes = {piece.digest: measure(structure.store.open(piece.digest), None).size for piece in open_pieces}
    queue = deque(sorted(open_pieces, key=lambda piece: -sizes[piece.digest]))
    progress.plan("verifying", len(queue), sum(sizes.values()))
    done = [0] * threads
    stop = Event()
    loop = asyncio.get_running_loop()
    hops = {
        loop.run_in_executor(None, _work, structure.store, queue, done, slot, stop)
        for slot in range(min(threads, len(queue)))
    }
    seen = 0
    try:
        while hops:
            finished, hops = await asyncio.wait(hops, timeout=_TICK)
            progress.advance(None, sum(done) - seen)
            seen = sum(done)
            for hop in finished:
                hop.result()
    finally:
        stop.set()  # a thread cannot be cancelled: it looks here after every read


def _work(store: Inventory, queue: deque[Piece], done: list[int], slot: int, stop: Event) -> None:
    buffer = bytearray(READ)

    def advance(count: int) -> None:
        if stop.is_set():
            raise _Stopped
        done[slot] += count

    while queue and not stop.is_set():
        try:
            piece = queue.popleft()
        except IndexError:
            return  # another thread has taken the last one
        try:
            opened = store.open(piece.digest)
            piece.verdict = examine(opened, piece.digest, piece.size, buffer=buffer, advance=advance)
        except _Stopped:
            return
