"""What a run costs beside its calls: nobody waits for what cannot come."""

from __future__ import annotations

from random import Random

import tiktok_upstream as tiktok
import trio
from daemons import LATENCY_SECONDS, Means
from transport import Network, Weather
from world import World, equip, simulated

from syncd.batching import LINGER_SECONDS
from syncd.events import RunFinished
from syncd_tiktok import plugin

CALL_SECONDS = 0.2
HOPS = 12  # at most, of a run of one page

JOB = """
    [jobs.all]
    connector = "tiktok"
    streams = {streams}
    mode = "full"
"""


def run_of(dsn: str, *streams: str, videos: int) -> RunFinished:
    """Run one store's partition once; answer with how that went."""
    network = Network(
        tiktok.Stores({"store-001": videos}),
        weather=Weather(latency_seconds=CALL_SECONDS, jitter=0.0),
        random=Random(1),
    )
    tables = tiktok.configuration(["store-001"], calls=0, at_once=1)
    world = World(
        dsn=dsn,
        seed=1,
        plugins={"tiktok": plugin},
        networks={tiktok.HOST: network},
        configure=lambda: tables + JOB.format(streams=list(streams)),
        means=lambda world, plugins: Means(dsn, plugins, world.wire, world.tell),
    )

    async def main() -> None:
        async with trio.open_nursery() as slots:
            slots.start_soon(world.keep, 0)
            await world.until_ready(1)
            world.ask("all")
            await world.round_after("all", within_seconds=60.0)
            world.end()

    equip(dsn)
    simulated(main, seed=1)
    ((_, __, finished),) = world.told(RunFinished)
    assert finished.status == "complete"
    return finished


def test_a_page_that_nothing_can_follow_is_written_at_once(dsn: str) -> None:
    finished = run_of(dsn, "user_daily", videos=1)

    assert finished.pages == 1
    beside = finished.duration_seconds - CALL_SECONDS
    assert beside < HOPS * 1.5 * LATENCY_SECONDS < CALL_SECONDS
    assert HOPS * LATENCY_SECONDS < LINGER_SECONDS, "which is what it would have waited"


def test_a_chain_pays_for_its_end_once(dsn: str) -> None:
    """Its pages are fetched before their openers are committed, so that commits cost no time."""
    finished = run_of(dsn, "videos", "video_daily", videos=200)

    assert finished.pages == 10
    assert finished.duration_seconds - 10 * CALL_SECONDS < HOPS * 1.5 * LATENCY_SECONDS
