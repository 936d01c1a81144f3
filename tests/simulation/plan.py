"""What a seed stands for: the size of its world, and what befalls it when. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Literal

import attrs

Kind = Literal["crash", "death", "lease", "outage", "drain", "configuration"]
KINDS: tuple[Kind, ...] = Kind.__args__  # type: ignore[attr-defined]
Main = Literal["tiktok", "nhanh"]  # upstreams with accounts
MAINS: tuple[Main, ...] = Main.__args__  # type: ignore[attr-defined]
Beside = Literal["cars", "unknown"]  # without
BESIDES: tuple[Beside, ...] = Beside.__args__  # type: ignore[attr-defined]

ACCOUNTS = (3, 12)
PAGES_MAX = 60  # of all rounds together
PAGES_OF_A_ROUND = 14
BESIDE_SHARE = 0.3  # of the worlds have another upstream, without accounts
TROUBLES_MAX = 3
TROUBLED_SECONDS = 8.0  # in which troubles begin
CALM_SHARE = 0.1  # of the worlds: nothing befalls them, so the schedule's law is strict


@attrs.frozen
class Trouble:
    """Something that befalls the daemon in a slot."""

    kind: Kind
    at: float
    slot: int


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

    @property
    def calm(self) -> bool:
        return not (self.troubles or self.dies_at or self.weather_chance or self.store_chance)


def draw(seed: int) -> Plan:
    """Draw a world from a seed."""
    random = Random(f"plan {seed}")
    latency_seconds = random.choice((0.2, 0.5, 1.0))
    lease_seconds = random.choice((6.0, 9.0))
    calm = random.random() < CALM_SHARE
    kinds = [] if calm else random.choices(KINDS, k=random.randint(1, TROUBLES_MAX))
    # A lease is lost to somebody else.
    daemons = random.randint(2 if "lease" in kinds else 1, 3)
    beside = random.choice(BESIDES) if random.random() < BESIDE_SHARE else None
    troubles = [
        Trouble(kind, round(random.uniform(0.5, TROUBLED_SECONDS), 3), random.randrange(daemons))
        for kind in kinds
        if kind != "death"
    ]
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
        troubles=sorted(troubles, key=lambda trouble: trouble.at),
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
