"""Items that could not be had in their pass: looking at them, and deciding about them by hand."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from syncd.store.hops import Connection
from syncd.store.selection import Selection, pattern_of
from syncd.store.statements import load

_SQL = load("debt")


def failed(
    connection: Connection,
    which: Selection,
    *,
    cursor: str | None = None,
    most: int,
    now: datetime | None = None,
) -> list[dict[str, Any]]:
    """Return failed items, what is due first; `cursor` is a pattern of their keys (hex)."""
    return connection.execute(
        _SQL["failed"], {**_asked(which, cursor, now), "most": most}
    ).fetchall()


def retry(
    connection: Connection,
    which: Selection,
    *,
    cursor: str | None = None,
    now: datetime | None = None,
) -> int:
    """Let failed items be taken up by the next pass; answer with how many waited until now."""
    return connection.execute(_SQL["retry"], _asked(which, cursor, now)).rowcount


def discard(connection: Connection, which: Selection, *, cursor: str | None = None) -> int:
    """Give failed items up; answer with how many."""
    return connection.execute(_SQL["discard"], _asked(which, cursor, None)).rowcount


def _asked(which: Selection, cursor: str | None, now: datetime | None) -> dict[str, Any]:
    return {**which.parameters(), "cursor": pattern_of(cursor), "now": now}
