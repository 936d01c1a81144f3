"""What a seed stands for: the size of its world, and what befalls it when. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Literal

import attrs

Kind = Literal["crash", "death", "lease", "outage", "drain", "configuration"]
KINDS: tuple[Kind, ...] = Kind.__args__  # type: ignore[attr-defined]
Main = Literal["tiktok", "nhanh", "chain"]  # upstreams with accounts, or from mail to trackers
MAINS: tuple[Main, ...] = ("tiktok", "nhanh")
Beside = Literal["cars", "unknown", "shop"]  # without; a shop's rows have effects
BESIDES: tuple[Beside, ...] = ("cars", "unknown")

ACCOUNTS = (3, 12)
PAGES_MAX = 60  # of all rounds together
PAGES_OF_A_ROUND = 14
BESIDE_SHARE = 0.3  # of the worlds have another upstream, without accounts
SHOP_SHARE = 0.25  # of the worlds have a shop instead
POST_CHANCES = (0.1, 0.4, 0.7)  # of a delivery to go wrong at the provider
TROUBLES_MAX = 3
TROUBLED_SECONDS = 8.0  # in which troubles begin
CHAIN_TROUBLES_MAX = 5
CHAIN_TROUBLED_SECONDS = 16.0  # by then trackers are registered, and told of
CHAIN_PAGES_MAX = 300  # a cursor for each conversation and tracker, in each round
COMPANIES_SHARE = 0.4  # of the chains have two companies
MERGES_SHARE = 0.5  # have conversations that are merged, or deleted
MERGE_CHANCES = (0.2, 0.5)  # of what is told of to be gone by the time it is asked for
REFUSALS_SHARE = 0.4  # have threads that the model refuses
AWAY_SHARE = 0.3  # have a model that is away for a while
SPENT_SHARE = 0.3  # use up what was paid for, and are parked
QUOTA_SHARE = 0.3  # come to the end of Ship24's quota
QUOTA_STATUSES = (402, 403, 405, 429)  # pages of the documentation differ
CALM_SHARE = 0.1  # of the worlds: nothing befalls them, so the schedule's law is strict


@attrs.frozen
class Trouble:
    """Something that befalls the daemon in a slot."""

    kind: Kind
    at: float
    slot: int


@attrs.frozen
class Course:
    """What goes on in a chain beside its daemons. Times are virtual seconds, `None`: never."""

    companies: int = 1
    merge_chance: float = 0.0
    refusals: bool = False
    away: tuple[float, float] | None = None  # from when and until when the model is
    spent_at: float | None = None  # what was paid for the model is used up, until somebody pays
    quota: int | None = None  # trackers that Ship24 may yet make
    quota_by_item: bool = False
    quota_status: int = 403
    period_at: float = 0.0  # when a new period of the quota begins


@attrs.frozen
class Plan:
    """A world, before anything has happened in it."""

    seed: int
    scene: Main
    pages: Sequence[int]  # of each account
    calls: int  # that one daemon may make in a window
    beside: Beside | None
    beside_pages: int
    daemons: int
    concurrency: int
    every_seconds: float
    look_seconds: float
    lease_seconds: float
    latency_seconds: float  # of a request
    weather_chance: float
    store_chance: float
    dies_at: int | None  # the transaction in which the first daemon dies
    troubles: Sequence[Trouble]
    heal_at: float
    post_chance: float = 0.0  # of a delivery of effects to go wrong at the provider
    mails: int = 0  # conversations that a chain begins with
    trackers_before: int = 0  # that it has nothing to do with
    model_chance: float = 0.0  # of a question to a model to go wrong
    incremental: bool = False  # the rounds of a chain
    course: Course = attrs.field(factory=Course)
    pages_max: int = PAGES_MAX

    @property
    def calm(self) -> bool:
        return not (self.troubles or self.dies_at or self.weather_chance or self.store_chance)


def draw(seed: int) -> Plan:
    """Draw a world from a seed."""
    plan = _drawn(seed)
    random = Random(f"shop {seed}")  # its own, so that the other worlds stay as they were
    if random.random() >= SHOP_SHARE:
        return plan
    chance = random.choice(POST_CHANCES)
    pages = random.randint(1, 3)
    return attrs.evolve(
        plan, beside="shop", beside_pages=pages, every_seconds=300.0, post_chance=chance
    )


def draw_chain(seed: int) -> Plan:
    """Draw a world from mail to trackers from a seed."""
    plan, random = _drawn(seed), Random(f"chain {seed}")
    calm = plan.calm
    kinds = [] if calm else random.choices(KINDS, k=random.randint(2, CHAIN_TROUBLES_MAX))
    daemons = random.randint(2 if "lease" in kinds else 1, 3)
    return attrs.evolve(
        plan,
        scene="chain",
        pages=(1,),
        calls=random.randint(15, 30),
        beside=None,
        daemons=daemons,
        every_seconds=random.choice((10.0, 15.0, 20.0)),
        troubles=_troubles(random, kinds, daemons, within_seconds=CHAIN_TROUBLED_SECONDS),
        dies_at=random.randint(20, 200) if "death" in kinds else None,
        heal_at=CHAIN_TROUBLED_SECONDS + 2 * plan.lease_seconds,
        post_chance=random.choice(POST_CHANCES),
        mails=random.randint(6, 12),
        trackers_before=random.randint(0, 3),
        model_chance=0.0 if calm else random.choice((0.0, 0.2, 0.4)),
        incremental=random.random() < 0.5,
        pages_max=CHAIN_PAGES_MAX,
        course=_course(Random(f"course {seed}"), calm=calm),
    )


def _course(random: Random, *, calm: bool) -> Course:
    """Draw what happens in a chain; in a calm one only what fails no run."""
    away_at = random.uniform(0.0, CHAIN_TROUBLED_SECONDS)
    away = (away_at, away_at + random.uniform(3.0, 12.0))
    drawn = Course(
        companies=2 if random.random() < COMPANIES_SHARE else 1,
        merge_chance=random.choice(MERGE_CHANCES) if random.random() < MERGES_SHARE else 0.0,
        refusals=random.random() < REFUSALS_SHARE,
        away=away if random.random() < AWAY_SHARE else None,
        spent_at=random.uniform(0.0, 12.0) if random.random() < SPENT_SHARE else None,
        quota=random.randint(0, 4) if random.random() < QUOTA_SHARE else None,
        quota_by_item=random.random() < 0.5,
        quota_status=random.choice(QUOTA_STATUSES),
        period_at=random.uniform(15.0, 60.0),
    )
    return attrs.evolve(drawn, away=None, spent_at=None, quota=None) if calm else drawn


Family = Literal["any", "chain"]  # of worlds
DRAWN: Mapping[Family, Callable[[int], Plan]] = {"any": draw, "chain": draw_chain}


def _troubles(
    random: Random, kinds: Sequence[Kind], daemons: int, *, within_seconds: float
) -> Sequence[Trouble]:
    troubles = [
        Trouble(kind, round(random.uniform(0.5, within_seconds), 3), random.randrange(daemons))
        for kind in kinds
        if kind != "death"
    ]
    return sorted(troubles, key=lambda trouble: trouble.at)


def _drawn(seed: int) -> Plan:
    random = Random(f"plan {seed}")
    latency_seconds = random.choice((0.2, 0.5, 1.0))
    lease_seconds = random.choice((6.0, 9.0))
    calm = random.random() < CALM_SHARE
    kinds = [] if calm else random.choices(KINDS, k=random.randint(1, TROUBLES_MAX))
    # A lease is lost to somebody else.
    daemons = random.randint(2 if "lease" in kinds else 1, 3)
    beside = random.choice(BESIDES) if random.random() < BESIDE_SHARE else None
    troubles = _troubles(random, kinds, daemons, within_seconds=TROUBLED_SECONDS)
    return Plan(
        seed=seed,
        scene=random.choice(MAINS),
        pages=_pages(random),
        calls=random.randint(5, 15),
        beside=beside,
        beside_pages=random.randint(1, 3),
        daemons=daemons,
        concurrency=random.randint(2, 4),
        # Two upstreams seldom end together, and rounds of the one that waits cost time.
        every_seconds=300.0 if beside else float(random.choice((20, 60, 300))),
        look_seconds=random.choice((4.0, 8.0)),
        lease_seconds=lease_seconds,
        latency_seconds=latency_seconds,
        weather_chance=0.0 if calm else random.choice((0.0, 0.05, 0.15)),
        store_chance=0.0 if calm else random.choice((0.0, 0.02, 0.05)),
        dies_at=random.randint(10, 80) if "death" in kinds else None,
        troubles=troubles,
        heal_at=TROUBLED_SECONDS + 2 * lease_seconds,
    )


def _pages(random: Random) -> tuple[int, ...]:
    """Draw how many pages each account has: many small ones are likelier than a few large ones."""
    least, most = ACCOUNTS
    number = min(random.randint(least, most), random.randint(least, most))
    pages = [1] * number
    left = random.randint(0, PAGES_OF_A_ROUND - number)
    if random.random() < 0.4:
        pages[random.randrange(number)] += left  # one huge account
        return tuple(pages)
    for _ in range(left):
        pages[random.randrange(number)] += 1
    return tuple(pages)
