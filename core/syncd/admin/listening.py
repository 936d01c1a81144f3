"""Serve an ASGI application over HTTP/1.1 on a socket, while a block lasts."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, cast

import attrs
import trio
from hypercorn.config import Config
from hypercorn.trio.lifespan import Lifespan
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from hypercorn.utils import wrap_app
from starlette.types import ASGIApp

from syncd import closing
from syncd.admin.connections import Connections

# Four times what may be under way, and a quarter of the descriptors that a process has by default.
CONNECTIONS_MAX = 256
_BACKLOG = 128
_GRACE_SECONDS = 0.25  # what is being answered when the server stops
_CUT_AFTER_SECONDS = 1.0


def bound(host: str, port: int) -> socket.socket:
    """Return a socket that listens on an address; port 0 is any that is free.

    Raises: `OSError`.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        # A port is ours again at once, whatever connections of a process before linger.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def address_of(listener: socket.socket) -> str:
    """Return ``ADDRESS:PORT``, as it stands in a URL."""
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@asynccontextmanager
async def listening(
    application: ASGIApp,
    listener: socket.socket,
    *,
    keep_alive_seconds: float,
    connections_max: int = CONNECTIONS_MAX,
    dated: bool = True,
) -> AsyncIterator[None]:
    """Serve until the block ends; the socket is the server's from then on.

    Of connections that ask nothing those above `connections_max` give way. The server stops within
    about a second, whatever its clients do. An error of the block leaves it as it is, not wrapped
    in a group.
    """
    alone: BaseException | None = None
    connections = Connections(connections_max)
    config = Config()
    config.include_date_header = dated
    config.include_server_header = False
    # Also the time in which the head of a request must have come, be it a byte at a time.
    config.keep_alive_timeout = keep_alive_seconds
    config.errorlog = None  # the application says by itself what goes wrong
    server = _Server(connections.counted(application), config, listener, connections)
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(_serve, server)
            try:
                yield
            finally:
                server.stop.set()
                until = closing.deadline(_CUT_AFTER_SECONDS)
                with trio.CancelScope(shield=True, deadline=until):
                    await server.stopped.wait()
                # Hypercorn shields its sends from cancellation, so a client that stopped reading
                # would hold the server for as long as it likes.
                connections.cut()
    except BaseExceptionGroup as group:
        if len(group.exceptions) != 1:
            raise
        alone = group.exceptions[0]
    if alone is not None:
        raise alone


@attrs.define(eq=False)
class _Server:
    """What is served, to whom, and until when."""

    application: ASGIApp
    config: Config
    listener: socket.socket
    connections: Connections
    stop: trio.Event = attrs.field(factory=trio.Event)
    stopped: trio.Event = attrs.field(factory=trio.Event)


async def _serve(
    server: _Server, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Serve until it is to stop, and end what is under way soon after that.

    The connections are hypercorn's, under an accepting loop of ours: its own takes any number.
    """
    app = wrap_app(cast("Any", server.application), 0, "asgi")
    lifespan = Lifespan(app, server.config, {})
    context = WorkerContext(None)

    async def serve(stream: trio.SocketStream) -> None:
        state = ConnectionState(lifespan.state.copy())
        await TCPServer(app, server.config, context, state, cast("Any", stream))

    try:
        async with trio.open_nursery() as aside:
            await aside.start(lifespan.handle_lifespan)
            await lifespan.wait_for_startup()
            async with trio.open_nursery() as serving:
                task_status.started()
                await _accept(server, partial(server.connections.serve, serve=serve), serving)
                await context.terminated.set()
                serving.cancel_scope.deadline = closing.deadline(_GRACE_SECONDS)
            await lifespan.wait_for_shutdown()
            aside.cancel_scope.cancel()
    finally:
        server.stopped.set()


async def _accept(
    server: _Server, handler: Callable[[trio.SocketStream], Awaitable[None]], serving: trio.Nursery
) -> None:
    listeners = [trio.SocketListener(trio.socket.from_stdlib_socket(server.listener))]
    async with trio.open_nursery() as accepting:
        accept = partial(trio.serve_listeners, handler_nursery=serving)
        accepting.start_soon(accept, handler, listeners)
        await server.stop.wait()
        accepting.cancel_scope.cancel()
