"""One run of one partition. Read this first.

    A run takes the lease on one partition and walks its pass: it fetches the pages that the
    frontier names (several at once where the feed allows), transforms their records into a batch,
    and writes the batch and the frontier's next state in one PostgreSQL transaction, until the
    frontier is empty.

    A cursor is closed only in the transaction that writes the records of its page, and only under
    the lease that is still ours.

Then `walk` (the fetchers, the batcher, the writers), `frontier` (which cursor is next), `progress`
(which pass, and where the end leads), `commit` (the transaction), and `hookspecs` with one small
plugin. `deriving` walks a pass that has one cursor and no page.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from hashlib import blake2b
from typing import Any
from uuid import uuid4

import attrs
import msgspec
import trio

from syncd import closing, faults
from syncd.absences import Absences, judged_tables
from syncd.asking import begun
from syncd.clock import DatabaseClock
from syncd.commit import Committer
from syncd.conditional import Conditional
from syncd.deriving import derive
from syncd.errors import CommitUnknown, CursorExpired, LeaseLost, StoreError, SyncdError
from syncd.events import CommitLost, Event, PartitionParked, PassSuperseded, RunFinished, RunStarted
from syncd.events import LeaseLost as LeaseLostEvent
from syncd.limits.fair import Traffic
from syncd.model import Mode, Request, Slice
from syncd.nodes import roots
from syncd.plugins import Pipeline
from syncd.progress import (
    Anew,
    Broke,
    Drained,
    Ended,
    Fingerprints,
    Leave,
    Next,
    OnlyWaiting,
    PassEnded,
    Resume,
    Wanted,
    after,
    choose_pass,
    does_for,
)
from syncd.store import leases, passes, validators
from syncd.store.forgetting import Told, forget
from syncd.store.hops import Hops
from syncd.store.keeper import LeaseKeeper, Tenure
from syncd.store.leases import Lease
from syncd.store.passes import ActivePass
from syncd.tally import Tally, bills
from syncd.validators import fingerprint_of, may_keep
from syncd.walk import Walker
from syncd.work import Order, Work

LEAVE_SECONDS = 60.0  # until a daemon of the newer connector has had the chance to take it
GIVE_BACK_SECONDS = 10.0  # for the last transaction of a run that is being cancelled


@attrs.frozen
class Finished:
    """How a run ended; `next` is `None` where nothing could be written about it."""

    lease: Lease
    ended: Ended
    next: Next | None
    tally: Tally
    seconds: float

    def event(self, job: str) -> RunFinished:
        unknown = isinstance(self.ended, Broke)
        said = str(self.ended.error) if isinstance(self.ended, Broke) else ""
        return RunFinished(
            run_id=self.lease.run_id,
            job=job,
            partition=str(self.lease.partition),
            status=self.next.status if self.next else "lost" if unknown else "failed",
            message=self.next.message if self.next else said,
            duration_seconds=round(self.seconds, 3),
            **self.tally.counts(),
        )


async def claim(
    hops: Hops, clock: DatabaseClock, emit: Callable[[Event], None], *, job: str, **asked: Any
) -> tuple[Lease, float] | None:
    """Take the lease on the most urgent partition of those asked for (see `leases.claim`).

    Answers with the moment the claim was sent, too: from then on the lease is ours. A claim whose
    COMMIT was lost is forgone, whether it happened or not.
    """
    sent_at, token = trio.current_time(), uuid4()
    try:
        found = await hops.run(leases.claim, token=token, job=job, free=1, **asked)
    except CommitUnknown as error:
        emit(CommitLost(f"a claim for {job}", str(error)))
        await hops.run(leases.forgo, token)
        return None
    if not found:
        return None
    clock.observe(found[0].claimed_at)
    faults.point("claimed")
    return found[0], sent_at


async def run_partition(
    work: Work, order: Order, lease: Lease, *, keeper: LeaseKeeper, sent_at: float
) -> Finished:
    """Walk the pass of a leased partition as far as it goes now, and give the lease back."""
    started = trio.current_time()
    tally = Tally()
    ended: Ended | None = None
    decided: Next | None = None  # as it stays where giving back takes too long
    with keeper.holding(lease, sent_at) as tenure:
        try:
            ended = await walk_pass(work, order, tenure, tally)
        except SyncdError as error:
            ended = Broke(error)
        finally:
            ended = _told(work, tenure, ended)
            with trio.CancelScope(shield=True, deadline=closing.deadline(GIVE_BACK_SECONDS)):
                decided = await give_back(work, order, lease, ended=ended, tally=tally)
            finished = Finished(lease, ended, decided, tally, trio.current_time() - started)
            for event in (*bills(tally, lease, order.job), finished.event(order.job)):
                work.emit(event)
    return finished


def _told(work: Work, tenure: Tenure, ended: Ended | None) -> Ended:
    """Return how a run really ended; `None` stands for one that was cut short.

    A lease is lost by the keeper's word, which cuts the run, or by the fence's.
    """
    lease = tenure.lease
    if tenure.lost.is_set():
        return Broke(lease.lost())
    if isinstance(ended, Broke) and isinstance(ended.error, LeaseLost):
        work.emit(LeaseLostEvent(str(lease.partition), lease.epoch))
    if ended is not None:
        return ended
    if trio.current_effective_deadline() == -math.inf:
        return Drained()  # cancelled: the deadline of a drain, or a second signal
    return Broke(SyncdError(str(lease.partition), "the run broke", "see the traceback"))


async def walk_pass(work: Work, order: Order, tenure: Tenure, tally: Tally) -> Ended:
    """Choose the pass and walk it to its end; before a backfill perhaps another one."""
    lease = tenure.lease
    wanted = wanted_of(work.pipeline, order, lease.partition.slice)
    absences = Absences.of(work, order, lease)
    await absences.finish()
    while True:
        active = await _take_up(work, lease, wanted, absences)
        if isinstance(active, Leave):
            return OnlyWaiting(LEAVE_SECONDS, message=active.reason)
        ended = await _walk(work, order, tenure, active, wanted, absences=absences, tally=tally)
        going_on = isinstance(ended, PassEnded) and ended.status != "failed"
        if not going_on or does_for(wanted, active.mode, active.since, active.until):
            return ended


async def _walk(
    work: Work,
    order: Order,
    tenure: Tenure,
    active: ActivePass,
    wanted: Wanted,
    *,
    absences: Absences,
    tally: Tally,
) -> Ended:
    """Walk a pass, and clean up what ended passes left in the frontier."""
    lease = tenure.lease
    work.emit(
        RunStarted(
            **order.names(lease),
            pass_number=active.number,
            mode=active.mode,
            resumed=active.resumed,
            epoch=lease.epoch,
        )
    )
    if work.pipeline.derivation is not None:
        ended = await derive(work, order, tenure, active, wanted=wanted, tally=tally)
    else:
        ended = await _walk_pages(
            work, order, tenure, active, wanted, absences=absences, tally=tally
        )
    await _forget(work, lease, active, ended, judged=absences.tables)
    return ended


async def _walk_pages(
    work: Work,
    order: Order,
    tenure: Tenure,
    active: ActivePass,
    wanted: Wanted,
    *,
    absences: Absences,
    tally: Tally,
) -> Ended:
    """Walk what is fetched, and judge by it what is gone."""
    lease, collecting = tenure.lease, absences.collecting(active.mode)
    asks = not order.verify and not collecting  # a page that is not sent names nobody
    conditional = await _conditional(work, order, lease, active=active, wanted=wanted, asks=asks)
    committer = Committer(
        hops=work.hops,
        emit=work.emit,
        threads=work.threads,
        novelties=work.novelties,
        lease=lease,
        pass_id=active.id,
        target=order.target,
        guarded=not version_rule_changed(lease.covered, wanted, active.mode),
        verify=order.verify,
        safety_lag_seconds=work.pipeline.feed.safety_lag_seconds,
        collecting=collecting,
        mask=work.client.mask,
        under=conditional.under,
    )
    walker = Walker(
        work,
        tenure,
        active,
        order=order,
        wanted=wanted,
        committer=committer,
        conditional=conditional,
        tally=tally,
    )
    return await absences.judge(await walker.go(), active.mode)


async def _conditional(
    work: Work, order: Order, lease: Lease, *, active: ActivePass, wanted: Wanted, asks: bool
) -> Conditional:
    """Return what a pass asks conditionally with, as far as it does."""
    feed, under = work.pipeline.feed, None
    if may_keep(feed, active.mode):
        tables = [(table.schema, table.name) for table in order.target.tables.values()]
        files = await work.hops.run(validators.storage, tables)
        settings = repr((work.pipeline.instance.settings, work.account.settings))  # no secrets
        fingerprint = fingerprint_of(wanted, files, settings=settings)
        under = validators.Under(lease.partition_id, fingerprint)
    traffic: Traffic = "backfill" if active.mode == "backfill" else "sync"
    return Conditional(work.client, feed, work.hops, under, asks=asks, traffic=traffic)


async def _forget(
    work: Work, lease: Lease, active: ActivePass, ended: Ended, *, judged: Collection[str]
) -> None:
    """Delete what no pass needs any more, some rows at a time."""
    if isinstance(ended, Broke) and isinstance(ended.error, CursorExpired):
        await work.hops.run(passes.supersede, lease)
    told = None
    if active.mode == "full" and isinstance(ended, PassEnded):
        told = Told(sorted(judged), active.id if ended.status != "failed" else None)
    while await work.hops.run(forget, lease, told):
        pass


def wanted_of(pipeline: Pipeline, order: Order, part: Slice) -> Wanted:
    """Return what the code and configuration of this process want of a pass.

    The request fingerprint covers what cursors mean: where it differs, an open pass cannot be
    gone on with.
    """
    instance, feed = pipeline.instance, pipeline.feed
    shaping = {
        name: getattr(instance.settings, name) for name in instance.connector.request_settings
    }
    meaning: list[object] = [feed.paging_version, shaping, part.name, part.settings]
    if judged := judged_tables(order.target.tables):
        # A pass that goes on must have noted its keys from its beginning, and without a gap.
        meaning.append({name: table.on_absent for name, table in judged.items()})
    encoded = msgspec.json.encode(meaning, order="sorted")
    return Wanted(
        mode=order.mode,
        request_fingerprint=blake2b(encoded, digest_size=16).hexdigest(),
        row_fingerprints=order.target.row_fingerprints,
        connector_version=instance.connector.version,
        resumable_seconds=feed.resumable_seconds,
        verify=order.verify,
        bounds=order.bounds,
        failed_items_max=order.failed_items_max,
    )


def version_rule_changed(covered: Fingerprints, wanted: Wanted, mode: Mode) -> bool:
    """Return whether this full pass writes without the version guard.

    Versions made by another rule do not compare: the guard would keep every old row.
    """
    return mode == "full" and any(
        stream in covered and covered[stream]["version_rule"] != print_["version_rule"]
        for stream, print_ in wanted.row_fingerprints.items()
    )


async def _take_up(
    work: Work, lease: Lease, wanted: Wanted, absences: Absences
) -> ActivePass | Leave:
    """Go on with the open pass, or begin one."""
    known = await work.hops.run(passes.open_pass, lease)
    decided = choose_pass(
        known, wanted, watermark=lease.watermark, covered=lease.covered, now=work.clock.now()
    )
    match decided:
        case Leave():
            return decided
        case Resume(open_pass=known):
            return await work.hops.run(passes.resume, lease, known)
        case Anew():
            if known is not None:
                reason = decided.superseded or ""
                work.emit(PassSuperseded(str(lease.partition), known.number, reason))
            return await _begin(work, lease, decided, wanted, absences)


async def _begin(
    work: Work, lease: Lease, anew: Anew, wanted: Wanted, absences: Absences
) -> ActivePass:
    """Ask the plugin for the first cursors, and begin the pass with them."""
    now = work.clock.now()
    until = anew.until or now
    expected = await work.hops.run(passes.expected, lease, anew.mode)
    request = Request(anew.mode, anew.since, until, expected)
    answered = begun(work.pipeline, lease.partition, request, now)
    if anew.mode == "backfill":  # also where it has to walk everything: it moves no watermark
        answered = attrs.evolve(answered, mode="backfill")
    return await work.hops.run(
        passes.begin,
        lease,
        anew,
        answered=answered,
        wanted=wanted,
        nodes=roots(answered.cursors),
        until=until,
        collecting=absences.collecting(answered.mode),
    )


async def give_back(
    work: Work, order: Order, lease: Lease, *, ended: Ended, tally: Tally
) -> Next | None:
    """Give the lease back and write where the partition goes from here.

    A lost lease writes nothing. A commit of unknown outcome lets the lease run out: the next claim
    waits until the old backend is gone, and reads the frontier as it then is.
    """
    decided = after(
        ended,
        lease.standing,
        committed_pages=tally.pages,
        now=work.clock.now(),
        chance=work.random.random(),
    )
    try:
        if decided is None:
            await work.hops.run(leases.expire, lease)
            return None
        await work.hops.run(
            leases.release,
            lease,
            decided,
            job=order.job,
            committed=bool(tally.pages),
            effort=tally.effort(),
            error_class=type(ended.error).__name__ if isinstance(ended, Broke) else None,
        )
    except StoreError:
        return None  # the lease runs out by itself; whoever claims next marks the run as lost
    if parked := decided.park_partition or decided.park_account:
        work.emit(PartitionParked(str(lease.partition), parked))
    return decided
