"""Transactions at work, and how one that is late is ended from outside of its thread."""

from __future__ import annotations

import math
import socket
import threading
from contextlib import suppress
from os import dup
from typing import TypeAlias

import attrs
import psycopg
import trio
from psycopg.rows import DictRow

Connection: TypeAlias = psycopg.Connection[DictRow]

CANCEL_GRACE_SECONDS = 2.0  # from cancelling a late query to shutting its socket


@attrs.define(eq=False)
class Active:
    """A transaction at work, for the watchdog; its time runs from when it has a connection."""

    connection: Connection | None = None
    deadline: float = math.inf
    cancelled: bool = False
    silent: bool = False  # the server did not answer to its cancellation
    _lock: threading.Lock = attrs.field(factory=threading.Lock)

    def cancel(self) -> Connection | None:
        """Decide to cancel it; answer with its connection, `None` where it has ended by itself."""
        with self._lock:
            self.cancelled = self.connection is not None
            return self.connection

    def shut(self) -> None:
        """Shut its socket under the thread that reads from it: the thread returns."""
        with self._lock:
            if self.connection is not None:
                self.silent = True
                shut(self.connection)

    def leave(self) -> bool:
        """End it; whether its connection may serve another one: a cancellation may be under way."""
        with self._lock:
            self.connection = None
            return not self.cancelled


async def cancel(connection: Connection, grace_seconds: float = CANCEL_GRACE_SECONDS) -> None:
    """Ask the server to cancel the query at work; that takes a connection of its own.

    Where the server cannot be reached, that one hangs as well, and is left to itself.
    """

    def ask() -> None:
        with suppress(psycopg.Error):
            connection.cancel_safe(timeout=grace_seconds)

    with trio.move_on_after(grace_seconds):
        await trio.to_thread.run_sync(ask, abandon_on_cancel=True)


def shut(connection: Connection) -> None:
    """Shut a connection's socket, whatever its thread is waiting for."""
    with suppress(OSError, psycopg.Error), socket.socket(fileno=dup(connection.fileno())) as sock:
        sock.shutdown(socket.SHUT_RDWR)
