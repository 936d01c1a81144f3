"""The door to PostgreSQL: one transaction is one synchronous function, run in a thread.

psycopg's asynchronous side is asyncio's, so async ends here. No transaction ever spans a checkpoint
or a network wait. Works through a pooler in transaction mode: no session settings, no prepared
statements, no advisory session locks.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from random import Random
from typing import Any, Concatenate, ParamSpec, TypeAlias, TypeVar

import attrs
import psycopg
import psycopg_pool
import trio
from psycopg.pq import TransactionStatus
from psycopg.rows import DictRow, dict_row

from syncd import closing, faults
from syncd.errors import CommitUnknown, StoreError, StoreExhausted, StoreUnavailable
from syncd.events import ConnectionRefused, DbPool, Event, StoreRetried
from syncd.model import Secret
from syncd.sqlstates import Reaction, is_repeatable, pause
from syncd.store.active import CANCEL_GRACE_SECONDS, Active, cancel
from syncd.store.outage import Outage
from syncd.store.translation import first_line, refused_commit, translated

Connection: TypeAlias = psycopg.Connection[DictRow]
P = ParamSpec("P")
T = TypeVar("T")

MAX_LIFETIME_SECONDS = 1800.0  # of a connection, so that servers behind a proxy can be moved
CLOSE_LOOK_SECONDS = 0.05
LATE_AFTER_SECONDS = 5.0  # past the statement timeout, which the server should have kept
CLOSING_SECONDS = 20.0  # for the last transactions of a process that is being cancelled
POOL_CLOSE_SECONDS = 5.0
_AWAY = {"sqlstate": None, "reaction": "reconnect"}
# The pool doubles its waits for a server that is away, and would sleep long past its return: it
# gives up soon, and is asked anew.
POOL_RECONNECT_SECONDS = 3.0
ASK_POOL_SECONDS = 0.5  # whoever asks cannot be called back meanwhile


@attrs.frozen
class Timeouts:
    """Set with SET LOCAL in every transaction, in seconds."""

    statement_seconds: float = 60.0
    lock_seconds: float = 5.0
    idle_in_transaction_seconds: float = 10.0
    connect_seconds: float = 10.0
    patience_seconds: float = 30.0  # with a server that is away: a restart, a failover


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
        self._outage = Outage(emit)
        self._refusal = self._refusal_told = ""  # of the last connection that was asked for
        self._random = random
        self._limiter = trio.CapacityLimiter(pool_max)
        self._active: set[Active] = set()
        self._ending = self._closed = self._gone = False
        self.reached_at = -math.inf  # when a transaction was last committed, on Trio's clock
        self._dsn = dsn
        self._pool: psycopg_pool.ConnectionPool[Connection] = psycopg_pool.ConnectionPool(
            dsn.reveal(),
            min_size=min(pool_min, pool_max),
            max_size=pool_max,
            open=False,
            timeout=timeouts.connect_seconds,
            reconnect_timeout=POOL_RECONNECT_SECONDS,
            max_lifetime=MAX_LIFETIME_SECONDS,
            connection_class=_telling(self._note_refusal),
            kwargs=connection_options(timeouts, name),
            name=name,
        )

    @property
    def away(self) -> bool:
        """Return whether the last transaction found no connection, or lost it."""
        return self._outage.lasts

    async def open(self) -> None:
        """Open the pool; `watch` is to run beside it, and `aclose` ends both.

        Raises: `StoreUnavailable` or `StoreRefused` where no connection can be made.
        """
        await trio.to_thread.run_sync(self._open)

    async def aclose(self) -> None:
        self._closed = True
        seconds = min(POOL_CLOSE_SECONDS, closing.left_seconds())
        with trio.CancelScope(shield=True, deadline=closing.deadline(2 * POOL_CLOSE_SECONDS)):
            await trio.to_thread.run_sync(self._pool.close, seconds)

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

        What was rolled back for another's sake, or never came to its COMMIT, is tried again:
        `sqlstates` says what, and how often. So `work` may be called several times.

        Raises: `CommitUnknown` where the connection was lost in the COMMIT of what is not
        `repeatable`, `StoreUnavailable`, `StoreExhausted`, `StatementTimeout`, `StoreRefused`, and
        what `work` itself raises (the transaction is then rolled back).
        """
        attempts: Counter[Reaction] = Counter()
        started = trio.current_time()
        name = getattr(work, "__name__", "work")
        while True:
            active = Active()
            self._active.add(active)
            try:
                result: T = await self._attempt(active, work, args, kwargs)
            except StoreExhausted as error:
                self._outage.exhausted(error, trio.current_time())
                raise
            except (StoreUnavailable, CommitUnknown) as error:
                if isinstance(error, CommitUnknown) and not is_repeatable(work):
                    raise
                wait = self._wait_before_retry(error, attempts, name, started=started)
                if wait is None:
                    raise
            else:
                self.reached_at = trio.current_time()
                self._outage.over(self.reached_at)
                return result
            finally:
                self._active.discard(active)
            await trio.sleep(wait)

    async def _attempt(self, active: Active, *work: Any) -> Any:
        """Transact once, in a thread; a simulation does it in place."""
        return await trio.to_thread.run_sync(self._transact, active, *work, limiter=self._limiter)

    def _wait_before_retry(
        self, error: StoreError, attempts: Counter[Reaction], name: str, *, started: float
    ) -> float | None:
        """Count a failed attempt; return how long to wait before the next, `None` if none is."""
        then: Reaction = error.details["reaction"]
        attempts[then] += 1
        self._emit(StoreRetried(name, error.details["sqlstate"], attempts[then]))
        now = trio.current_time()
        if then == "reconnect":
            self._outage.failed(error, now, since=started)
        return pause(
            then,
            attempts=attempts[then],
            failing_seconds=now - started,
            patience_seconds=0.0 if self._ending else self.timeouts.patience_seconds,
            chance=self._random.random(),
        )

    def _transact(
        self,
        active: Active,
        work: Callable[..., T],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> T:
        connection = self._connection()
        active.connection = connection
        try:
            if self._gone:
                raise StoreUnavailable("database", "the process ends", "start it again", **_AWAY)
            with translated("database"):
                set_timeouts(connection, self.timeouts)
                result = work(connection, *args, **kwargs)
            commit(connection)
            return result
        finally:
            if connection.info.transaction_status != TransactionStatus.IDLE:
                with suppress(psycopg.Error):
                    connection.rollback()
            if not active.leave():
                connection.close()  # a cancellation under way would hit whoever had it next
            self._pool.putconn(connection)
            if active.silent:
                self._pool.drain()  # one that fell silent is seldom alone

    def _connection(self) -> Connection:
        """Take a connection; a pool that has given up grows again for whoever asks anew."""
        with translated("database"):
            for _ in range(math.ceil(self.timeouts.connect_seconds / ASK_POOL_SECONDS)):
                with suppress(psycopg_pool.PoolTimeout):
                    return self._pool.getconn(ASK_POOL_SECONDS)
                if self._ending:
                    break
        what = f"no connection within {self.timeouts.connect_seconds:.0f} s"
        if self._refusal:
            what += f": {self._refusal}"
        raise StoreUnavailable("database", what, "is PostgreSQL reachable?", **_AWAY)

    def _note_refusal(self, text: str) -> None:
        """Remember why no connection could be made, "" for one that was; the pool only logs it."""
        self._refusal = text

    def _tell_refusal(self) -> None:
        """Say that the pool cannot grow; where nothing can be reached, the transactions say so."""
        if self._refusal != self._refusal_told and not self._outage.lasts:
            self._refusal_told = self._refusal
            if self._refusal:
                size = self._pool.get_stats()["pool_size"]
                self._emit(ConnectionRefused(self._refusal, size, self.pool_max))

    async def watch(self) -> None:
        """End transactions that outlive their deadline: cancel the query, then shut the socket.

        Runs until it is cancelled. From then on until `aclose` nothing is waited for any longer: a
        thread that asks a silent server cannot be cancelled, and would hold the process.
        """
        try:
            while True:
                await trio.sleep(0.5)
                await self._end_late(LATE_AFTER_SECONDS + self.timeouts.statement_seconds)
                self._tell_refusal()
        finally:
            self._ending = True
            # Somewhat longer than the others: what they left is still to be ended.
            with trio.CancelScope(shield=True, deadline=closing.deadline(CLOSING_SECONDS)) as scope:
                scope.deadline += CLOSE_LOOK_SECONDS
                while self._active or not self._closed:
                    await trio.sleep(CLOSE_LOOK_SECONDS)
                    await self._end_late(min(CANCEL_GRACE_SECONDS, closing.left_seconds() / 2))
            self._gone = True
            for active in list(self._active):
                active.shut()

    async def _end_late(self, allowed_seconds: float) -> None:
        """Take one step further with each transaction that is late."""
        now = trio.current_time()
        async with trio.open_nursery() as cancelling:
            for active in list(self._active):
                if active.connection is None:
                    continue
                active.deadline = min(active.deadline, now + allowed_seconds)
                if active.deadline > now:
                    continue
                grace = min(CANCEL_GRACE_SECONDS, closing.left_seconds() / 2)
                active.deadline = now + grace
                if active.cancelled:
                    active.shut()
                elif connection := active.cancel():
                    cancelling.start_soon(cancel, connection, grace)

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


def _telling(note: Callable[[str], None]) -> type[Connection]:
    """Make the class of a pool's connections, which tells why one could not be made."""

    class Telling(psycopg.Connection[DictRow]):
        @classmethod
        def connect(cls, conninfo: str = "", **options: Any) -> Telling:
            try:
                made = super().connect(conninfo, **options)
            except psycopg.Error as error:
                note(first_line(error))
                raise
            note("")
            return made

    return Telling


def connection_options(timeouts: Timeouts, name: str) -> dict[str, Any]:
    """Return what every connection is opened with: nothing that a pooler would leak or refuse."""
    return {
        "row_factory": dict_row,
        "prepare_threshold": None,
        "application_name": name,
        "connect_timeout": max(2, round(timeouts.connect_seconds)),  # libpq: whole seconds, >= 2
        # A half-open connection ends within 20 s: by its keepalives while it waits for an answer,
        # by its unacknowledged bytes (milliseconds) once it has sent some.
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 2,
        "tcp_user_timeout": 20_000,
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
    transaction may or may not have happened, and only a look at the tables can tell;
    `CommitRefused` where a deferred constraint objects to a row.
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
                sqlstate=error.sqlstate,
                reaction="reconnect",
            ) from error
        raise refused_commit("database", error) from error
    faults.point("after_commit")
