"""Faults on purpose: what goes wrong, for which requests, at which attempt.

A fault is one action or several. An action may change the call before the registry sees it, or answer in its
place; and it may change the answer before a byte of it is sent. A new kind of fault is one more small class.
"""

import asyncio
import re
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

from tests.support.registry.messages import Answer, Call, Ending, HangUp, Headers, answer


@dataclass(frozen=True)
class Action:
    """Does nothing; a fault overrides one or both hooks."""

    def on_call(self, call: Call) -> Call | Answer:
        return call

    def on_answer(self, call: Call, given: Answer) -> Answer:
        return given


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Applies to the requests whose method and path match: first `skip` of them pass, then `times` go wrong.

    `method` is a regular expression for the whole method; `path` one that is searched in the path, and in the
    path with its query. `times=None` goes on for ever. Every request that matches counts, refused ones too.
    """

    action: Action | tuple[Action, ...]
    method: str = ".*"
    path: str = ""
    times: int | None = 1
    skip: int = 0

    def matches(self, method: str, path: str, target: str) -> bool:
        found = re.search(self.path, path) or re.search(self.path, target)
        return found is not None and re.fullmatch(self.method, method) is not None

    def strikes(self, attempt: int) -> bool:
        return attempt >= self.skip and (self.times is None or attempt < self.skip + self.times)

    def actions(self) -> tuple[Action, ...]:
        return self.action if isinstance(self.action, tuple) else (self.action,)


class Script:
    """The faults of a registry and how often each of them was met."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._met: Counter[int] = Counter()

    def add(self, fault: Fault) -> None:
        self._faults.append(fault)

    def clear(self) -> None:
        self._faults.clear()
        self._met.clear()

    def actions(self, method: str, path: str, target: str) -> list[Action]:
        """The actions of every fault that strikes now; counts the attempt."""
        struck: list[Action] = []
        for number, fault in enumerate(self._faults):
            if fault.matches(method, path, target):
                if fault.strikes(self._met[number]):
                    struck.extend(fault.actions())
                self._met[number] += 1
        return struck


# Answers in place of the registry


@dataclass(frozen=True)
class Status(Action):
    """The registry does nothing and answers this."""

    code: int
    headers: Headers = ()
    body: bytes = b""
    content_type: str = "text/plain"

    def on_call(self, call: Call) -> Answer:
        given = answer(self.code, self.body, Content_Type=self.content_type)
        return replace(given, headers=(*given.headers, *self.headers))


@dataclass(frozen=True)
class Redirect(Action):
    url: str
    code: int = 307

    def on_call(self, call: Call) -> Answer:
        return answer(self.code, Location=self.url)


@dataclass(frozen=True)
class RequestHeader(Action):
    """The registry sees another request: without Range it answers 200, without Authorization 401."""

    name: str
    value: str | None = None

    def on_call(self, call: Call) -> Call:
        headers = {key: value for key, value in call.headers.items() if key != self.name.lower()}
        return replace(call, headers=headers if self.value is None else {**headers, self.name.lower(): self.value})


# Connections that end


async def _at_most(body: AsyncIterator[bytes], count: int, ending: Ending) -> AsyncIterator[bytes]:
    async for chunk in body:
        if chunk[:count]:
            yield chunk[:count]
        if len(chunk) > count:
            raise HangUp(ending)
        count -= len(chunk)


@dataclass(frozen=True)
class _Break(Action):
    """Ends the connection after so many bytes of a body.

    GET: after that many bytes of the answer's body. Uploads: after that many bytes of the request's body; one
    that is not longer is carried out, and its answer is lost. HEAD and DELETE: the answer is lost.
    `after=None` ends any of them at once: nothing is carried out, nothing is answered.
    """

    after: int | None = 0

    async def leave(self, transport: asyncio.Transport) -> None:
        raise NotImplementedError

    def on_call(self, call: Call) -> Call | Answer:
        if self.after is None:
            return Answer(0, ending=Ending(None, self.leave))
        return replace(call, body=_at_most(call.body, self.after, Ending(None, self.leave)))

    def on_answer(self, call: Call, given: Answer) -> Answer:
        return replace(given, ending=Ending(self.after if call.method == "GET" else None, self.leave))


@dataclass(frozen=True)
class Cut(_Break):
    """The connection is closed."""

    async def leave(self, transport: asyncio.Transport) -> None:
        transport.close()


@dataclass(frozen=True)
class Reset(_Break):
    """The connection is reset (RST), as by a firewall; what is still on its way may be lost."""

    async def leave(self, transport: asyncio.Transport) -> None:
        for _ in range(1000):  # what was sent before goes out first; a client that does not read has a second
            if transport.get_write_buffer_size() == 0 or transport.is_closing():
                break
            await asyncio.sleep(0.001)
        sock: Any = transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()


@dataclass(frozen=True)
class Stall(_Break):
    """Silence: the connection is held until the registry stops."""

    async def leave(self, transport: asyncio.Transport) -> None:
        await asyncio.get_running_loop().create_future()


# Links that are slow


@dataclass(frozen=True)
class Slow(Action):
    """The answer leaves after `delay` seconds, and at `rate` bytes per second over each connection."""

    delay: float = 0
    rate: int | None = None

    def on_answer(self, call: Call, given: Answer) -> Answer:
        return replace(given, delay=self.delay, rate=self.rate)


# Answers that are wrong


@dataclass(frozen=True)
class Flip(Action):
    """One bit of the body is another; a negative position counts from the end."""

    at: int

    def on_answer(self, call: Call, given: Answer) -> Answer:
        data = bytearray(given.body)
        data[self.at] ^= 1
        return replace(given, body=bytes(data))


@dataclass(frozen=True)
class Truncate(Action):
    """The last bytes are missing, and Content-Length agrees."""

    count: int

    def on_answer(self, call: Call, given: Answer) -> Answer:
        return given.with_body(given.body[: max(len(given.body) - self.count, 0)])


@dataclass(frozen=True)
class Extend(Action):
    """More bytes follow, and Content-Length agrees."""

    data: bytes

    def on_answer(self, call: Call, given: Answer) -> Answer:
        return given.with_body(given.body + self.data)


@dataclass(frozen=True)
class Chunked(Action):
    """No Content-Length: chunked encoding. Combines with every other action."""

    def on_answer(self, call: Call, given: Answer) -> Answer:
        return replace(given.without("Content-Length"), body=given.body, chunked=True)


@dataclass(frozen=True)
class Header(Action):
    """Sets a response header, adds one more of it, or removes it.

    Without Content-Length and not chunked, the body ends with the connection.
    """

    name: str
    value: str | None
    add: bool = False

    def on_answer(self, call: Call, given: Answer) -> Answer:
        kept = given if self.add else given.without(self.name)
        return kept if self.value is None else kept.plus(self.name, self.value)
