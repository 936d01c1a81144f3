"""What a run is given: its means, and what is wanted of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

import attrs
import trio

from syncd.clock import DatabaseClock
from syncd.commit import Target
from syncd.drift import Novelties
from syncd.events import Event
from syncd.http import Client, FetchHttp
from syncd.model import Account, Context, Mode, Partition, Quota, Request
from syncd.plugins import Pipeline
from syncd.progress import Bounds
from syncd.store.hops import Hops
from syncd.store.leases import Lease
from syncd.threads import Threads
from syncd.waiting import first_of


@attrs.frozen
class Draining:
    """Whether a run is to stop: its process drains, or nobody wants its account worked on."""

    events: tuple[trio.Event, ...]

    def is_set(self) -> bool:
        return any(event.is_set() for event in self.events)

    async def wait(self) -> None:
        """Wait for the first of them."""
        await first_of(*self.events)


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

    def context(self, partition: Partition, request: Request, http: FetchHttp) -> Context[Any, Any]:
        """Return what a function of the plugin is given."""
        return Context(
            http=http,
            account=self.account,
            settings=self.pipeline.instance.settings,
            session=self.session,
            partition=partition,
            request=request,
        )


@attrs.frozen
class Order:
    """What a job wants of its partitions."""

    job: str
    mode: Mode
    target: Target
    verify: bool = False  # take nothing for granted: every page is fetched, every row compared
    bounds: Bounds | None = None  # of a backfill
    failed_items_max: int | None = None  # of a pass; by default 100, or one in a hundred
    turn: tuple[int, int] | None = None  # which one of how many of its feed a partition is

    def at(self, turns: Mapping[str, tuple[int, int]], partition: Partition) -> Order:
        """Return the order as it goes to one partition."""
        return attrs.evolve(self, turn=turns.get(str(partition)))

    def names(self, lease: Lease) -> dict[str, Any]:
        """Return by what events name a run."""
        turn, turns = self.turn or (None, None)
        where = str(lease.partition)
        run_id = lease.run_id
        return {"run_id": run_id, "job": self.job, "partition": where, "turn": turn, "turns": turns}


def turns_of(partitions: Sequence[Partition]) -> dict[str, tuple[int, int]]:
    """Return by a partition's name which one of how many of its feed it is, in this order."""
    feeds: dict[str, list[str]] = {}
    for each in partitions:
        feeds.setdefault(each.feed, []).append(str(each))
    return {
        name: (number, len(names))
        for names in feeds.values()
        for number, name in enumerate(names, start=1)
        if len(names) > 1
    }
