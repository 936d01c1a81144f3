"""Serve an ASGI application over HTTP/1.1 on the loopback interface, while a block lasts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.types import ASGIApp

from syncd.admin.listening import address_of, bound, listening

_HOST = "127.0.0.1"
_KEEP_ALIVE_SECONDS = 75.0  # nginx's default: longer than clients keep a connection


@asynccontextmanager
async def serve(application: ASGIApp, *, port: int = 0) -> AsyncIterator[str]:
    """Serve until the block ends, on `port` (0: any that is free); yield the base URL.

    The server stops within about a second, whatever its clients do. An error of the block leaves it
    as it is, not wrapped in a group.
    """
    listener = bound(_HOST, port)
    base_url = f"http://{address_of(listener)}"
    # The application's clock makes the date.
    async with listening(
        application, listener, keep_alive_seconds=_KEEP_ALIVE_SECONDS, dated=False
    ):
        yield base_url
