"""The ledger of shared quotas in PostgreSQL: all that a daemon asks at once is one UPDATE."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from syncd.limits import ledger
from syncd.limits.ledger import Ask, Block, Grant
from syncd.store.hops import Connection
from syncd.store.statements import load

_SQL = load("quota")


def reserve(
    connection: Connection, asks: Sequence[Ask], *, now: datetime | None = None
) -> list[Grant]:
    """Answer what one daemon asks the ledger of some keys, in the order of the asks.

    The one transaction that does not wait for its WAL: what a crash of the server forgets of it is
    a fraction of a second of tokens, and rows would wait for each other's disks.
    """
    connection.execute("SET LOCAL synchronous_commit = off")
    keys = sorted({ask.key for ask in asks})
    # Before any row is locked: two that made keys known while they held others would deadlock.
    rows = connection.execute(_SQL["unknown"], {"keys": keys}).fetchall()
    if rows:
        connection.execute(_SQL["known"], {"keys": [row["key"] for row in rows]})
    grants = _reserve(connection, asks, now)
    return [grants[ask.key] for ask in asks]


def _reserve(connection: Connection, asks: Sequence[Ask], now: datetime | None) -> dict[str, Grant]:
    first = asks[0]  # all are one daemon's
    lanes = [(ask.key, want, want.lane) for ask in asks for want in ask.wants]
    rows = connection.execute(
        _SQL["reserve"],
        {
            **ledger.LAW,
            "now": now,
            "asker": first.asker,
            "daemons": first.daemons,
            "keys": [ask.key for ask in asks],
            "lock_seconds": [ask.lock_seconds for ask in asks],
            "refusals": [ask.refusals for ask in asks],
            "empty": [ask.empty for ask in asks],
            "leaves": [ask.leaves for ask in asks],
            "lane_keys": [key for key, _, _ in lanes],
            "names": [lane.name for _, _, lane in lanes],
            "intervals": [lane.interval_seconds for _, _, lane in lanes],
            "saved": [lane.saved_seconds for _, _, lane in lanes],
            "guards": [lane.guard_seconds for _, _, lane in lanes],
            "least_blocks": [lane.least for _, _, lane in lanes],
            "wanted": [want.count for _, want, _ in lanes],
            "least": [want.least for _, want, _ in lanes],
            "held": [want.held for _, want, _ in lanes],
        },
    )
    return {row["key"]: _grant(row) for row in rows}


def _grant(row: dict[str, Any]) -> Grant:
    granted = row["granted"]
    return Grant(
        at=granted["at"],
        locked_seconds=max(row["locked_until"] - granted["at"], 0.0),
        refusals=row["refusals"],
        sharers=granted["sharers"],
        blocks={name: Block(*block) for name, block in granted["blocks"].items()},
    )
