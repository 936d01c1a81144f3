"""Serve an ASGI application over HTTP/1.1 on the loopback interface, while a block lasts."""

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

_HOST = "127.0.0.1"
_KEEP_ALIVE_SECONDS = 75.0  # nginx's default: longer than clients keep a connection
_GRACE_SECONDS = 0.25  # what is being answered when the server stops
_CUT_AFTER_SECONDS = 1.0


@asynccontextmanager
async def serve(application: ASGIApp, *, port: int = 0) -> AsyncIterator[str]:
    """Serve until the block ends, on `port` (0: any that is free); yield the base URL.

    The server stops within about a second, whatever its clients do. An error of the block leaves it
    as it is, not wrapped in a group.
    """
    alone: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            stop, stopped = trio.Event(), trio.Event()
            start = partial(_listen, application, port=port, stop=stop, stopped=stopped)
            base_url: str = (await nursery.start(start))[0]
            try:
                yield base_url
            finally:
                stop.set()
                with trio.move_on_after(2 * _CUT_AFTER_SECONDS, shield=True):
                    await _see_it_stop(stopped, int(base_url.rpartition(":")[2]))
    except BaseExceptionGroup as group:
        if len(group.exceptions) != 1:
            raise
        alone = group.exceptions[0]
    if alone is not None:
        raise alone


async def _listen(
    application: ASGIApp,
    *,
    port: int,
    stop: trio.Event,
    stopped: trio.Event,
    task_status: trio.TaskStatus[list[str]],
) -> None:
    config = Config()
    config.bind = [f"{_HOST}:{port}"]
    config.include_date_header = False  # the application's clock makes the date
    config.keep_alive_timeout = _KEEP_ALIVE_SECONDS
    config.graceful_timeout = _GRACE_SECONDS
    config.loglevel = "WARNING"
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
