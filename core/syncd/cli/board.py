"""What the live display knows: events folded into one frozen value. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import attrs

from syncd import events
from syncd.cli import deliveries, wording
from syncd.cli.deliveries import Deliveries
from syncd.events import Event


@attrs.frozen
class Row:
    """One partition, as far as the events have told; or a job, as the sum of its partitions."""

    partition: str
    state: str = "starting"
    placed: str = ""  # the partition's name, with which one of how many it is
    running: bool = False
    ended: bool = False
    processed: int = 0
    total: int | None = None
    percent: float | None = None
    rate: float = 0.0  # records per second
    eta_seconds: float | None = None
    in_flight: int = 0
    throttled_seconds: float = 0.0
    job: str = ""


@attrs.frozen
class Board:
    """All partitions, in the order in which they were first heard of, and the effects of rows."""

    rows: Mapping[str, Row] = MappingProxyType({})
    effects: Deliveries = MappingProxyType({})
    drain: events.DrainStarted | None = None

    def of(self, partition: str) -> Row:
        return self.rows.get(partition) or Row(partition)

    def put(self, row: Row) -> Board:
        return attrs.evolve(self, rows=MappingProxyType({**self.rows, row.partition: row}))


def folded(board: Board, event: Event) -> Board:
    """Return the board after an event; one that it does not show leaves it as it is."""
    match event:
        case events.RunStarted(partition=name):
            state = f"{event.mode} pass {event.pass_number}"
            placed = wording.placed(event)
            return board.put(Row(name, state, running=True, job=event.job, placed=placed))
        case events.RunProgress(partition=name):
            return board.put(_gone_on(board.of(name), event))
        case events.RunFinished(partition=name):
            return board.put(_ended(board.of(name), event))
        case events.LeaseWaiting(partition=name):
            return board.put(attrs.evolve(board.of(name), state=f"held by {event.holder}"))
        case events.PartitionParked(partition=name):
            return board.put(attrs.evolve(board.of(name), state="parked", running=False))
        case events.DrainStarted():
            return attrs.evolve(board, drain=event)
        case events.EffectEnqueued() | events.EffectDelivered() | events.EffectDead():
            return attrs.evolve(board, effects=deliveries.noted(board.effects, event))
        case _:
            return board


# What both a row and the event of a run's progress tell.
_TOLD = ("processed", "total", "percent", "rate", "eta_seconds", "in_flight", "throttled_seconds")


def _told(by: Row | events.RunProgress) -> dict[str, Any]:
    return {name: getattr(by, name) for name in _TOLD}


def _gone_on(row: Row, event: events.RunProgress) -> Row:
    return attrs.evolve(row, running=True, ended=False, **_told(event))


def _ended(row: Row, event: events.RunFinished) -> Row:
    done = event.status == "complete"
    return attrs.evolve(
        row,
        state=event.status,
        running=False,
        ended=True,
        processed=max(row.processed, event.records),
        percent=100.0 if done and row.percent is not None else row.percent,
        rate=event.records / event.duration_seconds if event.duration_seconds else 0.0,
        eta_seconds=None,
        in_flight=0,
        throttled_seconds=event.throttled_seconds,
    )


def shown(board: Board, *, most: int) -> tuple[list[Row], int]:
    """Choose the rows that fit: those that run, then those that ended last.

    Answers with them and with how many are left out.
    """
    rows = list(board.rows.values())
    wanted = [row for row in rows if not row.ended]
    over = [row for row in rows if row.ended]
    room = max(0, most - len(wanted))
    kept = wanted[:most] + (over[-room:] if room else [])
    order = {row.partition: number for number, row in enumerate(rows)}
    return sorted(kept, key=lambda row: order[row.partition]), len(rows) - len(kept)


def by_job(board: Board) -> Board:
    """Return a board with one row for each job, in place of its partitions'."""
    jobs: dict[str, list[Row]] = {}
    for row in board.rows.values():
        jobs.setdefault(row.job or row.partition, []).append(row)
    return attrs.evolve(board, rows={job: _summed(job, rows) for job, rows in jobs.items()})


def _summed(job: str, rows: list[Row]) -> Row:
    """Add up the partitions of a job that have begun; a total is known where each one's is."""
    if len(rows) == 1:
        return attrs.evolve(rows[0], partition=job)
    over = [row for row in rows if row.ended]
    bad = {row.state for row in over} - {"complete"}
    processed = sum(row.processed for row in rows)
    totals = [row.processed if row.ended else row.total for row in rows]
    total = None if None in totals else sum(filter(None, totals))
    state = f"{len(over)} of {len(rows)} partitions"
    return Row(
        job,
        f"{state}, {', '.join(sorted(bad))}" if bad else state,
        running=any(row.running for row in rows),
        ended=len(over) == len(rows),
        processed=processed,
        total=total,
        percent=100 * processed / total if total else None,
        rate=sum(row.rate for row in rows if row.running),
        in_flight=sum(row.in_flight for row in rows),
        throttled_seconds=max(row.throttled_seconds for row in rows),
        job=job,
    )


def progress_of(board: Board, event: events.RunProgress) -> events.RunProgress:
    """Return an event that tells of a whole job what this one tells of a partition."""
    row = board.of(event.job)
    return attrs.evolve(event, partition=event.job, turn=None, turns=None, **_told(row))
