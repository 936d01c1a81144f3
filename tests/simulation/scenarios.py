"""What syncd is to reach, in virtual time: each scenario drives the real engine against a limit.

Ideal: the calls that had to succeed, divided by the allowed rate, and the seconds for which the
upstream was locked for everyone. The judge counts at arrival.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

import attrs
import trio
from daemons import Means
from judge import Allowed, Judge
from stand_ins import cars, tiktok
from transport import Network, Weather
from world import World, reset, simulated

from syncd.events import RoundStarted
from syncd_cars import plugin as cars_plugin

WITHIN_SECONDS = 6 * 3600.0  # of virtual time, for one scenario


@attrs.frozen
class Stage:
    """An upstream, and the configuration that is to keep up with it."""

    plugins: Mapping[str, object]
    host: str
    upstream: Any
    judge: Judge
    configuration: str
    ideal_seconds: float  # but for locks
    reach: float  # at most so many times the ideal
    rows: tuple[str, int]  # a query that counts, and what it must answer
    weather: Weather = Weather(latency_seconds=0.2, jitter=0.1)
    refused_max: float = 0.01


@attrs.frozen
class Reached:
    """How a scenario went."""

    ideal_seconds: float
    seconds: float
    judge: Judge
    rows: int
    rows_wanted: int
    reach: float
    refused_max: float
    status: str

    @property
    def ratio(self) -> float:
        return self.seconds / self.ideal_seconds

    @property
    def misses(self) -> Sequence[str]:
        """Say what was not reached."""
        found = []
        if self.status != "complete":
            found.append(f"the round ended {self.status}")
        if self.rows != self.rows_wanted:
            found.append(f"{self.rows} rows of {self.rows_wanted}")
        if self.ratio > self.reach:
            found.append(f"{self.ratio:.3f} of the ideal, at most {self.reach:g}")
        if self.judge.refused_share >= self.refused_max:
            found.append(f"{self.judge.refused_share:.2%} refused")
        if self.judge.calls_while_locked:
            found.append(f"{self.judge.calls_while_locked} calls while locked")
        return found


@attrs.frozen
class Scenario:
    """One row of the table. `build(small)`: small is for the tests; `lacks`: why it cannot be run."""

    name: str
    build: Callable[[bool], Stage] | None
    lacks: str = ""


def play(scenario: Scenario, dsn: str, *, small: bool, seed: int = 1) -> Reached:
    """Play a scenario to its end, in a database that is equipped for simulations."""
    assert scenario.build is not None, scenario.lacks
    reset(dsn)
    stage = scenario.build(small)
    reached: Reached = simulated(_played, stage, dsn, seed, seed=seed)
    return reached


async def _played(stage: Stage, dsn: str, seed: int) -> Reached:
    network = Network(stage.upstream, weather=stage.weather, random=Random(f"network {seed}"))
    world = World(
        dsn=dsn,
        seed=seed,
        plugins=stage.plugins,
        networks={stage.host: network},
        configure=lambda: stage.configuration,
        means=lambda world, plugins: Means(
            dsn, plugins, world.wire, world.tell, lease_seconds=600.0, beats=False
        ),
        remembers=False,
    )
    async with trio.open_nursery() as slots:
        slots.start_soon(world.keep, 0)
        ended = await world.round_after("all", within_seconds=WITHIN_SECONDS)
        ended_at = trio.current_time()
        world.end()
    ((began_at, _, __),) = world.told(RoundStarted)
    query, wanted = stage.rows
    (row,) = world.rows(query)
    return Reached(
        ideal_seconds=stage.ideal_seconds + stage.judge.locked_seconds,
        seconds=ended_at - began_at,
        judge=stage.judge,
        rows=row["count"],
        rows_wanted=wanted,
        reach=stage.reach,
        refused_max=stage.refused_max,
        status=ended.status if ended else "never",
    )


# --- TikTok ---------------------------------------------------------------------------------------

QUICK = Weather(latency_seconds=0.02, jitter=0.1)


def users(small: bool) -> Stage:
    """Each store's user in one call of 3 s; nobody limits the calls."""
    stores, at_once = (40, 10) if small else (300, 30)
    upstream = tiktok.TikTok(_stores(stores, 1), user_seconds=3.0 - QUICK.latency_seconds)
    return Stage(
        plugins={"tiktok": tiktok},
        host=HOST,
        upstream=upstream,
        judge=upstream.judges["user_info"],
        configuration=_tiktok(stores, "users", at_once, calls=0),
        ideal_seconds=3.0 * stores / at_once,
        reach=31 / 30,
        rows=("SELECT count(*) FROM tiktok.users", stores),
        weather=QUICK,
    )


def videos(small: bool) -> Stage:
    """Each store's 140 videos in seven calls of 1 s, one after the other."""
    stores, at_once = (20, 5) if small else (300, 20)
    upstream = tiktok.TikTok(_stores(stores, 140), video_seconds=1.0 - QUICK.latency_seconds)
    return Stage(
        plugins={"tiktok": tiktok},
        host=HOST,
        upstream=upstream,
        judge=upstream.judges["video_list"],
        configuration=_tiktok(stores, "videos", at_once, calls=0),
        ideal_seconds=7.0 * stores / at_once,
        reach=108 / 105,
        rows=("SELECT count(*) FROM tiktok.videos", stores * 140),
        weather=QUICK,
    )


def many_videos(small: bool) -> Stage:
    """500 videos a store, 20 a page: 600 calls a minute, in a sliding window."""
    stores, calls = (20, 100) if small else (300, 600)
    upstream = tiktok.TikTok(
        _stores(stores, 500), allowed=Allowed("sliding", calls, 60.0), video_seconds=0.1
    )
    return Stage(
        plugins={"tiktok": tiktok},
        host=HOST,
        upstream=upstream,
        judge=upstream.judges["video_list"],
        configuration=_tiktok(stores, "videos", 10, calls=calls),
        ideal_seconds=stores * 25 / calls * 60,
        reach=1.05,
        rows=("SELECT count(*) FROM tiktok.videos", stores * 500),
    )


HOST = "open.tiktokapis.test"


def _stores(stores: int, videos: int) -> dict[str, int]:
    return {f"store-{number:03d}": videos for number in range(stores)}


def _tiktok(stores: int, stream: str, at_once: int, *, calls: int) -> str:
    lines = ["[connectors.tiktok]", f"calls = {calls}", f"in_flight = {at_once}"]
    for name in _stores(stores, 0):
        lines += ["[[connectors.tiktok.accounts]]", f'name = "{name}"', f'token = "act.{name}"']
    return "\n".join([*lines, _job("tiktok", stream, at_once)])


def _job(connector: str, stream: str, at_once: int) -> str:
    return (
        f'[jobs.all]\nconnector = "{connector}"\nstreams = ["{stream}"]\nmode = "full"\n'
        f'every = "30d"\nconcurrency = {at_once}\n'
    )


# --- Cars -----------------------------------------------------------------------------------------

PER_PAGE = 1000
# "latency jitter stays below 10 % of the spacing": 0.2 s of 1 s, 10 % of it up or down each way.
SPELLS = (
    cars.Spell(at=20.0, seconds=5.0, told=True),
    cars.Spell(at=60.0, seconds=5.0, told=False),
    cars.Spell(at=100.0, seconds=15.0, told=True),
)


def feed_of_cars(small: bool) -> Stage:
    """One call a second, a token bucket without a burst."""
    return _cars(small, ())


def cars_refused(small: bool) -> Stage:
    """The same; for some spells everyone is refused, and told for how long, or not."""
    return _cars(small, SPELLS[:2] if small else SPELLS)


def _cars(small: bool, spells: Sequence[cars.Spell]) -> Stage:
    pages = 100 if small else 190
    number = pages * (20 if small else PER_PAGE)
    upstream = cars.Cars(number, allowed=Allowed("bucket", 1, 1.0), spells=spells, seconds=0.3)
    configuration = (
        f'[connectors.cars]\nbase_url = "https://{cars.HOST}/api"\napi_key = "{cars.KEY}"\n'
        f"priority_brands = []\nper_page = {number // pages}\n"
    )
    return Stage(
        plugins={"cars": cars_plugin},
        host=cars.HOST,
        upstream=upstream,
        judge=upstream.judge,
        configuration=configuration + _job("cars", "cars", 1),
        ideal_seconds=float(pages),
        reach=1.1 if spells else 1.05,
        refused_max=1.0 if spells else 0.01,
        rows=("SELECT count(*) FROM cars.cars", number),
    )


SCENARIOS: Sequence[Scenario] = (
    Scenario("300 stores, users 3 s each, 30 at once", users),
    Scenario("300 stores, videos 7 s each, 20 at once", videos),
    Scenario("300 stores x 500 videos, 600/min sliding", many_videos),
    Scenario("190,000 cars, 1,000 a page, 1/s token bucket", feed_of_cars),
    Scenario("the same with spells of 429", cars_refused),
)


def spans(judge: Judge, seconds: float, *, until: float) -> list[float]:
    """Return how many calls were admitted in each span, a second."""
    counted = [0.0] * max(1, math.ceil(until / seconds))
    for arrival in judge.arrivals:
        place = int(arrival.at // seconds)
        if arrival.admitted and place < len(counted):
            counted[place] += 1 / seconds
    return counted
