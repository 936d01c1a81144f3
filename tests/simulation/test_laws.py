"""The laws of simulated worlds bite: each is broken by hand in a world that kept them all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import attrs
import psycopg
import pytest
from laws import LAWS, broken
from plan import Plan
from seeds import Life, Lived, lived

from syncd.events import RoundStarted, RunFinished

PLAN = Plan(
    seed=1,
    scene="tiktok",
    pages=(4, 1, 1),
    calls=15,
    beside=None,
    beside_pages=1,
    daemons=1,
    concurrency=2,
    every_seconds=10.0,
    look_seconds=4.0,
    lease_seconds=6.0,
    latency_seconds=0.2,
    weather_chance=0.0,
    store_chance=0.0,
    dies_at=None,
    troubles=(),
    heal_at=22.0,
)


@pytest.fixture(scope="module")
def world(worlds: str) -> tuple[Life, Lived]:
    return lived(PLAN, worlds)


@contextmanager
def tampered(life: Life, *statements: str) -> Iterator[None]:
    """Do something by hand, for as long as the block runs."""
    connection = psycopg.connect(life.world.dsn)
    for statement in statements:
        connection.execute(statement.encode())
    connection.commit()
    connection.close()
    yield


def names(life: Life) -> set[str]:
    """Return the laws that are broken."""
    return {found.partition(":")[0] for found in broken(life)}


def test_a_calm_world_keeps_every_law(world: tuple[Life, Lived]) -> None:
    life, told = world

    assert told.broken == ()
    assert len(LAWS) == 29
    assert len(life.world.told(RoundStarted)) >= 3


def test_a_breach_is_found(world: tuple[Life, Lived]) -> None:
    life, _ = world
    judge = life.scene.upstream.judges["video_list"]
    judge.breaches += 1
    assert names(life) == {"no quota is breached"}
    judge.breaches -= 1
    judge.calls_while_locked += 1
    assert names(life) == {"no quota is breached"}
    judge.calls_while_locked -= 1


def test_a_round_twice_in_one_moment_is_found(world: tuple[Life, Lived]) -> None:
    life, _ = world
    at, number, event = life.world.told(RoundStarted)[1]
    life.world.events.append((at + 0.5, number, event))
    assert names(life) == {"moments come once and on their grid"}
    life.world.events.pop()


def test_a_moment_that_nothing_is_said_of_is_found(world: tuple[Life, Lived]) -> None:
    life, _ = world
    events = life.world.events
    second = life.world.told(RoundStarted)[1]
    life.world.events = [each for each in events if each[2] is not second[2]]
    assert names(life) == {"moments come once and on their grid"}
    life.world.events = events


def test_a_small_account_that_waits_for_a_huge_one_is_found(world: tuple[Life, Lived]) -> None:
    life, _ = world
    events, last = life.world.events, life.last["tiktok"]
    life.last["tiktok"] = attrs.evolve(last, duration_seconds=1000.0)
    small = next(
        (at, number, event)
        for at, number, event in reversed(life.world.told(RunFinished))
        if event.partition.endswith("[store-002]")
    )
    life.world.events = [*events, (small[0] + 100.0, small[1], small[2])]
    assert names(life) == {"a huge account delays no small one"}
    life.world.events, life.last["tiktok"] = events, last


def test_what_the_database_must_not_hold_is_found(world: tuple[Life, Lived]) -> None:
    """The last test of this world: what is done to it stays."""
    life, _ = world
    with tampered(
        life,
        "INSERT INTO simulated.closed SELECT * FROM simulated.closed LIMIT 1",
        "UPDATE tiktok.video_daily SET like_count = like_count + 1 WHERE video_id ="
        " (SELECT max(video_id) FROM tiktok.video_daily)",
        "UPDATE syncd.partition SET state = 'parked', parked_reason = 'by hand' WHERE id = 1",
    ):
        assert names(life) == {
            "each cursor is closed once",
            "nothing is stuck",
            "the tables hold what is true",
        }
    life.ended = False
    assert "every daemon ends" in names(life)
    del life.last["tiktok"]
    assert "the last rounds are complete" in names(life)
