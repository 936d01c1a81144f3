"""The ledger of shared quotas in PostgreSQL: each ask is one UPDATE of one row."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from syncd.limits import ledger
from syncd.limits.ledger import Ask, Block, Grant
from syncd.store.hops import Connection
from syncd.store.statements import load

_SQL = load("quota")

_LAW = {
    "forget_seconds": ledger.FORGET_SECONDS,
    "active_seconds": ledger.ACTIVE_SECONDS,
    "horizon_seconds": ledger.HORIZON_SECONDS,
    "fraction": ledger.FRACTION,
    "least_part": ledger.LEAST_PART,
}


def reserve(
    connection: Connection, asks: Sequence[Ask], *, now: datetime | None = None
) -> list[Grant]:
    """Answer what a daemon asks the ledger, in the order of the asks.

    The one transaction that does not wait for its WAL: what a crash of the server forgets of it is
    a fraction of a second of tokens, and rows would wait for each other's disks.
    """
    connection.execute("SET LOCAL synchronous_commit = off")
    grants: dict[str, Grant] = {}
    for ask in sorted(asks, key=lambda each: each.key):  # everybody's order: no deadlocks
        granted = _reserve(connection, ask, now)
        if granted is None:
            connection.execute(_SQL["known"], {"keys": [ask.key]})
            granted = _reserve(connection, ask, now)
            assert granted is not None
        grants[ask.key] = granted
    return [grants[ask.key] for ask in asks]


def _reserve(connection: Connection, ask: Ask, now: datetime | None) -> Grant | None:
    lanes = [want.lane for want in ask.wants]
    row = connection.execute(
        _SQL["reserve"],
        {
            **_LAW,
            "now": now,
            "key": ask.key,
            "asker": ask.asker,
            "lock_seconds": ask.lock_seconds,
            "refusals": ask.refusals,
            "daemons": ask.daemons,
            "empty": ask.empty,
            "leaves": ask.leaves,
            "names": [lane.name for lane in lanes],
            "intervals": [lane.interval_seconds for lane in lanes],
            "saved": [lane.saved_seconds for lane in lanes],
            "guards": [lane.guard_seconds for lane in lanes],
            "least_blocks": [lane.least for lane in lanes],
            "wanted": [want.count for want in ask.wants],
            "least": [want.least for want in ask.wants],
            "held": [want.held for want in ask.wants],
        },
    ).fetchone()
    return None if row is None else _grant(row)


def _grant(row: dict[str, Any]) -> Grant:
    granted = row["granted"]
    return Grant(
        at=granted["at"],
        locked_seconds=max(row["locked_until"] - granted["at"], 0.0),
        refusals=row["refusals"],
        sharers=granted["sharers"],
        blocks={name: Block(*block) for name, block in granted["blocks"].items()},
    )
