"""Effects follow from rows: once for each key, in order, and whatever fails (P46 to P50)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import database_facts as facts
import post_office
import pytest
import trio
from effect_world import World, in_a_process, living, rows, thing
from post_office import LETTER, PARCEL, SPOILT, configuration, open_office
from processes import seen

from syncd import background, delivering, flooding, lanes, serving
from syncd.cli import status
from syncd.daemon import Process
from syncd.errors import ConfigError
from syncd.events import (
    DrainStarted,
    EffectBacklog,
    EffectConflict,
    EffectDead,
    EffectDelivered,
    EffectEnqueued,
    EffectLaneDamped,
    EffectRetried,
    EffectsAbated,
    EffectsFlooded,
    Event,
    RoundStarted,
    RunFinished,
    TaskFailed,
    TaskRestarted,
)
from syncd.jobs import run_job
from syncd.model import EffectKind
from syncd.store import effects as store
from syncd.store import overview
from syncd.store.hops import Connection

# --- The way of an effect -------------------------------------------------------------------------


async def test_an_effect_is_delivered_after_its_commit_and_only_once(
    dsn: str, tmp_path: Path
) -> None:
    async with open_office(*(thing(n) for n in range(25))) as office:

        async def main(world: World) -> None:
            await world.sync()
            await world.all_are("delivered", 25)
            office.things.append(thing(99))
            await world.sync(verify=True)  # each row is found equal
            await world.all_are("delivered", 26)

        events = await living(configuration(tmp_path, dsn, office), dsn, main)

    assert set(office.sent.values()) == {1}
    assert max(office.bulks) <= PARCEL.bulk_max
    enqueued = [each.effects for each in events if isinstance(each, EffectEnqueued)]
    assert enqueued == [25, 1]
    assert sum(e.effects for e in events if isinstance(e, EffectDelivered)) == 26
    assert rows(dsn)[0]["response"] == {"said": "taken"}


async def test_only_rows_that_stand_have_effects(dsn: str, tmp_path: Path) -> None:
    old, new = thing(1, revision=1, text="old"), thing(1, revision=5, text="new")
    async with open_office(new) as office:
        file = configuration(tmp_path, dsn, office)

        async def main(world: World) -> None:
            await world.sync()
            office.things = [old, thing(2, text="bad"), thing(3), thing(3, revision=0, text="x")]
            await world.sync()

        await living(file, dsn, main, delivers=False)

    assert {row["key"]: row["payload"]["text"] for row in rows(dsn)} == {
        "parcel-1": "new",
        "parcel-3": "",
    }
    assert facts.rows(dsn, "SELECT count(*) AS n FROM syncd.quarantine")[0]["n"] == 1


async def test_a_payload_that_changed_after_the_delivery_is_told(dsn: str, tmp_path: Path) -> None:
    async with open_office(thing(1)) as office:

        async def main(world: World) -> None:
            await world.sync()
            await world.all_are("delivered", 1)
            office.things = [thing(1, revision=2, text="other")]
            await world.sync()

        events = await living(configuration(tmp_path, dsn, office), dsn, main)

    assert [e.key for e in events if isinstance(e, EffectConflict)] == ["parcel-1"]
    assert office.taken == {"parcel-1": {"text": ""}}


async def test_letters_of_one_order_are_delivered_one_after_the_other(
    dsn: str, tmp_path: Path
) -> None:
    things = [thing(n, kinds=["letter"], order="k") for n in range(6)]
    tries: dict[str, int] = {}

    def answer(key: str) -> str:
        tries[key] = tries.get(key, 0) + 1
        return "later" if key == "letter-2" and tries[key] < 3 else "taken"

    async with open_office(*things) as office:
        office.answers = answer

        async def main(world: World) -> None:
            await world.sync()
            await world.all_are("delivered", 6)

        await living(configuration(tmp_path, dsn, office), dsn, main)

    assert office.order == [f"letter-{n}" for n in range(6)]


async def test_a_commit_has_one_statement_more_for_effects_and_two_for_ordered_ones(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from syncd.store import effects as store

    counted: list[int] = []
    enqueue = store.enqueue

    def counting(connection: Any, *args: Any, **kwargs: Any) -> Any:
        executed: list[Any] = []

        class Counted:
            def execute(self, *given: Any) -> Any:
                executed.append(given)
                return connection.execute(*given)

        done = enqueue(Counted(), *args, **kwargs)  # type: ignore[arg-type]
        counted.append(len(executed))
        return done

    monkeypatch.setattr(store, "enqueue", counting)
    async with open_office(*(thing(n) for n in range(30))) as office:

        async def main(world: World) -> None:
            await world.sync()
            assert counted == [1]
            await world.sync()  # nothing changed: nothing is enqueued
            assert counted == [1]
            office.things = [thing(n + 50, kinds=["letter"], order=str(n)) for n in range(9)]
            await world.sync()
            assert counted == [1, 2]

        await living(configuration(tmp_path, dsn, office), dsn, main, delivers=False)


# --- What fails -----------------------------------------------------------------------------------


async def test_a_dead_effect_can_be_retried_once_its_cause_is_mended(
    dsn: str, tmp_path: Path
) -> None:
    from syncd.store import effects as store
    from syncd.store.selection import Outgoing

    async with open_office(thing(1), thing(2)) as office:
        office.answers = lambda key: "refused" if key == "parcel-1" else "taken"

        async def main(world: World) -> None:
            await world.sync()
            dead = await seen("a death", lambda: world.said(EffectDead))
            assert [(each.key, each.reason) for each in dead] == [("parcel-1", "refused")]
            office.answers = lambda _: "taken"
            await world.process.hops.run(store.retry, Outgoing(states=["dead"]))
            await world.all_are("delivered", 2)

        await living(configuration(tmp_path, dsn, office), dsn, main)


async def test_what_the_provider_says_nothing_of_is_sent_again_with_its_key(
    dsn: str, tmp_path: Path
) -> None:
    async with open_office(*(thing(n) for n in range(5))) as office:
        office.answers = lambda key: "" if office.sent[key] == 1 and key == "parcel-3" else "taken"

        async def main(world: World) -> None:
            await world.sync()
            await world.all_are("delivered", 5)

        events = await living(configuration(tmp_path, dsn, office), dsn, main)

    assert office.sent["parcel-3"] == 2
    (retried,) = [each for each in events if isinstance(each, EffectRetried)]
    assert "unknown" in retried.reason


async def test_a_bulk_that_is_refused_as_a_whole_is_halved(dsn: str, tmp_path: Path) -> None:
    async with open_office(*(thing(n) for n in range(10))) as office:
        office.status = lambda size: 422 if size > 3 else 200

        async def main(world: World) -> None:
            await world.sync()
            await world.all_are("delivered", 10)

        events = await living(configuration(tmp_path, dsn, office), dsn, main)

    assert office.bulks[:2] == [10, 5]
    assert set(office.sent.values()) == {1}
    assert [each for each in events if isinstance(each, EffectLaneDamped)] == []


async def test_an_outage_of_the_provider_costs_time_and_no_attempts(
    dsn: str, tmp_path: Path
) -> None:
    async with open_office(thing(1)) as office:
        office.status = lambda _: 503

        async def main(world: World) -> None:
            await world.sync()
            await seen("a rest", lambda: world.said(EffectLaneDamped))
            await seen("a retry", lambda: world.said(EffectRetried))
            assert rows(dsn)[0]["attempts"] == 0
            office.status = lambda _: 200
            facts.execute(dsn, "UPDATE syncd.effect SET due_at = syncd.clock()")
            await world.all_are("delivered", 1)

        await living(configuration(tmp_path, dsn, office), dsn, main)


async def test_a_provider_that_refuses_everything_is_let_alone_and_nothing_dies_of_it(
    dsn: str, tmp_path: Path
) -> None:
    """A maintenance page, say, or a wrong address."""
    async with open_office(*(thing(n) for n in range(10))) as office:
        office.status = lambda _: 404

        async def main(world: World) -> None:
            await world.sync()
            await seen("two rests", lambda: len(world.said(EffectLaneDamped)) >= 2)
            # Halved down to one, which tells that it is not the bulk; then one at a time asks.
            assert office.bulks[0] > office.bulks[1] > 1
            assert set(office.bulks[4:]) <= {1}
            assert len(office.bulks) <= 4 + len(world.said(EffectLaneDamped))
            assert sum(row["attempts"] for row in rows(dsn) if row["state"] == "pending") <= 1
            office.status = lambda _: 200
            facts.execute(dsn, "UPDATE syncd.effect SET due_at = syncd.clock()")
            await world.all_are("delivered", 10)

        await living(configuration(tmp_path, dsn, office), dsn, main)

    assert set(office.sent.values()) == {1}


async def test_one_that_is_refused_alone_costs_its_own_attempts_and_others_a_moment(
    dsn: str, tmp_path: Path
) -> None:
    async with open_office(*(thing(n) for n in range(10))) as office:
        office.refuses = lambda keys: "parcel-0" in keys

        async def main(world: World) -> None:
            await world.sync()
            await seen("the others", lambda: [*world.states().values()].count("delivered") == 9)
            (left,) = [row for row in rows(dsn) if row["state"] != "delivered"]
            assert (left["key"], left["attempts"] >= 1) == ("parcel-0", True)

        await living(configuration(tmp_path, dsn, office), dsn, main)

    assert set(office.sent.values()) == {1}


@pytest.fixture
def deaf(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give up soon what does not heed its cancellation."""
    monkeypatch.setattr(delivering, "STUCK_SECONDS", 0.3)
    for module in (background, lanes):
        monkeypatch.setattr(module, "HEED_SECONDS", 0.3)
    post_office.RELEASED.clear()


@asynccontextmanager
async def released() -> AsyncIterator[None]:
    """Release what is deaf at the end of the block: nothing else ends it."""
    try:
        yield
    finally:
        post_office.RELEASED.append(True)


@pytest.mark.usefixtures("deaf")
@pytest.mark.parametrize("does", ["raises", "hangs", "swallows", *post_office.GARBAGE])
async def test_a_lane_whose_hook_misbehaves_is_named_and_no_other_notices(
    does: str, dsn: str, tmp_path: Path
) -> None:
    things = [thing(n, kinds=["parcel", "spoilt"]) for n in range(3)]
    async with open_office(*things) as office:
        file = configuration(tmp_path, dsn, office, office_table=f'spoils = "{does}"')

        async def main(world: World) -> None:
            async with released():
                await world.sync()
                damped = await seen("a rest", lambda: world.said(EffectLaneDamped))
                assert {each.kind for each in damped} == {SPOILT.name}
                assert "office.spoilt: deliver" in damped[0].reason
                office.things = [thing(n, kinds=["parcel"]) for n in range(3, 20)]
                await world.sync()
                await seen("parcels", lambda: len(office.taken) == 20)
                states = world.states()
                assert {states[f"spoilt-{n}"] for n in range(3)} <= {"pending", "delivering"}
                assert world.said(TaskFailed) == [], "the lane itself goes on"
                if does == "hangs":  # as a provider does that is away
                    assert {r["attempts"] for r in rows(dsn) if r["state"] == "pending"} == {0}

        await living(file, dsn, main)


async def test_a_lane_that_breaks_is_begun_again_and_no_other_notices(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug of ours, not of its hook's."""
    claim, broken = store.claim, list[EffectKind]()

    def breaks(connection: Connection, kind: EffectKind, **asked: Any) -> object:
        if kind.name == SPOILT.name and not broken:
            broken.append(kind)
            raise ZeroDivisionError("on purpose")
        return claim(connection, kind, **asked)

    monkeypatch.setattr(store, "claim", breaks)
    async with open_office(*(thing(n, kinds=["parcel", "spoilt"]) for n in range(3))) as office:

        async def main(world: World) -> None:
            await world.sync()
            (failed,) = await seen("its failure", lambda: world.said(TaskRestarted))
            assert failed.task == "effects of kind office.spoilt"
            await world.all_are("delivered", 6)
            assert len(world.said(TaskRestarted)) == 1

        await living(configuration(tmp_path, dsn, office), dsn, main)


@pytest.mark.usefixtures("deaf")
async def test_a_call_that_never_ends_keeps_its_slot_and_not_its_effect(
    dsn: str, tmp_path: Path
) -> None:
    async with open_office(*(thing(n, kinds=["spoilt"]) for n in range(3))) as office:
        file = configuration(tmp_path, dsn, office, office_table='spoils = "swallows the first"')

        async def main(world: World) -> None:
            async with released():
                await world.sync()
                (damped,) = await seen("a rest", lambda: world.said(EffectLaneDamped))
                assert "was cancelled 0 s ago and goes on: it keeps its slot" in damped.reason
                facts.execute(
                    dsn, "UPDATE syncd.effect SET due_at = syncd.clock() WHERE state = 'pending'"
                )
                await world.all_are("delivered", 3)

        await living(file, dsn, main)


@pytest.mark.usefixtures("deaf")
async def test_a_lane_that_lost_all_its_slots_has_its_process_started_anew(
    dsn: str, tmp_path: Path
) -> None:
    things = [thing(n, kinds=["spoilt"]) for n in range(SPOILT.concurrency)]
    async with open_office(*things) as office:
        file = configuration(tmp_path, dsn, office, office_table='spoils = "swallows"')

        async def main(world: World) -> None:
            async with released():
                await world.sync()
                (drains,) = await seen("a drain", lambda: world.said(DrainStarted))
                assert drains.reason == "deliveries"

        await living(file, dsn, main)


@pytest.mark.usefixtures("deaf")
async def test_calls_that_end_late_cost_their_lane_nothing_but_time(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plugin may wait for a silent provider in a thread."""
    monkeypatch.setattr(lanes, "HEED_SECONDS", 3600.0)
    things = [thing(n, kinds=["spoilt"]) for n in range(SPOILT.concurrency)]
    async with open_office(*things) as office:
        file = configuration(tmp_path, dsn, office, office_table='spoils = "swallows"')

        async def main(world: World) -> None:
            async with released():
                await world.sync()
                all_of_them = lambda: len(world.said(EffectLaneDamped)) >= SPOILT.concurrency  # noqa: E731
                await seen("each of them given up", all_of_them)
            await world.all_are("delivered", SPOILT.concurrency)
            assert world.said(DrainStarted) == []

        await living(file, dsn, main)


@pytest.mark.usefixtures("deaf")
async def test_a_call_that_never_ends_keeps_no_command_waiting(dsn: str, tmp_path: Path) -> None:
    """Its lane is to end, for the work is done: the process drains, which has a deadline."""
    async with open_office(thing(1, kinds=["spoilt"])) as office:
        file = configuration(
            tmp_path, dsn, office, office_table='spoils = "swallows"', daemon='drain_timeout = "3s"'
        )
        events: list[Event] = []

        async def main(process: Process) -> None:
            async with released(), background.beside(process) as lanes:
                job = process.config.jobs["office"]
                await run_job(process, job, mode="full", wait_seconds=0.0)
                heard = partial(_deaf, events)
                await seen("a call that goes on", heard)
                lanes.retire()
                await process.draining.wait()
                post_office.RELEASED.append(True)

        await in_a_process(file, main, events)

    (drains,) = [event for event in events if isinstance(event, DrainStarted)]
    assert drains.reason == "deliveries"


def _deaf(events: Sequence[Event]) -> list[Event]:
    return [event for event in events if isinstance(event, EffectLaneDamped)]


# --- Whose they are -------------------------------------------------------------------------------


async def test_a_kind_that_several_deliver_must_be_addressed(dsn: str, tmp_path: Path) -> None:
    async with open_office(thing(1)) as office:
        file = configuration(tmp_path, dsn, office)
        twin = f'[connectors.annex]\nplugin = "office"\nbase_url = "{office.public_url}"\n'
        file.write_text(file.read_text() + twin)

        async def main(world: World) -> None:
            with pytest.raises(ConfigError, match="several deliver it: annex, office") as error:
                await world.sync()
            assert '"office.letter" = "annex"' in str(error.value)
            assert '"office.letter" = "off"' in str(error.value)

        await living(file, dsn, main, delivers=False)
        routes = '[effects]\n"office.parcel" = "annex"\n'
        off = f'"{LETTER.name}" = "off"\n"{SPOILT.name}" = "off"\n'
        file.write_text(file.read_text() + routes + off)
        office.things = [thing(1, kinds=["parcel", "letter"])]

        async def addressed(world: World) -> None:
            await world.sync()
            await world.all_are("delivered", 1)

        await living(file, dsn, addressed)

    (row,) = rows(dsn)
    assert (row["instance"], row["account"], row["source"]) == ("annex", "default", "office.things")


async def test_what_was_switched_off_is_made_up_for_by_verifying(dsn: str, tmp_path: Path) -> None:
    async with open_office(thing(1), thing(2)) as office:
        file = configuration(tmp_path, dsn, office)
        switched_on = file.read_text()

        async def written(world: World) -> None:
            await world.sync()
            assert world.states() == {}

        async def made_up_for(world: World) -> None:
            await world.sync()
            assert world.states() == {}, "nothing is new"
            await world.sync(verify=True)
            await world.all_are("delivered", 2)

        file.write_text(f'{switched_on}[effects]\n"office.parcel" = "off"\n')
        await living(file, dsn, written)
        file.write_text(switched_on)
        await living(file, dsn, made_up_for)


# --- Who may enqueue ------------------------------------------------------------------------------


async def test_an_effect_of_a_zombie_is_refused_with_its_commit(dsn: str, tmp_path: Path) -> None:
    async with open_office(thing(1)) as office:
        # While the page is on its way, another process takes the partition over.
        office.listed = lambda: facts.execute(
            dsn,
            "UPDATE syncd.partition SET epoch = epoch + 1, token = gen_random_uuid(),"
            " lease_until = syncd.clock() + interval '1 hour'",
        )

        async def main(world: World) -> None:
            job = world.process.config.jobs["office"]
            (result,) = await run_job(world.process, job, mode="full", wait_seconds=0.0)
            assert result.verdict == "held"

        await living(configuration(tmp_path, dsn, office), dsn, main)

    assert rows(dsn) == []
    assert facts.rows(dsn, "SELECT * FROM office.things") == []


async def test_above_the_mark_nothing_is_fetched_that_produces_more(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flooding, "LOOK_SECONDS", 0.2)
    events: list[Event] = []
    async with open_office(*(thing(n) for n in range(4))) as office:
        office.status = lambda _: 503
        file = configuration(tmp_path, dsn, office, daemon="effects_max = 3")
        file.write_text(file.read_text().replace('every = "1h"', 'every = "1s"'))

        async def main(process: Process) -> None:
            world = World(process, dsn, events)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(serving.generation, process)
                await seen("a flood", lambda: world.said(EffectsFlooded))
                ended = len(world.said(RunFinished))
                office.things.append(thing(9))
                await seen("a round", lambda: len(world.said(RoundStarted)) > ended)
                mark = process.config.daemon.effects_max
                known = process.config.instances.values()
                look = partial(overview.overview, most=9, configured=known, effects_max=mark)
                found = await process.hops.run(look)
                told = [task.what for task in status.tasks(found)]
                assert any("so office.things is not claimed" in each for each in told), told
                assert len(world.said(RunFinished)) <= ended + 1  # one was under way
                assert len(rows(dsn)) <= 5
                office.status = lambda _: 200
                facts.execute(dsn, "UPDATE syncd.effect SET due_at = syncd.clock()")
                await world.all_are("delivered", 5)
                process.drain("the test is over")

        await in_a_process(file, main, events)
    assert {e.kind for e in events if isinstance(e, EffectsAbated)} == {PARCEL.name}


async def test_the_backlog_is_told_as_long_as_there_is_any(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "TELL_SECONDS", 0.1)
    async with open_office(*(thing(n) for n in range(3))) as office:
        office.answers = lambda key: "refused" if key == "parcel-2" else "busy"

        async def main(world: World) -> None:
            def told(open_: int, dead: int) -> Callable[[], bool]:
                return lambda: any(
                    (each.kind, each.open, each.dead) == (PARCEL.name, open_, dead)
                    for each in world.said(EffectBacklog)
                )

            await world.sync()
            await seen("a backlog", told(2, 1), told=lambda: str(world.events))
            office.answers = lambda _: "taken"
            await seen("its end", told(0, 1), told=lambda: str(world.events))

        events = await living(configuration(tmp_path, dsn, office), dsn, main)

    found = [each for each in events if isinstance(each, EffectBacklog)]
    assert {each.kind for each in found} == {PARCEL.name}, "of what has none nothing is told"
    ages = [each.oldest_seconds for each in found if each.open]
    assert ages == sorted(ages), "the oldest grows older"
