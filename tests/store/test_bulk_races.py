"""Writers that meet: nobody deadlocks, nothing older wins, and every row is still accounted for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import attrs
import psycopg
import pytest
from bulk_world import (
    ARRAYS,
    COPY,
    ITEMS,
    Item,
    Task,
    made,
    put,
    values,
    wait_for,
    waits_for_a_lock,
    written,
)
from database import connect

from syncd.bulk import Result, Table
from syncd.model import Written
from syncd.store.hops import Connection

WAYS = pytest.mark.parametrize("way", [ARRAYS, COPY], ids=["arrays", "copy"])


@pytest.fixture
def another(dsn: str) -> Iterator[Callable[[], Connection]]:
    """Opens further connections to the test's database."""
    with ExitStack() as opened:
        yield lambda: opened.enter_context(connect(dsn))


def pid(connection: Connection) -> int:
    return connection.info.backend_pid


@WAYS
@pytest.mark.parametrize(
    ("theirs", "ours", "fate", "stays"),
    [
        (("theirs", 9), ("ours", 1), written(stale=1), "theirs"),
        (("equal", 9), ("equal", 1), written(unchanged=1), "equal"),
        (("equal", 1), ("equal", 9), written(unchanged=1), "equal"),
        (("theirs", 1), ("ours", 9), written(updated=1), "ours"),
    ],
)
@pytest.mark.parametrize("known", [True, False], ids=["known", "new"])
def test_a_writer_in_between_is_met_by_the_guard(
    connection: Connection,
    another: Callable[[], Connection],
    *,
    way: int,
    known: bool,
    theirs: tuple[str, int],
    ours: tuple[str, int],
    fate: Written,
    stays: str,
) -> None:
    """Ours has looked at the table before theirs is committed, and waits for its row."""
    table = made(connection, ITEMS)
    if known:
        put(connection, table, [Item(1, "before")], at=-1)
        connection.commit()
    rival, observer = another(), another()
    put(rival, table, [Item(1, theirs[0])], at=theirs[1])

    rows = [Item(0, "first"), Item(1, ours[0]), Item(2, "last")]
    task = Task(partial(put, connection, table, rows, at=ours[1], copy_from_rows=way))
    wait_for(lambda: waits_for_a_lock(observer, pid(connection)))
    rival.commit()
    result: Result = task.result()

    assert result.written == written(inserted=2) + fate
    assert values(connection) == {0: "first", 1: stays, 2: "last"}


@WAYS
def test_a_row_inserted_in_between_is_left_alone_in_insert_only_mode(
    connection: Connection, another: Callable[[], Connection], way: int
) -> None:
    table = made(connection, attrs.evolve(ITEMS, mode="insert-only"))
    rival, observer = another(), another()
    put(rival, table, [Item(1, "theirs")])

    rows = [Item(1, "ours"), Item(2, "ours")]
    task = Task(partial(put, connection, table, rows, at=9, copy_from_rows=way))
    wait_for(lambda: waits_for_a_lock(observer, pid(connection)))
    rival.commit()

    assert task.result().written == written(inserted=1, unchanged=1)
    assert values(connection) == {1: "theirs", 2: "ours"}


@WAYS
@pytest.mark.parametrize("known", [True, False], ids=["known", "new"])
def test_overlapping_keys_in_opposite_order_do_not_deadlock(
    connection: Connection, another: Callable[[], Connection], way: int, known: bool
) -> None:
    """Both writers are stopped halfway: in opposite order each would now hold what the other needs.

    In key order the second one waits for the first at the first key instead.
    """
    table = made(connection, ITEMS)
    if known:
        put(connection, table, [Item(key, "before") for key in range(9)], at=-1)
        connection.commit()
    blocker, one, two = another(), another(), another()
    put(blocker, table, [Item(4, "blocks")], at=0)

    upward = [Item(key, "one") for key in range(9)]
    first = Task(partial(committed, one, table, upward, at=1, copy_from_rows=way))
    wait_for(lambda: waits_for_a_lock(connection, pid(one)))
    downward = [Item(key, "two") for key in reversed(range(9))]
    second = Task(partial(committed, two, table, downward, at=2, copy_from_rows=way))
    wait_for(lambda: waits_for_a_lock(connection, pid(two)))
    blocker.commit()

    total = first.result().written + second.result().written
    assert total == (written(updated=18) if known else written(inserted=8, updated=10))
    assert values(connection) == dict.fromkeys(range(9), "two")
    assert deadlocks(connection) == 0


def committed(connection: Connection, table: Table, rows: list[Item], **options: Any) -> Result:
    result = put(connection, table, rows, **options)
    connection.commit()
    return result


def deadlocks(connection: Connection) -> int:
    connection.commit()
    query = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    row = connection.execute(query).fetchone()
    assert row is not None
    return int(row["deadlocks"])


@WAYS
def test_text_keys_are_written_in_one_order_whatever_the_collation(
    connection: Connection, way: int
) -> None:
    """Byte by byte, as Python compares text; most collations have a before B, and umlauts near."""
    keys = ["B", "a", "Z", "\xe4", "z", "\U0001f600", "\ue000"]
    table = made(connection, attrs.evolve(ITEMS, key=("value",)))

    put(connection, table, [Item(n, key) for n, key in enumerate(keys)], copy_from_rows=way)

    rows = connection.execute("SELECT value FROM shop.items ORDER BY ctid").fetchall()
    assert [row["value"] for row in rows] == sorted(keys, key=str.encode)


@pytest.mark.parametrize("state", ["40001", "40P01", "57014", "P0001", "42501"])
def test_errors_that_blame_no_row_are_raised_unchanged(connection: Connection, state: str) -> None:
    table = made(connection, ITEMS)
    connection.execute(
        f"CREATE FUNCTION shop.fails() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        f" RAISE EXCEPTION 'no' USING ERRCODE = '{state}'; END $$"
    )
    connection.execute(
        "CREATE TRIGGER fails BEFORE INSERT ON shop.items"
        " FOR EACH ROW EXECUTE FUNCTION shop.fails()"
    )

    with pytest.raises(psycopg.Error) as caught:
        put(connection, table, [Item(1)])

    assert caught.value.sqlstate == state


def test_a_statement_timeout_is_raised_unchanged(
    connection: Connection, another: Callable[[], Connection]
) -> None:
    table = made(connection, ITEMS)
    put(another(), table, [Item(1)])
    connection.execute("SET LOCAL lock_timeout = '20ms'")

    with pytest.raises(psycopg.errors.LockNotAvailable):
        put(connection, table, [Item(1)])


@WAYS
def test_a_connection_that_breaks_is_reported_as_such(
    connection: Connection, another: Callable[[], Connection], way: int
) -> None:
    table = made(connection, ITEMS)
    rival, victim = another(), another()
    put(rival, table, [Item(1)])

    task = Task(partial(put, victim, table, [Item(1)], copy_from_rows=way))
    wait_for(lambda: waits_for_a_lock(connection, pid(victim)))
    connection.execute("SELECT pg_terminate_backend(%s)", [pid(victim)])

    with pytest.raises(psycopg.OperationalError):
        task.result()
    assert victim.broken
