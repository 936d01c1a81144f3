"""Whole runs over a chain with a fan-out, for several tenants of one upstream."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import trio
from database import connect
from ticket_desk import Desk, Office

from syncd.events import BatchCommitted, CursorFailed, PartitionParked
from syncd.model import Written
from syncd.store import parking

DEADLINE_SECONDS = 60.0

THREE_PAGES: dict[int, tuple[Sequence[int], int | None]] = {
    0: ([1, 2, 3], 1),
    1: ([3, 4, 5], 2),
    2: ([6], None),
}


@asynccontextmanager
async def office(
    dsn: str, searches: dict[int, tuple[Sequence[int], int | None]]
) -> AsyncIterator[Office]:
    desk = Desk(searches)
    with trio.fail_after(DEADLINE_SECONDS):
        async with desk.serve() as base_url:
            yield Office(dsn, desk, base_url)


def rows(dsn: str, table: str, columns: str = "account_id, id") -> list[tuple[Any, ...]]:
    with connect(dsn) as connection:
        found = connection.execute(f"SELECT {columns} FROM desk.{table} ORDER BY 1, 2")
        return [tuple(row.values()) for row in found]


async def test_a_chain_with_a_fan_out_is_walked_whole_and_each_page_once(dsn: str) -> None:
    async with office(dsn, THREE_PAGES) as world:
        (result,) = await world.run("north")

        assert result.verdict == "complete"
        assert rows(dsn, "tickets") == [("north", number) for number in range(1, 7)]
        assert len(rows(dsn, "messages")) == 12
        assert max(world.desk.asked.values()) == 1


async def test_a_cycle_ends_by_itself(dsn: str) -> None:
    circle: dict[int, tuple[Sequence[int], int | None]] = {0: ([1], 1), 1: ([2], 2), 2: ([3], 0)}
    async with office(dsn, circle) as world:
        (result,) = await world.run("north")

        assert result.verdict == "complete"
        assert len(rows(dsn, "tickets")) == 3
        assert max(world.desk.asked.values()) == 1


async def test_a_page_that_names_itself_ends_by_itself(dsn: str) -> None:
    async with office(dsn, {0: ([1], 0)}) as world:
        (result,) = await world.run("north")

        assert (result.verdict, rows(dsn, "tickets")) == ("complete", [("north", 1)])


async def test_tenants_rows_stand_apart_under_the_same_ids(dsn: str) -> None:
    async with office(dsn, THREE_PAGES) as world:
        results = await world.run("north", "south")

        assert [result.verdict for result in results] == ["complete", "complete"]
        subjects = rows(dsn, "tickets", "account_id, id, subject")
        assert len(subjects) == 12
        assert all(subject == f"{account}'s {id_}" for account, id_, subject in subjects)
        assert rows(dsn, "messages", "account_id, id, ticket_id")[0] == ("north", 10, 1)


async def test_a_refused_tenant_is_parked_alone_until_it_is_resumed(dsn: str) -> None:
    async with office(dsn, THREE_PAGES) as world:
        world.desk.refused = {"south"}
        first = {result.partition: result for result in await world.run("north", "south")}
        parked = [event for event in world.events if isinstance(event, PartitionParked)]
        world.desk.refused = set()
        second = {result.partition: result for result in await world.run("north", "south")}
        with connect(dsn) as connection:
            resumed = parking.resume(connection, "desk", "south")
        third = await world.run("north", "south")

        assert first["desk.tickets[north]"].verdict == "complete"
        assert first["desk.tickets[south]"].verdict == "failed"
        assert "401" in first["desk.tickets[south]"].message
        assert [event.partition for event in parked] == ["desk.tickets[south]"]
        assert "syncd resume desk" in next(r.message for p, r in second.items() if "south" in p)
        assert resumed == 1
        assert [result.verdict for result in third] == ["complete", "complete"]


async def test_a_broken_item_waits_while_all_others_are_written(dsn: str) -> None:
    async with office(dsn, THREE_PAGES) as world:
        world.desk.garbled = {4}
        (result,) = await world.run("north", wait_seconds=1.5)
        failures = [event for event in world.events if isinstance(event, CursorFailed)]
        world.desk.garbled = set()
        with connect(dsn) as connection:
            connection.execute("UPDATE syncd.frontier SET not_before = '-infinity'")
        asked_before = dict(world.desk.asked)
        (healed,) = await world.run("north")

        assert result.verdict == "waiting"
        assert "only cursors that must wait remain" in result.message
        assert failures
        assert {event.cursor for event in failures} == {'[{"ticket":4},null]'}
        assert healed.verdict == "complete"
        assert len(rows(dsn, "tickets")) == 6
        again = {key for key, n in world.desk.asked.items() if n != asked_before.get(key, 0)}
        assert again == {"north /tickets/4"}


async def test_one_item_that_answers_500_does_not_hold_the_others_up(dsn: str) -> None:
    async with office(dsn, THREE_PAGES) as world:
        world.desk.broken = {2}
        (result,) = await world.run("north", wait_seconds=0.1)

        assert result.verdict in {"waiting", "unavailable"}
        assert [row[1] for row in rows(dsn, "tickets")] == [1, 3, 4, 5, 6]


async def test_a_plugin_may_write_a_stream_itself_inside_the_transaction(dsn: str) -> None:
    written: list[tuple[bool, int]] = []

    def write(connection: Any, batch: Sequence[Any]) -> Written:
        in_transaction = connection.info.transaction_status.name == "INTRANS"
        written.append((in_transaction, len(batch)))
        return Written(inserted=len(batch))

    async with office(dsn, THREE_PAGES) as world:
        world.plugin.write_messages = write
        (result,) = await world.run("north")

        assert result.verdict == "complete"
        assert (sum(n for _, n in written), all(ok for ok, _ in written)) == (12, True)
        assert rows(dsn, "messages") == []


async def test_small_pages_are_committed_together(dsn: str) -> None:
    wide: dict[int, tuple[Sequence[int], int | None]] = {0: (range(1, 121), None)}
    async with office(dsn, wide) as world:
        (result,) = await world.run("north")
        commits = [event for event in world.events if isinstance(event, BatchCommitted)]

        assert result.verdict == "complete"
        assert sum(commit.pages for commit in commits) == 121
        assert len(commits) < 60
