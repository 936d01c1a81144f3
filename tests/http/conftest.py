"""An upstream that answers, byte for byte, what a test wrote; and clients to ask it with."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import attrs
import pytest
import trio

from syncd.events import Event
from syncd.http import Authority, Client, Limiters, Wire
from syncd.model import Quota, Secret, Upstream

Script = Callable[[trio.SocketStream], Awaitable[bool]]


@attrs.frozen
class Received:
    """One request as it came."""

    target: str
    headers: Mapping[str, str]
    at: float
    connection: int
    method: str = "GET"
    body: bytes = b""


class Always(Random):
    """Chance that always falls the same way: it is an argument of the policy."""

    def __init__(self, chance: float) -> None:
        super().__init__(0)
        self._chance = chance

    def random(self) -> float:
        return self._chance


@attrs.define
class Scripted:
    """Serves connections on loopback; the last script is played for ever."""

    url: str = ""
    received: list[Received] = attrs.field(factory=list)
    connections: int = 0
    open_connections: int = 0
    scripts: list[Script] = attrs.field(factory=list)
    judge: Callable[[Received], Script] | None = None
    _closed: trio.Event = attrs.field(factory=trio.Event)

    @property
    def paths(self) -> list[str]:
        return [each.target for each in self.received]

    def plays(self, *scripts: Script) -> None:
        self.scripts = list(scripts)

    @staticmethod
    def raw(*pieces: bytes, keep: bool = False) -> Script:
        """Send exactly these bytes, then close (or keep) the connection."""

        async def play(stream: trio.SocketStream) -> bool:
            for piece in pieces:
                await stream.send_all(piece)
            return keep

        return play

    @classmethod
    def says(cls, status: int = 200, body: bytes = b'{"data": []}', **fields: str | None) -> Script:
        """Send a well formed answer; a field of `None` is left out."""
        named = {"content_type": "application/json", "content_length": str(len(body)), **fields}
        lines = [
            f"{name.replace('_', '-')}: {value}"
            for name, value in named.items()
            if value is not None
        ]
        head = "\r\n".join([f"HTTP/1.1 {status} Words", *lines, "", ""]).encode()
        return cls.raw(head + body, keep=named["content_length"] is not None)

    @classmethod
    def drips(cls, head: bytes, *, every_seconds: float = 0.02) -> Script:
        """Send the head, then blanks one by one as long as somebody listens."""

        async def play(stream: trio.SocketStream) -> bool:
            await stream.send_all(head)
            while True:
                await trio.sleep(every_seconds)
                await stream.send_all(b" ")

        return play

    @staticmethod
    def stalls(*pieces: bytes) -> Script:
        """Send these bytes, then nothing, and keep the connection."""

        async def play(stream: trio.SocketStream) -> bool:
            for piece in pieces:
                await stream.send_all(piece)
            await trio.sleep_forever()
            return False

        return play

    @staticmethod
    def floods(head: bytes, piece: bytes, times: int) -> Script:
        """Send the head, then a piece as often as somebody takes it."""

        async def play(stream: trio.SocketStream) -> bool:
            await stream.send_all(head)
            for _ in range(times):
                await stream.send_all(piece)
            return False

        return play

    async def serve(self, stream: trio.SocketStream) -> None:
        self.connections += 1
        self.open_connections += 1
        number, buffer = self.connections, b""
        async with stream:
            try:
                while True:
                    while b"\r\n\r\n" not in buffer:
                        data = await stream.receive_some(65536)
                        if not data:
                            return
                        buffer += data
                    head, _, buffer = buffer.partition(b"\r\n\r\n")
                    request = _received(head, number)
                    length = int(request.headers.get("content-length", "0"))
                    while len(buffer) < length:
                        buffer += await stream.receive_some(65536)
                    request = attrs.evolve(request, body=buffer[:length])
                    buffer = buffer[length:]
                    if not await self._next(request)(stream):
                        return
            except trio.BrokenResourceError:
                return  # the client cut it: what most of these tests are about
            finally:
                self.open_connections -= 1
                self._closed.set()
                self._closed = trio.Event()

    async def until_open(self, count: int) -> None:
        """Wait until no more than `count` connections are open."""
        with trio.fail_after(5):
            while self.open_connections > count:
                await self._closed.wait()

    def _next(self, request: Received) -> Script:
        self.received.append(request)
        if self.judge is not None:
            return self.judge(request)
        return self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0]


def _received(head: bytes, connection: int) -> Received:
    first, *lines = head.decode("latin-1").split("\r\n")
    fields = (line.partition(":") for line in lines)
    return Received(
        target=first.split(" ")[1],
        headers={name.lower(): value.strip() for name, _, value in fields},
        at=trio.current_time(),
        connection=connection,
        method=first.split(" ")[0],
    )


@attrs.define
class Bench:
    """Clients, and what they emitted."""

    stack: AsyncExitStack
    events: list[Event] = attrs.field(factory=list)
    limiters: Limiters = attrs.field(factory=lambda: Limiters(random=Always(0.05)))

    async def client(
        self,
        url: str,
        *,
        name: str = "cars",
        quotas: tuple[Quota, ...] = (Quota("app"),),
        headers: Mapping[str, str | Secret] | None = None,
        chance: float = 0.0,
        patience_seconds: float = 120.0,
        scope: str | None = None,
        wire: Wire | None = None,
        private_network: bool = False,
        weight: float = 1.0,
        authority: Authority | None = None,
        **declared: Any,
    ) -> Client:
        client = Client(
            name,
            Upstream(url, quotas=quotas, headers=headers or {}, **declared),
            limiters=self.limiters,
            emit=self.events.append,
            clock=lambda: self.clock(trio.current_time()),
            random=Always(chance),
            version="1",
            scope=scope,
            throttle_patience_seconds=patience_seconds,
            wire=wire,
            private_network=private_network,
            weight=weight,
            authority=authority,
        )
        return await self.stack.enter_async_context(client)

    @staticmethod
    def clock(at: float) -> datetime:
        """The database's clock, which runs as Trio's does."""
        return datetime(2026, 11, 1, 12, tzinfo=UTC) + timedelta(seconds=at)

    async def until_emitted(self, kind: type[Event]) -> None:
        """Wait until an event of this kind was emitted."""
        while not self.emitted(kind):  # noqa: ASYNC110  # events are told to functions, not tasks
            await trio.sleep(0.001)

    def emitted(self, kind: type[Event]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


@pytest.fixture
async def upstreams(nursery: trio.Nursery) -> Callable[[], Awaitable[Scripted]]:
    """Open as many upstreams as a test needs."""

    async def open_one() -> Scripted:
        scripted = Scripted(scripts=[Scripted.says()])
        listeners = await nursery.start(_serve, scripted)
        port = listeners[0].socket.getsockname()[1]
        scripted.url = f"http://127.0.0.1:{port}/v1"
        return scripted

    async def _serve(
        scripted: Scripted, *, task_status: trio.TaskStatus[list[trio.SocketListener]]
    ) -> None:
        await trio.serve_tcp(scripted.serve, 0, host="127.0.0.1", task_status=task_status)

    return open_one


@pytest.fixture
async def upstream(upstreams: Callable[[], Awaitable[Scripted]]) -> Scripted:
    return await upstreams()


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with AsyncExitStack() as stack:
        yield Bench(stack)


@pytest.fixture
def peak_bytes() -> Callable[[], int]:
    """How much this process's resident memory has grown at its highest since the test began."""

    def high() -> int:
        status = Path("/proc/self/status").read_text(encoding="ascii")
        (line,) = (each for each in status.splitlines() if each.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024

    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # proc(5): resets the peak
    before = high()
    return lambda: high() - before
