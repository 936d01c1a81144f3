"""How one value is stored: the column's SQL type, and the form in which it travels.

Pure. Values travel in PostgreSQL's binary form, a column at a time. Four shortcuts are taken, each
because it was measured or because psycopg would alter a value in silence (psycopg 3.3):

- a moment is its microseconds, a date its days since 2000-01-01: that *is* the binary form of
  `timestamptz` and `date`, and an int is dumped in C (180 ns instead of 480 ns);
- `numeric` travels as text and is cast by the server: psycopg's binary dumper is Python (2,700 ns
  a value, 500 ns as text);
- `smallint`, `integer` and `real` travel as their widest kin and are cast by the server, which
  refuses what does not fit: the compiled dumpers of int2, int4 and float4 wrap around instead;
- `jsonb` is encoded by msgspec, behind the version byte 1 of its binary form.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, TypeAlias
from uuid import UUID

import attrs

from syncd.bulk.jsonb import documents

Encode: TypeAlias = Callable[[Sequence[Any]], Sequence[Any]]


@attrs.frozen
class Column:
    """Say which SQL type a field has: ``Annotated[Decimal, Column("numeric(14,2)")]``."""

    sql_type: str


@attrs.frozen
class Kind:
    """How the values of one column are stored and sent.

    `sql` is the column's type as `format_type()` spells it; `stage` the type of the staging column,
    `oid` its number; `wire` names the psycopg type whose binary dumper makes that form.
    `encode` turns a column's values into what the dumper takes; it raises `TypeError`,
    `ValueError` or `OverflowError` for what must not be sent.
    """

    sql: str
    stage: str
    oid: int
    wire: str
    encode: Encode | None = None

    @property
    def cast(self) -> bool:
        return self.stage != self.sql


def _refuse_other_types(values: Iterable[Any], *types: type[Any]) -> None:
    """Raise `TypeError` if a value is neither `None` nor exactly of one of `types`."""
    wrong = set(map(type, values)) - {type(None), *types}
    if wrong:
        found = ", ".join(sorted(kind.__name__ for kind in wrong))
        raise TypeError(f"expected {types[0].__name__}, not {found}")


def _booleans(values: Sequence[Any]) -> Sequence[Any]:
    _refuse_other_types(values, bool)  # the dumper would store anything's truth
    return values


def _bytes(values: Sequence[Any]) -> Sequence[Any]:
    _refuse_other_types(values, bytes)  # 5 would become five NULs
    return values


def _decimals(values: Sequence[Any]) -> Sequence[Any]:
    _refuse_other_types(values, Decimal, int)
    return [None if v is None else str(v) for v in values]


def _floats_as_decimals(values: Sequence[Any]) -> Sequence[Any]:
    _refuse_other_types(values, float, int)
    return [None if v is None else repr(v) for v in values]


def _uuids(values: Sequence[Any]) -> Sequence[Any]:
    _refuse_other_types(values, UUID)
    return [None if v is None else v.bytes for v in values]


_DAY_ZERO = date(2000, 1, 1).toordinal()  # PostgreSQL counts days and microseconds from here
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_FIRST = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND
_LAST = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND


def _dates(values: Sequence[Any]) -> Sequence[Any]:
    _refuse_other_types(values, date)  # a datetime would lose its time in silence
    return [None if v is None else v.toordinal() - _DAY_ZERO for v in values]


def _moments(values: Sequence[Any]) -> Sequence[Any]:
    _refuse_other_types(values, datetime)
    sent: list[int | None] = []
    for value in values:
        if value is None:
            sent.append(None)
        else:
            since = value - _EPOCH
            sent.append((since.days * 86400 + since.seconds) * 1_000_000 + since.microseconds)
    known = [moment for moment in sent if moment is not None]
    if known and not _FIRST <= min(known) <= max(known) <= _LAST:
        # An offset can carry a Python datetime out of Python's years: PostgreSQL stores it, but
        # psycopg cannot read it back (P28).
        raise OverflowError("the moment is outside of the years 1 to 9999 in UTC")
    return sent


def _documents(values: Sequence[Any]) -> Sequence[Any]:
    return [None if data is None else b"\x01" + data for data in documents(values)]


# Object identifiers: PostgreSQL, src/include/catalog/pg_type.dat; they never change.
_BIGINT = Kind("bigint", "bigint", 20, "int8")
_DOUBLE = Kind("double precision", "double precision", 701, "float8")
_NUMERIC = Kind("numeric", "text", 25, "text", _decimals)
_KINDS = {
    kind.sql: kind
    for kind in (
        attrs.evolve(_BIGINT, sql="smallint"),
        attrs.evolve(_BIGINT, sql="integer"),
        _BIGINT,
        attrs.evolve(_DOUBLE, sql="real"),
        _DOUBLE,
        _NUMERIC,
        Kind("text", "text", 25, "text"),
        Kind("boolean", "boolean", 16, "bool", _booleans),
        Kind("timestamp with time zone", "timestamp with time zone", 1184, "int8", _moments),
        Kind("date", "date", 1082, "int4", _dates),
        Kind("uuid", "uuid", 2950, "bytea", _uuids),
        Kind("bytea", "bytea", 17, "bytea", _bytes),
        Kind("jsonb", "jsonb", 3802, "bytea", _documents),
    )
}

# Which SQL types the values of a Python type may have, the first by default; sub-types first.
_STORED_AS: tuple[tuple[type[Any], tuple[str, ...]], ...] = (
    (bool, ("boolean",)),
    (int, ("bigint", "integer", "smallint", "numeric")),
    (float, ("double precision", "real", "numeric")),
    (Decimal, ("numeric",)),
    (str, ("text",)),
    (datetime, ("timestamp with time zone",)),
    (date, ("date",)),
    (UUID, ("uuid",)),
    (bytes, ("bytea",)),
)

SCALARS = tuple(cls for cls, _ in _STORED_AS)

_SHORT = {
    "int2": "smallint",
    "int": "integer",
    "int4": "integer",
    "int8": "bigint",
    "float4": "real",
    "float8": "double precision",
    "bool": "boolean",
    "timestamptz": "timestamp with time zone",
}
_NUMERIC_SPELLING = re.compile(r"(?:numeric|decimal)(?:\((\d+)(?:,(-?\d+))?\))?")
_PRECISION_MAX = 1000  # PostgreSQL, "Numeric Types"


def kind_of(python: type[Any] | None, column: Column | None) -> Kind:
    """Answer how values of a Python type are stored; `None` is whatever JSON can say.

    Raises: `ValueError`, saying what is wrong with the type or the override.
    """
    allowed = next((sql for cls, sql in _STORED_AS if python and issubclass(python, cls)), ())
    if column is None:
        return _KINDS[allowed[0] if allowed else "jsonb"]
    sql = spelled_out(column.sql_type)
    base = sql.partition("(")[0]
    if base not in {*allowed, "jsonb"}:
        choice = " or ".join([*allowed, "jsonb"])
        raise ValueError(f"cannot be stored as {column.sql_type!r}, only as {choice}")
    if base != "numeric":
        return _KINDS[base]
    encode = _floats_as_decimals if python and issubclass(python, float) else _decimals
    return attrs.evolve(_NUMERIC, sql=sql, encode=encode)


def spelled_out(sql_type: str) -> str:
    """Spell a SQL type as `format_type()` does: ``decimal(14, 2)`` is ``numeric(14,2)``.

    Raises: `ValueError` if a numeric's precision or scale is impossible.
    """
    words = re.sub(r"\s*([(),])\s*", r"\1", " ".join(sql_type.lower().split()))
    numeric = _NUMERIC_SPELLING.fullmatch(words)
    if not numeric:
        return _SHORT.get(words, words)
    if numeric[1] is None:
        return "numeric"
    precision, scale = int(numeric[1]), int(numeric[2] or 0)
    if not 1 <= precision <= _PRECISION_MAX or not 0 <= scale <= precision:
        raise ValueError(f"{sql_type!r} is not a numeric type; precision 1 to 1000 >= scale >= 0")
    return f"numeric({precision},{scale})"
