"""Rows made of other rows in the database: one statement, whatever their number.

    the author's select --> made: its rows, cast to the table's types, counted
                              `--> due: those that are new or (upsert) differ
                                     `--> written: INSERT .. ON CONFLICT, in key order

- A row bears `_syncd_written_at` and, as its version, the moment of the statement: it is as new as
  what made it. It bears no hash: it is compared with the table's row where it is made.
- Rows that are equal never reach the INSERT, which would lock them, and log that, before it reads
  its WHERE; existing rows of an insert-only stream are not even compared. ON CONFLICT is left for
  other writers of the table that come in between.
- There is no version guard: one partition at a time makes these rows, and what it makes now is true
  whatever clock said otherwise before.
- No nested loops, as far as there is another way: of tables that were just filled, and are not yet
  analysed, the planner expects few rows, and looks each of a hundred thousand up by itself. What
  that costs has no bound; a hash join costs what it reads. For one use, compiling takes longer than
  running: jit off.
- The select stands in a subquery, where PostgreSQL takes nothing that writes; and asked for binary
  values, it takes one statement at a time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, LiteralString

import attrs
import psycopg
from psycopg.rows import dict_row, tuple_row
from psycopg.sql import SQL, Composable, Composed

from syncd import derivations
from syncd.bulk.refusals import blames_a_row
from syncd.bulk.statements import column_of, escaped, listed, qualified_as, typed
from syncd.bulk.tables import ACCOUNT, VERSION, WRITTEN_AT, Table
from syncd.errors import HookError, StoreError, StoreRefused
from syncd.model import Derivation, Written
from syncd.sqlstates import reaction

# PostgreSQL, Appendix A: ON CONFLICT DO UPDATE met one key twice.
_CARDINALITY_VIOLATION = "21000"
_INSUFFICIENT_PRIVILEGE = "42501"

_PLAN = "SET LOCAL enable_nestloop = off; SET LOCAL jit = off"
_PLAN_AGAIN = "SET LOCAL enable_nestloop TO DEFAULT; SET LOCAL jit TO DEFAULT"

_DERIVE = SQL(
    "WITH made AS MATERIALIZED (SELECT {made} FROM (\n{select}\n) AS d), "
    "due AS ({due}), "
    "written AS (INSERT INTO {table} AS t ({columns}) SELECT {selected} FROM due AS d {order} "
    "{conflict} RETURNING t.xmax = 0 AS inserted) "
    "SELECT (SELECT count(*) FROM made), count(*) FILTER (WHERE inserted), "
    "count(*) FILTER (WHERE NOT inserted) FROM written"
)
_NEW = SQL("SELECT * FROM made AS d WHERE NOT EXISTS (SELECT FROM {table} AS t WHERE {match})")
_NEW_OR_DIFFERENT = SQL(
    "SELECT d.* FROM made AS d LEFT JOIN {table} AS t ON {match} "
    "WHERE t.{version} IS NULL OR {differs}"
)
_UPDATE = SQL("ON CONFLICT ({key}) DO UPDATE SET {renewed} WHERE {differs}")
_IGNORE = SQL("ON CONFLICT ({key}) DO NOTHING")
_NOW = SQL("(SELECT (extract(epoch FROM syncd.clock()) * 1000000)::bigint), (SELECT syncd.clock())")

# What PostgreSQL would cast by itself when it assigns (its page on CREATE CAST); not what it spells
# out as text, for then every mistake would fit a text column.
_FITS = """
    SELECT g.name, format_type(g.given, NULL) AS given, g.wanted,
           g.given = g.wanted::regtype OR EXISTS (
               SELECT FROM pg_cast c WHERE c.castsource = g.given
               AND c.casttarget = g.wanted::regtype AND c.castcontext IN ('i', 'a')) AS fits
      FROM unnest(%(names)s::text[], %(given)s::oid[], %(wanted)s::text[])
           AS g (name, given, wanted)
"""


@attrs.frozen
class Derived:
    """A derivation, bound to one instance's tables; `where` is it in messages."""

    table: Table
    select: str
    parameters: Mapping[str, Any]
    where: str

    @classmethod
    def of(cls, table: Table, derivation: Derivation, *, plugin: str) -> Derived:
        """Put the tables in the place of the streams' names."""
        parts: list[Composable] = []
        for text, name in derivations.pieces(derivation.select):
            parts.append(typed(text))
            if name is not None:
                parts.append(qualified_as(table.schema, name))
        where = f"{table}: derive of plugin {plugin}"
        return cls(table, Composed(parts).as_string(), derivation.parameters, where)

    @property
    def statement(self) -> str:
        """What makes the rows; answers with how many it made, inserted and updated."""
        table = self.table
        columns = [*((ACCOUNT,) if table.per_account else ()), *(c.name for c in table.columns)]
        parts: dict[str, Composable] = {
            "table": qualified_as(table.schema, table.name),
            "key": listed(map(escaped, table.primary_key)),
            "match": SQL(" AND ").join(
                SQL("t.{0} = d.{0}").format(escaped(name)) for name in table.primary_key
            ),
        }
        return _DERIVE.format(
            made=listed(self.values),
            select=typed(self.select),
            due=self._due(parts),
            columns=listed(map(escaped, [*columns, VERSION, WRITTEN_AT])),
            selected=listed([*(column_of("d", name) for name in columns), _NOW]),
            order=self._order(),
            conflict=self._conflict(parts),
            **parts,
        ).as_string()

    def named(self, account: str) -> dict[str, Any]:
        """Return the statement's parameters, for the rows of an account."""
        return {**self.parameters, derivations.ACCOUNT: account}

    @property
    def values(self) -> list[Composable]:
        """What is taken off a selected row, with the table's names and types."""
        cast = SQL("d.{0}::{1} AS {0}")
        taken: list[Composable] = [
            cast.format(escaped(each.name), typed(each.kind.sql)) for each in self.table.columns
        ]
        if self.table.per_account:
            taken.append(SQL("%(account)s::text AS {}").format(escaped(ACCOUNT)))
        return taken

    def _due(self, parts: dict[str, Composable]) -> Composed:
        match self.table.mode:
            case "append":
                return SQL("SELECT * FROM made").format()
            case "insert-only":
                return _NEW.format(**parts)
            case _:
                version = escaped(VERSION)
                return _NEW_OR_DIFFERENT.format(
                    differs=self._differs("d"), version=version, **parts
                )

    def _conflict(self, parts: dict[str, Composable]) -> Composed:
        match self.table.mode:
            case "append":
                return SQL("").format()
            case "insert-only":
                return _IGNORE.format(**parts)
            case _:
                renewed = [*self.table.data, VERSION, WRITTEN_AT]
                return _UPDATE.format(
                    renewed=listed(SQL("{0} = excluded.{0}").format(escaped(n)) for n in renewed),
                    differs=self._differs("excluded"),
                    **parts,
                )

    def _differs(self, other: LiteralString) -> Composed:
        compared = self.table.compared
        if not compared:
            return SQL("false").format()
        return SQL("ROW({}) IS DISTINCT FROM ROW({})").format(
            listed(column_of("t", name) for name in compared),
            listed(column_of(other, name) for name in compared),
        )

    def _order(self) -> Composed:
        """Order by key, text as Python does: all writers lock rows in one order (P13)."""
        kinds = {column.name: column.kind.sql for column in self.table.columns} | {ACCOUNT: "text"}
        by = [
            SQL('d.{} COLLATE "C"' if kinds[name] == "text" else "d.{}").format(escaped(name))
            for name in self.table.primary_key
        ]
        return SQL("ORDER BY {}").format(listed(by)) if by else SQL("").format()


def derive(conn: psycopg.Connection[Any], derived: Derived, *, account: str) -> tuple[int, Written]:
    """Make and write all rows inside the caller's transaction; answer with how many were made.

    Raises: `StoreError` where what the rows hold cannot be written (they may be others the next
    time), `StoreRefused` where the statement cannot be run as it is; any other psycopg error,
    unchanged.
    """
    conn.execute(_PLAN)
    try:
        with conn.cursor(row_factory=tuple_row) as cursor:
            cursor.execute(derived.statement.encode(), derived.named(account), binary=True)
            row = cursor.fetchone()
    except psycopg.Error as error:
        said = f"{error.diag.message_primary or error} (SQLSTATE {error.sqlstate})"
        if blames_a_row(error) or error.sqlstate == _CARDINALITY_VIOLATION:
            what = f"its rows cannot be written: {said}"
            raise StoreError(derived.where, what, "mend the select, or what it reads") from error
        if reaction(error.sqlstate) == "refuse" and error.sqlstate:
            what = f"its statement is refused: {said}"
            raise StoreRefused(derived.where, what, "mend it, or the permissions") from error
        raise
    conn.execute(_PLAN_AGAIN)
    assert row is not None
    made, inserted, updated = row
    return made, Written(inserted, updated, made - inserted - updated)


def check(conn: psycopg.Connection[Any], derived: Derived) -> None:
    """Have PostgreSQL look at the select, whose tables must be there; it is not run.

    Raises: `HookError` where it cannot be run, or does not make the table's columns; any other
    psycopg error, unchanged.
    """
    query = SQL("SELECT * FROM (\n{}\n) AS d LIMIT 0").format(typed(derived.select))
    try:
        with conn.cursor() as cursor:
            cursor.execute(query, derived.named(""), binary=True)
            given = {each.name: each.type_code for each in cursor.description or ()}
            count = len(cursor.description or ())
    except psycopg.Error as error:
        wrong = isinstance(error, psycopg.ProgrammingError | psycopg.NotSupportedError)
        if not (wrong or blames_a_row(error)) or error.sqlstate == _INSUFFICIENT_PRIVILEGE:
            raise
        said = str(error.diag.message_primary or error)
        raise HookError(derived.where, f"its select cannot be run: {said}", "mend it") from error
    wanted = {column.name: column.kind.sql for column in derived.table.columns}
    _refuse_columns(derived.where, list(given), count, list(wanted))
    named = {
        "names": list(given),
        "given": list(given.values()),
        "wanted": [wanted[name] for name in given],
    }
    with conn.cursor(row_factory=dict_row) as cursor:
        for row in cursor.execute(_FITS.encode(), named):
            if not row["fits"]:
                said = f"column {row['name']!r} is {row['given']}, and {row['wanted']} in the row"
                cast = f"write ({row['name']})::{row['wanted']}, or change the row class"
                raise HookError(derived.where, f"of its select, {said}", cast)


def _refuse_columns(where: str, given: Sequence[str], count: int, wanted: Sequence[str]) -> None:
    if len(given) < count:
        raise HookError(where, "two columns of its select have one name", "rename one of them")
    for those, others, what in (
        (wanted, given, "its select lacks"),
        (given, wanted, "the row class does not know what its select has:"),
    ):
        if left := [name for name in those if name not in others]:
            do = f"the row's columns are {', '.join(wanted)}"
            raise HookError(where, f"{what} {', '.join(left)}", do)


def sample(
    conn: psycopg.Connection[Any], derived: Derived, *, account: str, most: int
) -> list[dict[str, Any]]:
    """Return the first rows that would be made; nothing can be written meanwhile.

    Raises: `HookError` as `check`; any other psycopg error, unchanged.
    """
    conn.execute("SET LOCAL transaction_read_only = on")
    check(conn, derived)
    query = SQL("SELECT {} FROM (\n{}\n) AS d LIMIT {}").format(
        listed(derived.values), typed(derived.select), most
    )
    with conn.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(query, derived.named(account), binary=True).fetchall()
