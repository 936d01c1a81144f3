"""Jobs and their rounds, as all daemons share them. Every function is one transaction's work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from syncd.rounds import JobState, Judged, Sequel, Thresholds, Trigger, following, judge
from syncd.sqlstates import repeatable
from syncd.store.hops import Connection
from syncd.store.registry import STALE_SECONDS
from syncd.store.statements import load

_SQL = load("round")

FORGET_AT_ONCE = 1000
RESERVE_SECONDS = 30.0
PATIENCE_SECONDS = 60.0  # a round waits no longer for a partition that has to wait


@repeatable
def register(
    connection: Connection,
    jobs: Mapping[str, tuple[str, datetime | None]],
    *,
    now: datetime | None = None,
) -> None:
    """Make jobs known, each with its schedule as text and the first moment of a new schedule."""
    connection.execute(
        _SQL["register_jobs"],
        {
            "names": list(jobs),
            "schedules": [schedule for schedule, _ in jobs.values()],
            "next_ats": [next_at for _, next_at in jobs.values()],
        },
    )
    connection.execute(_SQL["orphans"], {"stale_seconds": STALE_SECONDS, "now": now})


@repeatable
def states(
    connection: Connection,
    slots: Mapping[str, int],
    *,
    instances: Mapping[str, str] | None = None,
    now: datetime | None = None,
) -> list[JobState]:
    """Return how jobs stand, of each of which a process runs so many partitions at once.

    `instances`: by job, whose accounts it is to be told of.
    """
    wanted: dict[str, Any] = {"names": list(slots), "slots": list(slots.values())}
    wanted["instances"] = [(instances or {}).get(name) for name in slots]
    rows = connection.execute(
        _SQL["states"], {**wanted, "stale_seconds": STALE_SECONDS, "now": now}
    )
    return [JobState(**row) for row in rows]


@repeatable
def reserve(connection: Connection, seen: JobState, *, now: datetime | None = None) -> bool:
    """Reserve the beginning of a round; false where another daemon has, or the job has moved on.

    Look-ups may take long, and cost requests. Whoever has reserved and is gone keeps the others
    waiting for half a minute; two that begin at once are told apart by `begin`.
    """
    named = {"job": seen.name, "next_at": seen.next_at, "asked": seen.asked}
    held = {"reserve_seconds": RESERVE_SECONDS, "now": now}
    return connection.execute(_SQL["reserve"], named | held).rowcount == 1


def begin(
    connection: Connection,
    seen: JobState,
    ids: Sequence[int],
    *,
    trigger: Trigger,
    next_at: datetime | None,
    jitter_seconds: float,
    known: Sequence[str],
    now: datetime | None = None,
) -> tuple[int, int] | None:
    """Begin a round over these partitions; answer with its id and number.

    `None` where the job has moved on since it was looked at: another daemon saw to it. `known` are
    all configured jobs: what waits for another one is taken over.
    """
    named = {"job": seen.name, "next_at": seen.next_at, "asked": seen.asked}
    if connection.execute(_SQL["lock_job"], named).fetchone() is None:
        return None
    found = _begin(
        connection,
        seen.name,
        trigger=trigger,
        partitions=len(ids),
        jitter_seconds=jitter_seconds,
        now=now,
    )
    partitions = {
        "job": seen.name,
        "ids": list(ids),
        "known": list(known),
        "jitter_seconds": jitter_seconds,
        "now": now,
    }
    connection.execute(_SQL["take_turns"], {"round": found[0], "ids": list(ids)})
    connection.execute(_SQL["let_go"], partitions)
    connection.execute(_SQL["make_due"], partitions)
    connection.execute(_SQL["plan"], {"job": seen.name, "next_at": next_at})
    settle_unable(connection, found[0], now=now)
    return found


def begin_command(
    connection: Connection,
    job: str,
    *,
    trigger: Trigger,
    owner: UUID,
    partitions: int,
    now: datetime | None = None,
) -> int:
    """Begin the round of a command, which sees to its partitions itself; answer with its id."""
    connection.execute(_SQL["orphans"], {"stale_seconds": STALE_SECONDS, "now": now})
    connection.execute(_SQL["know"], {"job": job})
    return _begin(connection, job, trigger=trigger, owner=owner, partitions=partitions, now=now)[0]


def _begin(
    connection: Connection,
    job: str,
    *,
    trigger: Trigger,
    partitions: int,
    owner: UUID | None = None,
    jitter_seconds: float = 0.0,
    now: datetime | None,
) -> tuple[int, int]:
    row = connection.execute(
        _SQL["begin"],
        {
            "job": job,
            "trigger": trigger,
            "owner": owner,
            "partitions": partitions,
            "jitter_seconds": jitter_seconds,
            "now": now,
        },
    ).fetchone()
    assert row is not None
    return row["id"], row["number"]


@repeatable
def pass_by(
    connection: Connection, seen: JobState, *, next_at: datetime | None, queue: bool
) -> bool:
    """Let a moment of a schedule pass by; `queue` asks for a round after the one that runs."""
    asked = "queued" if queue else None
    named = {"job": seen.name, "next_at": next_at, "seen": seen.next_at, "asked": asked}
    return connection.execute(_SQL["skip"], named).rowcount == 1


@repeatable
def settle_unable(connection: Connection, round_id: int, *, now: datetime | None = None) -> int:
    """Settle the turns that nobody can take: of what is parked, or has to wait for long.

    What nobody would claim is made due for its round first.
    """
    named = {"round": round_id, "patience_seconds": PATIENCE_SECONDS, "now": now}
    connection.execute(_SQL["adopt"], named)
    return connection.execute(_SQL["settle_unable"], named).rowcount


def end(
    connection: Connection,
    seen: JobState,
    *,
    thresholds: Thresholds,
    cancelled: bool,
    followers: Mapping[str, Sequence[str]],
    sequels: Sequence[Sequel] = (),
    known: Sequence[str] = (),
    now: datetime | None = None,
) -> Judged | None:
    """End a job's running round; `None` where another daemon did, or it goes on with `sequels`.

    `followers` are the jobs that come after this one, each with all jobs that it comes after;
    `known` are all configured jobs, as for `begin`.
    """
    found = connection.execute(_SQL["lock_round"], {"round": seen.round_id}).fetchone()
    if found is None or (not cancelled and _goes_on(connection, seen, sequels, known, now)):
        return None
    rows = connection.execute(_SQL["verdicts"], {"round": seen.round_id})
    judged = judge({row["verdict"]: row["partitions"] for row in rows}, thresholds)
    if cancelled:
        judged = Judged("cancelled", judged.message, judged.partitions, judged.complete)
        connection.execute(_SQL["cancelled"], {"job": seen.name})
    _finish(connection, int(seen.round_id or 0), judged, now)
    connection.execute(_SQL["forget_turns"], {"round": seen.round_id})
    if judged.status in {"complete", "partial"}:
        for job, after in followers.items():
            connection.execute(_SQL["follow"], {"job": job, "after": list(after)})
    return judged


def _goes_on(
    connection: Connection,
    seen: JobState,
    sequels: Sequence[Sequel],
    known: Sequence[str],
    now: datetime | None,
) -> bool:
    """Give a turn to whom it comes to now; say whether the round, which is locked, is not over."""
    ids = [number for each in sequels for number in each.ids]
    if not ids:
        return False
    asked = {"round": seen.round_id, "ids": ids}
    owing = {row["id"]: row["owes"] for row in connection.execute(_SQL["had_turns"], asked)}
    if any(owing.values()):
        return True  # another daemon was here meanwhile
    given = following(sequels, frozenset(owing))
    if given:
        asked["ids"] = given
        connection.execute(_SQL["take_turns"], asked)
        due = {"job": seen.name, "known": list(known), "jitter_seconds": 0.0, "now": now}
        connection.execute(_SQL["make_due"], asked | due)
        settle_unable(connection, int(seen.round_id or 0), now=now)
    return bool(given)


def catch_up(
    connection: Connection, job: str, sequels: Sequence[Sequel], *, now: datetime | None = None
) -> int:
    """Make derived partitions due that lag behind, between two rounds; answer with how many.

    A pass of what they read has ended since their own last one began: after a wait of its own, say,
    or by a command of a process that does not know them. While one goes on they wait for it.
    """
    due = 0
    for each in sequels:
        asked = {"job": job, "ids": list(each.ids), "reads": sorted(each.reads), "now": now}
        due += connection.execute(_SQL["catch_up"], asked).rowcount
    return due


def end_command(
    connection: Connection, round_id: int, judged: Judged, *, now: datetime | None = None
) -> None:
    """End the round of a command."""
    _finish(connection, round_id, judged, now)


def _finish(connection: Connection, round_id: int, judged: Judged, now: datetime | None) -> None:
    connection.execute(
        _SQL["finish"],
        {
            "round": round_id,
            "status": judged.status,
            "message": judged.message,
            "partitions": judged.partitions,
            "complete": judged.complete,
            "now": now,
        },
    )


@repeatable
def ask(connection: Connection, job: str) -> bool:
    """Ask for a round now; say whether the job is known."""
    return connection.execute(_SQL["ask"], {"job": job}).rowcount == 1


@repeatable
def pause(connection: Connection, job: str) -> bool:
    """Begin no round of a job any more; say whether anything changed."""
    return connection.execute(_SQL["pause"], {"job": job}).rowcount == 1


@repeatable
def unpause(connection: Connection, job: str) -> bool:
    """Let rounds of a job begin again; say whether anything changed."""
    return connection.execute(_SQL["unpause"], {"job": job}).rowcount == 1


@repeatable
def cancel(connection: Connection, job: str) -> bool:
    """Cut a job's running round short; say whether there is one."""
    return connection.execute(_SQL["cancel"], {"job": job}).rowcount == 1


@repeatable
def forget(connection: Connection, *, history_seconds: float, now: datetime | None = None) -> int:
    """Delete history past its retention, some rows at a time; answer with how many."""
    named = {"history_seconds": history_seconds, "most": FORGET_AT_ONCE, "now": now}
    runs = connection.execute(_SQL["forget_runs"], named).rowcount
    return max(runs, connection.execute(_SQL["forget_rounds"], named).rowcount)
