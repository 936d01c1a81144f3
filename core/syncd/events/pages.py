"""Pages, cursors, batches and records; requests and limits."""

from __future__ import annotations

import attrs

from syncd.events.event import Event


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
class BatchHalved(Event):
    """A batch took too long to be written: it is tried in two halves."""

    name = "batch.halved"
    level = "warning"
    partition: str
    pages: int
    error: str


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
class FieldUnknown(Event):
    """An upstream sends a field that the stream's record class does not know: said once."""

    name = "field.unknown"
    instance: str
    stream: str
    field: str  # its path; no value is kept


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
    announced: bool  # by Retry-After or a body; else our own backoff


@attrs.frozen
class LimitAdjusted(Event):
    """Refusals or timeouts moved what an adaptive quota allows itself, or their absence did."""

    name = "limit.adjusted"
    quota: str
    in_flight_max: int
    requests_per_second: float | None  # absent: the rate is declared, or there is none


@attrs.frozen
class LimitUnshared(Event):
    """What daemons share of limits cannot be asked for: each goes by its part of `fraction`."""

    name = "limit.unshared"
    level = "warning"
    daemons: int  # that were seen to live
    fraction: float
    error: str


@attrs.frozen
class LimitShared(Event):
    """What daemons share of limits can be asked for again."""

    name = "limit.shared"
    seconds: float  # that it could not


@attrs.frozen
class BreakerOpened(Event):
    """An origin failed again and again: nobody asks it for a while, then one tries."""

    name = "breaker.opened"
    level = "warning"
    quota: str
    origin: str
    failures: int  # in a row
    seconds: float


@attrs.frozen
class BreakerClosed(Event):
    """An origin that was left alone answers again."""

    name = "breaker.closed"
    quota: str
    origin: str


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
