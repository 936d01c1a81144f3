"""Getting rows to the server: arrays for a few, binary COPY for many."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any, TypeAlias, cast

import attrs
import psycopg
from psycopg.abc import Buffer
from psycopg.adapt import Dumper
from psycopg.pq import Format
from psycopg.types.string import BytesBinaryDumper

from syncd import faults
from syncd.bulk.kinds import Kind
from syncd.bulk.statements import Statements

Columns: TypeAlias = Sequence[Sequence[Any]]

# Registered last, it is the dumper of `bytea` by its number, and compiled; psycopg's last one is
# that of the DB-API's `Binary`, in Python (0.23 us a value against 0.06).

# What a value raises that must not, or cannot, be sent. None of these is a psycopg.Error.
UNSENDABLE = (TypeError, ValueError, ArithmeticError, AttributeError, RecursionError)


def run_from_arrays(
    cursor: psycopg.Cursor[Any],
    query: str,
    *,
    stage: Sequence[tuple[str, Kind]],
    columns: Columns,
    parameters: Mapping[str, Any],
) -> tuple[Any, ...]:
    """Run a statement over rows that go along with it, one array for each column.

    Raises: one of `UNSENDABLE` before anything is sent; else what psycopg raises.
    """
    cursor.adapters.register_dumper(_Array, _ArrayDumper)
    cursor.adapters.register_dumper(bytes, BytesBinaryDumper)
    arrays = {
        f"s{place}": _array(kind, dumper_of(cursor, kind), column)
        for place, ((_, kind), column) in enumerate(zip(stage, columns, strict=True))
    }
    cursor.execute(query, {**parameters, **arrays}, prepare=False)
    return _only(cursor)


def run_from_copy(
    cursor: psycopg.Cursor[Any],
    statements: Statements,
    *,
    columns: Columns,
    parameters: Mapping[str, Any],
    fresh: bool,
) -> tuple[Any, ...]:
    """Copy rows into a temporary table, and run the statement that reads it.

    Raises: as `run_from_arrays`, but an `UNSENDABLE` leaves the transaction to be rolled back.
    """
    cursor.adapters.register_dumper(bytes, BytesBinaryDumper)
    cursor.execute(statements.create, prepare=False)
    with cursor.copy(statements.copy) as copy:
        copy.set_types([kind.wire for _, kind in statements.stage])
        for row in zip(*columns, strict=True):
            copy.write_row(row)
    faults.point("rows_copied")
    query = statements.fresh_from_copy if fresh else statements.from_copy
    cursor.execute(query, parameters, prepare=False)
    return _only(cursor)


def encoded(stage: Iterable[tuple[str, Kind]], columns: Iterable[Sequence[Any]]) -> Columns:
    """Answer what the dumpers take, column by column. Raises: one of `UNSENDABLE`."""
    return [
        kind.encode(column) if kind.encode else column
        for (_, kind), column in zip(stage, columns, strict=True)
    ]


def dumper_of(cursor: psycopg.Cursor[Any], kind: Kind) -> Callable[[Any], Buffer]:
    """Answer the function that makes one value's binary form: the one that COPY uses, too."""
    number = cursor.adapters.types.get_oid(kind.wire)
    dumper = cursor.adapters.get_dumper_by_oid(number, Format.BINARY)(object, cursor)
    return cast("Callable[[Any], Buffer]", dumper.dump)


@attrs.frozen
class _Array:
    """A whole array, in PostgreSQL's binary form."""

    data: bytes


class _ArrayDumper(Dumper):
    """Send an array as it is; the cast in the statement says of what type it is."""

    format = Format.BINARY
    oid = 0

    def dump(self, obj: _Array) -> Buffer:
        return obj.data


# PostgreSQL, src/backend/utils/adt/arrayfuncs.c, array_recv(): number of dimensions, whether there
# are nulls, type of the elements; length and first subscript of the dimension; then the elements,
# each behind its length, -1 for a null.
_HEAD = struct.Struct("!iiIii").pack
_LENGTH = struct.Struct("!i").pack
_NULL = _LENGTH(-1)


def _array(kind: Kind, dump: Callable[[Any], Buffer], values: Sequence[Any]) -> _Array:
    head = _HEAD(1, 1, kind.oid, len(values), 1)
    if None not in values:  # the loop below in C: a third of the time
        dumped = list(map(dump, values))
        lengths = map(_LENGTH, map(len, dumped))
        return _Array(head + b"".join(chain.from_iterable(zip(lengths, dumped, strict=True))))
    parts: list[Buffer] = [head]
    add = parts.append
    for value in values:
        if value is None:
            add(_NULL)
        else:
            data = dump(value)
            add(_LENGTH(len(data)))
            add(data)
    return _Array(b"".join(parts))


@contextmanager
def savepoint(conn: psycopg.Connection[Any], *, immediate: bool = False) -> Iterator[None]:
    """Undo what was done inside if it fails, and nothing else.

    `immediate`: it fails of deferred constraints, too, which wait for the COMMIT else.

    By hand, because `Connection.transaction` would commit where it is the outermost one.
    """
    conn.execute("SAVEPOINT syncd_bulk", prepare=False)
    try:
        yield
        if immediate:
            conn.execute("SET CONSTRAINTS ALL IMMEDIATE", prepare=False)
    except (*UNSENDABLE, psycopg.Error):
        if not conn.broken:
            conn.execute("ROLLBACK TO syncd_bulk; RELEASE syncd_bulk", prepare=False)
        raise
    conn.execute("RELEASE syncd_bulk", prepare=False)


def _only(cursor: psycopg.Cursor[Any]) -> tuple[Any, ...]:
    row = cursor.fetchone()
    assert row is not None  # every statement here counts
    return cast("tuple[Any, ...]", row)
