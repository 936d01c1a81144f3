"""Whole runs of the cars connector: real HTTP, real PostgreSQL, an upstream that moves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import datetime
from itertools import pairwise
from typing import Any

import attrs
import pytest
from job_world import Answer, Asked, World, differing, truth, world

from syncd.events import (
    BatchCommitted,
    DbPool,
    Event,
    PageFetched,
    PassFinished,
    PassSuperseded,
    RecordsQuarantined,
    RunFinished,
    RunProgress,
    RunStarted,
)
from syncd.frontier import Frontier, Numbered
from syncd.model import Cursor, Page, Transform
from syncd.nodes import Node, Walked
from syncd.verdicts import exit_code
from syncd_cars import plugin
from syncd_cars.simulator import Fault, FaultKind

BRANDS = ["Audi", "BMW", "Mercedes-Benz", "Volkswagen"]


def once(event: type[Event], nth: int, act: Callable[[], object]) -> Callable[[Event], None]:
    """Make a listener that acts at the n-th event of a kind, and never again."""
    seen = Counter[type[Event]]()

    def listener(heard: Event) -> None:
        seen[type(heard)] += 1
        if isinstance(heard, event) and seen[event] == nth:
            act()

    return listener


def one(found: list[Any]) -> Any:
    (only,) = found
    return only


def totals(there: World) -> RunFinished:
    """Sum what the last job's runs did."""
    runs = there.told(RunFinished)
    counted = ("inserted", "updated", "unchanged", "stale", "quarantined", "records", "pages")
    sums = {name: sum(getattr(run, name) for run in runs) for name in counted}
    return attrs.evolve(runs[0], **sums)


def row_versions(there: World) -> dict[str, str]:
    """Return where each row's version stands, and which transaction made it."""
    rows = there.query(
        "SELECT 'car ' || id AS key, ctid::text || '/' || xmin::text AS version FROM cars.cars"
        " UNION ALL"
        " SELECT 'lot ' || domain_id || ' ' || lot, ctid::text || '/' || xmin::text FROM cars.lots"
    )
    return {row["key"]: row["version"] for row in rows}


# a full pass


async def test_after_a_full_pass_the_tables_are_the_upstreams_truth(dsn: str) -> None:
    async with world(dsn, cars=600) as there:
        results = await there.run(priority_brands=BRANDS, per_page=100)

        assert [(each.partition, each.verdict) for each in results] == [
            ("cars.cars[priority]", "complete"),
            ("cars.cars", "complete"),
        ]
        assert exit_code(results) == 0
        assert there.differences() == {}
        cars, lots = truth(there.simulator.inventory.cars())
        whole = there.told(RunFinished)[1]
        sent = sum(1 + len(car["lots"]) for car in there.simulator.inventory.cars())
        assert whole.records == sent
        assert totals(there).inserted == len(cars) + len(lots)


async def test_lots_without_a_key_are_set_aside_with_their_bytes_and_reason(dsn: str) -> None:
    async with world(dsn, cars=700) as there:
        await there.run(per_page=100)

        keyless = [
            lot
            for car in there.simulator.inventory.cars()
            for lot in car["lots"]
            if not (lot["domain"] and lot["lot"])
        ]
        kept = there.query("SELECT stream, reason, convert_from(raw, 'UTF8')::jsonb AS raw, cursor"
                           " FROM syncd.quarantine")  # fmt: skip
        assert keyless
        assert sorted(row["raw"]["id"] for row in kept) == sorted(lot["id"] for lot in keyless)
        assert all(row["raw"] in keyless and row["cursor"].startswith("page ") for row in kept)
        assert {(row["stream"], row["reason"]) for row in kept} == {("lots", "key")}
        told = there.told(RecordsQuarantined)
        assert sum(each.count for each in told) == len(keyless) == totals(there).quarantined
        assert {each.message for each in told} == {"domain_id, lot: a part of the key is null"}


async def test_an_unchanged_upstream_costs_no_row_version(dsn: str) -> None:
    async with world(dsn, cars=300) as there:
        await there.run()
        before = row_versions(there)

        results = await there.run()

        assert exit_code(results) == 0
        done = totals(there)
        assert (done.inserted, done.updated, done.stale) == (0, 0, 0)
        assert done.unchanged == done.records - done.quarantined == len(before)
        assert row_versions(there) == before


async def test_exactly_the_rows_that_changed_are_written(dsn: str) -> None:
    async with world(dsn, cars=600) as there:
        await there.run(per_page=100)
        versions, tables = row_versions(there), truth(there.simulator.inventory.cars())

        there.simulator.inventory.change(0.01, seed=4)
        await there.run(per_page=100)

        now_true = truth(there.simulator.inventory.cars())
        changed = {f"car {key[0]}" for key in differing(now_true[0], tables[0])} | {
            f"lot {key[0]} {key[1]}" for key in differing(now_true[1], tables[1])
        }
        assert sum(name.startswith("lot ") for name in changed) >= 5
        assert there.differences() == {}
        assert (totals(there).updated, totals(there).inserted) == (len(changed), 0)
        after = row_versions(there)
        assert {key for key in after if after[key] != versions[key]} == changed


async def test_the_end_is_the_marker_and_what_is_above_it_is_closed(dsn: str) -> None:
    async with world(dsn, cars=300) as there:
        results = await there.run(in_flight=4)  # 300 cars are exactly 6 pages

        assert exit_code(results) == 0
        pages = [int(query["page"]) for _, query in there.log()]
        assert max(pages) <= 6 + 4
        # What was asked for ahead may be committed before the page that names no other.
        assert 6 <= one(there.told(PassFinished)).pages <= max(pages)
        assert there.differences() == {}
        left = "SELECT count(*) AS open FROM syncd.frontier WHERE state = 'open'"
        assert one(there.query(left))["open"] == 0


async def test_without_a_marker_the_end_is_an_empty_page_above_all_others(dsn: str) -> None:
    async with world(dsn, cars=230) as there:

        def always_names_a_next_page(asked: Asked) -> Answer:
            page = there.simulator.genuine(asked)
            page["links"]["next"] = f"{there.base_url}/cars?page={asked.page + 1}"
            return Answer.json(page)

        there.simulator.script = always_names_a_next_page
        results = await there.run()

        assert exit_code(results) == 0
        assert there.differences() == {}
        assert max(int(query["page"]) for _, query in there.log()) <= 5 + 4


async def test_an_upstream_without_cars_is_a_complete_pass_of_nothing(dsn: str) -> None:
    async with world(dsn, cars=0) as there:
        results = await there.run()

        assert [(each.verdict, each.message) for each in results] == [("complete", "")]
        assert (there.rows("cars", "id"), totals(there).records) == ({}, 0)


async def test_a_pass_is_begun_anew_when_its_page_numbers_mean_something_else(dsn: str) -> None:
    async with world(dsn, cars=300) as there:
        down = there.simulator.arm(Fault(kind=FaultKind.SERVER_ERROR, page=4, times=None))
        cut = await there.run(in_flight=1, per_page=50, wait_seconds=0.1)
        assert down.fired
        assert exit_code(cut) != 0
        there.simulator.faults.disarm()

        results = await there.run(per_page=30)

        assert exit_code(results) == 0
        assert "cursors mean something else" in one(there.told(PassSuperseded)).reason
        assert not one(there.told(RunStarted)).resumed
        assert there.differences() == {}


# the priority brands


async def test_priority_brands_go_first_and_the_whole_feed_walks_them_again(dsn: str) -> None:
    async with world(dsn, cars=600) as there:
        await there.run(priority_brands=BRANDS, per_page=50)

        ids = {each["name"]: each["id"] for each in there.simulator.inventory.manufacturers()}
        brands = ",".join(str(each) for each in sorted(ids[name] for name in BRANDS))
        filters = [query.get("manufacturer_id") for entry, query in there.log()]
        first = filters.index(None)
        assert first > 0
        assert set(filters[:first]) == {brands}
        assert set(filters[first:]) == {None}
        assert [run.partition for run in there.told(RunStarted)] == [
            "cars.cars[priority]",
            "cars.cars",
        ]
        priority, whole = there.told(RunFinished)
        assert priority.inserted == whole.unchanged > 0
        assert priority.records < whole.records


async def test_cars_without_a_manufacturer_come_with_the_whole_feed(dsn: str) -> None:
    async with world(dsn, cars=600) as there:
        await there.run(priority_brands=BRANDS, per_page=100)

        nameless = [c["id"] for c in there.simulator.inventory.cars() if not c.get("manufacturer")]
        assert nameless
        found = there.rows("cars", "id")
        assert all(found[(each,)]["manufacturer_id"] is None for each in nameless)


@pytest.mark.parametrize(
    ("brands", "partitions"),
    [
        (["Audi", "Example Motors"], ["cars.cars[priority]", "cars.cars"]),
        (["Example Motors"], ["cars.cars"]),
    ],
)
async def test_a_brand_that_nobody_knows_stops_nothing(
    dsn: str, brands: list[str], partitions: list[str]
) -> None:
    async with world(dsn, cars=150) as there:
        results = await there.run(priority_brands=brands)

        assert [(each.partition, each.verdict) for each in results] == [
            (name, "complete") for name in partitions
        ]
        assert there.differences() == {}


# incremental passes


def windows(there: World) -> set[str | None]:
    return {query.get("minutes") for _, query in there.log()}


async def test_an_incremental_pass_without_a_watermark_is_full(dsn: str) -> None:
    async with world(dsn, cars=150) as there:
        await there.run(mode="incremental")

        assert one(there.told(RunStarted)).mode == "full"
        assert windows(there) == {None}
        assert there.differences() == {}


async def test_an_incremental_pass_fetches_only_what_changed(dsn: str) -> None:
    async with world(dsn, cars=400) as there:
        await there.run()
        changed = there.simulator.inventory.change(0.05, seed=9)
        new = there.simulator.inventory.insert_at_head(3)
        there.simulator.counts.reset()

        results = await there.run(mode="incremental")

        assert exit_code(results) == 0
        assert one(there.told(RunStarted)).mode == "incremental"
        assert None not in windows(there)
        touched = [there.simulator.inventory.car(each) for each in {*changed, *new}]
        done = totals(there)
        assert done.records == sum(1 + len(car["lots"]) for car in touched) < 60
        assert done.inserted >= len(new)
        assert there.differences() == {}


async def test_the_window_begins_before_the_pass_that_set_the_watermark(dsn: str) -> None:
    """Cars that change while a full pass walks are in the next incremental one."""
    async with world(dsn, cars=300) as there:
        inventory = there.simulator.inventory
        there.listeners.append(once(PageFetched, 4, lambda: inventory.change(0.2, seed=3)))
        await there.run()
        assert there.differences() != {}
        there.listeners.clear()

        await there.run(mode="incremental")

        assert there.differences() == {}


async def test_a_watermark_older_than_the_upstream_reaches_makes_the_pass_full(dsn: str) -> None:
    async with world(dsn, cars=150) as there:
        await there.run()
        there.query(
            "UPDATE syncd.partition SET watermark = now() - interval '73 hours' RETURNING 1"
        )
        there.simulator.counts.reset()

        results = await there.run(mode="incremental")

        assert exit_code(results) == 0
        assert one(there.told(RunStarted)).mode == "full"
        assert windows(there) == {None}
        assert one(there.told(PassFinished)).watermark is not None


async def test_a_window_that_expires_within_its_pass_is_followed_by_a_full_pass(dsn: str) -> None:
    async with world(dsn, cars=300) as there:
        await there.run()
        there.simulator.inventory.change(1.0, seed=1)

        def nearly_too_long_ago() -> None:
            there.query(
                "UPDATE syncd.partition"
                " SET watermark = now() - interval '4305 minutes' + interval '3 s' RETURNING 1"
            )

        there.listeners.append(once(DbPool, 1, nearly_too_long_ago))
        results = await there.run(mode="incremental", per_page=20, requests_per_second=3)

        assert exit_code(results) == 0
        incremental, full = there.told(RunStarted)
        assert (incremental.mode, full.mode, full.resumed) == ("incremental", "full", False)
        ended = there.told(RunFinished)[0]
        assert ended.status == "waiting"
        assert "4321 minutes long" in ended.message
        assert there.differences() == {}


async def test_a_change_of_how_rows_are_made_makes_the_next_pass_full(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(dsn, cars=150) as there:
        await there.run()

        def newer(name: str, version: int, function: Callable[[Any], Any]) -> Transform:
            return Transform(name, version + 1, function)

        monkeypatch.setattr(plugin, "Transform", newer)
        await there.run(mode="incremental")
        assert one(there.told(RunStarted)).mode == "full"
        await there.run(mode="incremental")
        assert one(there.told(RunStarted)).mode == "incremental"


# manufacturers


async def test_manufacturers_are_a_job_of_their_own(dsn: str) -> None:
    async with world(dsn, cars=150) as there:
        results = await there.run("manufacturers", per_page=10)

        assert [(each.partition, each.verdict) for each in results] == [
            ("cars.manufacturers", "complete")
        ]
        true = {(each["id"],): each for each in there.simulator.inventory.manufacturers()}
        assert differing(there.rows("manufacturers", "id"), true) == {}
        assert there.log() == []


# an inventory that moves


def page_of(there: World, per_page: int) -> dict[int, int]:
    """Return on which page each car stands."""
    cars = there.simulator.inventory.cars()
    return {car["id"]: 1 + position // per_page for position, car in enumerate(cars)}


def stayed(before: dict[int, int], after: dict[int, int]) -> set[int]:
    return {car for car, page in before.items() if after.get(car) == page}


@pytest.mark.parametrize("in_flight", [1, 4])
async def test_what_stayed_in_place_is_there_when_cars_were_inserted_during_the_pass(
    dsn: str, in_flight: int
) -> None:
    async with world(dsn, cars=400) as there:
        inventory = there.simulator.inventory
        before = page_of(there, 50)
        there.listeners.append(once(PageFetched, 4, lambda: inventory.insert_at_head(7)))

        results = await there.run(in_flight=in_flight)

        assert exit_code(results) == 0
        in_place = stayed(before, page_of(there, 50))
        assert len(in_place) > 300
        found = {key[0] for key in there.rows("cars", "id")}
        assert in_place <= found
        there.listeners.clear()
        await there.run()
        assert there.differences() == {}


async def test_what_stayed_in_place_is_there_when_cars_were_archived_during_the_pass(
    dsn: str,
) -> None:
    async with world(dsn, cars=400) as there:
        inventory = there.simulator.inventory
        before = page_of(there, 50)
        leaving = sorted(before, reverse=True)[5:130:9]
        archived = [inventory.car(each) for each in leaving]
        there.listeners.append(once(PageFetched, 4, lambda: inventory.archive(leaving)))

        await there.run(in_flight=1)

        in_place = stayed(before, page_of(there, 50))
        found = {key[0] for key in there.rows("cars", "id")}
        assert in_place <= found
        missed = set(page_of(there, 50)) - found
        assert missed, "the pages shifted under the pass"
        there.listeners.clear()
        await there.run()
        cars, lots = truth([*inventory.cars(), *archived])
        assert differing(there.rows("cars", "id"), cars) == {}, "found, and nothing deleted"
        assert differing(there.rows("lots", "domain_id", "lot"), lots) == {}, "nothing marked"


# what is said


async def test_totals_give_progress_an_end(dsn: str) -> None:
    async with world(dsn, cars=360) as there:
        await there.run(totals=True, per_page=30, requests_per_second=4)

        told = there.told(RunProgress)
        finished = one(there.told(RunFinished))
        assert len(told) >= 2
        assert all(each.total and each.percent is not None for each in told[1:])
        for earlier, later in pairwise(told):
            assert earlier.processed <= later.processed
        last = told[-1]
        assert last.total is not None
        assert last.total == pytest.approx(finished.records, rel=0.15)
        assert last.percent == pytest.approx(100 * last.processed / last.total, abs=0.1)
        assert 0 < last.processed <= finished.records
        assert last.rate > 0
        assert last.eta_seconds is not None
        assert last.eta_seconds >= 0
        assert {query["simple_paginate"] for _, query in there.log()} == {"0"}


async def test_without_totals_progress_names_none_at_first_and_the_last_pass_after(
    dsn: str,
) -> None:
    async with world(dsn, cars=240) as there:
        await there.run(per_page=30, requests_per_second=6)
        first, records = there.told(RunProgress), one(there.told(RunFinished)).records
        await there.run(per_page=30, requests_per_second=6)
        second = there.told(RunProgress)

        assert first
        assert {(each.total, each.percent, each.eta_seconds) for each in first} == {
            (None, None, None)
        }
        assert second
        assert {each.total for each in second} == {records}


async def test_what_was_committed_is_what_was_told(dsn: str) -> None:
    async with world(dsn, cars=300) as there:
        await there.run(priority_brands=BRANDS)

        batches, runs = there.told(BatchCommitted), there.told(RunFinished)
        counted = ("pages", "records", "inserted", "updated", "unchanged", "stale", "quarantined")
        for run in runs:
            own = [each for each in batches if each.partition == run.partition]
            for name in counted:
                assert sum(getattr(each, name) for each in own) == getattr(run, name), name
        for each in batches:
            fates = (each.inserted, each.updated, each.unchanged, each.stale, each.quarantined)
            assert sum(fates) == each.records
            assert each.duration_seconds > 0
        tables = len(there.rows("cars", "id")) + len(there.rows("lots", "domain_id", "lot"))
        assert sum(run.inserted for run in runs) == tables
        assert sum(run.requests for run in runs) == len(there.log())
        assert {run.status for run in runs} == {"complete"}
        history = there.query("SELECT status, pages, records, inserted FROM syncd.run ORDER BY id")
        assert [tuple(row.values()) for row in history] == [
            (run.status, run.pages, run.records, run.inserted) for run in runs
        ]
        pool = there.told(DbPool)[0]
        assert (pool.pool_max, pool.waiting, pool.capped_from) == (4, 0, None)
        assert 1 <= pool.size <= pool.pool_max


async def test_the_watermark_is_no_later_than_the_upstreams_clock_when_the_pass_began(
    dsn: str,
) -> None:
    async with world(dsn, cars=150) as there:
        began = there.simulator.inventory.now()
        await there.run()

        watermark = datetime.fromisoformat(one(there.told(PassFinished)).watermark)
        lag = (began - watermark).total_seconds()
        assert 40 < lag <= 61  # the safety lag is 60 s, and `Date` has whole seconds


# what the frontier's memory promises of page numbers

MOMENT = datetime.fromisoformat("2026-11-22T12:00:00+00:00")


def node(number: int) -> Node:
    return Node.of(Cursor({}, number=number), depth=0, ordinal=number)


def remembering(*numbers: int, high: int, opened: int, ends_at: int | None = None) -> Frontier:
    """Return a frontier whose table holds pages 1 to `opened`, of which `numbers` are open."""
    numbered = Numbered(node(1).cursor, high=high, opened=opened, ahead=2, ends_at=ends_at)
    return Frontier([node(number) for number in numbers], more=False, numbered=numbered)


def walk_to_the_end(frontier: Frontier, last: int) -> Counter[int]:
    """Fetch and commit, as a walk does, until nothing is left; return how often each page was."""
    assert frontier.numbered is not None
    fetched, table = Counter[int](), {node(n).key for n in range(1, frontier.numbered.opened + 1)}
    for _ in range(50):
        pages = []
        while (taken := frontier.take()) is not None:
            number = taken.cursor.number or 0
            fetched[number] += 1
            records = [object()] if number <= last else []
            page = Page({"cars": records}, end=number >= last)
            frontier.fetched(taken, page, ())
            pages.append(Walked(taken, page, MOMENT, ()))
        batch, _ = frontier.admit(pages)
        openings = frontier.openings(batch)
        fresh = [each.key for each in openings if each.key not in table]
        table.update(fresh)
        frontier.committed(batch, openings, fresh)
        if frontier.exhausted:
            return fetched
    pytest.fail(f"not exhausted: {len(frontier)} cursors wait for an opener that never comes")


def test_a_page_that_its_own_batch_opened_is_not_fetched_again() -> None:
    fetched = walk_to_the_end(remembering(1, high=0, opened=1), last=6)

    assert {number: fetched[number] for number in range(1, 7)} == dict.fromkeys(range(1, 7), 1)


@pytest.mark.parametrize("left", [(4,), ()], ids=["a_page_is_left", "nothing_is_left"])
def test_a_walk_that_goes_on_behind_the_end_marker_comes_to_an_end(left: tuple[int, ...]) -> None:
    fetched = walk_to_the_end(remembering(*left, high=6, opened=6, ends_at=6), last=6)

    assert all(fetched[number] == 1 for number in left)
