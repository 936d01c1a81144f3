"""Fields that no record class knows: which of them were announced before."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from syncd.drift import FIELDS_MAX
from syncd.sqlstates import repeatable
from syncd.store.hops import Connection
from syncd.store.statements import load

_SQL = load("field")


@repeatable
def announce(
    connection: Connection,
    instance: str,
    stream: str,
    fields: Sequence[str],
    *,
    now: datetime | None = None,
) -> list[str]:
    """Note fields of a stream; answer with those that were new, while there are not too many."""
    asked = {
        "instance": instance,
        "stream": stream,
        "fields": list(fields),
        "most": FIELDS_MAX,
        "now": now,
    }
    return [row["field"] for row in connection.execute(_SQL["announce"], asked)]
