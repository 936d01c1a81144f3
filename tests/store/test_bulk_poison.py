"""One bad record costs one record: it is named, and all others are written (P27, P28, P30)."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import attrs
import msgspec
import psycopg
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
    values,
    written,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from syncd.bulk import TooManyRefused
from syncd.errors import Rejected
from syncd.model import Stream
from syncd.store.hops import Connection

WAYS = pytest.mark.parametrize("way", [ARRAYS, COPY], ids=["arrays", "copy"])
LAW = settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
WEST, EAST = timezone(-timedelta(hours=1)), timezone(timedelta(hours=1))


def deep(levels: int) -> list[Any]:
    nested: list[Any] = []
    for _ in range(levels):
        nested = [nested]
    return nested


class Point(msgspec.Struct):
    """Documents may hold whatever msgspec can encode."""

    x: float
    y: float


UNSENDABLE: list[tuple[str, Any]] = [
    ("title", "a\0b"),
    ("title", "\ud800"),
    ("title", 5),
    ("title", b"bytes"),
    ("count", 2**63),
    ("count", -(2**63) - 1),
    ("count", 1.0),
    ("count", "7"),
    ("small", 2**70),
    ("ratio", "0.5"),
    ("single", [1]),
    ("price", 1.5),
    ("price", "1.50"),
    ("amount", True),
    ("rough", Decimal("1.25")),
    ("flag", 1),
    ("flag", "yes"),
    ("born", MORNING),
    ("born", "2026-01-01"),
    ("seen", MORNING.replace(tzinfo=None)),
    ("seen", MORNING.date()),
    ("seen", "2026-01-01T00:00:00Z"),
    ("seen", datetime.max.replace(tzinfo=WEST)),
    ("seen", datetime.min.replace(tzinfo=EAST)),
    ("token", "7"),
    ("blob", 5),
    ("blob", "text"),
    ("document", math.nan),
    ("document", {"deep": [1, {"x": -math.inf}]}),
    ("document", [Item(1, tags=[math.inf])]),
    ("document", {"struct": Point(1.0, math.nan)}),
    ("document", {"x": {Decimal("NaN")}}),
    ("document", Decimal("-Infinity")),
    ("document", ["a\0b"]),
    ("document", {"a\0b": 1}),
    ("document", ["\udfff"]),
    ("document", {1: object()}),
    ("document", {(1, 2): 3}),
    ("document", deep(2000)),
    ("document", 10**5000),
    ("document", Decimal("1E+5000")),
    ("document", Decimal("1" * 4301)),
]
REFUSED: list[tuple[str, Any, str]] = [
    ("small", 2**15, "22003: smallint out of range"),
    ("single", 1e300, "22003: "),
    ("price", Decimal("1E+12"), "22003: numeric field overflow"),
    ("price", Decimal("Infinity"), "22003: numeric field overflow"),
    ("amount", Decimal("1E+200000"), "22003: value overflows numeric format"),
    ("amount", Decimal("sNaN"), "22P02: "),
    ("title", "forbidden", "23514: "),
    ("born", None, "23502: "),
    ("rough", 1e6, "22003: numeric field overflow"),
    ("token", "that of row 0", "23505: "),
]


@WAYS
def test_every_kind_of_poison_among_a_thousand_costs_one_record(
    connection: Connection, way: int
) -> None:
    table = made(connection, EVERYTHING)
    connection.execute(
        "ALTER TABLE shop.everything ADD CONSTRAINT polite CHECK (title <> 'forbidden'),"
        " ALTER born SET NOT NULL, ADD UNIQUE (token)"
    )
    rows = [Everything(n, token=None) for n in range(1000)]
    rows[0] = attrs.evolve(rows[0], token=Everything(0).token)
    expected: dict[int, tuple[str, str]] = {}
    for n, (column, value) in enumerate(UNSENDABLE):
        place = 1 + 19 * n
        changed: dict[str, Any] = {column: value}
        rows[place] = attrs.evolve(rows[place], **changed)
        expected[place] = ("dump", f"{column}: ")
    for n, (column, value, message) in enumerate(REFUSED):
        place = 999 - 90 * n
        changed = {column: rows[0].token if column == "token" else value}
        rows[place] = attrs.evolve(rows[place], **changed)
        expected[place] = ("refused", message)

    result = put(connection, table, rows, copy_from_rows=way)

    found = {int((one.key or "").split()[1][:-1]): one for one in result.rejected}
    assert found.keys() == expected.keys()
    for place, (reason, message) in expected.items():
        assert found[place].reason == reason
        assert found[place].message.startswith(message), (place, found[place].message)
    ids = [row["id"] for row in stored(connection, table, "id")]
    assert ids == [n for n in range(1000) if n not in expected]
    assert result.written == written(inserted=1000 - len(expected))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters()), inner),
    max_leaves=8,
)
ROWS = st.lists(
    st.builds(
        Everything,
        id=st.none() | st.integers(0, 8) | st.integers(),
        title=st.text(st.characters()),
        count=st.integers() | st.floats(),
        ratio=st.floats(),
        price=st.none() | st.decimals() | st.floats(),
        amount=st.decimals(),
        seen=st.datetimes(timezones=st.sampled_from([UTC, WEST, EAST]) | st.none()),
        document=JSON,
    ),
    max_size=12,
)


@LAW
@given(rows=ROWS, way=st.sampled_from([ARRAYS, COPY]))
def test_every_record_is_stored_as_it_is_or_set_aside(
    connection: Connection, rows: list[Everything], way: int
) -> None:
    """What a batch leaves in the table is what its rows leave one by one."""
    connection.rollback()  # of an example that failed
    table = made(connection, EVERYTHING)
    raws = [str(n).encode() for n in range(len(rows))]

    together = put(connection, table, rows, raws=raws, copy_from_rows=way)
    after = stored(connection, table)
    connection.rollback()
    apart = [
        put(connection, table, [row], raws=[raw], copy_from_rows=way)
        for row, raw in zip(rows, raws, strict=True)
    ]

    refused = {int(one.raw or b"") for one in together.rejected}
    refused_apart = {int(one.raw or b"") for each in apart for one in each.rejected}
    assert refused <= refused_apart
    for place in refused_apart - refused:  # whoever is superseded in its own batch is not looked at
        assert rows[place].id in {later.id for later in rows[place + 1 :]}
    stays = stored(connection, table)
    times = {"_syncd_written_at": None}
    assert repr([row | times for row in after]) == repr([row | times for row in stays])
    for row in after:
        assert row["title"] in {other.title for other in rows if other.id == row["id"]}
    connection.rollback()


@WAYS
@pytest.mark.parametrize("key", [("id",), ("id", "value")])
def test_a_row_without_its_key_is_rejected(
    connection: Connection, way: int, key: tuple[str, ...]
) -> None:
    table = made(connection, attrs.evolve(ITEMS, key=key))
    nameless: Any = None
    rows = [Item(1, "a"), Item(nameless, "b"), Item(2, "c")]

    result = put(
        connection, table, rows, at=3, raws=[b"1", b"2", b"3"], cursors=["p1", "p2", "p3"],
        copy_from_rows=way,
    )  # fmt: skip

    version = int((MORNING + timedelta(seconds=3)).timestamp()) * 1_000_000
    said = f"{', '.join(key)}: a part of the key is null"
    sent_at = MORNING + timedelta(seconds=3)
    expected = Rejected("items", "key", said, b"2", None, version, "p2", sent_at=sent_at, place=1)
    assert result.rejected == (expected,)
    assert values(connection) == {1: "a", 2: "c"}


def test_a_rejected_row_says_what_it_is(connection: Connection) -> None:
    table = made(connection, attrs.evolve(ITEMS, key=("id", "value")))

    result = put(connection, table, [Item(1, "\u00e4\0")], raws=[b'{"id": 1}'], cursors=["page 7"])

    (one,) = result.rejected
    assert (one.key, one.raw, one.cursor) == (
        '{"id": 1, "value": "\u00e4\\u0000"}',
        b'{"id": 1}',
        "page 7",
    )
    assert one.message == "value: cannot send this str: text cannot hold the character NUL"


@WAYS
def test_an_object_of_another_class_is_rejected(connection: Connection, way: int) -> None:
    table = made(connection, ITEMS)

    result = put(connection, table, [Item(1), {"id": 2}, Item(3)], copy_from_rows=way)

    assert [one.reason for one in result.rejected] == ["dump"]
    assert values(connection) == {1: None, 3: None}


@WAYS
def test_a_key_too_long_for_its_index_costs_one_record(connection: Connection, way: int) -> None:
    """54000 is neither of class 22 nor 23, and would stop the batch for ever."""
    table = made(connection, attrs.evolve(ITEMS, key=("value",)))
    long = "".join(chr(0x4E00 + n * 7919 % 20000) for n in range(5000))

    result = put(connection, table, [Item(1, "a"), Item(2, long), Item(3, "b")], copy_from_rows=way)

    assert [one.message[:16] for one in result.rejected] == ["54000: index row"]
    assert values(connection) == {1: "a", 3: "b"}


@WAYS
def test_a_document_that_is_only_deep_is_not_the_fault_of_its_neighbour(
    connection: Connection, way: int
) -> None:
    table = made(connection, ITEMS)

    rows = [Item(1, tags=deep(500)), Item(2, tags=["\0"]), Item(3, tags=[None, "NaN"])]
    result = put(connection, table, rows, copy_from_rows=way)

    assert [one.key for one in result.rejected] == ['{"id": 2}']
    assert stored(connection, table, "tags") == [{"tags": deep(500)}, {"tags": [None, "NaN"]}]


@WAYS
@pytest.mark.parametrize("poison", ["a\0b", "forbidden"], ids=["unsendable", "refused"])
def test_an_older_state_is_written_where_the_newer_one_is_poison(
    connection: Connection, way: int, poison: str
) -> None:
    table = made(connection, ITEMS)
    connection.execute("ALTER TABLE shop.items ADD CHECK (value <> 'forbidden')")

    rows = [Item(1, "oldest"), Item(1, "older"), Item(1, poison), Item(2, "x")]
    result = put(connection, table, rows, at=[1, 2, 3, 1], copy_from_rows=way)

    assert result.written == written(inserted=2, stale=1)
    assert values(connection) == {1: "older", 2: "x"}


@WAYS
def test_rows_that_only_conflict_with_each_other_lose_one_of_them(
    connection: Connection, way: int
) -> None:
    table = made(connection, ITEMS)
    connection.execute("ALTER TABLE shop.items ADD UNIQUE (value)")

    rows = [Item(key, "same" if key in {3, 6} else str(key)) for key in range(8)]
    result = put(connection, table, rows, copy_from_rows=way)

    assert result.written == written(inserted=7)
    assert [(one.key, one.message[:5]) for one in result.rejected] == [('{"id": 6}', "23505")]


@WAYS
def test_appended_rows_are_bisected_too(connection: Connection, way: int) -> None:
    table = made(connection, Stream("items", Item, mode="append"))
    connection.execute("ALTER TABLE shop.items ADD CHECK (value <> 'forbidden')")

    rows = [Item(1, "x"), Item(1, "forbidden"), Item(1, "a\0b"), Item(2, "y")]
    result = put(connection, table, rows, copy_from_rows=way)

    assert result.written == written(inserted=2)
    assert sorted(one.reason for one in result.rejected) == ["dump", "refused"]
    assert [one.key for one in result.rejected] == [None, None]


@attrs.frozen
class Revised:
    id: int
    revision: int
    value: str = "x"


@WAYS
def test_an_impossible_version_is_rejected(connection: Connection, way: int) -> None:
    table = made(connection, Stream("revised", Revised, key=("id",), version="revision"))
    text: Any = "5"

    rows = [Revised(1, 2**63 - 1), Revised(2, 2**63), Revised(3, text), Revised(4, -(2**63))]
    result = put(connection, table, rows, copy_from_rows=way)

    assert [one.reason for one in result.rejected] == ["dump", "dump"]
    assert [row["id"] for row in stored(connection, table)] == [1, 4]


def test_a_fault_of_ours_is_not_blamed_on_the_rows(connection: Connection) -> None:
    table = made(connection, ITEMS)
    connection.execute("DROP TABLE shop.items")

    with pytest.raises(psycopg.errors.UndefinedTable):
        put(connection, table, [Item(1)])
    with pytest.raises(TypeError):
        put(connection, attrs.evolve(table, key_of=lambda _: object()), [Item(1), Item(2)])


@pytest.mark.parametrize("culprits", [1, 5, 20])
def test_the_search_for_culprits_takes_few_statements(
    connection: Connection, culprits: int
) -> None:
    """Counted by what a trigger sees: `2 k log2 n`, and the one that is refused as a whole."""
    table = made(connection, ITEMS)
    connection.execute("ALTER TABLE shop.items ADD CHECK (value <> 'forbidden')")
    bad = {700 * (n + 1) % 1024 for n in range(culprits)}
    rows = [Item(n, "forbidden" if n in bad else "x") for n in range(1024)]
    seen: list[str] = []
    connection.add_notice_handler(lambda note: seen.append(str(note.message_primary)))
    connection.execute(
        "CREATE FUNCTION shop.tells() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE NOTICE 'statement'; RETURN NULL; END $$;"
        "CREATE TRIGGER tells BEFORE INSERT ON shop.items EXECUTE FUNCTION shop.tells()"
    )

    result = put(connection, table, rows, refused_max=20)

    assert result.written == written(inserted=1024 - culprits)
    assert len(result.rejected) == len(bad) == culprits
    assert seen.count("statement") <= 1 + 2 * culprits * 10  # log2(1024)


@WAYS
def test_beyond_what_is_looked_for_the_first_culprit_is_named_and_nothing_counts(
    connection: Connection, way: int
) -> None:
    table = made(connection, ITEMS)
    connection.execute("ALTER TABLE shop.items ADD CHECK (value <> 'forbidden')")
    connection.commit()
    rows = [Item(n, "forbidden" if n % 2 else "x") for n in range(100)]

    with pytest.raises(TooManyRefused) as caught:
        put(connection, table, rows, refused_max=20, copy_from_rows=way, raws=[b"{}"] * 100)
    connection.rollback()

    first = caught.value.first
    assert (first.reason, first.key, first.raw) == ("refused", '{"id": 1}', b"{}")
    assert first.message.startswith("23514: ")
    assert values(connection) == {}
