"""What a run is given: its means, and what is wanted of it."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import attrs
import trio

from syncd.clock import DatabaseClock
from syncd.commit import Target
from syncd.drift import Novelties
from syncd.events import Event
from syncd.http import Client
from syncd.model import Account, Mode, Quota
from syncd.plugins import Pipeline
from syncd.progress import Bounds
from syncd.store.hops import Hops
from syncd.threads import Threads


@attrs.frozen
class Draining:
    """Whether a run is to stop: its process drains, or nobody wants its account worked on."""

    events: tuple[trio.Event, ...]

    def is_set(self) -> bool:
        return any(event.is_set() for event in self.events)

    async def wait(self) -> None:
        """Wait for the first of them."""
        async with trio.open_nursery() as nursery:
            for event in self.events:
                nursery.start_soon(_cancel_at, event, nursery.cancel_scope)


async def _cancel_at(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()


@attrs.frozen
class Work:
    """What a walk works with: all of it lives longer than the run."""

    pipeline: Pipeline
    account: Account[Any]
    client: Client
    quota: Quota
    hops: Hops
    clock: DatabaseClock
    random: Random
    emit: Callable[[Event], None]
    draining: Draining
    threads: Threads = attrs.field(factory=Threads)
    novelties: Novelties = attrs.field(factory=Novelties)
    session: object = None
    patience_seconds: float = 5.0  # how long to wait in the run when only waiting cursors remain


@attrs.frozen
class Order:
    """What a job wants of its partitions."""

    job: str
    mode: Mode
    target: Target
    verify: bool = False  # take nothing for granted: every page is fetched, every row compared
    bounds: Bounds | None = None  # of a backfill
    failed_items_max: int | None = None  # of a pass; by default 100, or one in a hundred
