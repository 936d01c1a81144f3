"""Full passes that ask only for what has changed: nothing is lost, and nothing is taken for old."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import database_facts as facts
import pytest
import trio
from library import Library, Plugin, Reading, configuration, connector
from processes import Programs
from traps import Step

from syncd import faults
from syncd.events import PageFetched, RunFinished

DEADLINE_SECONDS = 60.0

TEN = [[f"{page}{letter}" for letter in "abc"] for page in range(1, 11)]


@asynccontextmanager
async def library(
    dsn: str, shelves: Sequence[Sequence[str]] = TEN, **options: bool
) -> AsyncIterator[Reading]:
    upstream = Library(shelves)
    upstream.readers = [[1, 2, 3], [4, 5]]
    upstream.names = {number: f"reader {number}" for number in range(1, 6)}
    upstream.reviews = [["good", "bad"], ["long"], ["short"]]
    with trio.fail_after(DEADLINE_SECONDS):
        async with upstream.serve() as base_url:
            yield Reading(dsn, upstream, base_url, Plugin(connector(**options)))


def finished(world: Reading) -> RunFinished:
    (event,) = [event for event in world.events if isinstance(event, RunFinished)]
    return event


def shouted(shelves: Sequence[Sequence[str]], edition: int = 1) -> list[str]:
    return [book + "!" * edition for shelf in shelves for book in shelf]


@pytest.mark.parametrize("by_date", [False, True], ids=["etag", "last-modified"])
async def test_an_unchanged_upstream_is_neither_sent_nor_decoded_nor_written(
    dsn: str, by_date: bool
) -> None:
    async with library(dsn) as world:
        world.library.by_date = by_date
        first = await world.run()
        before = world.versions()
        world.library.now += timedelta(hours=1)

        second = await world.run()

        pages = [event for event in world.events if isinstance(event, PageFetched)]
        # What was asked for ahead, beyond the end, is discarded: at most four pages are in flight.
        within = [each for each in world.library.asked if each.target in _targets(10)]
        (partition,) = world.rows("SELECT watermark FROM syncd.partition")
        assert (first.verdict, second.verdict) == ("complete", "complete")
        assert [each.status for each in within] == [304] * 10
        assert {each.target for each in world.library.asked} <= _targets(14)
        assert set(world.plugin.read) <= {11, 12, 13, 14}
        assert sum(event.not_modified for event in pages) == 10
        assert world.versions() == before
        assert world.titles() == shouted(TEN)
        assert partition["watermark"] == world.library.now - timedelta(minutes=1)  # a lag
        assert (finished(world).records, finished(world).unchanged) == (30, 30)
        assert 10 <= finished(world).pages <= 14, "those beyond count that came before the end"
        assert finished(world).not_modified == 10


def _targets(pages: int) -> set[str]:
    return {f"/books?page={page}" for page in range(1, pages + 1)}


async def test_of_ten_pages_the_one_that_changed_brings_its_rows(dsn: str) -> None:
    async with library(dsn) as world:
        await world.run()
        world.library.change(4, "4a", "4b is another", "4c", "4d is new")

        result = await world.run()

        changed = [*TEN[:3], ["4a", "4b is another", "4c", "4d is new"], *TEN[4:]]
        done = finished(world)
        assert result.verdict == "complete"
        assert world.titles() == shouted(changed)
        assert [page for page in world.plugin.read if page <= 10] == [4]
        assert (done.inserted, done.updated, done.unchanged) == (1, 1, 29)
        assert done.records == 31


async def test_what_changed_is_taken_for_old_only_from_the_next_pass_on(dsn: str) -> None:
    async with library(dsn) as world:
        await world.run()
        world.library.change(4, "four")
        await world.run()

        await world.run()

        assert [page for page in world.plugin.read if page <= 10] == []
        assert world.titles()[9:12] == ["four!", "4b!", "4c!"]


async def test_pages_that_were_added_and_taken_away_move_the_end(dsn: str) -> None:
    async with library(dsn) as world:
        await world.run()
        world.library.shelves += [["11a"], ["12a"]]
        longer = await world.run()
        titles = world.titles()
        world.library.shelves = world.library.shelves[:5]
        shorter = await world.run()

        assert (longer.verdict, shorter.verdict) == ("complete", "complete")
        assert titles[-2:] == ["11a!", "12a!"]
        assert 5 <= finished(world).pages <= 9
        assert world.validators() == 5  # those that the pass did not meet are forgotten


async def test_a_304_of_a_page_opens_the_cursors_that_it_named(dsn: str) -> None:
    async with library(dsn, lasting_cursors=True) as world:
        await world.run("readers")
        world.library.names[5] = "somebody else"

        result = await world.run("readers")

        assert result.verdict == "complete"
        assert world.plugin.read == [5]
        assert world.library.answered() == {"304": 6, "200": 1}
        assert finished(world).pages == 7
        (row,) = world.rows("SELECT name FROM library.readers WHERE id = 5")
        assert row["name"] == "somebody else"


async def test_items_last_by_nature_where_cursors_of_a_chain_do_not(dsn: str) -> None:
    async with library(dsn) as world:
        world.library.readers = [[1, 2, 3], [4, 5]]
        await world.run("readers")

        await world.run("readers")

        asked = {each.target: each.conditional for each in world.library.asked}
        assert asked == {
            "/readers?page=1": False,  # it names a cursor of a chain
            "/readers?page=2": False,  # it is one
            **{f"/readers/{number}": True for number in range(1, 6)},
        }


async def test_a_chain_whose_cursors_do_not_last_is_asked_for_whole(dsn: str) -> None:
    async with library(dsn) as world:
        await world.run("reviews")
        again = await world.run("reviews")

        assert (again.verdict, world.validators()) == ("complete", 0)
        assert world.library.answered() == {"200": 3}


async def test_a_chain_whose_cursors_last_is_walked_by_its_304s(dsn: str) -> None:
    async with library(dsn, lasting_cursors=True) as world:
        await world.run("reviews")
        again = await world.run("reviews")

        assert (again.verdict, world.library.answered()) == ("complete", {"304": 3})


async def test_a_connector_that_does_not_say_so_is_asked_for_everything(dsn: str) -> None:
    async with library(dsn, conditional=False) as world:
        await world.run()
        await world.run()

        assert not any(each.conditional for each in world.library.asked)
        assert world.validators() == 0


async def test_verifying_takes_nothing_for_granted(dsn: str) -> None:
    async with library(dsn) as world:
        await world.run()
        world.execute("UPDATE library.books SET title = 'edited by hand' WHERE id = 100")
        await world.run(verify=True)
        asked = list(world.library.asked)
        await world.run()

        assert not any(each.conditional for each in asked)
        assert world.titles() == shouted(TEN)
        assert {each.status for each in world.library.asked if each.target in _targets(10)} == {304}


async def test_an_incremental_pass_sends_no_condition_and_keeps_what_is_known(dsn: str) -> None:
    async with library(dsn) as world:
        await world.run()
        known = world.rows("SELECT * FROM syncd.validator ORDER BY cursor_key")
        await world.run(mode="incremental")

        assert not any(each.conditional for each in world.library.asked)
        assert world.rows("SELECT * FROM syncd.validator ORDER BY cursor_key") == known


async def test_rows_that_are_made_in_another_way_are_made_anew(dsn: str) -> None:
    async with library(dsn) as world:
        await world.run()
        world.plugin.edition = 2
        await world.run()
        asked = list(world.library.asked)
        titles = world.titles()
        await world.run()

        assert not any(each.conditional for each in asked)
        assert titles == shouted(TEN, edition=2)
        assert {each.status for each in world.library.asked if each.target in _targets(10)} == {304}


@pytest.mark.parametrize("how", ["TRUNCATE library.books", "DROP TABLE library.books"])
async def test_a_table_that_was_emptied_is_filled_again(dsn: str, how: str) -> None:
    async with library(dsn) as world:
        await world.run()
        world.execute(how)

        await world.run()

        assert world.titles() == shouted(TEN)


async def test_a_page_with_a_record_set_aside_is_fetched_whole_again(dsn: str) -> None:
    async with library(dsn) as world:
        world.library.garbled = {"/books?page=7"}
        await world.run()
        await world.run()
        twice = list(world.library.asked)
        world.library.garbled = set()
        await world.run()
        mended = list(world.library.asked)
        await world.run()

        assert {each.target for each in twice if each.status == 200} & _targets(10) == {
            "/books?page=7"
        }
        assert [each.conditional for each in mended if each.target == "/books?page=7"] == [False]
        assert world.titles() == shouted(TEN)
        assert {each.status for each in world.library.asked if each.target in _targets(10)} == {304}


async def test_a_page_behind_a_redirect_is_fetched_whole_again(dsn: str) -> None:
    async with library(dsn) as world:
        world.library.redirected = {"/books?page=3"}
        await world.run()
        await world.run()

        whole = {each.target for each in world.library.asked if each.status == 200}
        assert whole & _targets(10) == set()
        assert "/books?page=3&again=1" in whole
        assert world.titles() == shouted(TEN)


async def test_a_304_that_nobody_asked_for_is_not_understood(dsn: str) -> None:
    async with library(dsn) as world:
        world.library.claims_everything_is_old = True
        result = await world.run()

        assert result.verdict != "complete"
        assert "304" in result.message
        assert world.validators() == 0


async def test_what_a_plugin_makes_of_a_304_does_not_matter(dsn: str) -> None:
    async with library(dsn) as world:
        await world.run()
        world.plugin.swallow = True

        result = await world.run()

        assert (result.verdict, finished(world).records) == ("complete", 30)
        assert world.titles() == shouted(TEN)


async def test_a_commit_that_was_rolled_back_leaves_no_validator(dsn: str) -> None:
    class Broken(Exception):
        pass

    def broken(point: str) -> None:
        if point == "frontier_written":  # rows, cursors and validators are written
            raise Broken

    async with library(dsn) as world:
        faults.arm(broken)
        try:
            with pytest.RaisesGroup(Broken, flatten_subgroups=True):
                await world.run()
        finally:
            faults.arm(None)
        left = world.validators()
        result = await world.run()

        assert left == 0
        assert not any(each.conditional for each in world.library.asked)
        assert (result.verdict, world.titles()) == ("complete", shouted(TEN))


async def test_a_date_of_the_same_second_validates_nothing(dsn: str) -> None:
    async with library(dsn) as world:
        world.library.by_date = True
        world.library.modified = dict.fromkeys(_targets(10), world.library.now)

        await world.run()
        await world.run()

        assert not any(each.conditional for each in world.library.asked)


TWENTY = [[f"{page}{letter}" for letter in "ab"] for page in range(1, 21)]


@pytest.mark.parametrize("point", ["before_commit", "after_commit"])
async def test_a_pass_killed_among_its_304s_goes_on_where_it_stood(
    point: str, dsn: str, programs: Programs, tmp_path: Path
) -> None:
    upstream = Library(TWENTY)
    file = tmp_path / "library.toml"
    with trio.fail_after(2 * DEADLINE_SECONDS):
        async with upstream.serve() as base_url:
            file.write_text(configuration(dsn, base_url, job="books", rate=30.0))
            whole = programs.start(file)
            assert await whole.ended() == 0, whole.said()
            upstream.change(2, "2 is another", "2b")
            upstream.change(19, "19 is another", "19b")
            step = Step(point, of="frontier_written", nth=4)
            killed = programs.start(file, at=step, sends=signal.SIGKILL)
            assert await killed.ended() == -signal.SIGKILL, killed.said()
            await facts.left_alone(dsn)
            committed = facts.closed_pages(dsn)
            restarted = programs.start(file)
            assert await restarted.ended() == 0, restarted.said()

    (begun,) = restarted.events("run.started")
    fetched = {each["cursor"]: each["not_modified"] for each in restarted.events("page.fetched")}
    assert (begun["resumed"], begun["pass_number"]) == (True, 2)
    assert 2 in committed
    assert 19 not in committed
    left = {page for page in range(1, 21) if page not in committed}
    within = {f"page {page}": page != 19 for page in left}
    assert {cursor: same for cursor, same in fetched.items() if cursor in _first(20)} == within
    changed = {2: ["2 is another", "2b"], 19: ["19 is another", "19b"]}
    titles = [
        row["title"] for row in facts.rows(dsn, "SELECT title FROM library.books ORDER BY id")
    ]
    assert titles == shouted([changed.get(n, shelf) for n, shelf in enumerate(TWENTY, 1)])
    assert facts.passes(dsn) == ["complete", "complete"]


def _first(pages: int) -> set[str]:
    return {f"page {page}" for page in range(1, pages + 1)}
