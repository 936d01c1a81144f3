"""Which partition next: jobs become due, their partitions are claimed and run, rounds end.

Every daemon runs this loop over the same tables. A round is begun and ended by whichever daemon
looks first; each takes as many partitions as it has free slots, of each job and account.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any

import attrs
import trio

from syncd import resuming
from syncd.accounts import none_message
from syncd.building import Outfit, Place, expand, note_hindrance
from syncd.config import Job
from syncd.daemon import Process
from syncd.errors import PluginError, SourceError, StoreError, StoreExhausted
from syncd.events import (
    DbUnavailable,
    JobHindered,
    RoundFinished,
    RoundSkipped,
    RoundStarted,
)
from syncd.expiring import tell_of_expiry
from syncd.flooding import Flood
from syncd.following import Following
from syncd.model import Partition
from syncd.progress import Next
from syncd.resuming import Resuming
from syncd.rounds import (
    Begin,
    End,
    JobState,
    PassBy,
    Sequel,
    courtesy_seconds,
    fair_share,
    step,
)
from syncd.run import claim, run_partition
from syncd.schedule import first_moment, next_moment
from syncd.store import events, leases, registry, rounds
from syncd.store.leases import Lease
from syncd.waiting import cancel_at, first_of
from syncd.work import turns_of

LOOK_SECONDS = 1.0  # between two looks at the jobs, over the upper half of it (jitter)
UNREACHABLE_SECONDS = 5.0  # between two looks while PostgreSQL cannot be reached
EXHAUSTED_SECONDS = 30.0  # and while it lacks room, which takes an operator longer
SETTLE_SECONDS = 5.0  # between two looks at turns that nobody can take, and at what lags behind
FORGET_SECONDS = 3600.0  # between two looks at history past its retention


@attrs.define(eq=False)
class _Running:
    """A run of ours."""

    job: str
    account: str
    scope: trio.CancelScope


class Scheduler:
    """Keeps jobs: begins their rounds, runs what it can claim of them, ends their rounds."""

    def __init__(
        self,
        process: Process,
        outfits: Mapping[str, Outfit],
        *,
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        self._look_seconds = look_seconds
        self._process = process
        self._outfits = outfits
        self._running: set[_Running] = set()
        self._changed = trio.Event()
        self._retired = False
        self._settle_at: dict[str, float] = {}
        self._shares: dict[str, int | None] = {}  # of the running rounds, by job
        self._turns: dict[str, Mapping[str, tuple[int, int]]] = {}  # of rounds begun here, by job
        self._forget_at = trio.current_time()
        self._following = Following(process, outfits)
        self._instances = {name: outfit.instance.name for name, outfit in outfits.items()}
        self._flood = Flood(process, outfits.values())
        self._resuming = Resuming(process, outfits.values())
        self._try_at = trio.current_time()
        self._trying = trio.CancelScope()

    async def run(self) -> None:
        """Keep the jobs until the process drains, and wait for the runs to end."""
        async with trio.open_nursery() as runs:
            registered = False
            while not self._over():
                try:
                    if not registered:
                        await self._register()
                        registered = True
                    await self._look(runs)
                except StoreExhausted:  # which the store says by itself
                    await self._pause(EXHAUSTED_SECONDS)
                except StoreError as error:
                    self._process.emit(DbUnavailable(str(error)))
                    await self._pause(UNREACHABLE_SECONDS)
                else:
                    await self._pause(
                        self._look_seconds * (0.5 + self._process.random.random() / 2)
                    )

    def retire(self) -> None:
        """Claim nothing any more: another scheduler has taken over."""
        self._retired = True
        self._trying.cancel()
        self._changed.set()

    def _over(self) -> bool:
        return self._retired or self._process.draining.is_set()

    async def _pause(self, seconds: float) -> None:
        """Wait for a run to end (or note that one has since the last pause), a drain, a look."""
        with trio.move_on_after(seconds):
            await first_of(self._changed, self._process.draining)
        self._changed = trio.Event()

    async def _register(self) -> None:
        now = self._process.clock.now()
        first = {
            name: (outfit.job.schedule, first_moment(**_schedule(outfit.job), now=now))
            for name, outfit in self._outfits.items()
        }
        await self._process.hops.run(rounds.register, first)

    async def _look(self, runs: trio.Nursery) -> None:
        """Advance every job, then claim what there are free slots for."""
        slots = {name: outfit.job.concurrency for name, outfit in self._outfits.items()}
        states = await self._process.hops.run(rounds.states, slots, instances=self._instances)
        await self._following.follow(states)
        for state in states:
            await self._advance(state, self._outfits[state.name])
        await self._flood.look()
        for outfit in self._outfits.values():
            while await self._claim_one(outfit, runs):
                pass
        await self._forget()
        if trio.current_time() >= self._try_at:
            self._try_at = trio.current_time() + resuming.LOOK_SECONDS
            runs.start_soon(self._try_refused_accounts)

    # --- Rounds -----------------------------------------------------------------------------------

    async def _advance(self, state: JobState, outfit: Outfit) -> None:
        job = outfit.job
        self._process.clock.observe(state.now)
        self._share(state, outfit, owed=state.owed)
        if state.cancelled:
            for running in self._running:
                if running.job == job.name:
                    running.scope.cancel()
        match step(state, overlap=job.overlap):
            case Begin(trigger=trigger):
                await self._begin(state, outfit, trigger)
            case PassBy(reason=reason, queue=queue):
                seen = await self._process.hops.run(
                    rounds.pass_by, state, next_at=_next(job, state), queue=queue
                )
                if seen:
                    self._process.emit(RoundSkipped(job.name, reason, queue))
            case End(cancelled=cancelled):
                await self._end(state, outfit, cancelled=cancelled)
            case None:
                await self._settle(state, outfit)

    def _share(self, state: JobState, outfit: Outfit, *, owed: int) -> None:
        self._shares[state.name] = fair_share(
            state,
            owed,
            jitter_seconds=outfit.job.jitter_seconds,
            look_seconds=self._look_seconds,
        )

    async def _begin(self, state: JobState, outfit: Outfit, trigger: Any) -> None:
        job = outfit.job
        if not await self._process.hops.run(rounds.reserve, state):
            return  # another daemon looks up what its partitions are
        ids = await self._partitions(outfit)
        self._share(state, outfit, owed=len(ids))
        begun = await self._process.hops.run(
            rounds.begin,
            state,
            ids,
            trigger=trigger,
            next_at=_next(job, state),
            jitter_seconds=job.jitter_seconds,
            known=list(self._outfits),
        )
        if begun is not None:
            self._process.emit(RoundStarted(job.name, begun[1], trigger, len(ids)))

    async def _partitions(self, outfit: Outfit) -> list[int]:
        """List a job's partitions: where look-ups fail, those that are known have their turn."""
        parts: list[Partition] = []
        ids: list[int] = []
        if not outfit.instance.accounts:
            error = none_message(outfit.instance)
            self._process.emit(JobHindered(outfit.job.name, outfit.instance.name, str(error)))
        for place in outfit.places.values():
            if place.after:
                continue  # its turn comes later
            try:
                parts += await expand(self._process, place)
            except (SourceError, PluginError) as error:
                await note_hindrance(self._process, place, error)
                self._process.emit(JobHindered(outfit.job.name, str(place.whole), str(error)))
                ids += await self._process.hops.run(registry.known_partitions, place.whole)
        self._turns[outfit.job.name] = turns_of(parts)
        ids += await self._process.hops.run(registry.register_partitions, parts)
        await self._flood.declare(outfit)
        return ids

    async def _end(self, state: JobState, outfit: Outfit, *, cancelled: bool) -> None:
        job = outfit.job
        followers = {
            name: other.job.after
            for name, other in self._outfits.items()
            if job.name in other.job.after
        }
        judged = await self._process.hops.run(
            rounds.end,
            state,
            thresholds=job.thresholds,
            cancelled=cancelled,
            followers=followers,
            sequels=await self._sequels(outfit),
            known=list(self._outfits),
        )
        if judged is not None and state.started_at is not None:
            self._process.emit(
                RoundFinished(
                    job=job.name,
                    number=state.round_number or 0,
                    status=judged.status,
                    message=judged.message,
                    partitions=judged.partitions,
                    complete=judged.complete,
                    duration_seconds=round((state.now - state.started_at).total_seconds(), 3),
                )
            )

    async def _sequels(self, outfit: Outfit) -> list[Sequel]:
        """Return the partitions whose turn comes after others', each feed after what it reads."""
        later = outfit.later
        if not later:
            return []
        parts = [place.whole for place in later]
        ids = await self._process.hops.run(registry.register_partitions, parts)
        reads = {place.whole.feed: place.after for place in later}
        numbered = list(zip(parts, ids, strict=True))
        return [
            Sequel(feed, after, tuple(number for part, number in numbered if part.feed == feed))
            for feed, after in reads.items()
        ]

    async def _settle(self, state: JobState, outfit: Outfit) -> None:
        """Look now and then whether a round waits for what cannot come, and what lags behind."""
        between = state.round_id is None
        if self._busy_with(state.name) or (between and (state.paused or not outfit.later)):
            return
        now = trio.current_time()
        if now < self._settle_at.get(state.name, 0.0):
            return
        self._settle_at[state.name] = now + SETTLE_SECONDS
        if state.round_id is not None:
            await self._process.hops.run(rounds.settle_unable, state.round_id)
        else:
            sequels = await self._sequels(outfit)
            await self._process.hops.run(rounds.catch_up, state.name, sequels)

    async def _forget(self) -> None:
        if trio.current_time() < self._forget_at:
            return
        self._forget_at = trio.current_time() + FORGET_SECONDS
        history = self._process.config.daemon.history_seconds
        forgotten = rounds.FORGET_AT_ONCE
        while forgotten == rounds.FORGET_AT_ONCE:
            forgotten = await self._process.hops.run(rounds.forget, history_seconds=history)
        while await self._process.hops.run(events.forget) == events.FORGET_AT_ONCE:
            pass
        await tell_of_expiry(self._process, [each.instance for each in self._outfits.values()])

    async def _try_refused_accounts(self) -> None:
        """Try accounts again whose credential was refused; beside all else, for it asks them."""
        with trio.CancelScope() as self._trying:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(cancel_at, self._process.draining, nursery.cancel_scope)
                with suppress(StoreError):  # the next look comes
                    await self._resuming.try_again()
                nursery.cancel_scope.cancel()

    # --- Runs -------------------------------------------------------------------------------------

    def _busy_with(self, job: str) -> int:
        return sum(running.job == job for running in self._running)

    async def _claim_one(self, outfit: Outfit, runs: trio.Nursery) -> bool:
        """Claim and start the most urgent partition of a job, where a slot is free."""
        job = outfit.job
        process = self._process
        if self._over() or self._busy_with(job.name) >= job.concurrency:
            return False
        accounts = [each.account for each in self._running if each.job == job.name]
        full = {a for a in accounts if accounts.count(a) >= job.partitions_per_account}
        claimed = await claim(
            process.hops,
            process.clock,
            process.emit,
            owner=process.identity.id,
            job=job.name,
            lease_seconds=process.keeper.lease_seconds,
            wanted=True,
            busy=sorted(full),
            flooded=self._flood.kinds,
            courtesy_seconds=courtesy_seconds(
                running=self._busy_with(job.name),
                share=self._shares.get(job.name),
                look_seconds=self._look_seconds,
            ),
        )
        if claimed is None:
            return False
        lease, sent_at = claimed
        running = _Running(job.name, lease.partition.account, trio.CancelScope())
        self._running.add(running)
        runs.start_soon(self._run_one, running, outfit, lease, sent_at)
        return True

    async def _run_one(
        self, running: _Running, outfit: Outfit, lease: Lease, sent_at: float
    ) -> None:
        try:
            place = await self._place(outfit, lease)
            if place is None:
                await self._let_go(lease, outfit.job)
            else:
                order = place.order(outfit.job, mode=outfit.job.mode)
                order = order.at(self._turns.get(running.job, {}), lease.partition)
                keeper = self._process.keeper
                async with place.tenant.used():
                    with running.scope:
                        await run_partition(
                            place.work, order, lease, keeper=keeper, sent_at=sent_at
                        )
        except* Exception as group:  # noqa: BLE001  # a bug of ours: it costs its partition alone
            self._process.supervisor.note(f"run of {lease.partition}", group)
        finally:
            self._running.discard(running)
            self._changed.set()

    async def _place(self, outfit: Outfit, lease: Lease) -> Place | None:
        with suppress(StoreError):  # then it is not given back either: its lease runs out
            return await self._following.place(outfit, lease)
        return None

    async def _let_go(self, lease: Lease, job: Job) -> None:
        """Give a partition back whose account or feed is configured no more."""
        rest = Next("drained", None, lease.standing.failures, "it is configured no more")
        with suppress(StoreError):  # else the lease runs out by itself
            await self._process.hops.run(leases.let_go, lease, rest, job=job.name)


def _schedule(job: Job) -> dict[str, Any]:
    return {"every_seconds": job.every_seconds, "cron": job.cron, "timezone": job.timezone}


def _next(job: Job, state: JobState) -> datetime | None:
    """Return when a job is due next; a round that was asked for shifts no moment to come."""
    if state.next_at is not None and state.next_at > state.now:
        return state.next_at
    return next_moment(**_schedule(job), planned_at=state.next_at, now=state.now)
