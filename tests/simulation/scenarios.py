"""What syncd is to reach, in virtual time: each scenario drives the real engine against a limit.

Ideal: the calls that had to succeed, divided by the allowed rate, and the seconds for which the
upstream was locked for everyone. The judge counts at arrival.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from random import Random
from typing import Any

import attrs
import trio
from daemons import LATENCY_SECONDS as TRANSACTION_SECONDS
from daemons import Means
from judge import Allowed, Judge
from stand_ins import cars, nhanh, tiktok, unknown
from transport import Network, Weather
from world import World, reset, simulated

from syncd.events import RoundStarted
from syncd_cars import plugin as cars_plugin

LATENCY_SECONDS = 0.2  # of a call, there and back
ORDINARY = Weather(latency_seconds=LATENCY_SECONDS, jitter=0.1)
WITHIN_SECONDS = 6 * 3600.0  # of virtual time, for one scenario


@attrs.frozen
class Stage:
    """An upstream, and the configuration that is to keep up with it."""

    plugins: Mapping[str, object]
    host: str
    upstream: Any
    judge: Judge
    configuration: str
    rows: tuple[str, int]  # a query that counts, and what it must answer
    ideal_seconds: float = 0.0  # but for locks
    reach: float = 1.0  # at most so many times the ideal
    limits: Sequence[tuple[float, float]] = ()  # from when on how many calls a second: to follow
    seconds: float = WITHIN_SECONDS  # of virtual time, at most
    weather: Weather = ORDINARY
    refused_max: float = 0.01
    transaction_seconds: float = TRANSACTION_SECONDS
    daemons: int = 1  # that share the quotas, where there are several


@attrs.frozen
class Reached:
    """How a scenario went."""

    ideal: str
    reached: str
    ratio: float
    judge: Judge
    seconds: float
    limits: Sequence[tuple[float, float]]
    misses: Sequence[str]


@attrs.frozen
class Scenario:
    """One row of the table. `build(small)`: small is for the tests."""

    name: str
    reach: str  # as the table says it
    build: Callable[[bool], Stage]


def play(scenario: Scenario, dsn: str, *, small: bool, seed: int = 1) -> Reached:
    """Play a scenario to its end, in a database that is equipped for simulations."""
    reset(dsn)
    stage = scenario.build(small)
    status, seconds, rows = simulated(_played, stage, dsn, seed, seed=seed)
    misses = list(_common_misses(stage))
    if stage.limits:
        return _followed(stage, seconds, misses)
    if status != "complete":
        misses.append(f"the round ended {status}")
    if rows != stage.rows[1]:
        misses.append(f"{rows} rows of {stage.rows[1]}")
    ideal = stage.ideal_seconds + stage.judge.locked_seconds
    if seconds / ideal > stage.reach:
        misses.append(f"{seconds / ideal:.3f} of the ideal, at most {stage.reach:.3f}")
    allowed = stage.judge.allowed
    limits = [(0.0, allowed.per_second)] if allowed else []
    reached = f"{seconds:.1f} s"
    return Reached(f"{ideal:.1f} s", reached, seconds / ideal, stage.judge, seconds, limits, misses)


async def _played(stage: Stage, dsn: str, seed: int) -> tuple[str, float, int]:
    """Run one daemon; answer with how its round ended, after how many seconds, with what rows."""
    network = Network(stage.upstream, weather=stage.weather, random=Random(f"network {seed}"))
    world = World(
        dsn=dsn,
        seed=seed,
        plugins=stage.plugins,
        networks={stage.host: network},
        configure=lambda: stage.configuration,
        means=lambda world, plugins: Means(
            dsn=dsn,
            plugins=plugins,
            wire=world.wire,
            tell=world.tell,
            lease_seconds=600.0,
            latency_seconds=stage.transaction_seconds,
            beats=False,
            shared_among=stage.daemons if stage.daemons > 1 else 0,
        ),
        remembers=False,
    )
    async with trio.open_nursery() as slots:
        for slot in range(stage.daemons):
            slots.start_soon(world.keep, slot)
        ended = await world.round_after("all", within_seconds=stage.seconds)
        ended_at = trio.current_time()
        world.end()
    ((began_at, _, __),) = world.told(RoundStarted)
    (row,) = world.rows(stage.rows[0])
    return ended.status if ended else "never", ended_at - began_at, row["count"]


def _common_misses(stage: Stage) -> Iterator[str]:
    judge = stage.judge
    if judge.refused_share >= stage.refused_max:
        yield f"{judge.refused_share:.2%} refused, less than {stage.refused_max:.0%} wanted"
    if judge.calls_while_locked:
        yield f"{judge.calls_while_locked} calls while locked"


# --- Following a limit that moves -----------------------------------------------------------------

MEAN_SECONDS = 10.0
FOUND_SHARE = 0.9
FOUND_SECONDS = 60.0


def _followed(stage: Stage, seconds: float, misses: list[str]) -> Reached:
    """Judge how a limit that moves was followed: how soon it was found, and how it was used."""
    ends = [*(since for since, _ in stage.limits[1:]), seconds]
    found, used = [], []
    for (since, rate), until in zip(stage.limits, ends, strict=True):
        found_at = _found_at(stage.judge, rate, since, until)
        found.append(f"{found_at - since:.0f} s")
        used.append(_admitted(stage.judge, found_at, until) / (until - found_at) / rate)
        if found_at - since > FOUND_SECONDS:
            misses.append(f"{rate:g}/s was found after {found_at - since:.0f} s")
        if used[-1] < FOUND_SHARE:
            misses.append(f"{used[-1]:.1%} of {rate:g}/s was used once it was found")
    means = ", ".join(f"{share:.1%}" for share in used)
    return Reached(
        ideal=", ".join(f"{rate:g}/s" for _, rate in stage.limits),
        reached=f"found after {', '.join(found)}; then used {means}",
        ratio=min(used),
        judge=stage.judge,
        seconds=seconds,
        limits=stage.limits,
        misses=misses,
    )


def _found_at(judge: Judge, rate: float, since: float, until: float) -> float:
    """Return from when on the last 10 s held 90 % of what is allowed."""
    recent: deque[float] = deque()
    for arrival in judge.arrivals:
        if arrival.at < since or not arrival.admitted:
            continue
        recent.append(arrival.at)
        while recent[0] <= arrival.at - MEAN_SECONDS:
            recent.popleft()
        if len(recent) >= FOUND_SHARE * rate * MEAN_SECONDS:
            return arrival.at
    return until - MEAN_SECONDS


def _admitted(judge: Judge, since: float, until: float) -> int:
    return sum(1 for each in judge.arrivals if each.admitted and since < each.at <= until)


def unknown_limit(small: bool) -> Stage:
    """Nothing is announced, and the limit moves twice."""
    spell = 120.0 if small else 1200.0
    rates = (5.0, 2.0, 10.0) if small else (10.0, 4.0, 20.0)
    limits = tuple((place * spell, rate) for place, rate in enumerate(rates))
    pages = round(1.2 * spell * sum(rate for _, rate in limits))
    upstream = unknown.Unknown(pages, limits=limits)
    return Stage(
        plugins={"unknown": unknown},
        host=unknown.HOST,
        upstream=upstream,
        judge=upstream.judge,
        configuration=f"[connectors.unknown]\n{_job('unknown', 'things', 1)}",
        rows=("SELECT count(*) FROM unknown.things", pages),
        limits=limits,
        seconds=3 * spell,
        refused_max=0.02,
        transaction_seconds=0.5,  # so that several pages share one: an hour is thousands of pages
    )


# --- TikTok ---------------------------------------------------------------------------------------

QUICK = Weather(latency_seconds=0.02, jitter=0.1)


def users(small: bool) -> Stage:
    """Each store's user in one call of 3 s; nobody limits the calls."""
    stores, at_once = (40, 10) if small else (300, 30)
    upstream = tiktok.TikTok(_stores(stores, 1), user_seconds=3.0 - QUICK.latency_seconds)
    return Stage(
        plugins={"tiktok": tiktok},
        host=tiktok.HOST,
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
        host=tiktok.HOST,
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
        host=tiktok.HOST,
        upstream=upstream,
        judge=upstream.judges["video_list"],
        configuration=_tiktok(stores, "videos", 10, calls=calls),
        ideal_seconds=stores * 25 / calls * 60,
        reach=1.05,
        rows=("SELECT count(*) FROM tiktok.videos", stores * 500),
    )


def shared_videos(small: bool) -> Stage:
    """The same for eight daemons, which all know the one limit only."""
    whole = many_videos(small=False)
    stores = 30 if small else 300
    upstream = tiktok.TikTok(
        _stores(stores, 500), allowed=Allowed("sliding", 600, 60.0), video_seconds=0.1
    )
    return attrs.evolve(
        whole,
        upstream=upstream,
        judge=upstream.judges["video_list"],
        configuration=_tiktok(stores, "videos", 4, calls=600),
        ideal_seconds=stores * 25 / 600 * 60,
        reach=1 / 0.9,
        refused_max=1e-9,
        rows=("SELECT count(*) FROM tiktok.videos", stores * 500),
        daemons=8,
    )


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


# --- Nhanh ----------------------------------------------------------------------------------------


def one_chain(small: bool) -> Stage:
    """42,900 customers, a hundred a page, each page named by the one before."""
    return _nhanh(8_000 if small else 42_900, windows=1, reach=1.05)


def four_chains(small: bool) -> Stage:
    """The same through four disjoint filters, which the limit of 150 in 30 s slows down."""
    return _nhanh(20_000 if small else 42_900, windows=4, reach=1.1)


def _nhanh(customers: int, *, windows: int, reach: float) -> Stage:
    upstream = nhanh.Nhanh(
        {110668: customers}, allowed=Allowed("sliding", 150, 30.0), windows=windows
    )
    (judge,) = upstream.judges.values()
    calls = windows * math.ceil(customers / windows / nhanh.PAGE_MAX)
    latency = LATENCY_SECONDS
    last = (calls - 1) % 150 + 1  # calls of the last window, in flight side by side
    ideal = (
        calls * latency if windows == 1 else (calls - 1) // 150 * 30.0 + last * latency / windows
    )
    configuration = (
        f"[connectors.nhanh]\nwindows = {windows}\n[[connectors.nhanh.accounts]]\n"
        'name = "shop"\nbusiness_id = 110668\ntoken = "token-110668"\n'
    )
    return Stage(
        plugins={"nhanh": nhanh},
        host=nhanh.HOST,
        upstream=upstream,
        judge=judge,
        configuration=configuration
        + _job("nhanh", "customers", windows)
        + f"partitions_per_account = {windows}\n",
        rows=("SELECT count(*) FROM nhanh.customers", customers),
        ideal_seconds=ideal,
        reach=reach,
    )


# --- Cars -----------------------------------------------------------------------------------------

PER_PAGE = 1000
# Told and not told for how long. The network's jitter is 10 % of 0.2 s, up or down: below a tenth
# of the spacing of 1 s.
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
    pages = 150 if small else 190
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
    Scenario("300 stores, users 3 s each, 30 at once, no limit", "<= 31 s", users),
    Scenario("300 stores, videos 7 s each, 20 at once, no limit", "<= 108 s", videos),
    Scenario("300 stores x 500 videos, 600/min sliding", "<= 1.05x, < 1 % refused", many_videos),
    Scenario(
        "unknown limit, nothing announced", ">= 90 % within 60 s, < 2 % refused", unknown_limit
    ),
    Scenario("Nhanh, 42,900 customers, one chain at 0.2 s", "<= 1.05x, 0 while locked", one_chain),
    Scenario("Nhanh, four disjoint filters, 150 per 30 s", "<= 1.1x, 0 while locked", four_chains),
    Scenario("190,000 cars, 1,000 a page, 1/s token bucket", "<= 1.05x", feed_of_cars),
    Scenario("the same with spells of 429", "<= 1.1x, no page lost", cars_refused),
    Scenario("8 daemons share 600/min", "0 breaches, >= 90 % used", shared_videos),
)
