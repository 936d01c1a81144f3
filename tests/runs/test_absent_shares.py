"""Slices that cover a feed together tell together which records are gone: by two rounds."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import pytest
import trio
from census import STREAM, Bureau, Census, Plugin

from syncd import Slice
from syncd.model import Feed

DEADLINE_SECONDS = 120.0
EVERYBODY = [[1, 2, 3, 4, 5, 6], [7, 8], [9, 10, 11, 12]]
NAMES = ("elm", "oak", "ash")


def shares(*names: str) -> list[Slice]:
    return [Slice(name, {"of": name}, covers="share") for name in names]


@asynccontextmanager
async def streets(plugin: Plugin, dsn: str) -> AsyncIterator[Census]:
    bureau = Bureau(**{name: [people] for name, people in zip(NAMES, EVERYBODY, strict=True)})
    with trio.fail_after(DEADLINE_SECONDS):
        async with bureau.serve() as base_url:
            yield Census(dsn, bureau, base_url, plugin)


async def walked(there: Census, rounds: int = 1) -> None:
    """Walk all shares so many times; each by itself must have ended complete."""
    for _ in range(rounds):
        results = await there.run_towns("north")
        assert {result.verdict for result in results} == {"complete"}, results
        assert there.refused == []


async def test_who_is_gone_from_every_share_in_two_rounds_is_gone(dsn: str) -> None:
    async with streets(Plugin(slices=shares(*NAMES)), dsn) as there:
        await walked(there)
        there.bureau.towns["oak"][0].remove(8)
        await walked(there)
        assert there.ids() == list(range(1, 13)), "one round may have passed it by"

        await walked(there)

        assert there.gone == [("delete", 1, 12)]
        assert there.ids() == [n for n in range(1, 13) if n != 8]
        there.bureau.towns["elm"][0].remove(1)
        await walked(there)
        assert there.gone == []
        await walked(there)
        assert there.gone == [("delete", 1, 11)], "and so on, round by round"


@pytest.mark.parametrize("again", ["left", "entered", "elm"])
async def test_who_moves_from_share_to_share_is_never_gone(dsn: str, again: str) -> None:
    """The share it left is walked after the move, the one it came to before: neither has it."""
    left, entered = "oak", "ash"
    async with streets(Plugin(slices=shares(*NAMES)), dsn) as there:
        await walked(there, rounds=2)
        await only(there, entered)
        there.bureau.towns[left][0].remove(8)
        there.bureau.towns[entered][0].append(8)

        for _ in range(2):
            await only(there, left)
            await only(there, {"left": left, "entered": entered}.get(again, again))
            await only(there, "elm")
        await walked(there, rounds=2)

        assert there.gone == []
        assert there.ids() == list(range(1, 13))


async def only(there: Census, name: str) -> None:
    """Walk one of the shares: the others are parked meanwhile."""
    there.execute(
        f"UPDATE syncd.partition SET state = 'parked', parked_reason = 'x' WHERE slice <> '{name}'"
    )
    await there.run_towns("north")
    assert there.gone == []
    there.execute("UPDATE syncd.partition SET state = 'ready', parked_reason = NULL")


async def test_nobody_is_judged_while_a_share_has_not_been_walked(dsn: str) -> None:
    plugin = Plugin(slices=shares("elm", "oak"))
    async with streets(plugin, dsn) as there:
        await walked(there, rounds=2)
        there.bureau.towns["elm"][0].remove(1)
        plugin.slices = shares(*NAMES)
        there.bureau.answers["ash", 1] = b"{"  # it cannot be understood
        for _ in range(3):
            await there.run_towns("north")
            assert there.gone == []
        assert 1 in there.ids()
        there.bureau.answers.clear()
        there.execute("UPDATE syncd.frontier SET not_before = '-infinity'")

        await walked(there, rounds=2)

        assert there.gone == [("delete", 1, 12)]


async def test_a_share_that_is_named_no_more_is_waited_for_no_more_and_speaks_once(
    dsn: str,
) -> None:
    """A list of slices that lacks one for a round, by accident, costs nobody anything."""
    plugin = Plugin(slices=shares(*NAMES))
    async with streets(plugin, dsn) as there:
        await walked(there, rounds=2)
        plugin.slices = shares("elm", "ash")
        await walked(there)
        assert there.gone == []
        plugin.slices = shares(*NAMES)
        await walked(there, rounds=3)
        assert there.gone == []
        plugin.slices = shares("elm", "ash")
        await walked(there, rounds=2)

        assert there.gone == [("delete", 2, 12)]
        assert there.ids() == [1, 2, 3, 4, 5, 6, 9, 10, 11, 12]


async def test_a_mark_goes_when_any_share_has_the_record_again(dsn: str) -> None:
    stream = attrs.evolve(STREAM, on_absent="mark")
    async with streets(Plugin(stream, slices=shares(*NAMES)), dsn) as there:
        await walked(there)
        there.bureau.towns["oak"][0].remove(8)
        await walked(there, rounds=2)
        assert list(there.marked()) == [8]
        there.bureau.towns["elm"][0].append(8)

        await walked(there, rounds=2)

        assert there.marked() == {}


def test_a_slice_is_a_part_unless_it_says_more() -> None:
    assert Slice("elm").covers == "part"
    assert Slice().covers == "all"
    assert Feed("f", (STREAM,), "all").shifts is False
