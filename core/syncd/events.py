"""What syncd says: a closed catalogue of events, one frozen class each.

Logs, progress and the run history all read the same events; the JSON Schema
(`schemas/syncd_schemas/events.schema.json`) is generated from the classes. An event's name is its
class's `name`; its level says who must act: ``error`` a human, ``warning`` nobody yet (degraded,
self-healing), ``info`` and ``debug`` nobody. Durations are in seconds, sizes in bytes, counts are
plurals.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import attrs

Level = Literal["debug", "info", "warning", "error"]


@attrs.frozen
class Event:
    """One thing that happened."""

    name: ClassVar[str]
    level: ClassVar[Level] = "info"


@attrs.frozen
class RunStarted(Event):
    """A run took the lease on a partition and begins, or goes on with, a pass."""

    name = "run.started"
    run_id: int
    job: str
    partition: str
    pass_number: int
    mode: str
    resumed: bool  # an open pass is gone on with
    epoch: int


@attrs.frozen
class RunProgress(Event):
    """How far a run is. `total` and what follows from it are absent where nobody knows it."""

    name = "run.progress"
    run_id: int
    job: str
    partition: str
    processed: int  # records of committed pages, of this run
    total: int | None
    percent: float | None
    rate: float  # records per second, over the last seconds
    eta_seconds: float | None
    pages: int
    in_flight: int
    throttled_seconds: float


@attrs.frozen
class RunFinished(Event):
    """A run gave its lease back. `status`: complete, partial, waiting, drained, failed, lost."""

    name = "run.finished"
    run_id: int
    job: str
    partition: str
    status: str
    message: str
    pages: int
    requests: int
    retries: int
    not_modified: int  # of the requests, answered with 304
    records: int
    inserted: int
    updated: int
    unchanged: int
    stale: int
    quarantined: int
    throttled_seconds: float
    duration_seconds: float


@attrs.frozen
class PassSuperseded(Event):
    """An open pass was set aside; a new one starts from the same watermark."""

    name = "pass.superseded"
    partition: str
    pass_number: int
    reason: str


@attrs.frozen
class PassFinished(Event):
    """A pass has no open cursor left. `status`: complete, partial or failed."""

    name = "pass.finished"
    partition: str
    pass_number: int
    mode: str
    status: str
    pages: int
    records: int
    watermark: str | None


@attrs.frozen
class PageFetched(Event):
    """One page is here, not yet committed."""

    name = "page.fetched"
    level = "debug"
    partition: str
    cursor: str
    records: int
    opens: int
    not_modified: bool  # it was not sent: its rows are what they were (304)
    duration_seconds: float


@attrs.frozen
class CursorFailed(Event):
    """A page could not be had or understood; its cursor is kept and tried again after a wait."""

    name = "cursor.failed"
    level = "warning"
    partition: str
    cursor: str
    attempts: int
    retry_in_seconds: float | None  # absent: given up in this pass
    error: str


@attrs.frozen
class BatchCommitted(Event):
    """One transaction wrote these pages' rows and closed their cursors."""

    name = "batch.committed"
    level = "debug"
    partition: str
    pages: int
    records: int
    inserted: int
    updated: int
    unchanged: int
    stale: int
    quarantined: int
    cursors_opened: int
    duration_seconds: float


@attrs.frozen
class RecordsQuarantined(Event):
    """Records were set aside with their reason; the run goes on."""

    name = "record.quarantined"
    level = "warning"
    partition: str
    stream: str
    count: int
    reason: str
    message: str  # of the first one


@attrs.frozen
class RowsAbsent(Event):
    """Records are gone upstream; their rows were marked or deleted, as their stream says."""

    name = "rows.absent"
    partition: str
    stream: str
    action: str  # mark or delete
    count: int
    rows: int  # there were, marked ones not counted


@attrs.frozen
class AbsenceRefused(Event):
    """Nobody was judged by a complete full pass, or it would have cost too many rows."""

    name = "absence.refused"
    level = "warning"
    partition: str
    stream: str
    reason: str


@attrs.frozen
class RequestRetried(Event):
    """A request is sent again. `reason`: throttled, unavailable or unintelligible."""

    name = "request.retried"
    upstream: str
    path: str
    reason: str
    status: int | None
    attempt: int
    wait_seconds: float


@attrs.frozen
class LimitLocked(Event):
    """The upstream asked everyone to wait: no request of this quota leaves before."""

    name = "limit.locked"
    quota: str
    seconds: float
    announced: bool  # by Retry-After; else our own backoff


@attrs.frozen
class LeaseLost(Event):
    """Another daemon holds a newer lease, or ours could not be renewed; nothing more is written."""

    name = "lease.lost"
    level = "warning"
    partition: str
    epoch: int


@attrs.frozen
class LeaseWaiting(Event):
    """Another process holds the partition."""

    name = "lease.waiting"
    partition: str
    holder: str
    lease_seconds: float


@attrs.frozen
class PartitionParked(Event):
    """A partition, or an account with all of its partitions, waits for an operator."""

    name = "partition.parked"
    level = "error"
    partition: str
    reason: str


@attrs.frozen
class CommitLost(Event):
    """The connection broke in COMMIT: the outcome is read back under a new lease."""

    name = "commit.unknown"
    level = "warning"
    partition: str
    error: str


@attrs.frozen
class StoreRetried(Event):
    """A whole transaction is tried again (deadlock, serialization, lock timeout)."""

    name = "store.retried"
    operation: str
    sqlstate: str
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
    """PostgreSQL cannot be reached."""

    name = "db.unavailable"
    level = "warning"
    error: str


@attrs.frozen
class TableChanged(Event):
    """A data table was created, or grew columns or indexes."""

    name = "table.changed"
    table: str
    statements: int


@attrs.frozen
class DrainStarted(Event):
    """A signal asked us to stop: nothing new is fetched, what is fetched is committed."""

    name = "drain.started"
    signal: str
    deadline_seconds: float


@attrs.frozen
class EmbeddedStarted(Event):
    """The embedded PostgreSQL runs; `started` is false where another process had started it."""

    name = "embedded.started"
    version: str
    started: bool
    data_dir: str


def catalogue() -> dict[str, type[Event]]:
    """Every event by its name."""
    return {kind.name: kind for kind in Event.__subclasses__()}
