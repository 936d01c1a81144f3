"""Values come back as they were given, and are compared by what they say (P27, P28)."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import attrs
import pytest
from bulk_world import (
    ARRAYS,
    COPY,
    EVERYTHING,
    ITEMS,
    MORNING,
    Everything,
    Item,
    made,
    put,
    stored,
    written,
)

from syncd.store.hops import Connection

WAYS = pytest.mark.parametrize("way", [ARRAYS, COPY], ids=["arrays", "copy"])
EAST = timezone(timedelta(hours=1))


@WAYS
def test_every_kind_of_value_comes_back(connection: Connection, way: int) -> None:
    table = made(connection, EVERYTHING)
    nothing: dict[str, Any] = {field.name: None for field in attrs.fields(Everything)}
    full, empty = Everything(1), Everything(**{**nothing, "id": 2})

    put(connection, table, [full, empty], copy_from_rows=way)
    rows = stored(connection, table)

    assert [{name: row[name] for name in nothing} for row in rows] == [
        attrs.asdict(full),
        attrs.asdict(empty),
    ]


@WAYS
@pytest.mark.parametrize(
    "value",
    [
        "", "\ufffe\uffff", "\u202eright to left", "x" * 1_000_000, "\x01\x7f\\\"'{},NULL", "NULL",
        "\U0010ffff", "\\N", "\\u0000",
    ],
)  # fmt: skip
def test_text_that_looks_hostile_is_stored_as_it_is(
    connection: Connection, way: int, value: str
) -> None:
    table = made(connection, ITEMS)

    result = put(connection, table, [Item(1, value, [value])], copy_from_rows=way)

    assert result.rejected == ()
    row = stored(connection, table, "value, tags")[0]
    assert row == {"value": value, "tags": [value]}


@WAYS
@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("count", 2**63 - 1),
        ("count", -(2**63)),
        ("ratio", math.inf),
        ("ratio", 5e-324),
        ("ratio", 2**53),
        ("amount", Decimal("Infinity")),
        ("amount", Decimal("1E+1000")),
        ("amount", Decimal("1." + "0" * 100 + "1")),
        ("amount", 10**1000),
        ("seen", datetime.max.replace(tzinfo=UTC)),
        ("seen", datetime.min.replace(tzinfo=UTC)),
        ("seen", MORNING.astimezone(EAST)),
        ("born", date.max),
        ("born", date.min),
        ("blob", b""),
        ("document", 10**400),
        ("document", {"big": 2**64, "small": 1e-300}),
        ("document", ["null", "NaN", "Infinity", "1E+5000", "\\u0000", "1" * 5000]),
        ("document", {"": None}),
        ("document", [0, None, float(Decimal("1E-200"))]),
        ("document", False),
        ("document", "text"),
    ],
)
def test_extreme_values_come_back_equal(
    connection: Connection, way: int, column: str, value: Any
) -> None:
    table = made(connection, EVERYTHING)
    connection.execute("SET LOCAL TimeZone = 'UTC'")

    result = put(connection, table, [Everything(1, **{column: value})], copy_from_rows=way)

    assert result.rejected == ()
    assert stored(connection, table, column) == [{column: value}]


@WAYS
@pytest.mark.parametrize(
    ("one", "same"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ([1, 2], (1, 2)),
        ([1], [1.0]),
        ({"a": [Decimal("1.10")]}, {"a": [Decimal("1.1")]}),
        ({"at": MORNING}, {"at": "2026-11-02T06:00:00Z"}),
        (Item(1, "x"), {"id": 1, "value": "x", "tags": None}),
    ],
)
def test_documents_are_compared_by_what_they_say(
    connection: Connection, way: int, one: Any, same: Any
) -> None:
    table = made(connection, ITEMS)
    put(connection, table, [Item(1, tags=[one])])

    equal = put(connection, table, [Item(1, tags=[same])], at=1, copy_from_rows=way)
    other = put(connection, table, [Item(1, tags=[same, 1])], at=1, copy_from_rows=way)

    assert (equal.written, other.written) == (written(unchanged=1), written(updated=1))


@WAYS
def test_null_differs_from_every_value_and_from_no_other_null(
    connection: Connection, way: int
) -> None:
    table = made(connection, ITEMS)
    put(connection, table, [Item(1, None), Item(2, "x")])

    result = put(connection, table, [Item(1, None), Item(2, None)], at=1, copy_from_rows=way)

    assert result.written == written(updated=1, unchanged=1)


@WAYS
def test_a_numeric_is_compared_as_it_is_stored(connection: Connection, way: int) -> None:
    table = made(connection, EVERYTHING)
    put(connection, table, [Everything(1, price=Decimal("9.901"))])

    again = put(connection, table, [Everything(1, price=Decimal("9.899"))], copy_from_rows=way)

    assert again.written == written(unchanged=1)
