"""Which records a pass was handed, and which rows have none: marked or deleted, some at a time.

Keys are compared by a hash of 64 bits that the server makes of them (`hash_record_extended`), on
both sides by the column's own type. Two keys of one hash, one in ten million among a million rows,
make a row that is gone look present: it is kept.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from functools import lru_cache, partial
from typing import Any, LiteralString

import attrs
import psycopg
from psycopg.rows import tuple_row
from psycopg.sql import SQL, Composable, Composed

from syncd.bulk.bisect import bisect
from syncd.bulk.hashes import Key
from syncd.bulk.refusals import blames_a_row, sendable
from syncd.bulk.staging import UNSENDABLE, encoded, run_from_arrays, savepoint
from syncd.bulk.statements import column_of, escaped, key_kinds, listed, qualified, staged
from syncd.bulk.tables import ABSENT_AT, ACCOUNT, WRITTEN_AT, Table


@attrs.frozen
class Judged:
    """Whose rows are judged, by which passes: rows that were written before `before`.

    `lasts` are those of the passes that ended last, one of each partition.
    """

    partitions: Sequence[int]
    account: str
    passes: Sequence[int]
    lasts: Sequence[int]
    before: datetime

    def parameters(self, table: Table) -> dict[str, Any]:
        return {
            "partitions": list(self.partitions),
            "account": self.account,
            "stream": table.name,
            "passes": list(self.passes),
            "lasts": list(self.lasts),
            "before": self.before,
        }


@attrs.frozen
class _Statements:
    remember: str
    count: str
    delete: str
    mark: str
    unmark: str


def remember(
    conn: psycopg.Connection[Any],
    table: Table,
    keys: Collection[Key],
    *,
    partition_id: int,
    pass_id: int,
    account: str,
) -> None:
    """Add keys to a pass's; one that no row of the table can have is left out."""
    if not keys:
        return None
    given = {"partition": partition_id, "pass": pass_id, "stream": table.name, "account": account}
    attempt = partial(_remembered, conn, table, parameters=given)
    try:
        return attempt(list(keys))
    except UNSENDABLE:
        pass
    except psycopg.Error as error:
        if not blames_a_row(error):
            raise
    with psycopg.Cursor(conn) as cursor:
        possible = sendable(cursor, key_kinds(table), list(keys))
    if possible:
        bisect(possible, attempt, refusal=psycopg.Error, blames=blames_a_row)
    return None


def _remembered(
    conn: psycopg.Connection[Any],
    table: Table,
    keys: Sequence[Key],
    *,
    parameters: dict[str, Any],
) -> None:
    stage = key_kinds(table)
    columns = encoded(stage, list(zip(*keys, strict=True)))
    with savepoint(conn), psycopg.Cursor(conn, row_factory=tuple_row) as cursor:
        run_from_arrays(
            cursor, _of(table).remember, stage=stage, columns=columns, parameters=parameters
        )


def absent(conn: psycopg.Connection[Any], table: Table, judged: Judged) -> tuple[int, int]:
    """Answer how many rows have no record, and how many rows there are, without marked ones."""
    _prepare(conn)
    with psycopg.Cursor(conn, row_factory=tuple_row) as cursor:
        query = _of(table).count.encode()
        row = cursor.execute(query, judged.parameters(table), prepare=False).fetchone()
    assert row is not None
    return row[0], row[1]


def remove(
    conn: psycopg.Connection[Any],
    table: Table,
    judged: Judged,
    *,
    most: int,
    now: datetime | None = None,
) -> int:
    """Delete or mark at most so many rows that have no record; answer with how many.

    Rows that somebody is writing are passed over: they are there. `now` takes the place of the
    server's clock.
    """
    statements = _of(table)
    query = statements.mark if table.marks else statements.delete
    return _changed(conn, query, judged.parameters(table) | {"most": most, "now": now})


def unmark(conn: psycopg.Connection[Any], table: Table, judged: Judged, *, most: int) -> int:
    """Unmark at most so many rows whose record came in the last passes; answer with how many.

    Those that were written are unmarked already: what came stale, or was set aside, is left.
    """
    if not table.marks:
        return 0
    return _changed(conn, _of(table).unmark, judged.parameters(table) | {"most": most})


def _changed(conn: psycopg.Connection[Any], query: str, parameters: dict[str, Any]) -> int:
    _prepare(conn)
    return conn.execute(query.encode(), parameters, prepare=False).rowcount


def _prepare(conn: psycopg.Connection[Any]) -> None:
    # The keys have no statistics yet, and a loop over them for each row would take hours.
    conn.execute("SET LOCAL enable_nestloop = off; SET LOCAL jit = off", prepare=False)


_REMEMBER = SQL(
    "WITH stage AS ({stage}), added AS ("
    "INSERT INTO syncd.seen (partition_id, pass_id, stream, key) "
    "SELECT %(partition)s::bigint, %(pass)s::bigint, %(stream)s::text, {staged} FROM stage "
    "RETURNING 1) SELECT count(*) FROM added"
)

_THERE = SQL(
    "EXISTS (SELECT FROM syncd.seen AS s WHERE s.partition_id = ANY (%(partitions)s::bigint[]) "
    "AND s.stream = %(stream)s::text AND s.pass_id = ANY ({passes}) AND s.key = {key})"
)

_COUNT = SQL(
    "SELECT (SELECT count(*) FROM {table} AS t WHERE {absent}), "
    "(SELECT count(*) FROM {table} AS t WHERE {scope})"
)

# One by one by where they are: a row that was written meanwhile is elsewhere, and locked ones are
# skipped, so that nobody waits for anybody.
_SOME = SQL(
    "WITH chosen AS MATERIALIZED (SELECT t.ctid FROM {table} AS t WHERE {which} "
    "LIMIT %(most)s FOR UPDATE OF t SKIP LOCKED) "
)


@lru_cache(maxsize=1024)
def _of(table: Table) -> _Statements:
    marked = SQL("t.{} IS NOT NULL").format(escaped(ABSENT_AT))
    mine: Composable = SQL("true")
    if table.per_account:
        mine = SQL("t.{} = %(account)s::text").format(escaped(ACCOUNT))
    scope = SQL("{} AND NOT {}").format(mine, marked) if table.marks else mine
    missing = SQL("{} AND t.{} < %(before)s::timestamptz AND NOT {}").format(
        scope, escaped(WRITTEN_AT), _there(table, "%(passes)s::bigint[]")
    )
    came = SQL("{} AND {} AND {}").format(mine, marked, _there(table, "%(lasts)s::bigint[]"))
    parts = {"table": qualified(table)}
    some = _SOME.format(which=missing, **parts)
    mark = "{} UPDATE {} SET {} = {} WHERE ctid = ANY (ARRAY(SELECT ctid FROM chosen))"
    now = SQL("(SELECT syncd.clock(%(now)s::timestamptz))")
    column = escaped(ABSENT_AT)
    back = _SOME.format(which=came, **parts)
    return _Statements(
        remember=_REMEMBER.format(
            stage=staged(table, key_kinds(table), arrays=True), staged=_hash(table, "stage")
        ).as_string(),
        count=_COUNT.format(absent=missing, scope=scope, **parts).as_string(),
        delete=SQL("{} DELETE FROM {} WHERE ctid = ANY (ARRAY(SELECT ctid FROM chosen))")
        .format(some, qualified(table))
        .as_string(),
        mark=SQL(mark).format(some, qualified(table), column, now).as_string(),
        unmark=SQL(mark).format(back, qualified(table), column, SQL("NULL")).as_string(),
    )


def _there(table: Table, passes: LiteralString) -> Composed:
    return _THERE.format(passes=SQL(passes), key=_hash(table, "t"))


def _hash(table: Table, relation: LiteralString) -> Composed:
    columns = listed(column_of(relation, name) for name in table.key)
    return SQL("hash_record_extended(ROW({}), 0)").format(columns)
