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
class RoundStarted(Event):
    """A job is due: every partition has a turn. `trigger`: schedule, trigger, after, queued."""

    name = "round.started"
    job: str
    number: int
    trigger: str
    partitions: int


@attrs.frozen
class RoundFinished(Event):
    """Every partition of a job had its turn. `status`: complete, partial, failed or cancelled."""

    name = "round.finished"
    job: str
    number: int
    status: str
    message: str
    partitions: int
    complete: int
    duration_seconds: float


@attrs.frozen
class RoundSkipped(Event):
    """A moment of a job's schedule passed by."""

    name = "round.skipped"
    job: str
    reason: str
    queued: bool  # another round follows the one that runs


@attrs.frozen
class JobHindered(Event):
    """A plugin's look-ups failed: of an account's partitions, those that are known have a turn."""

    name = "job.hindered"
    level = "warning"
    job: str
    where: str
    error: str


@attrs.frozen
class DaemonReady(Event):
    """The daemon keeps these jobs from now on."""

    name = "daemon.ready"
    jobs: int


@attrs.frozen
class ConfigReloaded(Event):
    """SIGHUP: the new configuration holds from now on."""

    name = "config.reloaded"
    jobs: int


@attrs.frozen
class ConfigRejected(Event):
    """SIGHUP: the new configuration has problems; the old one stays in force."""

    name = "config.rejected"
    level = "error"
    error: str


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
class BatchHalved(Event):
    """A batch took too long to be written: it is tried in two halves."""

    name = "batch.halved"
    level = "warning"
    partition: str
    pages: int
    error: str


@attrs.frozen
class TableChanged(Event):
    """A data table was created, or grew columns or indexes."""

    name = "table.changed"
    table: str
    statements: int


@attrs.frozen
class DrainStarted(Event):
    """We stop: nothing new is fetched, what is fetched is committed.

    `reason`: the name of a signal, `memory` or `threads` (a new process would do better).
    """

    name = "drain.started"
    reason: str
    deadline_seconds: float


@attrs.frozen
class LogDropped(Event):
    """Lines of the log are missing here: nobody took them in time, or they could not be written."""

    name = "log.dropped"
    level = "warning"
    count: int


@attrs.frozen
class LoopStalled(Event):
    """A task has not let go of the event loop for a second or more: nothing else happens.

    `where`: files, lines and functions, innermost first; a hook of a plugin is the usual one.
    """

    name = "loop.stalled"
    level = "error"
    task: str
    seconds: float
    where: str


@attrs.frozen
class LoopResumed(Event):
    """The event loop turns again, after so many seconds."""

    name = "loop.resumed"
    level = "warning"
    task: str
    seconds: float


@attrs.frozen
class ProcessCut(Event):
    """The process was ended from outside its loop; its leases run out by themselves."""

    name = "process.cut"
    level = "error"
    reason: str
    exit_code: int
    stacks: str  # one line for each task, or thread, that was left


@attrs.frozen
class MemoryExceeded(Event):
    """The process holds more memory than it may (`daemon.memory_max`): it drains, and exits 75."""

    name = "memory.exceeded"
    level = "error"
    resident_bytes: int
    memory_max_bytes: int


@attrs.frozen
class ThreadAbandoned(Event):
    """A plugin's function has not come back from its thread, which cannot be ended: it is left.

    `count`: how many of the connector's threads are lost like this; when too many are, the process
    drains, and exits 75.
    """

    name = "thread.abandoned"
    level = "error"
    connector: str
    where: str
    count: int


@attrs.frozen
class ProcessVitals(Event):
    """What the process takes, every few seconds; absent is what this system does not tell."""

    name = "process.vitals"
    level = "debug"
    resident_bytes: int | None
    descriptors: int | None
    threads: int  # of Python
    tasks: int  # of Trio
    log_dropped: int  # lines, ever


@attrs.frozen
class TaskFailed(Event):
    """A run broke in a way that nobody foresaw: a bug. Its partition is tried again by itself."""

    name = "task.failed"
    level = "error"
    task: str
    error: str


@attrs.frozen
class TaskRestarted(Event):
    """One of the process's own tasks failed, and is begun again after a wait."""

    name = "task.restarted"
    level = "error"
    task: str
    error: str
    failures: int  # in a row
    wait_seconds: float


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
