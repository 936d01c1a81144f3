"""One item that fails for ever is debt; the others stay current, pass after pass."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from database import connect
from ticket_desk import Desk, Office

POISON = 35
DEADLINE_SECONDS = 240.0


@pytest.mark.parametrize(
    ("fault", "items"), [("broken", 700), ("garbled", 70), ("rotten", 70)], ids=str
)
async def test_all_but_the_one_that_fails_stay_current(dsn: str, fault: str, items: int) -> None:
    half = items // 2
    desk = Desk({0: (range(1, half + 1), 1), 1: (range(half + 1, items + 1), None)})
    with trio.fail_after(DEADLINE_SECONDS):
        async with desk.serve() as base_url:
            there = Office(dsn, desk, base_url)
            await every_pass_brings_the_others(there, fault, items)
            desk.edition += 1
            heal(desk)

            (result,) = await there.run("north")

    assert result.verdict == "complete"
    assert len(current(dsn, desk.edition)) == items
    assert frontier(dsn, "failed") == 0


@pytest.mark.parametrize(
    ("fault", "most", "parks"), [("garbled", 0, True), ("garbled", 1, False), ("broken", 0, False)]
)
async def test_a_job_says_how_many_items_may_fail_before_its_partition_is_parked(
    dsn: str, fault: str, most: int, parks: bool
) -> None:
    """An outage (an answer of 500) is held against nobody, however many items it concerns."""
    desk = Desk({0: (range(30, 40), None)})
    spoil(desk, fault)
    with trio.fail_after(DEADLINE_SECONDS):
        async with desk.serve() as base_url:
            there = Office(dsn, desk, base_url, job=f"failed_items_max = {most}")
            await there.run("north", wait_seconds=0.1)
            grow_old(dsn)
            (result,) = await there.run("north", wait_seconds=0.1)

    assert result.verdict == "partial"
    assert frontier(dsn, "failed") == 1
    why = select(dsn, "SELECT parked_reason FROM syncd.partition")
    assert (why is not None) == parks
    assert not parks or "more than 0" in why


async def every_pass_brings_the_others(there: Office, fault: str, items: int) -> None:
    desk, watermarks = there.desk, []
    spoil(desk, fault)
    for edition in (1, 2):
        desk.edition = edition
        before = desk.asked.copy()
        (waiting,) = await there.run("north", wait_seconds=0.1)
        assert waiting.verdict in {"waiting", "unavailable"}, waiting
        assert ids_but(there.dsn, edition, items) == set()
        grow_old(there.dsn)

        (partial,) = await there.run("north", wait_seconds=0.1)

        assert partial.verdict == "partial", partial
        assert f"1 of {items} items failed" in partial.message
        assert ids_but(there.dsn, edition, items) == set()
        others = [n for key, n in (desk.asked - before).items() if str(POISON) not in key]
        assert max(others) == 1, "nobody else is asked again"
        watermarks.append(select(there.dsn, "SELECT watermark FROM syncd.partition"))
    assert watermarks[0] < watermarks[1]
    assert frontier(there.dsn, "failed") == 1
    let_debt_be_due(there.dsn)


def spoil(desk: Desk, fault: str) -> None:
    match fault:
        case "garbled":
            desk.garbled = {POISON}
        case "broken":
            desk.broken = {POISON}
        case _:
            desk.messages[POISON] = [{"id": "none"}] * 30


def heal(desk: Desk) -> None:
    desk.garbled, desk.broken = set(), set()
    desk.messages.clear()


def current(dsn: str, edition: int) -> set[int]:
    """Return the tickets whose rows are of this edition."""
    with connect(dsn) as connection:
        rows = connection.execute("SELECT id, subject FROM desk.tickets").fetchall()
    new = " new" * (edition - 1)
    return {row["id"] for row in rows if row["subject"] == f"north's {row['id']}{new}"}


def ids_but(dsn: str, edition: int, items: int) -> set[int]:
    """Return which tickets are not current, but for the one that fails."""
    return set(range(1, items + 1)) - {POISON} - current(dsn, edition)


def select(dsn: str, query: str) -> Any:
    with connect(dsn) as connection:
        row = connection.execute(query.encode()).fetchone()
    assert row is not None
    (value,) = row.values()
    return value


def frontier(dsn: str, state: str) -> int:
    query = f"SELECT count(DISTINCT cursor_key) FROM syncd.frontier WHERE state = '{state}'"
    return int(select(dsn, query))


def grow_old(dsn: str) -> None:
    """Let two hours pass for the item that fails: it was tried all the while."""
    _do(
        dsn,
        "UPDATE syncd.frontier SET attempts = 5, failing_since = failing_since - interval '2 h',"
        " not_before = '-infinity' WHERE state = 'open' AND attempts > 0",
    )


def let_debt_be_due(dsn: str) -> None:
    _do(dsn, "UPDATE syncd.frontier SET not_before = '-infinity' WHERE state = 'failed'")


def _do(dsn: str, statement: str) -> None:
    with connect(dsn) as connection:
        connection.execute(statement.encode())
        connection.commit()
