"""What an operator asks first: what goes on, and what waits for somebody."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, TypeAlias

import attrs

from syncd.model import Instance
from syncd.store import effects
from syncd.store.hops import Connection
from syncd.store.registry import STALE_SECONDS
from syncd.store.statements import load

_SQL = load("overview")

Rows: TypeAlias = Sequence[dict[str, Any]]


@attrs.frozen
class Overview:
    """How everything stands at one moment; rows as their statements in `overview.sql` name them.

    Of passes and of what is parked, stranded or fails, some are here; `matching` says how many
    there are.
    """

    clock: datetime
    jobs: Rows
    feeds: Rows
    passes: Rows
    parked_accounts: Rows
    parked_partitions: Rows
    failing: Rows
    quarantined: Rows
    effects: Rows
    stranded: Rows
    debt: Rows
    processes: Rows
    sizes: Rows


def overview(
    connection: Connection,
    *,
    most: int,
    configured: Collection[Instance[Any]],
    effects_max: int = 100_000,
    now: datetime | None = None,
) -> Overview:
    """Look at everything; at most so many passes and partitions one by one.

    `configured`: the instances of the configuration, to tell which effects nobody delivers.
    `effects_max`: the mark above which nothing is fetched that may produce more effects.
    """
    lanes = [(each.name, kind.name) for each in configured for kind in each.connector.effects]
    asked = {
        **effects.standing(configured),
        "deliverers": [instance for instance, _ in lanes],
        "kinds": [kind for _, kind in lanes],
        "most": most,
        "effects_max": effects_max,
        "stale_seconds": STALE_SECONDS,
        "now": now,
    }
    row = connection.execute(_SQL["clock"], asked).fetchone()
    assert row is not None
    names = [field.name for field in attrs.fields(Overview) if field.name != "clock"]
    return Overview(
        clock=row["now"],
        **{name: connection.execute(_SQL[name], asked).fetchall() for name in names},
    )
