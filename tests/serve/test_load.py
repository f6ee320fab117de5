"""Load test of the server: 10,000 requests over 200 connections, some of them slow."""

import asyncio
import hashlib
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.serve.process import serving
from tests.serve.running import make_layout
from tests.support.command import Mirror
from tests.support.images import OCI_LAYER, Blob, Image, image
from tests.support.profiles import scaled

CONNECTIONS, SLOW, REQUESTS = 200, 20, scaled(10_000)
SIZES = (0, 10, 5_000, 70_000, 300_000, 2_000_000)
APP = image("linux/amd64", *(Blob.of(random.Random(size).randbytes(size), OCI_LAYER) for size in SIZES))
HUGE = image("linux/amd64", Blob.of(bytes(60_000_000), OCI_LAYER))
MIB = 1024 * 1024
MOST_GROWTH = 24 * MIB  # by 180 busy and 20 slow connections; socket buffers belong to the kernel


@dataclass(frozen=True)
class Wanted:
    path: str
    digest: str
    size: int = 0


def everything(repository: str, published: Image) -> list[Wanted]:
    found = [Wanted(f"/v2/{repository}/manifests/1", published.root)]
    for digest, data in published.blobs.items():
        found.append(Wanted(f"/v2/{repository}/blobs/{digest}", digest, size=len(data)))
    return found


async def fetch(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, wanted: Wanted) -> str:
    """Send a request, and return the digest of the body."""
    writer.write(f"GET {wanted.path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 "), head
    length = re.search(rb"Content-Length: (\d+)\r\n", head)
    assert length
    left, hasher = int(length[1]), hashlib.sha256()
    while left:
        data = await reader.read(min(left, MIB))
        assert data, "the server closed the connection"
        left -= len(data)
        hasher.update(data)
    return f"sha256:{hasher.hexdigest()}"


async def client(address: tuple[str, int], wanted: Sequence[Wanted], requests: int, seed: int) -> int:
    """Send a number of requests over one connection; return how many bodies were right."""
    choose = random.Random(seed)
    reader, writer = await asyncio.open_connection(*address, limit=256 * 1024)
    await asyncio.sleep(choose.random())  # not all at the same moment
    right = 0
    for _ in range(requests):
        one = choose.choice(wanted)
        right += await fetch(reader, writer, one) == one.digest
    writer.close()
    await writer.wait_closed()
    return right


async def slow_client(address: tuple[str, int], wanted: Wanted, done: asyncio.Event) -> int:
    """Read a large blob slowly until `done` is set, then the rest at once; return whether it was right."""
    reader, writer = await asyncio.open_connection(*address, limit=64 * 1024)
    writer.write(f"GET {wanted.path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    await reader.readuntil(b"\r\n\r\n")
    hasher, left = hashlib.sha256(), wanted.size
    while left:
        data = await reader.read(1000 if not done.is_set() else MIB)
        assert data, "the server closed the connection"
        left -= len(data)
        hasher.update(data)
        if not done.is_set():
            await asyncio.sleep(0.2)
    writer.close()
    await writer.wait_closed()
    return f"sha256:{hasher.hexdigest()}" == wanted.digest


async def run_clients(address: tuple[str, int]) -> tuple[int, int]:
    """Return how many bodies of the fast and of the slow clients were right."""
    wanted, done = everything("a/b", APP), asyncio.Event()
    huge = next(one for one in everything("a/huge", HUGE) if one.size == 60_000_000)
    async with asyncio.TaskGroup() as group:
        slow = [group.create_task(slow_client(address, huge, done)) for _ in range(SLOW)]
        busy = CONNECTIONS - SLOW
        share = [REQUESTS // busy + (number < REQUESTS % busy) for number in range(busy)]
        fast = [group.create_task(client(address, wanted, count, seed)) for seed, count in enumerate(share)]
        await asyncio.wait(fast)
        done.set()
    return sum(task.result() for task in fast), sum(task.result() for task in slow)


def memory(pid: int, field: str) -> int:
    found = re.search(rf"{field}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) * 1024


@pytest.mark.slow
@pytest.mark.timeout(1800)  # gigabytes, with coverage on a slow machine
def test_bodies_are_right_and_memory_is_bounded_under_load(mirror: Mirror, tmp_path: Path) -> None:
    make_layout(tmp_path / "layout", {"docker.io/a/b:1": APP, "docker.io/a/huge:1": HUGE})
    command = mirror.command("serve", "layout", "--listen", "127.0.0.1:0")
    with serving(command, tmp_path, mirror.env) as process:
        name, _, port = process.host.rpartition(":")
        asyncio.run(client((name, int(port)), everything("a/b", APP), 50, 0))
        before = memory(process.popen.pid, "VmRSS")
        right, slow = asyncio.run(run_clients((name, int(port))))
        peak = memory(process.popen.pid, "VmHWM")
        assert process.end() == 0
    assert (right, slow) == (REQUESTS, SLOW)
    assert peak - before < MOST_GROWTH, f"{before / MIB:.0f} MiB at first, {peak / MIB:.0f} MiB at most"
    lines = process.lines
    assert sum('"GET /v2/' in line for line in lines) == REQUESTS + SLOW + 50
    assert not any(" 500 " in line or "aborted" in line for line in lines)
