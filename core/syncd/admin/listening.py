"""Serve an ASGI application over HTTP/1.1 on a socket, while a block lasts."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, cast

import hypercorn.trio
import trio
from hypercorn.config import Config
from starlette.types import ASGIApp

from syncd import closing

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
    except BaseException:
        listener.close()
        raise
    return listener


def address_of(listener: socket.socket) -> str:
    """Return ``ADDRESS:PORT``, as it stands in a URL."""
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@asynccontextmanager
async def listening(
    application: ASGIApp, listener: socket.socket, *, keep_alive_seconds: float, dated: bool = True
) -> AsyncIterator[None]:
    """Serve until the block ends; the socket is the server's from then on.

    The server stops within about a second, whatever its clients do. An error of the block leaves it
    as it is, not wrapped in a group.
    """
    alone: BaseException | None = None
    port = listener.getsockname()[1]
    config = Config()
    config.bind = [f"fd://{listener.detach()}"]
    config.include_date_header = dated
    config.include_server_header = False
    # Also the time in which the head of a first request must have come.
    config.keep_alive_timeout = keep_alive_seconds
    config.graceful_timeout = _GRACE_SECONDS
    config.errorlog = None  # the application says by itself what goes wrong
    try:
        async with trio.open_nursery() as nursery:
            stop, stopped = trio.Event(), trio.Event()
            await nursery.start(partial(_serve, application, config, stop=stop, stopped=stopped))
            try:
                yield
            finally:
                stop.set()
                until = closing.deadline(2 * _CUT_AFTER_SECONDS)
                with trio.CancelScope(shield=True, deadline=until):
                    await _see_it_stop(stopped, port)
    except BaseExceptionGroup as group:
        if len(group.exceptions) != 1:
            raise
        alone = group.exceptions[0]
    if alone is not None:
        raise alone


async def _serve(
    application: ASGIApp,
    config: Config,
    *,
    stop: trio.Event,
    stopped: trio.Event,
    task_status: trio.TaskStatus[list[str]],
) -> None:
    try:
        await hypercorn.trio.serve(
            cast("Any", application),
            config,
            shutdown_trigger=stop.wait,
            task_status=task_status,
            mode="asgi",
        )
    finally:
        stopped.set()


async def _see_it_stop(stopped: trio.Event, port: int) -> None:
    """Wait for the server to stop; end the connections of those who keep it.

    Hypercorn shields its sends from cancellation, so a client that stopped reading would hold the
    server for as long as it likes.
    """
    with trio.move_on_after(_CUT_AFTER_SECONDS):
        await stopped.wait()
    if not stopped.is_set():
        _cut_connections(port)


def _cut_connections(port: int) -> None:
    """Shut down every connection that this process accepted on `port`."""
    for entry in list(Path("/dev/fd").iterdir()):
        with suppress(OSError):
            descriptor = os.dup(int(entry.name))
            if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                os.close(descriptor)
                continue
            with socket.socket(fileno=descriptor) as connection:
                if connection.getsockname()[1:2] == (port,) and connection.getpeername():
                    connection.shutdown(socket.SHUT_RDWR)
