"""What syncd is to reach, in virtual time: each scenario drives the real engine against a limit.

Ideal: the calls that had to succeed, divided by the allowed rate, and the seconds for which the
upstream was locked for everyone. The judge counts at arrival.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from random import Random

import attrs
import trio
from daemons import Means
from effect_stages import drained, tracked_mail
from judge import Judge
from stages import (
    Stage,
    cars_refused,
    feed_of_cars,
    four_chains,
    limited_mail,
    many_videos,
    one_chain,
    one_huge,
    one_search,
    one_store,
    shared_videos,
    unknown_limit,
    users,
    videos,
    week_of_mail,
)
from stand_ins import ship24
from transport import Network
from world import World, reset, simulated

from syncd.events import EffectDelivered, Event, RoundStarted, RunFinished


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
    networks = dict.fromkeys((stage.host, *stage.hosts), network)
    for host, upstream in stage.others.items():
        random = Random(f"network to {host} {seed}")
        networks[host] = Network(upstream, weather=stage.weather, random=random)
    world = World(
        dsn=dsn,
        seed=seed,
        plugins=stage.plugins,
        networks=networks,
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
    status, began_at = "never", 0.0
    ship24.enqueue(dsn, stage.queued)
    async with trio.open_nursery() as slots:
        for slot in range(stage.daemons):
            slots.start_soon(world.keep, slot)
        with trio.move_on_after(stage.seconds):
            status = await _ended(world, stage)
        ended_at = trio.current_time()
        world.end()
    if not stage.queued:
        ((began_at, _, __),) = world.told(RoundStarted)
    (row,) = world.rows(stage.rows[0])
    return status, ended_at - began_at, row["count"]


async def _ended(world: World, stage: Stage) -> str:
    """Wait for the end of the round, of the runs that are judged, or of all deliveries.

    Answer with how it was.
    """
    if stage.queued:
        return await _delivered(world, stage.queued)
    if not stage.beside:
        ended = await world.round_after("all", within_seconds=stage.seconds)
        return ended.status if ended else "never"
    left, over = set(stage.upstream.stores) - {stage.beside}, trio.Event()

    def hear(_: float, __: int, event: Event) -> None:
        if isinstance(event, RunFinished) and event.status == "complete":
            left.discard(event.partition.partition("[")[2].rstrip("]"))
            if not left:
                over.set()

    world.listeners.append(hear)
    await over.wait()
    return "complete"


async def _delivered(world: World, count: int) -> str:
    left, over = count, trio.Event()

    def hear(_: float, __: int, event: Event) -> None:
        nonlocal left
        if isinstance(event, EffectDelivered):
            left -= event.effects
            if left <= 0:
                over.set()

    world.listeners.append(hear)
    await over.wait()
    return "complete"


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


SCENARIOS: Sequence[Scenario] = (
    Scenario("300 stores, users 3 s each, 30 at once, no limit", "<= 31 s", users),
    Scenario("300 stores, videos 7 s each, 20 at once, no limit", "<= 108 s", videos),
    Scenario("300 stores x 500 videos, 600/min sliding", "<= 1.05x, < 1 % refused", many_videos),
    Scenario(
        "unknown limit, nothing announced", ">= 90 % within 60 s, < 2 % refused", unknown_limit
    ),
    Scenario("Nhanh, 42,900 customers, one chain at 0.2 s", "<= 1.05x, 0 while locked", one_chain),
    Scenario("Nhanh, 7,500 customers, one chain at 0.2 s", "<= 1.05x", one_store),
    Scenario("Nhanh, four disjoint filters, 150 per 30 s", "<= 1.1x, 0 while locked", four_chains),
    Scenario("190,000 cars, 1,000 a page, 1/s token bucket", "<= 1.05x", feed_of_cars),
    Scenario("the same with spells of 429", "<= 1.1x, no page lost", cars_refused),
    Scenario("1 store of 10,000 pages, 299 of 10, 600/min", "<= 1.05x for the 299", one_huge),
    Scenario("NPPES, 1,199 providers, 6 calls of 1-2 s, 3 in flight", "<= 1.1x", one_search),
    Scenario("Front, 700 conversations and a model, 150 ms a call", "<= 1.15x", week_of_mail),
    Scenario("Front, 700 conversations, 100/min", "<= 1.05x", limited_mail),
    Scenario("the same, tracked: Ship24 in 50 ms", "<= 1.15x", partial(tracked_mail, mode="up")),
    Scenario("the same, tracked: Ship24 in 30 s", "<= 1.15x", partial(tracked_mail, mode="slow")),
    Scenario("the same, tracked: Ship24 is down", "<= 1.15x", partial(tracked_mail, mode="down")),
    Scenario("Ship24, 10,000 queued trackers, 3 bulks/s", ">= 95 % used, 0 refused", drained),
    Scenario("8 daemons share 600/min", "0 breaches, >= 90 % used", shared_videos),
)
