"""PostgreSQL."""

from __future__ import annotations

import attrs

from syncd.events.event import Event


@attrs.frozen
class CommitLost(Event):
    """The connection broke in COMMIT: the outcome is read back under a new lease."""

    name = "commit.unknown"
    level = "warning"
    partition: str
    error: str


@attrs.frozen
class StoreRetried(Event):
    """A whole transaction failed, for a reason that may be gone the next time (`sqlstates`)."""

    name = "store.retried"
    operation: str
    sqlstate: str | None  # absent: the connection was lost or not to be had, without a word
    attempt: int


@attrs.frozen
class DbPool(Event):
    """The connection pool, and what the server allows."""

    name = "db.pool"
    size: int
    idle: int
    waiting: int
    pool_max: int
    capped_from: int | None  # what was asked for, where the server allows less


@attrs.frozen
class DbUnavailable(Event):
    """PostgreSQL cannot be reached; said again now and then while that lasts."""

    name = "db.unavailable"
    level = "warning"
    error: str


@attrs.frozen
class DbRecovered(Event):
    """PostgreSQL can be reached again; `seconds`: for how long it could not."""

    name = "db.recovered"
    seconds: float


@attrs.frozen
class DbExhausted(Event):
    """PostgreSQL lacks room, memory or connections, or is read-only; nothing more is claimed."""

    name = "db.exhausted"
    level = "error"
    error: str


@attrs.frozen
class ConnectionRefused(Event):
    """The pool could not grow; work goes on over the connections there are."""

    name = "connection.refused"
    level = "warning"
    error: str
    size: int  # of the pool
    pool_max: int


@attrs.frozen
class TableChanged(Event):
    """A data table was created, or grew columns or indexes."""

    name = "table.changed"
    table: str
    statements: int


@attrs.frozen
class EmbeddedStarted(Event):
    """The embedded PostgreSQL runs; `started` is false where another process had started it."""

    name = "embedded.started"
    version: str
    started: bool
    data_dir: str
