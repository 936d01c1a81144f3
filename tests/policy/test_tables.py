"""Tables are decided by the classes alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import IntEnum, StrEnum
from typing import Annotated, Any, Literal, NewType
from uuid import UUID

import attrs
import msgspec
import pytest
from typing_extensions import TypeAliasType

from syncd.bulk import Column, table_of
from syncd.bulk.kinds import spelled_out
from syncd.errors import ConfigError
from syncd.model import JSON, Stream

NOON = datetime(2026, 11, 2, 12, 0, tzinfo=UTC)
NOON_MICROSECONDS = 1_793_620_800_000_000

Dollars = NewType("Dollars", Decimal)
Cents = TypeAliasType("Cents", Annotated[Decimal, Column("numeric(14,2)")])  # `type Cents = ...`


class Colour(StrEnum):
    RED = "red"


class Level(IntEnum):
    LOW = 1


@attrs.frozen
class Inner:
    id: int
    name: str | None


@attrs.frozen
class Outer:
    inner: Inner
    more: Inner | None = None


@attrs.frozen
class Row:
    """A field of each supported type."""

    id: int
    text: str
    maybe: str | None
    number: float
    flag: bool
    price: Decimal
    exact: Annotated[Decimal | None, Column("decimal(14, 2)")]
    whole: Annotated[int, Column("INT4")]
    rough: Annotated[float, Column("numeric(9,3)")]
    dollars: Dollars
    cents: Cents | None
    moment: datetime
    day: date
    token: UUID
    blob: bytes
    colour: Colour
    level: Level
    choice: Literal["a", "b"] | None
    constrained: Annotated[int, msgspec.Meta(ge=0)]
    things: list[Inner]
    pair: tuple[int, ...]
    mapping: dict[str, Any]
    words: Sequence[str] | None
    table: Mapping[str, int]
    anything: Any
    json: JSON
    maybe_json: JSON | None
    either: Annotated[str | int, Column("jsonb")]
    document: Annotated[Inner | None, Column("jsonb")]
    outer: Outer


STREAM = Stream("rows", Row, key=("id",))


def types(stream: Stream) -> dict[str, str]:
    return {column.name: column.kind.sql for column in table_of("shop", stream).columns}


def test_columns_follow_the_fields() -> None:
    assert types(STREAM) == {
        "id": "bigint",
        "text": "text",
        "maybe": "text",
        "number": "double precision",
        "flag": "boolean",
        "price": "numeric",
        "exact": "numeric(14,2)",
        "whole": "integer",
        "rough": "numeric(9,3)",
        "dollars": "numeric",
        "cents": "numeric(14,2)",
        "moment": "timestamp with time zone",
        "day": "date",
        "token": "uuid",
        "blob": "bytea",
        "colour": "text",
        "level": "bigint",
        "choice": "text",
        "constrained": "bigint",
        "things": "jsonb",
        "pair": "jsonb",
        "mapping": "jsonb",
        "words": "jsonb",
        "table": "jsonb",
        "anything": "jsonb",
        "json": "jsonb",
        "maybe_json": "jsonb",
        "either": "jsonb",
        "document": "jsonb",
        "outer_inner_id": "bigint",
        "outer_inner_name": "text",
        "outer_more_id": "bigint",
        "outer_more_name": "text",
    }


def test_values_are_taken_in_column_order_and_through_none() -> None:
    table = table_of("shop", Stream("outers", Outer, key=("inner.id",)))

    assert table.values(Outer(Inner(1, "a"), Inner(2, "b"))) == (1, "a", 2, "b")
    assert table.values(Outer(Inner(1, "a"))) == (1, "a", None, None)
    assert table.key_of((1, "a", None, None)) == 1


@attrs.frozen
class Single:
    id: int


def test_a_single_column_is_a_tuple_too() -> None:
    assert table_of("shop", Stream("singles", Single, key=("id",))).values(Single(5)) == (5,)


def test_the_key_stands_behind_the_account_where_rows_are_per_account() -> None:
    stream = Stream(
        "outers", Outer, key=("inner.id", "more.name"), per_account=True, indexes=(("inner.name",),)
    )

    table = table_of("shop", stream)

    assert table.primary_key == ("account_id", "inner_id", "more_name")
    assert table.data == ("inner_name", "more_id")
    assert table.key_of((1, "a", 2, "b")) == (1, "b")
    assert [(index.name, index.columns) for index in table.indexes] == [
        ("outers_inner_name_idx", ("inner_name",))
    ]


def test_the_row_class_makes_the_table_where_there_is_one() -> None:
    stream = Stream("rows", Row, key=("id",), row=Single)

    assert types(stream) == {"id": "bigint"}


def test_names_of_indexes_fit_and_stay_distinct() -> None:
    indexes = (
        ("outer.inner.name", "maybe"),
        ("outer.inner.name", "moment"),
        ("maybe",),
        ("maybe",),
    )
    stream = attrs.evolve(STREAM, name="a" * 60, indexes=indexes)

    names = [index.name for index in table_of("shop", stream).indexes]

    assert len(set(names)) == 3 == len(names)
    assert all(len(name.encode()) <= 63 for name in names)


@attrs.frozen
class Clash:
    inner: Inner
    inner_id: int


@attrs.frozen
class Long:
    id: int
    x_is_a_name_that_is_longer_than_postgresql_allows_for_a_column_yes: int


@attrs.frozen
class Reserved:
    _syncd_version: int


@attrs.frozen
class Hidden:
    ctid: int


@attrs.frozen
class Odd:
    id: int
    span: timedelta


@attrs.frozen
class Union:
    id: int
    lot: str | int


@attrs.frozen
class Wide:
    id: int
    code: Annotated[str, Column("varchar(9)")]


@attrs.frozen
class Impossible:
    id: int
    price: Annotated[Decimal, Column("numeric(2,5)")]


@attrs.frozen
class Tree:
    id: int
    parent: Tree | None


@attrs.frozen
class Unknown:
    id: Missing  # type: ignore[name-defined]  # noqa: F821


@attrs.frozen
class Empty:
    pass


@attrs.frozen
class Accounted:
    account_id: str


@pytest.mark.parametrize(
    ("stream", "said"),
    [
        (Stream("s", Clash, key=("inner_id",)), "Clash.inner_id: makes the column 'inner_id'"),
        (Stream("s", Long, key=("id",)), "Long.x_is_a_name"),
        (Stream("s", Reserved, key=("id",)), "Reserved._syncd_version: '_syncd_version' is"),
        (Stream("s", Hidden, key=("ctid",)), "Hidden.ctid: 'ctid' is a reserved name"),
        (Stream("s", Odd, key=("id",)), "Odd.span: has the type <class 'datetime.timedelta'>"),
        (Stream("s", Union, key=("id",)), "Union.lot: has the type"),
        (Stream("s", Wide, key=("id",)), "Wide.code: cannot be stored as 'varchar(9)', only"),
        (Stream("s", Impossible, key=("id",)), "Impossible.price: 'numeric(2,5)' is not a numeric"),
        (Stream("s", Tree, key=("id",)), "Tree.parent: holds a Tree within a Tree"),
        (Stream("s", Unknown, key=("id",)), "Unknown: name 'Missing' is not defined"),
        (Stream("s", Empty, key=("id",)), "Empty: has no fields"),
        (Stream("s", dict, key=("id",)), "dict: is neither an attrs class nor"),
        (Stream("s", Single), "shop.s: mode upsert needs a key"),
        (Stream("s", Single, mode="insert-only"), "shop.s: mode insert-only needs a key"),
        (Stream("s", Single, mode="append", key=("id",)), "shop.s: appended rows have no key"),
        (Stream("s", Single, key=("lot",)), "shop.s: 'lot' is no field of Single; choose from id"),
        (Stream("s", Single, key=("id", "id")), "shop.s: the key names a field twice"),
        (Stream("s", Single, key=("id",), indexes=(("x",),)), "shop.s: 'x' is no field of Single"),
        (Stream("s", Row, key=("number",)), "shop.s: a double precision such as 'number' cannot"),
        (Stream("s", Row, key=("id", "exact")), "shop.s: a numeric(14,2) such as 'exact' cannot"),
        (Stream("s", Row, key=("things",)), "shop.s: a jsonb such as 'things' cannot be part"),
        (Stream("s", Accounted, key=("account_id",), per_account=True), "shop.s: Accounted has a"),
        (Stream("x" * 64, Single, key=("id",)), f"shop.{'x' * 64}: '{'x' * 64}' cannot be a name"),
        (Stream("", Single, key=("id",)), "shop.: '' cannot be a name"),
        (Stream("s", Row, key=("id",), version="text"), "s: version 'text': is no int and no date"),
        (Stream("s", Row, key=("id",), version="gone"), "s: version 'gone': is no int and no date"),
        (Stream("s", Row, key=("id",), version="flag"), "s: version 'flag': is no int and no date"),
        (Stream("s", Outer, key=("inner.id",), version="inner"), "s: version 'inner': is no int"),
    ],
)  # fmt: skip
def test_what_makes_no_table_is_named(stream: Stream, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        table_of("shop", stream)

    assert str(caught.value).removeprefix("test_tables.").startswith(said)
    assert caught.value.do


@pytest.mark.parametrize("schema", ["syncd", "pg_catalog", "pg_x", "information_schema"])
def test_schemas_of_others_are_refused(schema: str) -> None:
    with pytest.raises(ConfigError, match="belongs to"):
        table_of(schema, STREAM)


@pytest.mark.parametrize(
    ("given", "canonical"),
    [
        ("int8", "bigint"),
        ("DOUBLE  precision", "double precision"),
        ("numeric( 14 , 2 )", "numeric(14,2)"),
        ("decimal", "numeric"),
        ("numeric(9)", "numeric(9,0)"),
        ("timestamptz", "timestamp with time zone"),
        ("varchar(3)", "varchar(3)"),
    ],
)
def test_types_are_spelled_as_the_catalog_does(given: str, canonical: str) -> None:
    assert spelled_out(given) == canonical
