"""Daemons share a round evenly; one that joins gets its part, and disturbs nobody (P41)."""

from __future__ import annotations

from collections import Counter
from functools import partial
from uuid import UUID

import trio
import trio.testing
from virtual_world import World

from syncd.events import RunFinished

STORES = tuple(f"store-{number:02}" for number in range(60))
PASS_SECONDS = 300.0
ROUND_SECONDS = 1000.0
LOOK_SECONDS = 20.0


def owners(world: World, number: int) -> dict[int, UUID]:
    """Return which daemon ran each partition in a round."""
    found = world.rows(
        "SELECT u.partition_id, u.owner FROM syncd.run u JOIN syncd.round r ON r.id = u.round_id"
        f" WHERE r.number = {number}"
    )
    assert len(found) == len(STORES), "each partition ran once"
    return {row["partition_id"]: row["owner"] for row in found}


async def test_a_daemon_that_joins_gets_its_part_and_no_run_is_cut_for_it(
    dsn: str, autojump_clock: trio.testing.MockClock
) -> None:
    """Every daemon has room for all: whoever looks first would run them all."""
    job = f'every = "{ROUND_SECONDS:g}s"\nconcurrency = {len(STORES)}'
    world = World(dsn, job, accounts=STORES)
    world.stalls.seconds = PASS_SECONDS
    daemon = partial(world.daemon, look_seconds=LOOK_SECONDS, beats=True)
    async with trio.open_nursery() as nursery:

        async def joined() -> None:
            schedulers.append(await nursery.start(daemon))

        schedulers: list[object] = []
        await joined()
        await joined()
        await trio.sleep(PASS_SECONDS / 2)  # in the middle of all runs
        await joined()
        await trio.sleep(2 * ROUND_SECONDS - PASS_SECONDS / 2 - 100.0)
        for scheduler in schedulers:
            scheduler.retire()  # type: ignore[attr-defined]

    before, after = owners(world, 1), owners(world, 2)
    newcomer = UUID(int=3)
    assert newcomer not in before.values()
    assert 15 <= Counter(after.values())[newcomer] <= 25, "about a third"
    assert max(Counter(after.values()).values()) <= 25
    assert max(Counter(before.values()).values()) <= 35
    ended = Counter(event.status for _, event in world.told(RunFinished))
    assert set(ended) == {"complete"}, "none was cut in the middle"
    assert Counter(name for name, _ in world.stalls.fetched) == dict.fromkeys(STORES, 2)
