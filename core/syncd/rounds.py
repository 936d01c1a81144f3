"""A job's rounds: when one begins, and what became of it. Pure.

A round is one time that a job is due; every partition of the job has a turn in it. `step` says what
a daemon that looks at a job has to do, `judge` how a round ended.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Literal, TypeAlias

import attrs

# How often the others have looked by then, whose turn it was.
_COURTESY_LOOKS = 2

Trigger: TypeAlias = Literal["schedule", "trigger", "after", "queued", "run", "backfill"]
RoundStatus: TypeAlias = Literal["complete", "partial", "failed", "cancelled"]

# Sums of parts that are equal to the whole must not fail for the last bit of a float.
_NEARLY = 1e-9


@attrs.frozen
class Thresholds:
    """From which share of complete partitions on a round is no failure, and is complete."""

    partial_below: float = 1.0
    failed_below: float = 0.9


BY_DEFAULT = Thresholds()


@attrs.frozen
class Judged:
    """How a round ended."""

    status: RoundStatus
    message: str
    partitions: int
    complete: int


def judge(verdicts: Mapping[str, int], thresholds: Thresholds) -> Judged:
    """Say how a round ended whose partitions had these verdicts, counted.

    Only a pass that ended complete counts; one that ended partial or stayed open does not. A round
    of a single partition ends as that does: partial if its pass did or stays open, failed if not.
    """
    total, complete = sum(verdicts.values()), verdicts.get("complete", 0)
    others = [f"{n} {verdict}" for verdict, n in sorted(verdicts.items()) if verdict != "complete"]
    message = f"{complete} of {total} complete" + (f"; {', '.join(others)}" if others else "")
    return Judged(_status(verdicts, total, complete, thresholds), message, total, complete)


def _status(
    verdicts: Mapping[str, int], total: int, complete: int, thresholds: Thresholds
) -> RoundStatus:
    if total == 1 and not complete:
        return "partial" if verdicts.keys() & {"partial", "waiting"} else "failed"
    share = complete / total if total else 1.0
    if share < thresholds.failed_below - _NEARLY:
        return "failed"
    return "partial" if share < thresholds.partial_below - _NEARLY else "complete"


@attrs.frozen
class JobState:
    """How a job stands in the database, as it was looked at."""

    name: str
    paused: bool
    next_at: datetime | None
    asked: Literal["trigger", "after", "queued"] | None
    cancelled: bool
    round_id: int | None  # of the round that runs
    round_number: int | None
    started_at: datetime | None
    owed: int  # partitions that had no turn yet; no more are counted than all processes have slots
    now: datetime  # by the database's clock
    daemons: int = 1  # processes that live, this one included
    accounts_revision: int = 0  # grows when an account of its instance is changed in the table


@attrs.frozen
class Begin:
    """A round begins."""

    trigger: Trigger


@attrs.frozen
class PassBy:
    """A moment of the schedule passes by; `queue`: another round follows the one that runs."""

    reason: str
    queue: bool = False


@attrs.frozen
class End:
    """The running round ends."""

    cancelled: bool = False


Step: TypeAlias = Begin | PassBy | End | None


def step(state: JobState, *, overlap: Literal["skip", "queue"]) -> Step:
    """Say what is to be done about a job; moments that were missed count once."""
    due = state.next_at is not None and state.next_at <= state.now
    if state.round_id is not None:
        if state.cancelled or not state.owed:
            return End(state.cancelled)
        if due:
            return PassBy(f"round {state.round_number} still runs", queue=overlap == "queue")
        return None
    if state.paused:
        return PassBy("it is paused") if due else None
    if state.asked is not None:
        return Begin(state.asked)
    return Begin("schedule") if due else None


@attrs.frozen
class Sequel:
    """Partitions of a derived feed, whose turn comes after those of the feeds it reads."""

    feed: str
    reads: frozenset[str]  # feeds of the same job
    ids: tuple[int, ...]


def following(sequels: Sequence[Sequel], had: frozenset[int]) -> list[int]:
    """Return the partitions whose turn comes next, now that nobody owes one; some `had` theirs.

    So a feed that is made of what hundreds of partitions bring is made once a round, after the last
    of them, and what is made of that after it.
    """
    left = {each.feed for each in sequels if not had.issuperset(each.ids)}
    return [
        number
        for each in sequels
        if each.feed in left and left.isdisjoint(each.reads)
        for number in each.ids
        if number not in had
    ]


def fair_share(
    state: JobState, owed: int, *, jitter_seconds: float, look_seconds: float
) -> int | None:
    """Return how many partitions each process may run at once, for all of them to run as many.

    `None`: no process need hold back any longer. A round is shared out while it begins; what is
    left of a process that ends later goes to whoever looks first.
    """
    begun_seconds = (state.now - (state.started_at or state.now)).total_seconds()
    if not owed or begun_seconds > jitter_seconds + _COURTESY_LOOKS * look_seconds:
        return None
    return -(-owed // state.daemons)


def courtesy_seconds(*, running: int, share: int | None, look_seconds: float) -> float:
    """Return how long a partition must have been due for a process to claim it.

    Whoever runs its share leaves the rest to the others, for as long as they need to look: by then
    nobody else wants it.
    """
    return 0.0 if share is None or running < share else _COURTESY_LOOKS * look_seconds
