"""After a backup was restored: nothing that was believed in the time line that is lost holds."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import attrs

from syncd.store.hops import Connection
from syncd.store.registry import STALE_SECONDS
from syncd.store.statements import load

_SQL = load("restore")

FORGET_AT_ONCE = 20_000  # rows one transaction deletes: about 0.1 s, so that nobody waits for it


@attrs.frozen
class Fenced:
    """What was done away with."""

    partitions: int  # whose epochs were raised
    runs: int  # that were marked as lost
    processes: int  # whose signs of life were forgotten


def alive(connection: Connection, *, now: datetime | None = None) -> list[dict[str, Any]]:
    """Return the processes that gave a sign of life not long ago."""
    asked = {"stale_seconds": STALE_SECONDS, "now": now}
    return connection.execute(_SQL["alive"], asked).fetchall()


def fence_all(connection: Connection, *, now: datetime | None = None) -> Fenced:
    """Raise every epoch, take every lease, lose every run, and forget every process."""
    message = "a backup was restored: how it ended is not known here"
    return Fenced(
        partitions=connection.execute(_SQL["fence_all"]).rowcount,
        runs=connection.execute(_SQL["lose_runs"], {"message": message, "now": now}).rowcount,
        processes=connection.execute(_SQL["forget_processes"]).rowcount,
    )


def forget_validators(connection: Connection) -> int:
    """Delete what pages are known by, at most `FORGET_AT_ONCE`; answer with how many.

    Their rows may be older than what they stand for, or gone.
    """
    return connection.execute(_SQL["forget_validators"], {"most": FORGET_AT_ONCE}).rowcount
