"""Creating tables, and letting them grow: nothing is ever dropped, changed or renamed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, LiteralString, cast

import attrs
import psycopg
from psycopg.rows import tuple_row
from psycopg.sql import SQL, Composed, Identifier, Literal

from syncd.bulk.statements import typed
from syncd.bulk.tables import ABSENT_AT, ACCOUNT, HASH, VERSION, WRITTEN_AT, Table
from syncd.errors import ConfigError
from syncd.sqlstates import repeatable

_LOOK = """
    SELECT c.relkind::text,
           (SELECT jsonb_object_agg(a.attname, format_type(a.atttypid, a.atttypmod))
              FROM pg_attribute AS a
             WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
           (SELECT jsonb_agg(a.attname)
              FROM pg_index AS i JOIN pg_attribute AS a
                   ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
             WHERE i.indrelid = c.oid AND i.indisprimary),
           (SELECT jsonb_agg(x.relname)
              FROM pg_index AS i JOIN pg_class AS x ON x.oid = i.indexrelid
             WHERE i.indrelid = c.oid)
      FROM pg_namespace AS n
      LEFT JOIN pg_class AS c ON c.relnamespace = n.oid AND c.relname = %s
     WHERE n.nspname = %s
"""


@attrs.frozen
class _Found:
    """What the catalog knows of a table; no `relkind`: it is not there."""

    schema: bool = False
    relkind: str | None = None
    columns: Mapping[str, str] = attrs.field(factory=dict)
    key: frozenset[str] = frozenset()
    indexes: frozenset[str] = frozenset()


@repeatable
def plan(conn: psycopg.Connection[Any], table: Table) -> list[Composed]:
    """Answer the statements that `table` lacks, compared with the catalog; mostly none.

    Raises: `ConfigError` if the table is there and is another one: a column of another type,
    another primary key, not made by syncd.
    """
    found = _found(conn, table)
    statements = [] if found.schema else [SQL("CREATE SCHEMA {}").format(_id(table.schema))]
    if found.relkind is None:
        statements += _created(table)
    else:
        _refuse_another(table, found)
        statements += [
            SQL("ALTER TABLE {} ADD COLUMN {} {}").format(_named(table), _id(name), typed(kind))
            for name, kind in _columns(table).items()
            if name not in found.columns
        ]
    return statements + [
        SQL("CREATE INDEX {} ON {} ({})").format(
            _id(index.name), _named(table), SQL(", ").join(map(_id, index.columns))
        )
        for index in table.indexes
        if index.name not in found.indexes
    ]


@repeatable
def apply(
    conn: psycopg.Connection[Any], tables: Sequence[Table], *, lock_timeout_seconds: float
) -> dict[str, int]:
    """Create or extend tables inside the caller's transaction.

    Tables that fit already cost one look each. Otherwise one process at a time works, under an
    advisory lock that ends with the transaction; each lock is waited for at most
    `lock_timeout_seconds`. Answers with the number of statements by table, ``instance.stream``,
    those without any left out.

    Raises: `ConfigError` as `plan`; psycopg's `LockNotAvailable` if a lock could not be had.
    """
    if not sum(len(plan(conn, table)) for table in tables):
        return {}
    milliseconds = max(1, round(lock_timeout_seconds * 1000))  # 0 would mean: for ever
    before = _set_lock_timeout(conn, str(milliseconds))
    conn.execute("SELECT pg_advisory_xact_lock(hashtextextended('syncd: data tables', 0))")
    done: dict[str, int] = {}
    for table in tables:
        statements = plan(conn, table)  # another process may have been here meanwhile
        for statement in statements:
            conn.execute(statement)
        if statements:
            done[str(table)] = len(statements)
    _set_lock_timeout(conn, before)
    return done


def _found(conn: psycopg.Connection[Any], table: Table) -> _Found:
    row = _row(conn, _LOOK, (table.name, table.schema))
    if row is None:
        return _Found()
    relkind, columns, key, indexes = row
    return _Found(True, relkind, columns or {}, frozenset(key or ()), frozenset(indexes or ()))


def _refuse_another(table: Table, found: _Found) -> None:
    where = str(table)
    # Of a partitioned table the upsert cannot tell which rows it inserted (xmax).
    if found.relkind != "r" or not {WRITTEN_AT, VERSION} <= found.columns.keys():
        said = "is there already, and is no ordinary table that syncd made"
        raise ConfigError(where, said, "rename it, or rename the instance or the stream")
    for name, kind in _columns(table).items():
        there = found.columns.get(name, kind)
        if there != kind:
            alter = SQL("ALTER TABLE {} ALTER COLUMN {} TYPE {}").format(
                _named(table), _id(name), typed(kind)
            )
            said = f"column {name!r} is {there}, and {kind} is declared"
            raise ConfigError(where, said, f"run {alter.as_string()}, or change the class")
    if found.key != set(table.primary_key):
        there = ", ".join(sorted(found.key)) or "none"
        wanted = ", ".join(sorted(table.primary_key)) or "none"
        said = f"the primary key is {there}, and {wanted} is declared"
        raise ConfigError(where, said, "change the key, or rename the table to have it made anew")


def _created(table: Table) -> list[Composed]:
    needed = {*table.primary_key, ACCOUNT, WRITTEN_AT, VERSION}
    parts = [
        SQL("{} {}{}").format(_id(name), typed(kind), SQL(" NOT NULL" if name in needed else ""))
        for name, kind in _columns(table).items()
    ]
    if table.primary_key:
        parts.append(SQL("PRIMARY KEY ({})").format(SQL(", ").join(map(_id, table.primary_key))))
    return [
        SQL("CREATE TABLE {} ({})").format(_named(table), SQL(", ").join(parts)),
        SQL("COMMENT ON TABLE {} IS {}").format(
            _named(table), Literal(f"written by syncd: {table}")
        ),
    ]


def _columns(table: Table) -> dict[str, str]:
    """Answer all columns with their types, in the order in which a new table has them."""
    account = {ACCOUNT: "text"} if table.per_account else {}
    own = {column.name: column.kind.sql for column in table.columns}
    hashed = {HASH: "bytea"} if table.hashed else {}
    moment = "timestamp with time zone"
    marked = {ABSENT_AT: moment} if table.marks else {}
    return {**account, **own, WRITTEN_AT: moment, VERSION: "bigint", **hashed, **marked}


def _set_lock_timeout(conn: psycopg.Connection[Any], value: str) -> str:
    """Set the transaction's lock timeout, and answer what it was."""
    query = "SELECT current_setting('lock_timeout'), set_config('lock_timeout', %s, true)"
    row = _row(conn, query, (value,))
    assert row is not None
    return cast("str", row[0])


def _row(
    conn: psycopg.Connection[Any], query: LiteralString, parameters: tuple[str, ...]
) -> tuple[Any, ...] | None:
    with psycopg.Cursor(conn, row_factory=tuple_row) as cursor:
        return cursor.execute(query, parameters, prepare=False).fetchone()


def _named(table: Table) -> Composed:
    return SQL("{}.{}").format(_id(table.schema), _id(table.name))


_id = Identifier
