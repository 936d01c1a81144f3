"""Runs, passes and leases."""

from __future__ import annotations

import attrs

from syncd.events.event import Event


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
    turn: int | None = None  # which of the round's `turns` of this feed, in the plugin's order
    turns: int | None = None


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
    turn: int | None = None  # as when the run started
    turns: int | None = None


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
class RunPaid(Event):
    """What the requests of a run that ends cost, in one unit, as far as their answers tell.

    Told of upstreams whose connector reads it off answers (`Upstream.spent`), whatever became of
    an answer: one that could not be used is paid for, too. The unit ``lost`` counts requests that
    are not idempotent, were sent, and of which no answer was read: nobody knows what they cost.
    Told of runs alone: of what effects and replays asked, nobody tells.
    """

    name = "run.paid"
    run_id: int
    job: str
    partition: str
    unit: str
    paid: int


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
class AccountsChanged(Event):
    """Accounts of the control tables were changed: from now on this process works on them so."""

    name = "accounts.changed"
    instance: str
    added: int
    removed: int  # or disabled, or invalid by now
    changed: int


@attrs.frozen
class AccountInvalid(Event):
    """An account of the control tables cannot be worked on; the others are."""

    name = "account.invalid"
    level = "error"
    instance: str
    account: str
    error: str


@attrs.frozen
class AccountRefused(Event):
    """An account whose credential was refused was tried again, in vain."""

    name = "account.refused"
    level = "debug"
    instance: str
    account: str
    error: str


@attrs.frozen
class AccountResumed(Event):
    """An account whose credential had been refused was let in at a second try, and goes on."""

    name = "account.resumed"
    instance: str
    account: str
    parked: str  # why it was


@attrs.frozen
class PartitionParked(Event):
    """A partition, or an account with all of its partitions, waits for an operator."""

    name = "partition.parked"
    level = "error"
    partition: str
    reason: str
