"""A job that is run now: every partition of its streams is claimed, walked, given back."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

import attrs
import trio

from syncd import closing
from syncd.accounts import none_message
from syncd.building import Outfit, Place, expand, note_hindrance, outfitted, parked_message
from syncd.config import Job
from syncd.daemon import Process
from syncd.errors import (
    CursorExpired,
    PluginError,
    SourceError,
    StoreError,
    StoreUnavailable,
)
from syncd.events import LeaseWaiting
from syncd.expiring import tell_of_expiry
from syncd.flooding import Flood, flooded_message
from syncd.model import Mode, Partition
from syncd.progress import Bounds, Broke
from syncd.rounds import Judged, Trigger
from syncd.run import GIVE_BACK_SECONDS, Finished, claim, run_partition
from syncd.store import leases, registry, rounds
from syncd.verdicts import Result, Verdict, judged, verdict_of, verdict_on
from syncd.work import Order, Work, turns_of

LOOK_AGAIN_SECONDS = 0.5  # between two looks at a lease that another process holds
TELL_AGAIN_SECONDS = 5.0  # between two words about it
CURSORS_EXPIRED_MAX = 3  # passes begun anew in one job run: an upstream may expire them all


@attrs.frozen
class Share:
    """One partition of a job, with what its runs work with; it waits for those of some feeds.

    `effects` are the kinds that its rows may have.
    """

    partition: Partition
    work: Work
    order: Order
    after: frozenset[str] = frozenset()
    effects: frozenset[str] = frozenset()


async def run_job(
    process: Process,
    job: Job,
    *,
    mode: Mode,
    wait_seconds: float,
    verify: bool = False,
    bounds: Bounds | None = None,
) -> list[Result]:
    """Run every partition of a job once, due or not: a round of its own.

    `wait_seconds`: how long to wait for partitions that another process holds, and in a run when
    only waiting cursors remain. `verify`: compare every row with what its record says, also where
    the hashes say that nothing changed. `bounds`: of a backfill, for which feeds that can only be
    walked in full are left out. Derived feeds come after the feeds they read.

    Raises: what the plugin's lifespan and the database raise before the first run.
    """
    async with outfitted(process, job, patience_seconds=wait_seconds) as outfit:
        await tell_of_expiry(process, [outfit.instance])
        shares: list[Share] = []
        hindered = _invalid(outfit)  # by account: one word for each
        for (account, _), place in outfit.places.items():
            if account in hindered or (bounds and not _takes_part(place)):
                continue
            if reason := outfit.parked[account]:
                message = parked_message(outfit.instance.name, reason)
                hindered[account] = Result(place.work.client.name, "failed", message, None)
                continue
            try:
                found = await expand(process, place)
            except (SourceError, PluginError) as error:
                await note_hindrance(process, place, error)
                where = str(attrs.evolve(place.whole, feed="*"))
                hindered[account] = Result(where, verdict_on(error), str(error), None)
                continue
            order = place.order(job, mode=mode, verify=verify, bounds=bounds)
            produced = frozenset(place.target.outbox.kinds)
            shares += [Share(part, place.work, order, place.after, produced) for part in found]
        parts = [share.partition for share in shares]
        turns = turns_of(parts)
        shares = [attrs.evolve(s, order=s.order.at(turns, s.partition)) for s in shares]
        ids = await process.hops.run(registry.register_partitions, parts)
        flood = Flood(process, [outfit])
        await flood.declare(outfit)
        trigger: Trigger = "backfill" if bounds else "run"
        by_id = dict(zip(ids, shares, strict=True))
        partitions = _Partitions(process, job, by_id, wait_seconds, flood)
        return await _round(process, job, partitions, [*hindered.values()], trigger)


def _takes_part(place: Place) -> bool:
    """Return whether a backfill is anything to a feed: also to what is made of what it brings."""
    feed = place.work.pipeline.feed
    return feed.incremental or bool(feed.derived and place.after)


def _invalid(outfit: Outfit) -> dict[str, Result]:
    """Return the word for each account of the control tables that cannot be worked on.

    Raises: `ConfigError` where there is no account at all.
    """
    effective = outfit.effective
    if not outfit.instance.accounts and not effective.refused:
        raise none_message(outfit.instance)
    return {
        name: Result(str(Partition(outfit.instance.name, name, "*")), "failed", error, None)
        for name, error in effective.refused.items()
    }


async def _round(
    process: Process,
    job: Job,
    partitions: _Partitions,
    hindered: list[Result],
    trigger: Trigger,
) -> list[Result]:
    """Run the partitions of a job; the history gets a row for all of them together."""
    round_id = await process.hops.run(
        rounds.begin_command,
        job.name,
        trigger=trigger,
        owner=process.identity.id,
        partitions=len(partitions) + len(hindered),
    )
    ended = Judged("cancelled", "cut short", len(partitions) + len(hindered), 0)
    try:
        results = hindered + await partitions.go(round_id)
        ended = judged(results, job.thresholds)
    finally:
        with (
            trio.CancelScope(shield=True, deadline=closing.deadline(GIVE_BACK_SECONDS)),
            suppress(StoreError),
        ):
            await process.hops.run(rounds.end_command, round_id, ended)
    return results


class _Partitions:
    """Claims and runs a job's partitions until each has its result."""

    def __init__(
        self,
        process: Process,
        job: Job,
        shares: Mapping[int, Share],
        wait_seconds: float,
        flood: Flood,
    ) -> None:
        self._process = process
        self._flood = flood
        self._job = job
        self._shares = shares
        self._round_id = 0
        self._wait_seconds = wait_seconds
        self._pending = set(shares)
        self._running: dict[int, str] = {}  # partition id -> account
        self._results: dict[int, Result] = {}
        self._expired: dict[int, int] = {}
        self._changed = trio.Event()
        self._held_since: float | None = None
        self._told_again_at = 0.0
        self._store_trouble: StoreUnavailable | None = None

    def __len__(self) -> int:
        return len(self._shares)

    async def go(self, round_id: int) -> list[Result]:
        self._round_id = round_id
        async with trio.open_nursery() as runs:
            try:
                await self._claim_all(runs)
            except StoreUnavailable as error:
                self._store_trouble = error  # what runs may still end well
        verdict: Verdict = "unavailable" if self._store_trouble else "drained"
        for number in sorted(self._pending):
            self._settle(number, verdict, str(self._store_trouble or "stopped before its claim"))
        return [self._results[number] for number in self._shares]

    async def _claim_all(self, runs: trio.Nursery) -> None:
        while self._pending and not self._process.draining.is_set() and not self._store_trouble:
            await self._flood.look()
            if await self._start_one(runs):
                self._held_since = None
            elif self._running:
                await self._wait()
            else:
                await self._look_at_obstacles()

    def _free(self) -> list[int]:
        """Return the partitions that may be claimed now: of accounts with a free slot."""
        if len(self._running) >= self._job.concurrency:
            return []
        busy = list(self._running.values())
        return [
            number
            for number in self._ready() - set(self._running)
            if busy.count(self._account(number)) < self._job.partitions_per_account
        ]

    def _ready(self) -> set[int]:
        """Return the pending partitions that wait for no other one's result."""
        feeds = {self._shares[number].partition.feed for number in self._pending}
        return {n for n in self._pending if feeds.isdisjoint(self._shares[n].after)}

    def _account(self, number: int) -> str:
        return self._shares[number].partition.account

    async def _start_one(self, runs: trio.Nursery) -> bool:
        free = self._free()
        if not free:
            return False
        claimed = await claim(
            self._process.hops,
            self._process.clock,
            self._process.emit,
            owner=self._process.identity.id,
            job=self._job.name,
            lease_seconds=self._process.keeper.lease_seconds,
            ids=free,
            early=True,
            flooded=self._flood.kinds,
            round_id=self._round_id,
        )
        if claimed is None:
            return False
        lease, sent_at = claimed
        self._running[lease.partition_id] = lease.partition.account
        runs.start_soon(self._run_one, lease, sent_at)
        return True

    async def _run_one(self, lease: leases.Lease, sent_at: float) -> None:
        number, share = lease.partition_id, self._shares[lease.partition_id]
        try:
            finished = await run_partition(
                share.work, share.order, lease, keeper=self._process.keeper, sent_at=sent_at
            )
        finally:
            del self._running[number]
            self._changed.set()
        verdict = verdict_of(finished)
        match finished.ended:
            case Broke(error=StoreUnavailable() as error):
                self._store_trouble = error  # and of the other partitions: none is claimed
            case Broke(error=CursorExpired()):
                self._expired[number] = self._expired.get(number, 0) + 1
                if self._expired[number] >= CURSORS_EXPIRED_MAX:
                    verdict = "failed"
        if verdict is not None:
            self._settle(number, verdict, finished.next.message if finished.next else "", finished)

    def _settle(
        self, number: int, verdict: Verdict, message: str, finished: Finished | None = None
    ) -> None:
        self._pending.discard(number)
        where = str(self._shares[number].partition)
        self._results[number] = Result(where, verdict, message, finished)

    async def _wait(self) -> None:
        self._changed = trio.Event()
        with trio.move_on_after(LOOK_AGAIN_SECONDS):
            await self._changed.wait()

    async def _look_at_obstacles(self) -> None:
        """Nothing can be claimed, nothing runs: settle what is parked, wait for what is held."""
        if self._held_since is None:
            self._held_since = trio.current_time()
            self._told_again_at = 0.0
        waited = trio.current_time() - self._held_since
        found = await self._process.hops.run(leases.obstacles, sorted(self._ready()))
        for each in found:
            where = str(self._shares[each.partition_id].partition)
            if each.parked is not None:
                message = parked_message(self._job.connector, each.parked)
                self._settle(each.partition_id, "failed", message)
                continue
            if each.held and waited >= self._told_again_at:  # before giving up on it, too
                self._told_again_at = waited + TELL_AGAIN_SECONDS
                self._process.emit(LeaseWaiting(where, each.holder, round(each.lease_seconds, 1)))
            share = self._shares[each.partition_id]
            if waited >= self._wait_seconds and (kinds := share.effects & {*self._flood.kinds}):
                most = self._process.config.daemon.effects_max
                self._settle(each.partition_id, "throttled", flooded_message(kinds, most))
            elif waited >= self._wait_seconds:
                message = f"{each.holder} held it for longer than {self._wait_seconds:.0f} s"
                self._settle(each.partition_id, "held", message)
        await self._wait()
