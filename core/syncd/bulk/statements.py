"""The SQL of one table: made once, as text. Pure.

One statement classifies a batch and writes what is new or changed:

- `stage`: the batch's rows, numbered in key order;
- `seen`: what became of each beside the table's rows. The lateral subquery with ``OFFSET 0`` is an
  optimisation fence: each staged row is looked up by primary key, whatever the planner thinks of
  a table that has just been filled (a hash join would read the whole of it for every batch);
- `written`: the upsert of the rest, in key order, so that no two writers lock rows in opposite
  order. It repeats the guard, for another writer may have come in between.

Rows that are equal or stale never reach the INSERT: ``ON CONFLICT`` locks a row, and logs that,
before it reads its WHERE.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import LiteralString

import attrs
from psycopg.sql import SQL, Composable, Composed, Identifier

from syncd.bulk.kinds import Kind, kind_of
from syncd.bulk.tables import ABSENT_AT, ACCOUNT, HASH, VERSION, WRITTEN_AT, Table

ORDER = "_syncd_order"

# So many bytes at a hash's beginning say by which row fingerprint it was made (`bulk.hashes`).
HASH_MARK_BYTES = 4


@attrs.frozen
class Statements:
    """What is executed to write one table's rows; parameters by name.

    `stage` is what one staged row holds, by column name: its place in key order, the row's values,
    its version. `from_arrays` takes one array for each of them (`s0`, `s1`, ...), `from_copy` reads
    them from the temporary table. Both answer with one row of counts (inserted, updated, unchanged,
    stale), the places of the stale rows, and of those that another writer got ahead of; `look` says
    how many of these are unchanged, and which are not. `fresh_from_copy` is for rows that are most
    likely new: it looks for none of them beforehand, and answers with how many it inserted and
    updated.
    """

    stage: tuple[tuple[str, Kind], ...]
    create: str
    copy: str
    from_copy: str
    fresh_from_copy: str
    from_arrays: str
    look: str


@attrs.frozen
class HashLook:
    """What is executed to learn which records are known: `stage` as in `Statements`.

    Answers with the places of those whose row is not there, or has another hash, and with the
    number of rows that are there.
    """

    stage: tuple[tuple[str, Kind], ...]
    query: str


@lru_cache(maxsize=1024)
def hash_look_of(table: Table) -> HashLook:
    """Answer the statement that compares hashes with those of the rows of these keys."""
    stage = ((ORDER, kind_of(int, None)), *key_kinds(table), (HASH, kind_of(bytes, None)))
    query = _HASH_LOOK.format(
        stage=staged(table, stage, arrays=True),
        order=escaped(ORDER),
        hash=escaped(HASH),
        absent=SQL(", t.{}").format(escaped(ABSENT_AT)) if table.marks else SQL(""),
        marked=SQL(" OR t.{} IS NOT NULL").format(escaped(ABSENT_AT)) if table.marks else SQL(""),
        table=qualified(table),
        match=_match(table),
    )
    return HashLook(stage, query.as_string())


@lru_cache(maxsize=1024)
def statements_of(table: Table, *, guarded: bool) -> Statements:
    """Answer the statements that write `table`.

    Unguarded, a row replaces what is there whatever its version, and a row that is equal but for
    its version is written too: after a change of the version rule, no version of the old rule must
    remain, for it would be compared with those of the new one.
    """
    number, hashed = kind_of(int, None), ((HASH, kind_of(bytes, None)),) if table.hashed else ()
    columns = ((column.name, column.kind) for column in table.columns)
    stage = ((ORDER, number), *columns, (VERSION, number), *hashed)
    # Stable, so that pg_stat_statements sees one statement; short, whatever the stream's name.
    name = f"syncd_{blake2b(str(table).encode(), digest_size=8).hexdigest()}"
    declared = listed(SQL("{} {}").format(escaped(n), typed(k.stage)) for n, k in stage)
    temporary = SQL("pg_temp.{}").format(escaped(name))
    # For one use, compiling the comparison takes longer than running it: jit off, from the estimate
    # for some 9,000 rows on.
    create = SQL(
        "SET LOCAL jit = off; CREATE TEMP TABLE IF NOT EXISTS {} ({}) ON COMMIT DROP; TRUNCATE {}"
    ).format(escaped(name), declared, temporary)
    arrays = SQL("MATERIALIZED ({})").format(staged(table, stage, arrays=True))
    # To read the temporary table twice is cheaper than to keep a copy of what was read.
    copied = SQL("NOT MATERIALIZED ({} FROM {})").format(
        staged(table, stage, arrays=False), temporary
    )
    return Statements(
        stage=stage,
        create=create.as_string(),
        copy=SQL("COPY {} FROM STDIN (FORMAT binary)").format(temporary).as_string(),
        from_copy=_write(table, copied, guarded=guarded).as_string(),
        fresh_from_copy=_write(table, copied, guarded=guarded, fresh=True).as_string(),
        from_arrays=_write(table, arrays, guarded=guarded).as_string(),
        look=_look(table, arrays, guarded=guarded).as_string(),
    )


def key_kinds(table: Table) -> tuple[tuple[str, Kind], ...]:
    """Answer the columns of the key, but for the account, with their kinds."""
    kinds = {column.name: column.kind for column in table.columns}
    return tuple((name, kinds[name]) for name in table.key)


def staged(table: Table, stage: Sequence[tuple[str, Kind]], *, arrays: bool) -> Composed:
    """Select the staged rows with the table's types, from arrays or from the temporary table.

    Several `unnest` in the SELECT list go in step; in FROM they cost twice as much.
    """
    columns: list[Composable] = []
    for place, (name, kind) in enumerate(stage):
        value: Composable = escaped(name)
        if arrays:
            array = SQL(f"unnest(%(s{place})b::{{}}[])")
            value = array.format(typed(kind.stage))
        if kind.cast:
            value = SQL("({})::{}").format(value, typed(kind.sql))
        columns.append(SQL("{} AS {}").format(value, escaped(name)))
    if table.per_account:
        columns.append(SQL("%(account)s::text AS {}").format(escaped(ACCOUNT)))
    return SQL("SELECT {}").format(listed(columns))


_APPEND = SQL(
    "WITH stage AS {stage}, written AS ("
    "INSERT INTO {table} ({columns}) SELECT {selected} FROM stage RETURNING 1) "
    "SELECT count(*), 0, 0, 0, NULL::bigint[], NULL::bigint[] FROM written"
)

_SEEN = SQL(
    "WITH stage AS {stage}, seen AS MATERIALIZED ("
    "SELECT stage.{order}, CASE WHEN t.{version} IS NULL THEN 'new' "
    "WHEN {same} THEN 'unchanged' WHEN {stale} THEN 'stale' ELSE 'changed' END AS fate "
    "FROM stage LEFT JOIN LATERAL (SELECT * FROM {table} AS t WHERE {match} OFFSET 0) AS t ON true)"
)

_HASH_LOOK = SQL(
    "WITH stage AS MATERIALIZED ({stage}) SELECT coalesce(array_agg(stage.{order}) "
    "FILTER (WHERE t.{hash} IS DISTINCT FROM stage.{hash}{marked}), '{{}}'), count(t.there) "
    "FROM stage LEFT JOIN LATERAL (SELECT t.{hash}{absent}, true AS there FROM {table} AS t "
    "WHERE {match} OFFSET 0) AS t ON true"
)

_LOOK = SQL(
    "{seen} SELECT count(*) FILTER (WHERE fate = 'unchanged'), "
    "array_agg({order}) FILTER (WHERE fate <> 'unchanged') FROM seen"
)

_FRESH = SQL(
    "WITH stage AS {stage}, written AS ("
    "INSERT INTO {table} AS t ({columns}) SELECT {selected} FROM stage "
    "ORDER BY {order} ON CONFLICT ({key}) {conflict} RETURNING t.xmax = 0 AS inserted) "
    "SELECT count(*) FILTER (WHERE inserted), count(*) FILTER (WHERE NOT inserted) FROM written"
)

_WRITE = SQL(
    "{seen}, written AS ("
    "INSERT INTO {table} AS t ({columns}) "
    "SELECT {selected} FROM stage JOIN seen USING ({order}) WHERE fate IN ('new', 'changed') "
    "ORDER BY {order} ON CONFLICT ({key}) {conflict} "
    "RETURNING t.xmax = 0 AS inserted, {returned}), "
    "fates AS (SELECT count(*) FILTER (WHERE fate = 'unchanged') AS unchanged, "
    "count(*) FILTER (WHERE fate = 'stale') AS stale, "
    "count(*) FILTER (WHERE fate IN ('new', 'changed')) AS due FROM seen), "
    "done AS (SELECT count(*) FILTER (WHERE inserted) AS inserted, "
    "count(*) FILTER (WHERE NOT inserted) AS updated FROM written) "
    "SELECT inserted, updated, unchanged, stale, CASE WHEN stale > 0 THEN "
    "ARRAY(SELECT {order} FROM seen WHERE fate = 'stale') END, "
    "CASE WHEN inserted + updated < due THEN "
    "ARRAY(SELECT {order} FROM stage JOIN seen USING ({order}) WHERE fate IN ('new', 'changed') "
    "AND NOT EXISTS (SELECT FROM written AS t WHERE {match})) END FROM fates, done"
)


def _write(table: Table, staged: Composed, *, guarded: bool, fresh: bool = False) -> Composed:
    columns = [
        *((ACCOUNT,) if table.per_account else ()),
        *(column.name for column in table.columns),
        *system_columns(table),
    ]
    parts: dict[str, Composable] = {
        "table": qualified(table),
        "columns": listed(map(escaped, [*columns, WRITTEN_AT])),
        "selected": SQL("{}, (SELECT syncd.clock(%(now)s::timestamptz))").format(
            listed(column_of("stage", name) for name in columns)
        ),
    }
    if table.mode == "append":
        return _APPEND.format(stage=staged, **parts)
    parts |= {
        "order": escaped(ORDER),
        "key": listed(map(escaped, table.primary_key)),
        "conflict": _conflict(table, guarded=guarded),
    }
    if fresh:
        return _FRESH.format(stage=staged, **parts)
    return _WRITE.format(
        seen=_seen(table, staged, guarded=guarded),
        returned=listed(column_of("t", name) for name in table.primary_key),
        match=_match(table),
        **parts,
    )


def system_columns(table: Table) -> tuple[str, ...]:
    """Answer the columns beside a row's own that come with it."""
    return (VERSION, HASH) if table.hashed else (VERSION,)


def _look(table: Table, staged: Composed, *, guarded: bool) -> Composed:
    if table.mode == "append":
        return SQL("SELECT 0, NULL::bigint[]").format()
    return _LOOK.format(seen=_seen(table, staged, guarded=guarded), order=escaped(ORDER))


def _seen(table: Table, staged: Composed, *, guarded: bool) -> Composed:
    older = SQL("stage.{0} < t.{0}").format(escaped(VERSION))
    same = SQL("NOT ({})").format(_distinct(table, "stage", guarded=guarded))
    return _SEEN.format(
        stage=staged,
        order=escaped(ORDER),
        version=escaped(VERSION),
        same=SQL("true") if table.mode == "insert-only" else same,
        stale=older if guarded else SQL("false"),
        table=qualified(table),
        match=_match(table),
    )


def _conflict(table: Table, *, guarded: bool) -> Composed:
    if table.mode == "insert-only":
        return SQL("DO NOTHING").format()
    renewed = [*table.data, *system_columns(table), WRITTEN_AT]
    newer = SQL(" AND excluded.{0} >= t.{0}").format(escaped(VERSION))
    unmarked = [SQL("{} = NULL").format(escaped(ABSENT_AT))] if table.marks else []
    return SQL("DO UPDATE SET {} WHERE ({}){}").format(
        listed([*(SQL("{0} = excluded.{0}").format(escaped(n)) for n in renewed), *unmarked]),
        _distinct(table, "excluded", guarded=guarded),
        newer if guarded else SQL(""),
    )


def _distinct(table: Table, other: LiteralString, *, guarded: bool) -> Composed:
    """Say that a row is to be written: it differs, or is not known by a hash of today's making.

    A hash that differs for another reason (something that makes no column) is left alone.
    """
    differs = [
        SQL("ROW({}) IS DISTINCT FROM ROW({})").format(
            listed(column_of("t", name) for name in compared),
            listed(column_of(other, name) for name in compared),
        )
        for compared in [[*table.compared, *(() if guarded else (VERSION,))]]
        if compared
    ]
    if table.hashed:
        mark = SQL("substr({}, 1, {})")
        differs.append(
            SQL("{} IS NOT NULL AND {} IS DISTINCT FROM {}").format(
                column_of(other, HASH),
                mark.format(column_of("t", HASH), HASH_MARK_BYTES),
                mark.format(column_of(other, HASH), HASH_MARK_BYTES),
            )
        )
    if table.marks:  # it was gone, and has come back
        differs.append(SQL("{} IS NOT NULL").format(column_of("t", ABSENT_AT)))
    return SQL(" OR ").join(differs) if differs else SQL("false").format()


def _match(table: Table) -> Composed:
    pairs = [SQL("t.{0} = stage.{0}").format(escaped(name)) for name in table.primary_key]
    return SQL(" AND ").join(pairs)


def qualified(table: Table) -> Composed:
    return qualified_as(table.schema, table.name)


def qualified_as(schema: str, name: str) -> Composed:
    return SQL("{}.{}").format(escaped(schema), escaped(name))


def escaped(name: str) -> Identifier:
    return Identifier(name.replace("%", "%%"))  # psycopg looks for parameters in names too


def column_of(relation: LiteralString, name: str) -> Composed:
    return SQL("{}.{}").format(SQL(relation), escaped(name))


def typed(sql: str) -> SQL:
    """Answer a type's name as a part of a statement."""
    return SQL(sql)  # one of `kinds`, never a plugin's own text


def listed(parts: Iterable[Composable]) -> Composed:
    return SQL(", ").join(parts)
