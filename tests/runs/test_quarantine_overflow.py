"""Too much of one page in quarantine is another API: the page waits, all others are written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import attrs
import pytest
from census import STREAM, Plugin, person
from database import connect
from job_world import Answer, Asked, World, world
from test_absent_rows import census
from ticket_desk import Desk, Office

from syncd.events import BatchCommitted, CursorFailed, PartitionParked, RecordsQuarantined
from syncd.verdicts import Result, exit_code

CARS, PER_PAGE = 300, 50
BAD_PAGE = 3


async def run(there: World, **options: Any) -> Result:
    (result,) = await there.run(**({"per_page": PER_PAGE, "wait_seconds": 0.1} | options))
    return result


def altered(
    there: World, alter: Callable[[dict[str, Any], int], None], *, pages: Sequence[int]
) -> Callable[[Asked], Answer | None]:
    """Answer some pages with altered cars; a car is told with its place."""

    def script(asked: Asked) -> Answer | None:
        if asked.page not in pages:
            return None
        page = there.simulator.genuine(asked)
        for place, car in enumerate(page["data"]):
            alter(car, place)
        return Answer.json(page)

    return script


def id_as_text(car: dict[str, Any], _: int) -> None:
    car["id"] = str(car["id"])


async def test_a_page_whose_records_cannot_be_read_is_not_taken_for_walked(dsn: str) -> None:
    """The API changes the type of its ids: that is no page of bad records, but another API."""
    async with world(dsn, cars=CARS) as there:
        there.simulator.script = altered(there, id_as_text, pages=range(1, 100))

        result = await run(there)

        assert exit_code([result]) != 0
        assert "50 of 50 records of cars would be set aside" in result.message
        assert "(decode) Expected `int`, got `str` - at `$.id`" in result.message
        assert there.query("SELECT watermark, failures FROM syncd.partition") == [
            {"watermark": None, "failures": 1}
        ]
        assert there.query("SELECT 1 FROM syncd.quarantine") == []
        assert there.committed() == (set(), set())


async def test_a_rotten_page_is_not_written_and_all_others_are(dsn: str) -> None:
    async with world(dsn, cars=CARS) as there:
        there.simulator.script = altered(there, id_as_text, pages=[BAD_PAGE])

        result = await run(there)

        assert (result.verdict, exit_code([result])) == ("waiting", 3)
        assert {failed.cursor for failed in there.told(CursorFailed)} == {f"page {BAD_PAGE}"}
        rotten = page_of(there, BAD_PAGE)
        cars = there.committed()[0]
        assert len(cars) == CARS - PER_PAGE
        assert cars.isdisjoint(rotten)
        assert there.query("SELECT 1 FROM syncd.quarantine WHERE reason = 'decode'") == []
        await healed(there)


def page_of(there: World, number: int) -> set[tuple[int]]:
    asked = Asked("/cars", {"page": str(number), "per_page": str(PER_PAGE)}, 1)
    return {(car["id"],) for car in there.simulator.genuine(asked)["data"]}


async def healed(there: World) -> None:
    there.simulator.script = None
    there.let_waits_pass()

    result = await run(there)

    assert (result.verdict, result.message) == ("complete", "")
    assert there.differences() == {}


async def test_twenty_bad_records_of_a_page_cost_themselves(dsn: str) -> None:
    async with world(dsn, cars=CARS) as there:

        def some(car: dict[str, Any], place: int) -> None:
            if place < 20:
                car["lots"], car["year"] = [], 2**70

        there.simulator.script = altered(there, some, pages=[BAD_PAGE])

        result = await run(there)

        assert result.verdict == "complete"
        told = [each for each in there.told(RecordsQuarantined) if each.stream == "cars"]
        assert sum(each.count for each in told) == 20
        assert len(there.committed()[0]) == CARS - 20


async def test_a_page_that_the_table_refuses_does_not_drag_its_batch(dsn: str) -> None:
    """Fifty culprits are more than are looked for in a batch: each page is written by itself."""
    async with world(dsn, cars=CARS) as there:
        assert (await run(there)).verdict == "complete"
        there.execute("ALTER TABLE cars.cars ADD CHECK (title <> 'forbidden')")

        def retitled(asked: Asked) -> Answer:
            page = there.simulator.genuine(asked)
            for place, car in enumerate(page["data"]):
                bad = asked.page == BAD_PAGE or (asked.page == 5 and place < 2)
                car["title"] = "forbidden" if bad else f"new {car['id']}"
            return Answer.json(page)

        there.simulator.script = retitled
        result = await run(there)

        assert result.verdict == "waiting"
        assert "more than 20 of 50 records of cars" in result.message
        assert "(refused) 23514" in result.message
        assert {failed.cursor for failed in there.told(CursorFailed)} == {f"page {BAD_PAGE}"}
        assert sum(each.pages for each in there.told(BatchCommitted)) == CARS / PER_PAGE - 1
        (row,) = there.query("SELECT count(*) AS n FROM cars.cars WHERE title LIKE 'new %%'")
        assert row["n"] == CARS - PER_PAGE - 2
        aside = there.query("SELECT reason FROM syncd.quarantine WHERE stream = 'cars'")
        assert [row["reason"] for row in aside] == ["refused"] * 2


async def test_ten_rotten_runs_over_half_a_day_park_the_partition(dsn: str) -> None:
    async with world(dsn, cars=CARS) as there:
        there.simulator.script = altered(there, id_as_text, pages=range(1, 100))
        await run(there)
        there.execute(
            "UPDATE syncd.partition SET failures = 9, failing_since = now() - interval '13 h'"
        )
        there.let_waits_pass()

        await run(there)

        (parked,) = there.told(PartitionParked)
        assert "could not be understood" in parked.reason
        assert "records of cars would be set aside" in parked.reason


@pytest.mark.parametrize("bad", [21, 100])
async def test_an_item_whose_records_are_rotten_holds_up_no_other(dsn: str, bad: int) -> None:
    desk = Desk({0: ([1, 2, 3], 1), 1: ([4, 5], None)})
    desk.messages[2] = [{"id": "none"}] * bad
    async with desk.serve() as base_url:
        there = Office(dsn, desk, base_url)

        (result,) = await there.run("north", wait_seconds=0.1)

        assert result.verdict == "waiting"
        with connect(dsn) as connection:
            rows = connection.execute("SELECT id FROM desk.tickets ORDER BY id").fetchall()
            aside = connection.execute("SELECT 1 FROM syncd.quarantine").fetchall()
        assert [row["id"] for row in rows] == [1, 3, 4, 5]
        assert aside == []


async def test_pages_behind_one_that_is_refused_come_again_with_it(dsn: str) -> None:
    """In a chain the refused page names the others: they wait for it, and none is lost."""
    rotten = [{"id": n, "name": 5} for n in range(1, 31)]
    plugin = Plugin(attrs.evolve(STREAM, on_absent="keep"))
    pages = [rotten, [person(n) for n in range(31, 61)], [person(n) for n in range(61, 91)]]
    async with census(dsn, plugin, north=pages) as there:
        assert (await there.run()).verdict == "waiting"
        assert there.ids() == []
        there.bureau.towns["north"][0] = [person(n) for n in range(1, 31)]
        there.execute("UPDATE syncd.frontier SET not_before = '-infinity'")

        assert (await there.run()).verdict == "complete"

        assert there.ids() == list(range(1, 91))
