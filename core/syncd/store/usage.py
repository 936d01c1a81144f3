"""How processes keep to quotas: noted by each, read by whoever asks."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import attrs
import msgspec

from syncd.limits.usage import Usage
from syncd.sqlstates import repeatable
from syncd.store.hops import Connection
from syncd.store.registry import STALE_SECONDS
from syncd.store.statements import load

_SQL = load("usage")


@repeatable
def note(
    connection: Connection,
    daemon: UUID,
    usages: Sequence[Usage],
    *,
    monotonic: float,
    now: datetime | None = None,
) -> None:
    """Note how a process keeps to these quotas; `monotonic` is its clock's moment."""
    rows = [_row(usage, monotonic) for usage in usages]
    encoded = msgspec.json.encode(rows).decode()
    connection.execute(_SQL["note"], {"daemon": daemon, "usages": encoded, "now": now})


def listed(connection: Connection, *, now: datetime | None = None) -> list[dict[str, Any]]:
    """Return what each process uses of each quota; `stale` are those that no longer beat."""
    asked = {"stale_seconds": STALE_SECONDS, "now": now}
    return connection.execute(_SQL["listed"], asked).fetchall()


def _row(usage: Usage, monotonic: float) -> dict[str, Any]:
    row = attrs.asdict(usage)
    row["locked_seconds"] = max(row.pop("locked_until") - monotonic, 0.0)
    return row
