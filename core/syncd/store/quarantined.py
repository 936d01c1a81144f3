"""Records that were set aside: looking at them, forgetting them, and taking them up again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import attrs

from syncd.store.hops import Connection
from syncd.store.selection import Aside
from syncd.store.statements import load

_SQL = load("quarantine")


@attrs.frozen
class SetAside:
    """One record in quarantine, with all that is needed to make rows of it."""

    id: int
    instance: str
    account: str
    stream: str
    raw: bytes | None
    raw_bytes: int | None
    raw_hash: bytes | None  # of the record as it came, where it is known
    version: int | None
    parent: Mapping[str, Any] | None
    sent_at: datetime | None
    repeats: int


def listed(connection: Connection, which: Aside, *, most: int) -> list[dict[str, Any]]:
    """Return records without their bytes, the newest first; `matching` says how many there are."""
    return connection.execute(_SQL["list"], {**which.parameters(), "most": most}).fetchall()


def shown(connection: Connection, ids: Sequence[int]) -> list[dict[str, Any]]:
    """Return records whole, those that are there."""
    return connection.execute(_SQL["show"], {"ids": list(ids)}).fetchall()


def discard(connection: Connection, which: Aside) -> int:
    """Forget records; answer with how many."""
    return connection.execute(_SQL["discard"], which.parameters()).rowcount


def newest(connection: Connection) -> int:
    """Return the number of the record that was set aside last."""
    row = connection.execute(_SQL["newest"]).fetchone()
    assert row is not None
    return int(row["id"])


def following(
    connection: Connection, which: Aside, *, after: int, upto: int, most: int
) -> list[SetAside]:
    """Return the next records behind a number, in order."""
    asked = {**which.parameters(), "after": after, "upto": upto, "most": most}
    names = [field.name for field in attrs.fields(SetAside)]
    rows = connection.execute(_SQL["following"], asked)
    return [SetAside(**{name: row[name] for name in names}) for row in rows]


def hold(connection: Connection, records: Sequence[SetAside]) -> set[int]:
    """Lock records; answer with those that have not come again since they were read."""
    asked = {"ids": [r.id for r in records], "repeats": [r.repeats for r in records]}
    return {row["id"] for row in connection.execute(_SQL["hold"], asked)}


def settle(connection: Connection, ids: Sequence[int]) -> None:
    """Forget records whose rows are written."""
    connection.execute(_SQL["settled"], {"ids": list(ids)})


def fail_again(
    connection: Connection,
    failures: Mapping[int, tuple[str, str]],
    *,
    now: datetime | None = None,
) -> None:
    """Count records up that failed once more; `failures` are reason and message by number."""
    said = list(failures.values())
    connection.execute(
        _SQL["failed_again"],
        {
            "ids": list(failures),
            "reasons": [reason for reason, _ in said],
            "messages": [message for _, message in said],
            "now": now,
        },
    )
