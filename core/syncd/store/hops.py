"""The door to PostgreSQL: one transaction is one synchronous function, run in a thread.

psycopg's asynchronous side is asyncio's, so async ends here. No transaction ever spans a checkpoint
or a network wait. Works through a pooler in transaction mode: no session settings, no prepared
statements, no advisory session locks.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from os import dup
from random import Random
from typing import Any, Concatenate, ParamSpec, TypeAlias, TypeVar

import attrs
import psycopg
import psycopg_pool
import trio
from psycopg.pq import TransactionStatus
from psycopg.rows import DictRow, dict_row

from syncd import faults
from syncd.errors import CommitUnknown, StoreUnavailable
from syncd.events import DbPool, Event, StoreRetried
from syncd.model import Secret
from syncd.store.sqlstates import RetryTransaction, first_line, translated

Connection: TypeAlias = psycopg.Connection[DictRow]
P = ParamSpec("P")
T = TypeVar("T")

ATTEMPTS_MAX = 5  # of one transaction: 40001, 40P01, 55P03
MAX_LIFETIME_SECONDS = 1800.0  # of a connection, so that servers behind a proxy can be moved
CANCEL_GRACE_SECONDS = 2.0  # from cancelling a late query to shutting its socket


@attrs.frozen
class Timeouts:
    """Set with SET LOCAL in every transaction, in seconds."""

    statement_seconds: float = 60.0
    lock_seconds: float = 5.0
    idle_in_transaction_seconds: float = 10.0
    connect_seconds: float = 10.0


@attrs.define(eq=False)
class _Active:
    """A transaction at work, for the watchdog."""

    deadline: float
    connection: Connection | None = None
    cancelled: bool = False


class Hops:
    """A pool of connections, and the one function through which everything reaches them."""

    def __init__(
        self,
        dsn: Secret,
        *,
        pool_min: int,
        pool_max: int,
        timeouts: Timeouts,
        emit: Callable[[Event], None],
        random: Random,
        name: str = "syncd",
    ) -> None:
        self.timeouts = timeouts
        self.pool_max = pool_max
        self._emit = emit
        self._random = random
        self._limiter = trio.CapacityLimiter(pool_max)
        self._active: set[_Active] = set()
        self._dsn = dsn
        self._pool: psycopg_pool.ConnectionPool[Connection] = psycopg_pool.ConnectionPool(
            dsn.reveal(),
            min_size=min(pool_min, pool_max),
            max_size=pool_max,
            open=False,
            timeout=timeouts.connect_seconds,
            max_lifetime=MAX_LIFETIME_SECONDS,
            kwargs=connection_options(timeouts, name),
            name=name,
        )

    async def open(self) -> None:
        """Open the pool; `watch` is to run beside it, and `aclose` ends both.

        Raises: `StoreUnavailable` or `StoreRefused` where no connection can be made.
        """
        await trio.to_thread.run_sync(self._open)

    async def aclose(self) -> None:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 10):
            await trio.to_thread.run_sync(self._pool.close, 5.0)

    def _open(self) -> None:
        options = connection_options(self.timeouts, "syncd")
        try:
            # A first connection by hand: its error says why, where the pool's only says when.
            psycopg.connect(self._dsn.reveal(), **options).close()
        except psycopg.OperationalError as error:
            # libpq gives a refused connection no SQLSTATE: a wrong password looks like a closed
            # port, so the operator is told to look at both.
            raise StoreUnavailable(
                "database",
                first_line(error),
                "see that PostgreSQL runs there, and that name, user and password are right",
            ) from error
        with translated("database"):
            self._pool.open(wait=True, timeout=self.timeouts.connect_seconds)

    async def run(
        self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run `work(connection, ...)` as one transaction, and commit it.

        Deadlocks, serialization failures and lock timeouts try the whole transaction again.

        Raises: `CommitUnknown` where the connection was lost in COMMIT, `StoreUnavailable`,
        `StoreRefused`, and what `work` itself raises (the transaction is then rolled back).
        """
        for attempt in range(1, ATTEMPTS_MAX + 1):
            active = _Active(trio.current_time() + self.timeouts.statement_seconds + 5.0)
            self._active.add(active)
            try:
                return await trio.to_thread.run_sync(
                    self._transact, active, work, args, kwargs, limiter=self._limiter
                )
            except RetryTransaction as error:
                name = getattr(work, "__name__", "work")
                self._emit(StoreRetried(name, error.sqlstate, attempt))
                if attempt == ATTEMPTS_MAX:
                    raise StoreUnavailable(
                        "database",
                        f"{name} met SQLSTATE {error.sqlstate} {ATTEMPTS_MAX} times in a row",
                        "look for long locks",
                    ) from error
                await trio.sleep(self._random.random() * 0.05 * 2**attempt)
            finally:
                self._active.discard(active)
        raise AssertionError("unreachable")

    async def compute(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run what needs no database in a thread; a simulation runs it in place."""
        return await trio.to_thread.run_sync(partial(work, *args, **kwargs))

    def _transact(
        self,
        active: _Active,
        work: Callable[..., T],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> T:
        with translated("database"):
            connection = self._pool.getconn(self.timeouts.connect_seconds)
        active.connection = connection
        try:
            with translated("database"):
                set_timeouts(connection, self.timeouts)
                result = work(connection, *args, **kwargs)
            commit(connection)
            return result
        finally:
            active.connection = None
            if connection.info.transaction_status != TransactionStatus.IDLE:
                with suppress(psycopg.Error):
                    connection.rollback()
            self._pool.putconn(connection)

    async def watch(self) -> None:
        """End transactions that outlive their deadline: cancel the query, then shut the socket.

        Runs until it is cancelled.
        """
        while True:
            await trio.sleep(0.5)
            for active in [a for a in self._active if a.deadline <= trio.current_time()]:
                connection = active.connection
                if connection is None:
                    continue
                if active.cancelled:
                    shut(connection)
                    continue
                active.cancelled = True
                active.deadline = trio.current_time() + CANCEL_GRACE_SECONDS
                await trio.to_thread.run_sync(cancel, connection)

    def statistics(self, *, capped_from: int | None = None) -> DbPool:
        """Return how the pool stands."""
        stats = self._pool.get_stats()
        return DbPool(
            size=stats.get("pool_size", 0),
            idle=stats.get("pool_available", 0),
            waiting=stats.get("requests_waiting", 0),
            pool_max=self.pool_max,
            capped_from=capped_from,
        )


def connection_options(timeouts: Timeouts, name: str) -> dict[str, Any]:
    """Return what every connection is opened with: nothing that a pooler would leak or refuse."""
    return {
        "row_factory": dict_row,
        "prepare_threshold": None,
        "application_name": name,
        "connect_timeout": max(2, round(timeouts.connect_seconds)),  # libpq: whole seconds, >= 2
        "keepalives_idle": 30,
        "keepalives_interval": 10,
        "keepalives_count": 3,
        "tcp_user_timeout": 30_000,  # milliseconds; a half-open connection ends within it
    }


def set_timeouts(connection: Connection, timeouts: Timeouts) -> None:
    """Bound every statement of the open transaction (SET LOCAL: a pooler leaks nothing)."""
    connection.execute(
        "SELECT set_config('statement_timeout', %s, true), set_config('lock_timeout', %s, true),"
        " set_config('idle_in_transaction_session_timeout', %s, true)",
        (
            f"{timeouts.statement_seconds * 1000:.0f}",
            f"{timeouts.lock_seconds * 1000:.0f}",
            f"{timeouts.idle_in_transaction_seconds * 1000:.0f}",
        ),
    )


def commit(connection: Connection) -> None:
    """Commit, and tell a refusal from an unknown outcome.

    Raises: `CommitUnknown` where the connection is lost before the server's answer: the
    transaction may or may not have happened, and only a look at the tables can tell.
    """
    faults.point("before_commit")
    try:
        connection.commit()
    except psycopg.Error as error:
        if connection.closed or connection.broken:
            raise CommitUnknown(
                "database",
                f"the connection was lost in COMMIT ({first_line(error)})",
                "the outcome is read back under a new lease",
            ) from error
        with translated("database"):
            raise
    faults.point("after_commit")


def cancel(connection: Connection) -> None:
    """Ask the server to cancel the query at work; that takes a connection of its own."""
    with suppress(psycopg.Error):
        connection.cancel_safe(timeout=CANCEL_GRACE_SECONDS)


def shut(connection: Connection) -> None:
    """Shut a connection's socket under the thread that reads from it: the thread returns."""
    with suppress(OSError, psycopg.Error), socket.socket(fileno=dup(connection.fileno())) as sock:
        sock.shutdown(socket.SHUT_RDWR)
