"""What records awaiting transforms were done with: read before a call, written with its rows."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
from psycopg.sql import SQL, Identifier

from syncd.awaited import Note, settled
from syncd.model import Partition
from syncd.sqlstates import repeatable
from syncd.store.hops import Connection
from syncd.store.statements import load

_SQL = load("content")


@attrs.frozen
class Owner:
    """Whose records: `account` is empty where the stream's rows are not per account."""

    instance: str
    account: str
    stream: str

    @classmethod
    def of(cls, partition: Partition, stream: str, *, per_account: bool) -> Owner:
        return cls(partition.instance, partition.account if per_account else "", stream)


@repeatable
def known(
    connection: Connection, owner: Owner, keys: Sequence[bytes]
) -> dict[bytes, tuple[bytes, int]]:
    """Return the content key, and how many rows were made, of those records that are known."""
    asked = attrs.asdict(owner) | {"keys": list(keys)}
    rows = connection.execute(_SQL["known"], asked)
    return {row["record_key"]: (row["content_key"], row["rows"]) for row in rows}


@repeatable
def forget_if_emptied(connection: Connection, owner: Owner, table: tuple[str, str]) -> int:
    """Forget a stream's records where the table, a (schema, name), holds no row any more.

    Who empties a table wants its rows made anew, and records that made none say nothing of that.
    """
    found = connection.execute(SQL("SELECT FROM {} LIMIT 1").format(Identifier(*table)))
    if found.fetchone() is not None:
        return 0
    return connection.execute(_SQL["forget_all"], attrs.asdict(owner)).rowcount


def note(connection: Connection, owner: Owner, notes: Sequence[Note]) -> None:
    """Note what was answered, in the transaction that writes what was made of it."""
    if not notes:
        return
    asked, kept = attrs.asdict(owner), settled(notes)
    if dropped := sorted(key for key, each in kept.items() if each.content is None):
        connection.execute(_SQL["forget"], asked | {"keys": dropped})
    if held := [each for each in kept.values() if each.content is not None]:
        columns = {
            "keys": [each.key for each in held],
            "contents": [each.content for each in held],
            "rows": [each.rows for each in held],
            "ats": [each.sent_at for each in held],
        }
        connection.execute(_SQL["note"], asked | columns)
