"""Injected faults: their actions, the requests that they affect, and how often.

A fault has one action or several. An action may change the request before the registry sees it, or respond to it
instead; and it may change the response before the first byte is sent. A new kind of fault is one more small class.
"""

import asyncio
import re
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from typing import Any

from tests.support.registry.messages import Answer, Call, Ending, HangUp, Headers, answer


@dataclass(frozen=True)
class Action:
    """An action that does nothing; subclasses override one or both methods."""

    def on_call(self, call: Call) -> Call | Answer:
        return call

    def on_answer(self, call: Call, given: Answer) -> Answer:
        return given


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A fault for requests whose method and path match: the first `skip` of them succeed, the next `times` fail.

    `method` is a regular expression for the whole method; `path` one that is searched in the path, and in the
    path with its query. With `times=None` all later requests fail. Every request that matches counts, refused ones too.
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
    """The faults of a registry, and the number of requests that matched each."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._met: Counter[int] = Counter()

    def add(self, fault: Fault) -> None:
        self._faults.append(fault)

    def clear(self) -> None:
        self._faults.clear()
        self._met.clear()

    def actions(self, method: str, path: str, target: str) -> list[Action]:
        """Count a request, and return the actions of all faults that affect it."""
        struck: list[Action] = []
        for number, fault in enumerate(self._faults):
            if fault.matches(method, path, target):
                if fault.strikes(self._met[number]):
                    struck.extend(fault.actions())
                self._met[number] += 1
        return struck


# Responses instead of the registry's


@dataclass(frozen=True)
class Status(Action):
    """The registry does nothing and sends this response."""

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
    """Changes or removes a request header: without Range the response is 200, without Authorization 401."""

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
    """Ends the connection after `after` bytes of a body.

    GET: the bytes of the response body. Uploads: the bytes of the request body; a request whose body is not longer
    is carried out, and its response is lost. HEAD and DELETE: the response is lost. `after=None` ends the connection
    at once: the request is not carried out, and there is no response.
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
    """Closes the connection."""

    async def leave(self, transport: asyncio.Transport) -> None:
        transport.close()


@dataclass(frozen=True)
class Reset(_Break):
    """Resets the connection (RST), as a firewall does; bytes in transit may be lost."""

    async def leave(self, transport: asyncio.Transport) -> None:
        for _ in range(1000):  # wait until earlier bytes are sent, or for a second if the client does not read
            if transport.get_write_buffer_size() == 0 or transport.is_closing():
                break
            await asyncio.sleep(0.001)
        sock: Any = transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()


@dataclass(frozen=True)
class Stall(_Break):
    """Keeps the connection open and sends nothing until the registry stops."""

    async def leave(self, transport: asyncio.Transport) -> None:
        await asyncio.get_running_loop().create_future()


# Slow responses


@dataclass(frozen=True)
class Slow(Action):
    """Sends the response after `delay` seconds, and at `rate` bytes per second over each connection."""

    delay: float = 0
    rate: int | None = None

    def on_answer(self, call: Call, given: Answer) -> Answer:
        return replace(given, delay=self.delay, rate=self.rate)


@dataclass(frozen=True)
class Later(Action):
    """Sends the response once a condition is true."""

    is_due: Callable[[], bool]

    def on_answer(self, call: Call, given: Answer) -> Answer:
        return replace(given, is_due=self.is_due)


# Wrong responses


@dataclass(frozen=True)
class Flip(Action):
    """Changes one bit of the body; a negative position counts from the end."""

    at: int

    def on_answer(self, call: Call, given: Answer) -> Answer:
        data = bytearray(given.body)
        data[self.at] ^= 1
        return replace(given, body=bytes(data))


@dataclass(frozen=True)
class Truncate(Action):
    """Removes the last bytes of the body; Content-Length matches."""

    count: int

    def on_answer(self, call: Call, given: Answer) -> Answer:
        return given.with_body(given.body[: max(len(given.body) - self.count, 0)])


@dataclass(frozen=True)
class Extend(Action):
    """Appends bytes to the body; Content-Length matches."""

    data: bytes

    def on_answer(self, call: Call, given: Answer) -> Answer:
        return given.with_body(given.body + self.data)


@dataclass(frozen=True)
class Chunked(Action):
    """Uses chunked encoding without Content-Length. Works with every other action."""

    def on_answer(self, call: Call, given: Answer) -> Answer:
        return replace(given.without("Content-Length"), body=given.body, chunked=True)


@dataclass(frozen=True)
class Header(Action):
    """Sets a response header, adds one more of it, or removes it.

    If a response has neither Content-Length nor chunked encoding, the connection is closed after the body.
    """

    name: str
    value: str | None
    add: bool = False

    def on_answer(self, call: Call, given: Answer) -> Answer:
        kept = given if self.add else given.without(self.name)
        return kept if self.value is None else kept.plus(self.name, self.value)
