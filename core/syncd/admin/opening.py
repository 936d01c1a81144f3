"""The server of a process: where it listens, and when it begins and ends."""

from __future__ import annotations

import errno
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from syncd.admin import listening
from syncd.admin.application import application
from syncd.admin.desk import Desk, table_of
from syncd.config import Admin, address_of
from syncd.daemon import Process
from syncd.errors import ConfigError, Unavailable
from syncd.events import AdminListening

# A connection that asks nothing for so long is closed, and one that never came to a first request.
KEEP_ALIVE_SECONDS = 30.0


@asynccontextmanager
async def opened(process: Process) -> AsyncIterator[Desk]:
    """Serve the routes of a configuration until the block ends, and what is under way has.

    Raises: `HookError`; `ConfigError` where the address cannot be listened on, `Unavailable` where
    another process does.
    """
    desk = Desk(process, table_of(process))
    admin = process.config.admin
    if admin.listen is None:
        yield desk
        return
    listener = _bound(admin)
    address = listening.address_of(listener)
    served = application(desk, admin.token)
    async with listening.listening(served, listener, keep_alive_seconds=KEEP_ALIVE_SECONDS):
        process.emit(AdminListening(address, desk.routes))
        yield desk
        await desk.empty()


def _bound(admin: Admin) -> socket.socket:
    assert admin.listen is not None
    where = f"admin.listen = {admin.listen}"
    try:
        return listening.bound(*address_of(admin.listen))
    except OSError as error:
        what = f"cannot listen there: {error.strerror or error}"
        if error.errno == errno.EADDRINUSE:  # another daemon, that may be about to end
            raise Unavailable(
                where, what, "end the process that does, or choose another"
            ) from error
        raise ConfigError(where, what, "choose an address of this machine") from error
