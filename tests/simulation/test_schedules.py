"""Schedules over months: no moment twice, none too early, those that were missed count once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
import trio
import trio.testing
from virtual_world import BEGAN_AT, World, now

from syncd.events import RoundFinished, RoundStarted

HOUR, DAY = 3600.0, 86400.0


async def days(number: float) -> None:
    await trio.sleep(number * DAY)


async def test_two_months_have_each_round_once_and_on_its_grid(
    dsn: str, autojump_clock: trio.testing.MockClock
) -> None:
    world = World(dsn, 'every = "12h"')
    async with trio.open_nursery() as nursery:
        scheduler = await nursery.start(lambda **k: world.daemon(look_seconds=2 * HOUR, **k))
        await days(60)
        scheduler.retire()

    started = [at for at, _ in world.told(RoundStarted)]
    assert len(started) == 2 * 60
    late = [(at - BEGAN_AT).total_seconds() % (12 * HOUR) for at in started]
    assert max(late) <= 2 * HOUR, "as late as a look may be, and not later with every round"
    assert {event.status for _, event in world.told(RoundFinished)} == {"complete"}
    assert len(world.stalls.fetched) == 2 * len(started)


async def test_days_without_a_daemon_cost_one_round_and_the_grid_stays(
    dsn: str, autojump_clock: trio.testing.MockClock
) -> None:
    world = World(dsn, 'every = "12h"')
    async with trio.open_nursery() as nursery:
        scheduler = await nursery.start(lambda **k: world.daemon(look_seconds=1800.0, **k))
        await days(2.2)
        scheduler.retire()
        await days(5.1)
        scheduler = await nursery.start(lambda **k: world.daemon(look_seconds=1800.0, **k))
        away_until = now()
        await days(2)
        scheduler.retire()

    after = [at for at, _ in world.told(RoundStarted) if at >= away_until]
    assert (after[0] - away_until).total_seconds() <= 1800.0, "what was missed comes at once"
    assert len(after) == 1 + 4
    assert all((at - BEGAN_AT).total_seconds() % (12 * HOUR) <= 1800.0 for at in after[1:])


async def test_cron_keeps_its_hour_across_a_change_of_the_clocks(
    dsn: str, autojump_clock: trio.testing.MockClock
) -> None:
    """BEGAN_AT is in winter; Berlin's clocks go forward on 2026-03-29."""
    world = World(dsn, 'cron = "30 3 * * *"\ntimezone = "Europe/Berlin"')
    berlin = ZoneInfo("Europe/Berlin")
    async with trio.open_nursery() as nursery:
        await trio.sleep((datetime(2026, 3, 25, tzinfo=UTC) - BEGAN_AT).total_seconds())
        scheduler = await nursery.start(lambda **k: world.daemon(look_seconds=600.0, **k))
        await days(8)
        scheduler.retire()

    started = [at.astimezone(berlin) for at, _ in world.told(RoundStarted)]
    assert len(started) == 8
    assert {at.hour for at in started} == {3}
    assert {at.minute // 10 for at in started} == {3}
    assert {later.date() - earlier.date() for earlier, later in pairwise(started)} == {
        timedelta(days=1)
    }


@pytest.mark.parametrize(
    ("day", "cron"),
    [
        (datetime(2026, 3, 29, tzinfo=UTC), "30 2 * * *"),  # there is no half past two
        (datetime(2026, 10, 25, tzinfo=UTC), "30 2 * * *"),  # there are two of them
        (datetime(2026, 10, 25, tzinfo=UTC), "*/30 * * * *"),
    ],
    ids=["skipped", "doubled", "half-hourly"],
)
async def test_an_hour_that_is_skipped_or_doubled_has_no_round_twice_and_none_is_lost(
    day: datetime, cron: str, dsn: str, autojump_clock: trio.testing.MockClock
) -> None:
    world = World(dsn, f'cron = "{cron}"\ntimezone = "Europe/Berlin"')
    hours = 3 if cron.startswith("*") else 36
    async with trio.open_nursery() as nursery:
        before = day - timedelta(hours=hours) - BEGAN_AT
        await trio.sleep(before.total_seconds())
        scheduler = await nursery.start(
            lambda **k: world.daemon(look_seconds=300.0 if hours == 3 else 1200.0, **k)
        )
        await trio.sleep(2 * hours * HOUR - 600.0)
        scheduler.retire()

    started = [at for at, _ in world.told(RoundStarted)]
    gaps = [later - earlier for earlier, later in pairwise(started)]
    if cron.startswith("*"):
        assert all(timedelta(minutes=20) <= gap <= timedelta(minutes=40) for gap in gaps)
        assert 2 * 2 * hours - 2 <= len(started) <= 2 * 2 * hours
    else:
        assert len({at.astimezone(ZoneInfo("Europe/Berlin")).date() for at in started}) == 3
        assert all(timedelta(hours=22.5) <= gap <= timedelta(hours=25.5) for gap in gaps)


@pytest.mark.parametrize("step", [1, -1], ids=["forward", "back"])
async def test_a_step_of_the_databases_clock_makes_no_burst_and_no_end(
    step: int, dsn: str, autojump_clock: trio.testing.MockClock
) -> None:
    """As NTP does it, in the middle of a run; the true time goes on."""
    world = World(dsn, 'every = "15m"')
    world.stalls.seconds = 120.0
    async with trio.open_nursery() as nursery:
        scheduler = await nursery.start(lambda **k: world.daemon(look_seconds=60.0, **k))
        await trio.sleep(HOUR + 60.0)
        world.stepped = timedelta(hours=step)
        stepped_at = now()
        await trio.sleep(3 * HOUR)
        scheduler.retire()

    started = [at for at, _ in world.told(RoundStarted)]
    after = [at for at in started if at > stepped_at]
    gaps = [later - earlier for earlier, later in pairwise(started)]
    assert max(gaps) <= timedelta(hours=1.3 if step < 0 else 0.3), "it goes on by itself"
    assert min(gaps) >= timedelta(minutes=1), "no burst"
    assert sum(gap < timedelta(minutes=14) for gap in gaps) <= 1, "what was missed comes once"
    assert len(after) >= (7 if step < 0 else 12)
    assert len(world.stalls.fetched) == 2 * len(started), "no run was lost or doubled"
    assert {event.status for _, event in world.told(RoundFinished)} == {"complete"}


@pytest.mark.parametrize("minute", [1, 10], ids=["in a run", "between two rounds"])
async def test_a_suspended_machine_catches_up_with_one_round_at_most(
    minute: int, dsn: str, autojump_clock: trio.testing.MockClock
) -> None:
    """Eight hours pass at once, for us and for the database.

    A round that still runs goes on, and what was missed is skipped for it: that is its overlap.
    """
    world = World(dsn, 'every = "30m"')
    world.stalls.seconds = 120.0
    async with trio.open_nursery() as nursery:
        scheduler = await nursery.start(lambda **k: world.daemon(look_seconds=60.0, **k))
        await trio.sleep(HOUR + minute * 60.0)
        autojump_clock.jump(8 * HOUR)
        woken_at = now()
        await trio.sleep(2 * HOUR)
        scheduler.retire()

    after = [at for at, _ in world.told(RoundStarted) if at >= woken_at]
    caught_up = [at for at in after if at - woken_at <= timedelta(minutes=5)]
    assert len(caught_up) == (minute == 10), "what was missed comes at once, and once"
    assert len(after) == len(caught_up) + 4
    on_grid = after[len(caught_up) :]
    assert all((at - BEGAN_AT).total_seconds() % 1800.0 <= 60.0 for at in on_grid)
    assert {event.status for _, event in world.told(RoundFinished)} == {"complete"}
    again = len(world.stalls.fetched) - 2 * len(world.told(RoundStarted))
    assert again in ({0, 1, 2} if minute == 1 else {0}), "at most what was on its way"


async def test_an_upstream_that_is_down_is_asked_seldom_and_caught_up_with(
    dsn: str, autojump_clock: trio.testing.MockClock
) -> None:
    world = World(dsn, 'every = "2h"', accounts=("a",))
    world.stalls.down = True
    async with trio.open_nursery() as nursery:
        scheduler = await nursery.start(lambda **k: world.daemon(look_seconds=60.0, **k))
        await trio.sleep(12 * HOUR)
        world.stalls.down = False
        mended_at = now()
        await trio.sleep(3 * HOUR)
        scheduler.retire()

    asked = [at for _, at in world.stalls.fetched]
    down = [at for at in asked if at < mended_at]
    first_hour = [at for at in down if at < BEGAN_AT + timedelta(hours=1)]
    last_hours = [at for at in down if at >= BEGAN_AT + timedelta(hours=8)]
    assert len(first_hour) > len(last_hours) / 4, "waits grow within an hour"
    assert len(down) < 12 * 13, "and a day of it is no storm"
    assert asked[len(down)] - mended_at <= timedelta(hours=1, minutes=5), "their cap is an hour"
    assert world.told(RoundFinished)[-1][1].status == "complete"
    rows = world.rows("SELECT seen::timestamptz AS at FROM stalls.items")
    assert [row["at"] > mended_at for row in rows] == [True]


async def test_two_daemons_begin_each_round_once(
    dsn: str, autojump_clock: trio.testing.MockClock
) -> None:
    world = World(dsn, 'every = "1h"', accounts=tuple("abcdefgh"))
    async with trio.open_nursery() as nursery:
        schedulers = [
            await nursery.start(lambda **k: world.daemon(look_seconds=120.0, **k)) for _ in range(2)
        ]
        await days(1)
        for scheduler in schedulers:
            scheduler.retire()

    assert len(world.told(RoundStarted)) == 24
    assert len(world.told(RoundFinished)) == 24
    assert len(world.stalls.fetched) == 24 * 8
    shares = world.rows("SELECT owner, count(*) AS runs FROM syncd.run GROUP BY owner")
    assert len(shares) == 2
