"""The embedded server for as long as a block of Trio code lasts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from syncd.embedded.server import EmbeddedServer, start

CLOSE_SECONDS = 40.0  # for the server's last user to stop it


@asynccontextmanager
async def serving(data_dir: Path) -> AsyncIterator[EmbeddedServer]:
    """Start the server of a data directory, or join it; give it back at the end in any case.

    Raises: what `start` raises.
    """
    server = await trio.to_thread.run_sync(start, data_dir)
    try:
        yield server
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + CLOSE_SECONDS):
            await trio.to_thread.run_sync(server.close)
