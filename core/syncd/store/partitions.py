"""How partitions stand, and setting by hand how far they are. Each function is one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import attrs

from syncd.errors import Held, Refused
from syncd.model import Partition, Slice
from syncd.store.hops import Connection
from syncd.store.selection import Selection
from syncd.store.statements import load

_SQL = load("partition")


def name_of(row: dict[str, Any]) -> str:
    """Return a partition's name, of a row that has its parts."""
    return str(Partition(row["instance"], row["account"], row["feed"], Slice(row["slice"])))


def holder_of(row: dict[str, Any]) -> str:
    """Return who holds a lease, as far as is known."""
    return f"process {row['pid']} on {row['host']}" if row["pid"] else f"process {row['owner']}"


def standing(
    connection: Connection, which: Selection, *, most: int, now: datetime | None = None
) -> list[dict[str, Any]]:
    """Return partitions as they stand, at most so many."""
    asked = {**which.parameters(), "most": most, "now": now}
    return connection.execute(_SQL["matching"], asked).fetchall()


def details(connection: Connection, partition_id: int) -> dict[str, Any]:
    """Return how many cursors a partition has by state, and its last run."""
    asked = {"partition": partition_id}
    cursors = connection.execute(_SQL["cursors_by_state"], asked).fetchall()
    return {"cursors": cursors, "last_run": connection.execute(_SQL["last_run"], asked).fetchone()}


@attrs.frozen
class Changed:
    """What became of partitions whose state was changed by hand."""

    partitions: Sequence[str]
    passes_superseded: int
    full_next: Sequence[str]  # of the partitions, whose next pass is full whatever the watermark
    runs_lost: int = 0  # that were going on under leases that had run out
    validators_forgotten: int = 0


def set_watermark(
    connection: Connection, which: Selection, watermark: datetime, *, now: datetime | None = None
) -> Changed:
    """Let the next incremental passes start from another moment; open passes are set aside.

    Raises: `Held` where a process has a lease on one of the partitions, `Refused` for a moment that
    has not come yet: what changes until then would be missed.
    """
    rows, lost = _fenced_off(connection, which, "its watermark was set by hand", now)
    if rows and watermark > rows[0]["clock"]:
        said = f"a watermark of {watermark.isoformat()} lies in the future"
        raise Refused("watermark", said, "name a moment that has passed")
    asked = {"ids": [row["id"] for row in rows], "watermark": watermark}
    connection.execute(_SQL["set_watermark"], asked)
    return attrs.evolve(_changed(connection, rows, now), runs_lost=lost)


def clear(connection: Connection, which: Selection, *, now: datetime | None = None) -> Changed:
    """Forget watermark, fingerprints, open pass and validators, so that the next pass is full.

    Raises: `Held` where a process has a lease on one of the partitions.
    """
    rows, lost = _fenced_off(connection, which, "its partition's state was cleared by hand", now)
    asked = {"ids": [row["id"] for row in rows]}
    connection.execute(_SQL["clear"], asked)
    forgotten = connection.execute(_SQL["forget_validators"], asked).rowcount
    return attrs.evolve(
        _changed(connection, rows, now),
        runs_lost=lost,
        validators_forgotten=forgotten,
        full_next=[name_of(row) for row in rows],
    )


def _fenced_off(
    connection: Connection, which: Selection, message: str, now: datetime | None
) -> tuple[list[dict[str, Any]], int]:
    """Lock partitions that nobody holds, and raise their epochs; with how many runs are lost.

    A process whose lease has run out may not know it yet: it finds out when it wants to write.
    """
    rows = connection.execute(_SQL["lock"], {**which.parameters(), "now": now}).fetchall()
    held = [row for row in rows if row["leased"]]
    if held:
        first = held[0]
        more = f" (and {len(held) - 1} more are held)" if len(held) > 1 else ""
        raise Held(
            name_of(first),
            f"{holder_of(first)} holds it{more}, for {first['lease_seconds']:.0f} s unless renewed",
            "nothing was changed; stop that process, or wait for the end of its run",
        )
    asked = {"ids": [row["id"] for row in rows], "message": message, "now": now}
    return rows, connection.execute(_SQL["fence_off"], asked).rowcount


def _changed(
    connection: Connection, rows: Sequence[dict[str, Any]], now: datetime | None
) -> Changed:
    asked = {"ids": [row["id"] for row in rows], "now": now}
    return Changed(
        partitions=[name_of(row) for row in rows],
        passes_superseded=connection.execute(_SQL["supersede_open"], asked).rowcount,
        full_next=[name_of(row) for row in rows if not row["row_fingerprints"]],
    )
