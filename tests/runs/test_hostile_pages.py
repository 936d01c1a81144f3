"""Pages that repeat, come out of order, shift, vanish, loop, or name a next one for ever."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import attrs
import pytest
from census import STREAM, Census, Plugin, person
from test_absent_rows import census

from syncd import nodes
from syncd.events import PassFinished
from syncd.repeats import REPEATS_MAX

KEPT = attrs.evolve(STREAM, on_absent="keep")
NUMBERED = Plugin(KEPT, {"paging": "numbered"})
CHAIN = Plugin(KEPT)
EVERYBODY = range(1, 61)


def pages_of(people: list[Any], size: int = 10) -> list[list[Any]]:
    return [people[at : at + size] for at in range(0, len(people), size)]


def revisions(there: Census) -> dict[int, int]:
    return {row["id"]: row["revision"] for row in there.rows("SELECT * FROM census.people")}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("plugin", [NUMBERED, CHAIN], ids=["numbered", "chain"])
async def test_whatever_order_states_come_in_the_newest_stays(
    dsn: str, plugin: Plugin, seed: int
) -> None:
    """Every record three times, in three states, on any pages, whole pages twice."""
    chance = Random(seed)
    states = [person(n, revision=r, name=f"{n}.{r}") for n in EVERYBODY for r in (1, 2, 3)]
    chance.shuffle(states)
    pages = pages_of(states)
    pages += chance.sample(pages, 5)
    async with census(dsn, plugin, north=pages) as there:
        for _ in range(2):
            assert (await there.run()).verdict == "complete"

            assert revisions(there) == dict.fromkeys(EVERYBODY, 3)
            names = {row["name"] for row in there.rows("SELECT name FROM census.people")}
            assert names == {f"{n}.3" for n in EVERYBODY}
        chance.shuffle(pages)


@pytest.mark.parametrize("gone_from", [2, 4, 6])
async def test_pages_that_vanish_while_they_are_walked_end_the_pass_and_cost_no_row(
    dsn: str, gone_from: int
) -> None:
    """What is past the new end is empty; rows of an earlier pass stay."""
    async with census(dsn, NUMBERED, north=pages_of(list(EVERYBODY))) as there:
        assert (await there.run()).verdict == "complete"
        del there.bureau.towns["north"][gone_from - 1 :]

        result = await there.run()

        assert result.verdict == "complete"
        assert set(there.ids()) == set(EVERYBODY)


async def test_a_page_that_is_gone_in_the_middle_keeps_its_cursor(dsn: str) -> None:
    async with census(dsn, NUMBERED, north=pages_of(list(EVERYBODY))) as there:
        there.bureau.answers["north", 3] = b'{"people": [], "next": 4}'

        result = await there.run()

        assert result.verdict == "waiting"
        assert "no records, though page" in result.message
        assert set(there.ids()) == set(EVERYBODY) - set(range(21, 31))


def looping(bureau_page: int, leads_to: int) -> bytes:
    people = [person(bureau_page * 10 + n) for n in range(3)]
    return json.dumps({"people": people, "next": leads_to}).encode()


@pytest.mark.parametrize(
    "leads", [{1: 1}, {1: 2, 2: 1}, {1: 2, 2: 3, 3: 2}], ids=["itself", "a pair", "a lasso"]
)
async def test_pages_that_lead_in_a_circle_are_asked_for_once_each(
    dsn: str, leads: dict[int, int]
) -> None:
    async with census(dsn, CHAIN) as there:
        for page, following in leads.items():
            there.bureau.answers["north", page] = looping(page, following)

        result = await there.run()

        assert result.verdict == "complete"
        assert sorted(page for _, page, _ in there.bureau.asked) == sorted(leads)
        assert len(there.ids()) == 3 * len(leads)


async def test_a_next_page_that_is_always_new_ends_as_a_failed_pass(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nodes, "DEPTH_MAX", 25)
    async with census(dsn, CHAIN) as there:
        for page in range(1, 100):
            there.bureau.answers["north", page] = looping(page, page + 1)

        result = await there.run()

        assert result.verdict == "failed"
        assert "25 pages follow one another and each names a next one" in result.message
        assert len(there.bureau.asked) == 26
        (ended,) = [each for each in there.events if isinstance(each, PassFinished)]
        assert (ended.status, ended.watermark) == ("failed", None)


@pytest.mark.parametrize("circle", [1, 3])
async def test_new_cursors_that_bring_nothing_new_end_as_a_failed_pass(
    dsn: str, circle: int
) -> None:
    async with census(dsn, CHAIN) as there:
        for page in range(1, 200):
            there.bureau.answers["north", page] = looping(page % circle, page + 1)

        result = await there.run()

        assert result.verdict == "failed"
        assert f"{REPEATS_MAX} pages in a row hold nothing but what" in result.message
        assert len(there.bureau.asked) == circle + REPEATS_MAX
        (ended,) = [each for each in there.events if isinstance(each, PassFinished)]
        assert (ended.status, ended.watermark) == ("failed", None)


async def test_an_upstream_that_answers_every_number_with_its_last_page_ends_as_a_failed_pass(
    dsn: str,
) -> None:
    async with census(dsn, NUMBERED) as there:
        for page in range(1, 5_000):
            there.bureau.answers["north", page] = looping(min(page, 4), page + 1)

        result = await there.run()

        assert result.verdict == "failed"
        assert "pages in a row hold nothing but what other pages held" in result.message
        # 4 + REPEATS_MAX, and those in flight, of a quota of 8. While one answer is late the others
        # go on, and a page tells nothing of those before it: how many that are is the machine's.
        assert 4 + REPEATS_MAX <= len(there.bureau.asked) < 2_500


@pytest.mark.parametrize("size", [1, 2])
async def test_records_that_move_back_over_a_page_are_there_after_the_next_pass(
    dsn: str, size: int
) -> None:
    """An insertion at the head between two pages: one comes twice, none is lost."""
    async with census(dsn, NUMBERED, north=pages_of(list(EVERYBODY))) as there:
        assert (await there.run()).verdict == "complete"
        new = [-n for n in range(1, size + 1)]
        moved = pages_of([*new, *EVERYBODY])
        for page, people in enumerate(moved, 1):
            if page >= 3:
                told = {"people": list(map(person, people)), "next": page + 1}
                told["next"] = None if page == len(moved) else page + 1
                there.bureau.answers["north", page] = json.dumps(told).encode()

        assert (await there.run()).verdict == "complete"

        assert set(there.ids()) == set(EVERYBODY), "those at the head were not there yet"
        there.bureau.answers.clear()
        there.bureau.towns["north"] = moved
        assert (await there.run()).verdict == "complete"
        assert set(there.ids()) == {*EVERYBODY, *new}
