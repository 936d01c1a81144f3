"""Laws of the server's connections, over real sockets: how many are open, and for how long."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import attrs
import trio
from processes import seen

from syncd.admin.listening import bound, listening

DEADLINE_SECONDS = 30.0  # what hangs must fail, on a busy machine too
ASK = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


@attrs.define
class Application:
    """Answers at once, or once it may."""

    begun: int = 0
    gate: trio.Event | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            while (message := await receive())["type"] != "lifespan.shutdown":
                await send({"type": f"{message['type']}.complete"})
            await send({"type": f"{message['type']}.complete"})
            return
        self.begun += 1
        if self.gate is not None:
            await self.gate.wait()
        headers = [(b"content-length", b"2")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"ok"})


@attrs.define
class Server:
    port: int
    application: Application
    open: AsyncExitStack

    async def connect(self, sent: bytes = b"") -> trio.SocketStream:
        stream = await trio.open_tcp_stream("127.0.0.1", self.port)
        await self.open.enter_async_context(stream)
        await stream.send_all(sent)
        return stream

    async def ask(self) -> trio.SocketStream:
        """Ask over a connection of its own, which stays open."""
        stream = await self.connect(ASK)
        assert await answer_of(stream)
        return stream


@asynccontextmanager
async def server(*, most: int, keep_alive_seconds: float = 60.0) -> AsyncIterator[Server]:
    listener, application = bound("127.0.0.1", 0), Application()
    port: int = listener.getsockname()[1]
    with trio.fail_after(DEADLINE_SECONDS):
        async with AsyncExitStack() as stack:
            served = listening(
                application,
                listener,
                keep_alive_seconds=keep_alive_seconds,
                connections_max=most,
            )
            await stack.enter_async_context(served)
            yield Server(port, application, await stack.enter_async_context(AsyncExitStack()))


async def answer_of(stream: trio.SocketStream) -> bool:
    """Wait for an answer; say whether there is one, and not the end of the connection."""
    heard = b""
    try:
        while not heard.endswith(b"\r\n\r\nok"):
            heard += (piece := await stream.receive_some())
            if not piece:
                return False
    except trio.BrokenResourceError:
        return False
    return heard.startswith(b"HTTP/1.1 200 ")


async def is_cut(stream: trio.SocketStream) -> bool:
    """Wait for the end of a connection; whatever else is heard is thrown away."""
    try:
        while await stream.receive_some():
            pass
    except trio.BrokenResourceError:
        pass
    return True


async def test_idle_connections_keep_nobody_from_an_answer() -> None:
    """Some never ask, some ask by halves, some are kept alive: the one idle longest gives way."""
    async with server(most=6) as there:
        silent = [await there.connect() for _ in range(2)]
        halves = [await there.connect(ASK[:20]) for _ in range(2)]
        kept = [await there.ask() for _ in range(2)]
        for _ in range(3):
            await there.ask()

        for stream in (*silent, halves[0]):
            assert await is_cut(stream)
        for stream in kept:
            await stream.send_all(ASK)
            assert await answer_of(stream), "those that asked last are still there"


async def test_a_flood_of_connections_costs_no_more_than_may_be_open() -> None:
    async with server(most=4) as there:
        streams = [await there.connect() for _ in range(60)]
        await there.ask()

        for stream in streams[:-4]:
            assert await is_cut(stream)


async def test_who_is_being_answered_gives_way_to_nobody() -> None:
    async with server(most=2) as there:
        gate = there.application.gate = trio.Event()
        busy = [await there.connect(ASK) for _ in range(2)]
        await seen("both", lambda: there.application.begun == 2)
        assert not await answer_of(await there.connect(ASK)), "there is no room"

        gate.set()
        for stream in busy:
            assert await answer_of(stream)
        while not await answer_of(await there.connect(ASK)):
            pass  # until the server, too, is done with one of them


async def test_half_a_request_is_cut_after_its_deadline_though_it_drips() -> None:
    async with server(most=4, keep_alive_seconds=0.5) as there:
        slow, whole = await there.connect(), await there.connect(ASK)
        assert await answer_of(whole)
        async with trio.open_nursery() as nursery:

            async def drip() -> None:
                for byte in ASK[:-1] * 1000:
                    await slow.send_all(bytes([byte]))
                    await trio.sleep(0.01)

            async def cut() -> None:
                try:
                    await drip()
                except trio.BrokenResourceError:
                    nursery.cancel_scope.cancel()

            nursery.start_soon(cut)
            assert await is_cut(slow)
            nursery.cancel_scope.cancel()
        assert await is_cut(whole), "nothing was asked over it any more"


async def test_a_server_that_stops_leaves_no_connection_behind() -> None:
    async with server(most=4) as there:
        streams = [await there.connect(), await there.connect(ASK[:20]), await there.ask()]
        there.open.pop_all()
    for stream in streams:
        with trio.fail_after(DEADLINE_SECONDS):
            assert await is_cut(stream)
        await stream.aclose()
    with socket.socket() as late:
        assert late.connect_ex(("127.0.0.1", there.port)) != 0
