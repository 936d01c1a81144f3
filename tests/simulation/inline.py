"""The store of a simulated daemon: the real PostgreSQL, in place, on one plain connection.

Transactions run one after the other, between two checkpoints; how long each takes and what befalls
it is drawn. What is tried again, and how often, is decided by the real `Hops`. `syncd.clock` tells
the virtual time, which each transaction sets before it begins its work.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, Literal, TypeVar

import attrs
import psycopg
import trio

from syncd.errors import CommitUnknown, StoreUnavailable
from syncd.events import Event
from syncd.model import Secret
from syncd.store.hops import Connection, Hops, Timeouts, connection_options
from syncd.store.translation import translated
from syncd.threads import Threads

T = TypeVar("T")

BEGAN_AT = datetime(2026, 1, 5, tzinfo=UTC)  # a Monday

VIRTUAL = """
    CREATE OR REPLACE FUNCTION syncd.clock(now timestamptz DEFAULT NULL) RETURNS timestamptz
        LANGUAGE sql VOLATILE PARALLEL SAFE
        AS $$ SELECT coalesce(now, current_setting('simulated.now')::timestamptz) $$
"""

# slow: it takes seconds. failed: the connection is lost before COMMIT. unknown: in COMMIT, which
# has happened or not. dies: the process does, just before COMMIT or just after.
Outcome = Literal[
    "fine", "slow", "failed", "unknown, done", "unknown, undone", "dies before", "dies after"
]
TROUBLES: tuple[Outcome, ...] = ("slow", "failed", "unknown, done", "unknown, undone")

# Connections that earlier daemons have left: a new one must learn of every table and query, which
# costs more than what is asked of it. What a world asks again and again is prepared, for the same
# reason; a transaction leaves nothing else behind in its connection.
_idle: dict[str, list[Connection]] = {}

LOST = {"sqlstate": None, "reaction": "reconnect"}


def now() -> datetime:
    """Return the virtual time."""
    return BEGAN_AT + timedelta(seconds=trio.current_time())


@attrs.define
class Fortune:
    """What befalls the transactions of one connection. `chance`: of each to meet trouble."""

    random: Random
    latency_seconds: float = 0.004
    slow_seconds: float = 3.0
    chance: float = 0.0
    dies_at: int | None = None  # the transaction in which the process dies, counted from 1
    count: int = 0

    def draw(self) -> tuple[Outcome, float]:
        """Draw what befalls the next transaction, and how long it takes."""
        self.count += 1
        seconds = self.latency_seconds * self.random.uniform(0.5, 1.5)
        if self.count == self.dies_at:
            return self.random.choice(("dies before", "dies after")), seconds
        if not self.chance or self.random.random() >= self.chance:
            return "fine", seconds
        outcome = self.random.choice(TROUBLES)
        if outcome == "slow":
            seconds = self.slow_seconds * self.random.uniform(0.2, 1.0)
        return outcome, seconds


class InlineHops(Hops):
    """`Hops` whose transactions run in place."""

    def __init__(
        self,
        dsn: str,
        *,
        fortune: Fortune,
        random: Random,
        emit: Callable[[Event], None] = lambda _: None,
        died: Callable[[], None] = lambda: None,
        clock: Callable[[], datetime] = now,
        at_once: int = 8,
    ) -> None:
        timeouts = Timeouts()
        super().__init__(
            Secret(dsn), pool_min=1, pool_max=at_once, timeouts=timeouts, emit=emit, random=random
        )
        self.fortune = fortune
        self.met: Counter[Outcome] = Counter()
        self.stalled_until = 0.0  # nothing is asked of PostgreSQL before, as if it were stopped
        self._died = died
        self._clock = clock
        self._dead = False
        self._busy: set[trio.CancelScope] = set()
        self._database = dsn
        self._one: Connection | None = _opened(dsn, timeouts)

    async def _attempt(self, active: Any, *work: Any) -> Any:  # noqa: ARG002 - of the threads
        async with self._limiter:
            # As in a thread: what is under way ends, also when its caller is cancelled.
            with trio.CancelScope(shield=True) as busy:
                self._busy.add(busy)
                try:
                    return await self._befallen(*work)
                finally:
                    self._busy.discard(busy)
        raise _dead()

    async def _befallen(
        self, work: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> T:
        if self._dead:
            raise _dead()
        outcome, seconds = self.fortune.draw()
        self.met[outcome] += 1
        await trio.sleep_until(max(self.stalled_until, trio.current_time() + seconds / 2))
        if outcome == "failed":
            raise StoreUnavailable("database", "the connection is lost", "wait", **LOST)
        commits = outcome not in {"unknown, undone", "dies before"}
        result = self._transact_in_place(work, args, kwargs, commits=commits)
        if outcome in {"dies before", "dies after"}:
            self._died()
        await trio.sleep(seconds / 2)
        if outcome in {"unknown, done", "unknown, undone"}:
            raise CommitUnknown("database", "the connection is lost in COMMIT", "look", **LOST)
        return result

    def _transact_in_place(
        self,
        work: Callable[..., T],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        commits: bool,
    ) -> T:
        connection, done = self._one, False
        assert connection is not None, "it is dead, or closed"
        try:
            with translated("database"):
                connection.execute(
                    "SELECT set_config('simulated.now', %s, true)", (self._clock().isoformat(),)
                )
                result = work(connection, *args, **kwargs)
            if commits:
                connection.commit()
                done = True
            return result
        finally:
            if not done:
                connection.rollback()

    def die(self) -> None:
        """Lose the connection, and whatever is under way, as by a kill."""
        self._dead = self._ending = True
        self.close()
        for scope in tuple(self._busy):
            scope.cancel()

    def close(self) -> None:
        """Leave the connection to others."""
        connection, self._one = self._one, None
        if connection is not None and not connection.closed:
            connection.rollback()
            _idle.setdefault(self._database, []).append(connection)


@contextmanager
def borrowed(dsn: str) -> Iterator[Connection]:
    """Give a connection that is idle, or a new one, for one transaction."""
    connection = _opened(dsn, Timeouts())
    try:
        with connection.transaction():
            yield connection
    finally:
        _idle.setdefault(dsn, []).append(connection)


def _opened(dsn: str, timeouts: Timeouts) -> Connection:
    idle = _idle.setdefault(dsn, [])
    if idle:
        return idle.pop()
    connection = psycopg.connect(dsn, **connection_options(timeouts, "simulated"))
    connection.prepare_threshold = 0
    return connection


def close_idle(dsn: str) -> None:
    """Close what the daemons of all worlds have left: the database is to go."""
    for connection in _idle.pop(dsn, []):
        connection.close()


def _dead() -> StoreUnavailable:
    return StoreUnavailable("database", "the process is dead", "nobody hears this", **LOST)


class InlineThreads(Threads):
    """`Threads` for a simulation: plain functions run in place."""

    async def run(self, _: str, __: str, function: Callable[..., T], *args: Any) -> T:
        await trio.lowlevel.checkpoint()
        return function(*args)
