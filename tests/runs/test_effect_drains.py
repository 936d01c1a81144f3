"""When effects are delivered: at once after their commit, and what of them a drain leaves (P46)."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import database_facts as facts
import post_office
import pytest
from effect_world import World, living, rows, thing
from held_answers import HeldAnswers
from post_office import PARCEL, Office, configuration, open_office
from processes import Programs, seen

from syncd import lanes
from syncd.store import effects as store
from syncd.testing import serve

AT_ONCE = PARCEL.bulk_max * PARCEL.concurrency
THINGS = AT_ONCE + 5


@asynccontextmanager
async def holding(*things: Any) -> AsyncIterator[tuple[Office, HeldAnswers]]:
    """Open an office that takes parcels, and may keep silent about it."""
    async with open_office(*things) as office:
        held = HeldAnswers(office, path="/parcels")
        async with serve(held) as office.public_url:
            yield office, held
            held.release()


async def test_a_drain_gives_deliveries_under_way_their_share_and_leaves_the_rest_to_the_next(
    dsn: str, programs: Programs, tmp_path: Path
) -> None:
    def states() -> list[tuple[str, int]]:
        return sorted((row["state"], row["attempts"]) for row in rows(dsn))

    def file(drain: str) -> Path:
        return configuration(tmp_path, dsn, office, daemon=f'drain_timeout = "{drain}"')

    async with holding(*(thing(n) for n in range(THINGS))) as (office, answers):
        answers.hold()
        patient = programs.start(file("60s"), serves=True)
        await seen("calls under way", lambda: answers.held == 2, told=patient.said)
        patient.send(signal.SIGTERM)
        await patient.event("drain.started")
        answers.release()
        assert await patient.ended() == 0, patient.said()
        # What was under way has come to its end, and nothing else was begun.
        assert states() == [("delivered", 1)] * AT_ONCE + [("pending", 0)] * 5
        assert len(office.bulks) == 2

        answers.hold()
        cut = programs.start(file("6s"), serves=True)
        await seen("a call under way", lambda: answers.held == 3, told=cut.said)
        cut.send(signal.SIGTERM)
        assert await cut.ended() == 0, cut.said()
        # The provider is silent past its share: whoever comes next may try at once.
        assert states() == [("delivered", 1)] * AT_ONCE + [("pending", 0)] * 5
        left = "SELECT last_error FROM syncd.effect WHERE due_at <= syncd.clock()"
        reasons = [row["last_error"] for row in facts.rows(dsn, left)]
        assert reasons == ["its process stopped while it was being delivered"] * 5

        answers.release()
        following = programs.start(file("60s"), serves=True)
        delivered = [("delivered", 1)] * THINGS
        await seen("the rest", lambda: states() == delivered, told=following.said)
        following.send(signal.SIGTERM)
        assert await following.ended() == 0, following.said()

    assert sorted(office.order) == sorted(f"parcel-{n}" for n in range(THINGS))
    assert sorted(office.sent.values()) == [1] * AT_ONCE + [2] * 5


async def test_what_is_committed_here_is_delivered_without_waiting_for_a_look(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "LOOK_SECONDS", 3600.0)
    found: list[int] = []
    claim = store.claim

    def noted(*args: Any, **asked: Any) -> Any:
        claimed = claim(*args, **asked)
        if args[1].name == PARCEL.name:
            found.append(len(claimed))
        return claimed

    monkeypatch.setattr(store, "claim", noted)
    async with open_office() as office:

        async def main(world: World) -> None:
            for number in range(3):
                # The lane has looked in vain, and looks no more by itself.
                await seen("a look in vain", lambda: found[-1:] == [0])
                office.things.append(thing(number))
                await world.sync()
                await world.all_are("delivered", number + 1)
                assert sum(found) == number + 1

        await living(configuration(tmp_path, dsn, office), dsn, main)


async def test_what_a_cut_leaves_of_a_bulk_that_was_halved_is_given_back_whole(
    dsn: str, tmp_path: Path
) -> None:
    async with holding(*(thing(n) for n in range(8))) as (office, answers):

        def status(size: int) -> int:
            if size > 4:
                return 422
            answers.hold()  # of the first half nothing is heard
            return 200

        office.status = status

        async def main(world: World) -> None:
            await world.sync()
            await seen("a call under way", lambda: answers.held == 1)
            for lane in world.lanes:
                lane.cut()
            await seen("all given back", lambda: {r["state"] for r in rows(dsn)} == {"pending"})
            assert {row["attempts"] for row in rows(dsn)} == {0}
            due = "SELECT count(*) AS n FROM syncd.effect WHERE due_at <= syncd.clock()"
            assert facts.rows(dsn, due) == [{"n": 8}], "at once, for whoever comes next"

        await living(configuration(tmp_path, dsn, office), dsn, main)


async def test_an_answer_that_comes_in_the_moment_of_a_cut_is_recorded(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_office(thing(1, kinds=["spoilt"])) as office:
        file = configuration(tmp_path, dsn, office, office_table='spoils = "is cut"')

        async def main(world: World) -> None:
            monkeypatch.setattr(post_office, "CUTS", [lane.cut for lane in world.lanes])
            await world.sync()
            await world.all_are("delivered", 1)

        await living(file, dsn, main)
