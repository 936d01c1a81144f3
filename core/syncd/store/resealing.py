"""Sealing anew with another key what stands sealed in control tables, some rows at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs
from psycopg import sql

from syncd.errors import ConfigError
from syncd.store.hops import Connection

ROWS_AT_ONCE = 500  # their locks are held for a tenth of a second


@attrs.frozen
class SealedIn:
    """Where sealed values stand: columns of a control table, by instance and account.

    `kind` begins the name of the row that they are sealed for: ``credential INSTANCE/ACCOUNT``.
    """

    table: str
    columns: tuple[str, ...]
    kind: str
    account: str = "account"  # the column with the account's name

    def row_name(self, instance: str, account: str) -> str:
        return f"{self.kind} {instance}/{account}"


# Everything that is ever sealed: `syncd credentials reencrypt` goes through it.
SEALED = (
    SealedIn("credential", ("sealed", "sealed_before"), "credential"),
    SealedIn("account", ("secrets",), "account", account="name"),
)


@attrs.frozen
class Step:
    """One transaction's worth: how many rows, where it ended, and what no key opens."""

    rows: int
    last: tuple[str, str] | None  # None: there are no more
    unreadable: Sequence[str] = ()


def reseal(
    connection: Connection,
    where: SealedIn,
    after: tuple[str, str],
    anew: Callable[[bytes, str], bytes],
) -> Step:
    """Seal the next rows anew; `anew` is given what is sealed, and the name of its row.

    A row that no key opens is left as it is.
    """
    names = {
        "table": sql.Identifier("syncd", where.table),
        "account": sql.Identifier(where.account),
    }
    columns = sql.SQL(", ").join(map(sql.Identifier, where.columns))
    found = connection.execute(
        sql.SQL(
            "SELECT instance, {account} AS account, {columns} FROM {table} "
            "WHERE (instance, {account}) > (%s, %s) AND coalesce({columns}) IS NOT NULL "
            "ORDER BY instance, {account} LIMIT %s FOR UPDATE"
        ).format(**names, columns=columns),
        (*after, ROWS_AT_ONCE),
    ).fetchall()
    if not found:
        return Step(0, None)
    resealed, unreadable = [], []
    for row in found:
        name = where.row_name(row["instance"], row["account"])
        try:
            new = [row[c] if row[c] is None else anew(bytes(row[c]), name) for c in where.columns]
        except ConfigError:
            unreadable.append(name)
        else:
            resealed.append((row["instance"], row["account"], *new))
    _write(connection, where, resealed)
    return Step(len(resealed), (found[-1]["instance"], found[-1]["account"]), unreadable)


def _write(connection: Connection, where: SealedIn, rows: Sequence[tuple[object, ...]]) -> None:
    if not rows:
        return
    columns = [sql.Identifier(column) for column in where.columns]
    connection.execute(
        sql.SQL(
            "UPDATE {table} AS t SET {changes} "
            "FROM unnest(%s::text[], %s::text[], {arrays}) AS s (instance, account, {columns}) "
            "WHERE t.instance = s.instance AND t.{account} = s.account"
        ).format(
            table=sql.Identifier("syncd", where.table),
            account=sql.Identifier(where.account),
            columns=sql.SQL(", ").join(columns),
            arrays=sql.SQL(", ").join([sql.SQL("%s::bytea[]")] * len(columns)),
            changes=sql.SQL(", ").join(sql.SQL("{0} = s.{0}").format(each) for each in columns),
        ),
        [list(values) for values in zip(*rows, strict=True)],
    )
