"""Rejected records wait in one row each, with the reason, and count how often they came."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from hashlib import blake2b
from typing import Any

import attrs
import pytest
from bulk_world import ITEMS, MORNING, Item, Task, made, put, wait_for, waits_for_a_lock
from database import connect
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from syncd import bulk
from syncd.errors import Rejected
from syncd.store.hops import Connection

ONE = Rejected(
    "items",
    "dump",
    "value: no",
    b'{"id": 1}',
    '{"id": 1}',
    version=5,
    cursor="page 1",
    parent={"shelf": 3},
    sent_at=MORNING,
)


def aside(connection: Connection, *rejected: Rejected, seconds: int = 0, **where: Any) -> int:
    given = {"instance": "shop", "account": "default", "pass_id": 7, **where}
    now = MORNING + timedelta(seconds=seconds)
    return bulk.quarantine(connection, rejected, now=now, **given)


def rows(connection: Connection, columns: str = "*") -> list[dict[str, Any]]:
    return connection.execute(f"SELECT {columns} FROM syncd.quarantine ORDER BY id").fetchall()


def test_a_record_is_set_aside_with_all_that_is_known(connection: Connection) -> None:
    assert aside(connection, ONE) == 1

    (row,) = rows(connection)
    row.pop("id")
    assert row == {
        "instance": "shop",
        "account": "default",
        "stream": "items",
        "record_key": blake2b(b'{"id": 1}', digest_size=16).digest(),
        "key": '{"id": 1}',
        "reason": "dump",
        "message": "value: no",
        "raw": b'{"id": 1}',
        "raw_bytes": 9,
        "raw_hash": blake2b(b'{"id": 1}', digest_size=16).digest(),
        "version": 5,
        "pass_id": 7,
        "cursor": "page 1",
        "parent": {"shelf": 3},
        "sent_at": MORNING,
        "first_seen_at": MORNING,
        "last_seen_at": MORNING,
        "repeats": 0,
    }


def test_repeats_count_up_and_show_the_newest_state(connection: Connection) -> None:
    newer = attrs.evolve(ONE, version=6, message="value: still no", raw=b"{}", cursor="page 9")

    aside(connection, ONE)
    aside(connection, newer, newer, seconds=10, pass_id=8)
    aside(connection, attrs.evolve(ONE, version=4), seconds=20, pass_id=9)

    columns = "message, raw, version, pass_id, cursor, first_seen_at, last_seen_at, repeats"
    assert [tuple(row.values()) for row in rows(connection, columns)] == [
        (
            "value: still no",
            b"{}",
            6,
            8,
            "page 9",
            MORNING,
            MORNING + timedelta(seconds=20),
            3,
        )
    ]


def test_one_call_may_hold_a_record_several_times(connection: Connection) -> None:
    older = attrs.evolve(ONE, version=4, message="older")

    assert aside(connection, older, ONE, older) == 1

    assert rows(connection, "message, version, repeats") == [
        {"message": "value: no", "version": 5, "repeats": 2}
    ]


def test_records_are_told_apart_by_key_else_by_bytes_else_by_message(
    connection: Connection,
) -> None:
    keyless = attrs.evolve(ONE, key=None)
    bare = attrs.evolve(keyless, raw=None)
    several = [
        ONE,
        attrs.evolve(ONE, key='{"id": 2}'),
        attrs.evolve(ONE, stream="others"),
        attrs.evolve(keyless, raw=b"x"),
        attrs.evolve(keyless, raw=b"y"),
        attrs.evolve(bare, message="v"),
        attrs.evolve(bare, message="w"),
    ]

    assert aside(connection, *several, *several) == 7
    assert aside(connection, *several, account="other") == 7
    assert len(rows(connection)) == 14


def test_records_whose_bytes_are_not_kept_are_told_apart_by_the_hash_of_these(
    connection: Connection,
) -> None:
    bare = attrs.evolve(ONE, key=None, raw=None, raw_bytes=70, message="withheld")
    several = [attrs.evolve(bare, raw_hash=bytes([n]) * 16) for n in range(2)]

    assert aside(connection, *several, *several) == 2

    assert rows(connection, "raw, raw_bytes, raw_hash, repeats") == [
        {"raw": None, "raw_bytes": 70, "raw_hash": bytes([n]) * 16, "repeats": 1} for n in range(2)
    ]


def test_only_the_first_64_kib_are_kept(connection: Connection) -> None:
    aside(connection, attrs.evolve(ONE, raw=b"x" * 100_000, message="m" * 10_000))

    columns = "length(raw) AS kept, raw_bytes, length(message) AS said"
    assert rows(connection, columns) == [{"kept": 65536, "raw_bytes": 100_000, "said": 8195}]


@pytest.mark.parametrize(
    "parent",
    [None, {"a": "\0"}, {"a": "\ud800"}, {"a": float("nan")}, {"a": object()}, {"a": "x" * 9000}],
)
def test_parents_values_that_cannot_be_stored_are_left_out_and_the_record_is_not(
    connection: Connection, parent: Any
) -> None:
    aside(connection, attrs.evolve(ONE, parent=parent))

    assert rows(connection, "parent, key") == [{"parent": None, "key": '{"id": 1}'}]


def test_without_a_clock_the_servers_counts(connection: Connection) -> None:
    bulk.quarantine(connection, [ONE], instance="shop", account="default", pass_id=None)

    query = "SELECT now() - first_seen_at < interval '1 min' AS now, pass_id FROM syncd.quarantine"
    assert connection.execute(query).fetchone() == {"now": True, "pass_id": None}


def test_the_moment_of_the_record_comes_first(connection: Connection) -> None:
    seen_at = MORNING - timedelta(hours=1)

    aside(connection, attrs.evolve(ONE, seen_at=seen_at))

    assert rows(connection, "first_seen_at") == [{"first_seen_at": seen_at}]


def test_nothing_to_set_aside_costs_nothing(connection: Connection) -> None:
    assert aside(connection) == 0
    assigned = connection.execute("SELECT pg_current_xact_id_if_assigned() AS id").fetchone()
    assert assigned == {"id": None}


ANYTHING = st.text(st.characters())


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.builds(
            Rejected,
            stream=st.just("items"),
            reason=st.sampled_from(["decode", "transform", "key", "dump", "refused"]),
            message=ANYTHING,
            raw=st.none() | st.binary(),
            key=st.none() | ANYTHING,
            version=st.none() | st.integers(),
            cursor=st.none() | ANYTHING,
        ),
        max_size=6,
    )
)
def test_anything_can_be_set_aside(connection: Connection, rejected: list[Rejected]) -> None:
    count = aside(connection, *rejected)

    found = rows(connection)
    connection.rollback()
    assert len(found) == count
    assert sum(row["repeats"] + 1 for row in found) == len(rejected)


def test_what_cannot_be_text_is_shown(connection: Connection) -> None:
    aside(connection, attrs.evolve(ONE, message="a\0b\ud800c\u00e4"))

    assert rows(connection, "message") == [{"message": "a\\x00b\\ud800c\u00e4"}]


def test_rejected_rows_of_a_batch_go_straight_into_quarantine(connection: Connection) -> None:
    table = made(connection, ITEMS)
    result = put(connection, table, [Item(1, "\0"), Item(2), Item(1, "\ud800")], raws=[b"1"] * 3)

    aside(connection, *result.rejected)

    found = rows(connection, "key, reason, raw, repeats")
    assert found == [{"key": '{"id": 1}', "reason": "dump", "raw": b"1", "repeats": 1}]


def test_two_writers_with_the_same_records_do_not_deadlock(
    connection: Connection, dsn: str
) -> None:
    several = [attrs.evolve(ONE, key=str(n)) for n in range(9)]
    with connect(dsn) as one, connect(dsn) as two, connect(dsn) as blocker:
        aside(blocker, several[4])

        def committed(own: Connection, order: list[Rejected]) -> None:
            aside(own, *order)
            own.commit()

        first = Task(partial(committed, one, several))
        wait_for(lambda: waits_for_a_lock(connection, one.info.backend_pid))
        second = Task(partial(committed, two, several[::-1]))
        wait_for(lambda: waits_for_a_lock(connection, two.info.backend_pid))
        blocker.commit()
        first.result()
        second.result()

    assert [row["repeats"] for row in rows(connection)].count(1) == 8


@pytest.mark.parametrize("version", [2**63, -(2**63) - 1])
def test_an_impossible_version_is_left_out(connection: Connection, version: int) -> None:
    aside(connection, attrs.evolve(ONE, version=version))

    assert rows(connection, "version") == [{"version": None}]
