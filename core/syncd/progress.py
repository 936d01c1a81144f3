"""Where a partition goes from here: which pass a run walks, and where the run's end leads.

Two decisions, both pure: `choose_pass` at a run's beginning, `after` at its end. No other module
decides about watermarks, failures, parking or waiting; the tables in `core/DESIGN.md` are these.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Literal, TypeAlias

import attrs

from syncd.errors import (
    CommitUnknown,
    CursorExpired,
    LeaseLost,
    PluginError,
    StoreError,
    StoreExhausted,
    StoreRefused,
    SyncdError,
    Throttled,
    Unauthorized,
    Unavailable,
    Unintelligible,
)
from syncd.model import Mode

Fingerprints: TypeAlias = Mapping[str, Mapping[str, Any]]  # by stream: {"row": .., "version_rule"}

# --- Which pass -----------------------------------------------------------------------------------


@attrs.frozen
class OpenPass:
    """What is known of the pass a partition stands in."""

    id: int
    number: int
    mode: Mode
    since: datetime | None
    until: datetime
    started_at: datetime
    request_fingerprint: str
    row_fingerprints: Fingerprints
    connector_version: str
    high: int
    ends_at: int | None
    pages: int
    records: int


@attrs.frozen
class Bounds:
    """What a backfill asks for: what changed since a moment and before another one."""

    since: datetime
    until: datetime


@attrs.frozen
class Wanted:
    """What a run is asked to do, by the code and configuration of this process."""

    mode: Mode
    request_fingerprint: str
    row_fingerprints: Fingerprints
    connector_version: str
    resumable_seconds: float
    verify: bool = False  # every row is to be compared: a pass begun without that does not do
    bounds: Bounds | None = None  # of a backfill, and only there
    failed_items_max: int | None = None  # of a pass, before its partition is parked


@attrs.frozen
class Resume:
    """Go on with the open pass."""

    open_pass: OpenPass


@attrs.frozen
class Anew:
    """Begin a pass; `superseded` says why an open one is set aside, `None` where there is none."""

    mode: Mode
    since: datetime | None
    superseded: str | None
    why: str  # why this mode
    until: datetime | None = None  # of a backfill; other passes reach to the moment they begin


@attrs.frozen
class Leave:
    """The pass belongs to a newer connector: give the lease back to a daemon that has it."""

    reason: str


def choose_pass(
    open_pass: OpenPass | None,
    wanted: Wanted,
    *,
    watermark: datetime | None,
    covered: Fingerprints,
    now: datetime,
) -> Resume | Anew | Leave:
    """Decide which pass a run walks.

    `covered` are the row fingerprints of the streams that the last complete full pass covered: one
    that is new or differs makes the next pass full, and so does a partition without a watermark.
    """
    anew = _anew(wanted, watermark, covered)
    if open_pass is None:
        return anew
    reason = _superseded(open_pass, wanted, anew.mode, now)
    if reason is None:
        return Resume(open_pass)
    if version_order(open_pass.connector_version) > version_order(wanted.connector_version):
        return Leave(
            f"pass {open_pass.number} was begun by connector {open_pass.connector_version}, "
            f"newer than {wanted.connector_version} here"
        )
    if open_pass.mode == "backfill" and anew.mode != "full":
        # Nobody asks for it once more: it is owed, whatever was asked for now.
        since, until = open_pass.since, open_pass.until
        return Anew("backfill", since, reason, "it is begun anew", until=until)
    return attrs.evolve(anew, superseded=reason)


def _anew(wanted: Wanted, watermark: datetime | None, covered: Fingerprints) -> Anew:
    if wanted.bounds is not None:
        bounds = wanted.bounds
        return Anew("backfill", bounds.since, None, "asked for", until=bounds.until)
    if wanted.mode != "incremental":
        return Anew(wanted.mode, None, None, "asked for")
    if watermark is None:
        return Anew("full", None, None, "the first pass of a partition is full")
    changed = sorted(s for s, print_ in wanted.row_fingerprints.items() if covered.get(s) != print_)
    if changed:
        return Anew("full", None, None, f"how rows are made changed for {', '.join(changed)}")
    return Anew("incremental", watermark, None, "asked for")


def does_for(wanted: Wanted, mode: Mode, since: datetime | None, until: datetime) -> bool:
    """Return whether a pass is what was wanted: before a backfill another one may have to end."""
    return wanted.bounds in (None, Bounds(since, until) if mode == "backfill" and since else None)


def _superseded(open_pass: OpenPass, wanted: Wanted, mode: Mode, now: datetime) -> str | None:
    """Return why an open pass cannot be gone on with, or `None`."""
    age = (now - open_pass.started_at).total_seconds()
    if open_pass.request_fingerprint != wanted.request_fingerprint:
        return "its cursors mean something else by now (paging, settings or slice changed)"
    if age > wanted.resumable_seconds:
        return f"it is {age:.0f} s old, and its cursors live {wanted.resumable_seconds:.0f} s"
    if open_pass.row_fingerprints != wanted.row_fingerprints:
        return "how rows are made has changed since it began"
    if mode == "full" and open_pass.mode != "full":
        return "a full pass was asked for"
    if wanted.verify:
        return "every row is to be compared, and it has walked without that"
    return None


def version_order(version: str) -> tuple[int, ...]:
    """Return what orders connector versions: the numbers of ``1.10.2``, other text as zero."""
    return tuple(int(part) if part.isdigit() else 0 for part in version.split("."))


# --- Where a run's end leads ----------------------------------------------------------------------

Status = Literal["complete", "partial", "waiting", "drained", "failed", "lost"]


@attrs.frozen
class PassEnded:
    """The frontier is empty, and the pass ended `complete`, `partial` or `failed`."""

    status: Literal["complete", "partial", "failed"]
    park: str | None = None  # why the partition is set aside
    message: str = ""


@attrs.frozen
class OnlyWaiting:
    """Only cursors that must wait remain; the pass stays open."""

    seconds: float  # until the first of them
    unintelligible: bool = False  # no page was committed, and the answers could not be understood
    message: str = ""


@attrs.frozen
class Drained:
    """We were asked to stop before the end."""


@attrs.frozen
class Broke:
    """An error ended the run."""

    error: SyncdError


Ended: TypeAlias = PassEnded | OnlyWaiting | Drained | Broke


@attrs.frozen
class Standing:
    """How a partition stood when the run began."""

    failures: int
    failing_since: datetime | None


@attrs.frozen
class Next:
    """What is written when the lease is given back; `None` instead of it: nothing is written."""

    status: Status
    wait_seconds: float | None  # None: the job's interval or cron decides
    failures: int
    message: str
    park_partition: str | None = None
    park_account: str | None = None


PARK_AFTER = 10  # unintelligible runs in a row ...
PARK_AFTER_SECONDS = 12 * 3600.0  # ... over at least as long: an upstream may be broken overnight
BACKOFF_BASE_SECONDS = 5.0
BACKOFF_CAP_SECONDS = 3600.0
EXHAUSTED_WAIT_SECONDS = 300.0  # at least half of it: an operator must make room first


def after(  # one table: the rows of "Where a run's end leads" in core/DESIGN.md, in their order
    ended: Ended, standing: Standing, *, committed_pages: int, now: datetime, chance: float
) -> Next | None:
    """Decide where a run's end leads; `chance` is drawn from [0, 1).

    A run that committed pages resets the failures before its own end is counted.
    """
    failures = 0 if committed_pages else standing.failures
    since = standing.failing_since if failures else None
    backoff = min(BACKOFF_CAP_SECONDS, BACKOFF_BASE_SECONDS * 2.0 ** min(failures, 20)) * chance
    match ended:
        case PassEnded(status="failed", park=park, message=message):
            return Next("failed", backoff, failures + 1, message, park_partition=park)
        case PassEnded(status=status, park=park, message=message):
            return Next(status, None, 0, message, park_partition=park)
        case OnlyWaiting(seconds=seconds, unintelligible=False, message=message):
            return Next("waiting", seconds, failures, message)
        case OnlyWaiting(seconds=seconds, message=message):
            park = _park(failures + 1, since, now, message)
            wait = max(seconds, backoff)
            return Next("waiting", wait, failures + 1, message, park_partition=park)
        case Drained():
            return Next("drained", 0.0, failures, "stopped before the end; the pass stays open")
        case Broke(error=LeaseLost() | CommitUnknown()):
            return None
        case Broke(error=CursorExpired() as error):
            return Next("waiting", 0.0 if committed_pages else backoff, failures, str(error))
        case Broke(error=Throttled() as error):
            return Next("waiting", error.retry_after_seconds, failures, str(error))
        case Broke(error=Unauthorized() as error):
            return Next("failed", 0.0, failures, str(error), park_account=str(error))
        case Broke(error=Unintelligible() as error):
            park = _park(failures + 1, since, now, str(error))
            return Next("failed", backoff, failures + 1, str(error), park_partition=park)
        case Broke(error=PluginError() as error):
            message = str(error)
            return Next("failed", backoff, failures + 1, message, park_partition=message)
        case Broke(error=StoreExhausted() as error):
            wait = max(backoff, EXHAUSTED_WAIT_SECONDS * (0.5 + chance / 2))
            return Next("failed", wait, failures + 1, str(error))
        case Broke(error=StoreRefused() as error):
            message = str(error)
            return Next("failed", backoff, failures + 1, message, park_partition=message)
        case Broke(error=Unavailable() | StoreError() | SyncdError() as error):
            return Next("failed", backoff, failures + 1, str(error))


def _park(failures: int, since: datetime | None, now: datetime, message: str) -> str | None:
    long_enough = since is not None and now - since >= timedelta(seconds=PARK_AFTER_SECONDS)
    if failures >= PARK_AFTER and long_enough:
        return f"{failures} runs in a row could not be understood; last: {message}"
    return None


def ended_pass(
    *, failed_items: int, excused_items: int, items: int, failed_items_max: int | None = None
) -> PassEnded:
    """Decide how a pass whose frontier is empty ended. `items` are all item cursors it had.

    `excused_items` are those of the failed ones that failed in an outage: they park nothing.
    """
    allowed = max(100, items // 100) if failed_items_max is None else failed_items_max
    if failed_items == 0:
        return PassEnded("complete")
    message = f"{failed_items} of {items} items failed; they are tried again in the next pass"
    if failed_items - excused_items > allowed:
        return PassEnded("partial", park=f"{message}; more than {allowed}", message=message)
    return PassEnded("partial", message=message)


FAILED_PASSES_MAX = 3


def failed_pass(*, failed_passes: int, message: str, outage: bool = False) -> PassEnded:
    """Decide how a pass whose chain broke ends; `failed_passes` counts this one too.

    An outage parks nothing: no operator should have to resume 300 partitions after a night without
    an upstream.
    """
    park = None
    if failed_passes >= FAILED_PASSES_MAX and not outage:
        park = f"{failed_passes} passes in a row failed; last: {message}"
    return PassEnded("failed", park=park, message=message)


# --- Where a cursor's failure leads ---------------------------------------------------------------


@attrs.frozen
class TryAgain:
    """The cursor stays open and waits."""

    wait_seconds: float


@attrs.frozen
class GiveUp:
    """An item becomes debt, due again after the wait; a chain cursor ends its pass as failed."""

    wait_seconds: float


CURSOR_ATTEMPTS_MAX = 5
CURSOR_GIVE_UP_AFTER_SECONDS = 3600.0
CURSOR_WAIT_MAX_SECONDS = 900.0


def after_failure(
    *,
    attempts: int,
    failing_since: datetime | None,
    now: datetime,
    chance: float,
    asked_seconds: float = 0.0,
) -> TryAgain | GiveUp:
    """Decide about a cursor that failed once more, after `attempts` failures before this one.

    It waits `asked_seconds` at least, up to what a cursor waits at most.
    `chance` is drawn from [0, 1). Failing is a matter of time, not only of tries: an hour of
    trouble upstream must not turn a thousand pages into debt.
    """
    jitter = 0.5 + chance / 2  # over the upper half: 1, 2, 4 ... s
    failing = (now - failing_since).total_seconds() if failing_since else 0.0
    if attempts + 1 >= CURSOR_ATTEMPTS_MAX and failing >= CURSOR_GIVE_UP_AFTER_SECONDS:
        return GiveUp(CURSOR_WAIT_MAX_SECONDS * jitter)
    wait_seconds = min(CURSOR_WAIT_MAX_SECONDS, 2.0 ** min(attempts, 10)) * jitter
    return TryAgain(max(wait_seconds, min(CURSOR_WAIT_MAX_SECONDS, asked_seconds)))
