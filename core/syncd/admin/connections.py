"""The connections of one listener: at most so many are open, and idle ones give way to new ones.

A connection is idle while no request is under way over it: that never asks, has sent half a head,
or is kept alive. Whoever opens many thus takes nobody else's place for long, and no descriptors
that the rest of the process needs.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress

import attrs
import trio
from starlette.types import ASGIApp, Receive, Scope, Send

Serve = Callable[[trio.SocketStream], Awaitable[None]]
Peer = tuple[str, int]  # as an ASGI scope names its client


@attrs.define(eq=False)
class _Connection:
    stream: trio.SocketStream
    asking: int = 0


@attrs.define(eq=False)
class Connections:
    """Those that are open; of the idle ones the first has been so for longest."""

    most: int
    _busy: dict[Peer, _Connection] = attrs.field(factory=dict, init=False)
    _idle: dict[Peer, _Connection] = attrs.field(factory=dict, init=False)

    def __len__(self) -> int:
        return len(self._busy) + len(self._idle)

    async def serve(self, stream: trio.SocketStream, serve: Serve) -> None:
        """Serve a connection where there is room, or can be made; else close it."""
        peer = _peer_of(stream)
        if peer is None or not self._make_room():
            await trio.aclose_forcefully(stream)
            return
        self._idle[peer] = _Connection(stream)
        try:
            await serve(stream)
        finally:
            for known in (self._idle, self._busy):
                if peer in known and known[peer].stream is stream:
                    del known[peer]

    def counted(self, application: ASGIApp) -> ASGIApp:
        """Return an application whose requests keep their connection from giving way."""

        async def counting(scope: Scope, receive: Receive, send: Send) -> None:
            client = scope.get("client")
            if client is None:
                await application(scope, receive, send)
                return
            with self._asking((client[0], client[1])):
                await application(scope, receive, send)

        return counting

    def cut(self) -> None:
        """Shut all down, whatever is under way: a peer that does not read holds nobody."""
        for each in (*self._idle.values(), *self._busy.values()):
            _shut_down(each)

    @contextmanager
    def _asking(self, peer: Peer) -> Iterator[None]:
        connection = self._idle.pop(peer, None) or self._busy.get(peer)
        if connection is None:  # it was cut in this moment
            yield
            return
        self._busy[peer] = connection
        connection.asking += 1
        try:
            yield
        finally:
            connection.asking -= 1
            if not connection.asking and self._busy.get(peer) is connection:
                self._idle[peer] = self._busy.pop(peer)

    def _make_room(self) -> bool:
        if len(self) >= self.most and self._idle:
            _shut_down(self._idle.pop(next(iter(self._idle))))
        return len(self) < self.most


def _peer_of(stream: trio.SocketStream) -> Peer | None:
    with suppress(OSError):  # it has left already
        host, port = stream.socket.getpeername()[:2]
        return host, port
    return None


def _shut_down(connection: _Connection) -> None:
    """End a connection in both directions: whoever reads from it or writes to it finds out."""
    with suppress(OSError):
        connection.stream.socket.shutdown(socket.SHUT_RDWR)
