"""What a batch did is counted exactly, and the newest state wins whatever the order."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import attrs
import pytest
from bulk_world import (
    ARRAYS,
    COPY,
    ITEMS,
    MORNING,
    Item,
    made,
    put,
    stored,
    values,
    written,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from syncd.bulk import Batch
from syncd.model import Stream, Written
from syncd.store.hops import Connection

WAYS = pytest.mark.parametrize("way", [ARRAYS, COPY], ids=["arrays", "copy"])
LAW = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


@attrs.define
class Model:
    """What the table must hold: key -> (version, value), decided one batch at a time."""

    mode: str
    guarded: bool
    rows: dict[int, tuple[int, str]] = attrs.field(factory=dict)

    def write(self, batch: Sequence[tuple[int, int, str]]) -> Written:
        winners: dict[int, tuple[int, str]] = {}
        for key, version, value in batch:
            best = winners.get(key)
            if best is None or (self.mode == "upsert" and version >= best[0]):
                winners[key] = (version, value)
        fates = [self._one(key, *winner) for key, winner in winners.items()]
        for key, _, value in batch:
            same = value == winners[key][1] or self.mode == "insert-only"
            fates.append("unchanged" if same else "stale")
        for _ in winners:  # each winner was counted as its own rival, too
            fates.remove("unchanged")
        counts: Any = {fate: fates.count(fate) for fate in Written().counts}
        return Written(**counts)

    def _one(self, key: int, version: int, value: str) -> str:
        there = self.rows.get(key)
        if there is None:
            self.rows[key] = (version, value)
            return "inserted"
        same = there[1] == value and (self.guarded or there[0] == version)
        if same or self.mode == "insert-only":
            return "unchanged"
        if self.guarded and version < there[0]:
            return "stale"
        self.rows[key] = (version, value)
        return "updated"


TRIPLES = st.tuples(st.integers(0, 4), st.integers(0, 5), st.sampled_from("abc"))
BATCHES = st.lists(st.lists(TRIPLES, max_size=8), max_size=5)  # of (key, version, value)


@LAW
@given(
    batches=BATCHES,
    way=st.sampled_from([ARRAYS, COPY]),
    guarded=st.booleans(),
    mode=st.sampled_from(["upsert", "insert-only"]),
)
def test_counts_and_rows_are_those_of_the_model(
    connection: Connection, batches: list[Any], way: int, guarded: bool, mode: Any
) -> None:
    table = made(connection, attrs.evolve(ITEMS, mode=mode))
    model = Model(mode, guarded)

    for batch in batches:
        rows = [Item(key, value) for key, _, value in batch]
        at = [version for _, version, _ in batch]
        result = put(connection, table, rows, at=at, copy_from_rows=way, guarded=guarded)
        assert result.written == model.write(batch)

    assert values(connection) == {key: value for key, (_, value) in model.rows.items()}
    connection.rollback()


@LAW
@given(
    states=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 50)), unique=True, max_size=30),
    cuts=st.lists(st.integers(0, 30), max_size=4),
    way=st.sampled_from([ARRAYS, COPY]),
)
def test_the_newest_wins_over_any_order_and_any_batches(
    connection: Connection, states: list[tuple[int, int]], cuts: list[int], way: int
) -> None:
    table = made(connection, ITEMS)
    edges = [0, *sorted(cuts), len(states)]

    for start, end in pairwise(edges):
        part = states[start:end]
        rows = [Item(key, f"state {version}") for key, version in part]
        put(connection, table, rows, at=[version for _, version in part], copy_from_rows=way)

    newest = dict(sorted(states))
    assert values(connection) == {key: f"state {version}" for key, version in newest.items()}
    connection.rollback()


@WAYS
def test_a_stale_row_never_overwrites(connection: Connection, way: int) -> None:
    table = made(connection, ITEMS)
    put(connection, table, [Item(1, "new")], at=10)

    late = put(connection, table, [Item(1, "old")], at=9, copy_from_rows=way)
    again = put(connection, table, [Item(1, "new")], at=9, copy_from_rows=way)

    assert (late.written, again.written) == (written(stale=1), written(unchanged=1))
    assert values(connection) == {1: "new"}


@WAYS
def test_of_equal_versions_the_later_wins(connection: Connection, way: int) -> None:
    table = made(connection, ITEMS)

    rows = [Item(1, "first"), Item(1, "second"), Item(1, "second")]
    result = put(connection, table, rows, copy_from_rows=way)
    then = put(connection, table, [Item(1, "third")], copy_from_rows=way)

    assert result.written == written(inserted=1, unchanged=1, stale=1)
    assert then.written == written(updated=1)
    assert values(connection) == {1: "third"}


@WAYS
def test_an_unchanged_row_is_neither_locked_nor_written(connection: Connection, way: int) -> None:
    table = made(connection, ITEMS)
    rows = [Item(key, f"value {key}", [key, {"b": 1, "a": [None]}]) for key in range(50)]
    put(connection, table, rows)
    connection.commit()
    before = stored(connection, table, "ctid, xmin, xmax, *")

    result = put(connection, table, rows, at=5, copy_from_rows=way)
    assigned = connection.execute("SELECT pg_current_xact_id_if_assigned() AS id").fetchone()
    connection.commit()

    assert result.written == written(unchanged=50)
    assert stored(connection, table, "ctid, xmin, xmax, *") == before
    # Without an id a transaction writes no WAL; a temporary table needs one of its own.
    assert way == COPY or assigned == {"id": None}


@WAYS
def test_a_stale_row_is_neither_locked_nor_written(connection: Connection, way: int) -> None:
    table = made(connection, ITEMS)
    put(connection, table, [Item(1, "new")], at=5)
    connection.commit()
    before = stored(connection, table, "ctid, xmin, xmax, *")

    put(connection, table, [Item(1, "old")], at=4, copy_from_rows=way)
    connection.commit()

    assert stored(connection, table, "ctid, xmin, xmax, *") == before


@WAYS
def test_appended_rows_are_all_kept(connection: Connection, way: int) -> None:
    table = made(connection, Stream("items", Item, mode="append"))

    for _ in range(2):
        result = put(connection, table, [Item(1, "x"), Item(1, "x")], copy_from_rows=way)
        assert result.written == written(inserted=2)

    assert len(stored(connection, table)) == 4


@WAYS
def test_an_existing_row_is_not_touched_in_insert_only_mode(
    connection: Connection, way: int
) -> None:
    table = made(connection, attrs.evolve(ITEMS, mode="insert-only"))
    put(connection, table, [Item(1, "first")])

    rows = [Item(1, "newer"), Item(2, "a"), Item(2, "b")]
    result = put(connection, table, rows, at=[9, 0, 1], copy_from_rows=way)

    assert result.written == written(inserted=1, unchanged=2)
    assert values(connection) == {1: "first", 2: "a"}


@WAYS
def test_without_the_guard_versions_of_the_old_rule_do_not_remain(
    connection: Connection, way: int
) -> None:
    table = made(connection, ITEMS)
    put(connection, table, [Item(1, "same"), Item(2, "old")], at=1000)

    rows = [Item(1, "same"), Item(2, "new")]
    result = put(connection, table, rows, at=5, guarded=False, copy_from_rows=way)
    after = put(connection, table, [Item(1, "later"), Item(2, "later")], at=6, copy_from_rows=way)

    assert (result.written, after.written) == (written(updated=2), written(updated=2))


@WAYS
def test_accounts_have_rows_of_their_own(connection: Connection, way: int) -> None:
    table = made(connection, attrs.evolve(ITEMS, per_account=True))

    for account in ("north", "south", "north"):
        put(connection, table, [Item(1, account)], account=account, copy_from_rows=way)

    rows = stored(connection, table, "account_id, id, value")
    assert [tuple(row.values()) for row in rows] == [("north", 1, "north"), ("south", 1, "south")]


@attrs.frozen
class Lot:
    domain: Domain
    lot: str
    seller: Seller | None = None


@attrs.frozen
class Domain:
    id: int
    name: str | None = None


@attrs.frozen
class Seller:
    name: str
    rating: Rating | None = None


@attrs.frozen
class Rating:
    stars: float


@WAYS
def test_keys_of_several_columns_and_nested_objects(connection: Connection, way: int) -> None:
    table = made(connection, Stream("lots", Lot, key=("domain.id", "lot"), per_account=True))
    one = Lot(Domain(3, "copart"), "a", Seller("x", Rating(4.5)))
    two = Lot(Domain(3), "b", Seller("y"))

    first = put(connection, table, [two, one, Lot(Domain(1), "b")], copy_from_rows=way)
    rows = [attrs.evolve(one, seller=None), two]
    second = put(connection, table, rows, copy_from_rows=way)

    assert (first.written, second.written) == (
        written(inserted=3),
        written(updated=1, unchanged=1),
    )
    columns = "domain_id, lot, domain_name, seller_name, seller_rating_stars"
    assert [tuple(row.values()) for row in stored(connection, table, columns)] == [
        (1, "b", None, None, None),
        (3, "a", "copart", None, None),
        (3, "b", None, "y", None),
    ]


@WAYS
def test_rows_of_keys_alone_are_unchanged_when_they_come_again(
    connection: Connection, way: int
) -> None:
    table = made(connection, Stream("marks", Mark, key=("id",)))
    put(connection, table, [Mark(1)])

    result = put(connection, table, [Mark(1), Mark(2)], at=1, copy_from_rows=way)

    assert result.written == written(inserted=1, unchanged=1)


@attrs.frozen
class Mark:
    id: int


def test_the_moment_of_writing_is_the_clock_of_record(connection: Connection) -> None:
    table = made(connection, ITEMS)

    put(connection, table, [Item(1)], now=MORNING)
    put(connection, table, [Item(2)])

    one, two = [row["_syncd_written_at"] for row in stored(connection, table)]
    assert one == MORNING
    assert abs(two - datetime.now(UTC)) < timedelta(minutes=5)


@WAYS
def test_what_was_written_is_undone_with_the_callers_transaction(
    connection: Connection, way: int
) -> None:
    table = made(connection, ITEMS)

    put(connection, table, [Item(1, "x")], copy_from_rows=way)
    connection.rollback()

    assert values(connection) == {}


@pytest.mark.parametrize("short", ["rows", "sent_at", "raws", "cursors"])
def test_a_batch_whose_sequences_differ_in_length_is_refused(short: str) -> None:
    whole: dict[str, Any] = {
        "rows": [Item(1), Item(2)],
        "sent_at": [MORNING, MORNING],
        "raws": [b"1", b"2"],
        "cursors": ["page 1", "page 1"],
    }

    with pytest.raises(ValueError, match="differ in length"):
        Batch(**{**whole, short: whole[short][:1]})


def test_an_empty_batch_does_nothing(connection: Connection) -> None:
    table = made(connection, ITEMS)

    assert put(connection, table, []).written == Written()


def test_names_may_hold_anything(connection: Connection) -> None:
    stream = attrs.evolve(ITEMS, name='a "b" %s %% ; --', per_account=True)
    table = made(connection, stream, instance="x'y %(z)s")

    for way in (ARRAYS, COPY):
        put(connection, table, [Item(1, "x")], copy_from_rows=way)

    rows = connection.execute('SELECT id FROM "x\'y %(z)s"."a ""b"" %s %% ; --"').fetchall()
    assert rows == [{"id": 1}]


def test_rows_taken_for_new_are_counted_exactly_when_they_are_not(connection: Connection) -> None:
    table = made(connection, ITEMS)
    put(connection, table, [Item(1, "a"), Item(2, "b"), Item(3, "c")], at=10)

    again = [Item(1, "a"), Item(2, "changed"), Item(3, "older"), Item(4, "new")]
    result = put(connection, table, again, at=[20, 20, 0, 20], fresh=True, copy_from_rows=COPY)

    assert result.written == Written(inserted=1, updated=1, unchanged=1, stale=1)
    found = connection.execute("SELECT value FROM shop.items ORDER BY id").fetchall()
    assert [row["value"] for row in found] == ["a", "changed", "c", "new"]
