"""A TCP proxy before PostgreSQL that a test tells, while it runs, how to misbehave.

Every connection is a `_Link` of two streams. What is received while a direction is silent is held,
and delivered when that is over, as TCP would do; a link that is forgotten is silent for ever, and
neither side is told: a half-open connection.
"""

from __future__ import annotations

import re
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Literal

import attrs
import trio
from psycopg.conninfo import conninfo_to_dict, make_conninfo

Direction = Literal["up", "down"]  # towards the server, towards the client
CHUNK_BYTES = 65_536
RESET = struct.pack("ii", 1, 0)  # linger for no time: closing sends RST (socket(7), SO_LINGER)


@attrs.define(eq=False)
class _Link:
    client: trio.SocketStream
    server: trio.SocketStream
    forgotten: bool = False


@attrs.define(eq=False)
class FaultProxy:
    """Misbehaves as its attributes say, from the next chunk on."""

    dsn: str  # through the proxy
    latency_seconds: float = 0.0  # before each chunk
    slice_bytes: int = CHUNK_BYTES
    accepted: int = 0
    held_bytes: int = 0  # that arrived, and were not passed on at once
    _server: dict[str, str] = attrs.field(factory=dict)
    _port: int = 0
    _links: set[_Link] = attrs.field(factory=set)
    _silent: set[Direction] = attrs.field(factory=set)
    _changed: trio.Event = attrs.field(factory=trio.Event)
    _accepting: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    _refusing: bool = False

    # -- what a test tells it ------------------------------------------------------------------

    def silence(self, *directions: Direction) -> None:
        """Pass nothing on, of old connections and new ones, until it is healed."""
        self._silent.update(directions)

    def forget(self) -> None:
        """Pass nothing more on of the connections there are; new ones are fine."""
        for link in self._links:
            link.forgotten = True

    def refuse(self) -> None:
        """Do not listen."""
        self._refusing = True
        self._accepting.cancel()

    def heal(self) -> None:
        """Behave; what was held is delivered, what was forgotten stays so."""
        self._silent.clear()
        self._refusing = False
        self._notify()

    def reset(self) -> None:
        """End the connections there are with RST, on both sides."""
        for link in self._links:
            for stream in (link.client, link.server):
                with suppress(OSError):
                    stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                stream.socket.close()

    def half_close(self) -> None:
        """Send clients the end of what the server sends; what they send still arrives.

        Of the socket: a stream sends no end while another task is sending through it.
        """
        for link in list(self._links):
            with suppress(OSError):  # it is gone already
                link.client.socket.shutdown(socket.SHUT_WR)

    @property
    def links(self) -> int:
        """Return how many connections there are."""
        return len(self._links)

    # -- what it does --------------------------------------------------------------------------

    def _notify(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def _listen(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Listen, again and again on the same port."""
        async with trio.open_nursery() as links:
            listener = await self._listener()
            task_status.started()
            while True:
                with trio.CancelScope() as self._accepting:
                    async with listener:
                        await self._accept(listener, links)
                while self._refusing:
                    await self._changed.wait()
                listener = await self._listener()

    async def _listener(self) -> trio.SocketListener:
        (listener,) = await trio.open_tcp_listeners(self._port, host="127.0.0.1")
        return listener

    async def _accept(self, listener: trio.SocketListener, links: trio.Nursery) -> None:
        while True:
            client = await listener.accept()
            self.accepted += 1
            links.start_soon(self._serve, client)

    async def _serve(self, client: trio.SocketStream) -> None:
        try:
            server = await self._connect()
        except OSError:  # it is down: the client finds out as from a server
            await trio.aclose_forcefully(client)
            return
        link = _Link(client, server)
        self._links.add(link)
        try:
            async with client, server, trio.open_nursery() as pumps:
                pumps.start_soon(self._pump, link, "up", client, server)
                pumps.start_soon(self._pump, link, "down", server, client)
        finally:
            self._links.discard(link)

    async def _connect(self) -> trio.SocketStream:
        host, port = self._server["host"], self._server["port"]
        if host.startswith("/"):
            return await trio.open_unix_socket(f"{host}/.s.PGSQL.{port}")
        return await trio.open_tcp_stream(host, int(port))

    async def _pump(
        self,
        link: _Link,
        direction: Direction,
        source: trio.SocketStream,
        sink: trio.SocketStream,
    ) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while chunk := await source.receive_some(CHUNK_BYTES):
                await self._passable(link, direction, len(chunk))
                for piece in self._pieces(chunk):
                    await trio.sleep(self.latency_seconds)
                    await sink.send_all(piece)
        await self._passable(link, direction, 0)
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await sink.send_eof()

    async def _passable(self, link: _Link, direction: Direction, size: int) -> None:
        if link.forgotten or direction in self._silent:
            self.held_bytes += size
        while link.forgotten or direction in self._silent:
            await self._changed.wait()

    def _pieces(self, chunk: bytes) -> Iterator[bytes]:
        return (match[0] for match in re.finditer(b"(?s).{1,%d}" % self.slice_bytes, chunk))


@asynccontextmanager
async def faulty(dsn: str) -> AsyncIterator[FaultProxy]:
    """Run a proxy before the server of a conninfo."""
    server = {name: str(value) for name, value in conninfo_to_dict(dsn).items()}
    # Bound all the time, and never listening: while it refuses, nobody else is given its port.
    with socket.socket() as kept:
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        kept.bind(("127.0.0.1", 0))
        port = kept.getsockname()[1]
        own = make_conninfo(dsn, host="127.0.0.1", port=port)
        proxy = FaultProxy(own, server={"port": "5432"} | server, port=port)
        async with trio.open_nursery() as nursery:
            await nursery.start(proxy._listen)
            yield proxy
            nursery.cancel_scope.cancel()
