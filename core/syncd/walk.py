"""The walk of one pass: fetchers, a batcher and writers between the frontier and PostgreSQL.

    frontier --cursors--> fetchers ==> batcher ==> writers --one transaction--> PostgreSQL
       ^                  (n in flight)            (2)                              |
       +---------------- cursors opened, then closed <------------------------------+

The channels hold nothing: when PostgreSQL is slow, fetching waits. What is decided stands
elsewhere, pure (`frontier`, `progress`); what is written stands in `commit`; here is what waits.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import trio

from syncd import faults
from syncd.asking import opened
from syncd.awaiting import Awaiting, Room
from syncd.batching import gather
from syncd.commit import Committer
from syncd.conditional import Conditional
from syncd.errors import (
    CommitUnknown,
    Deferred,
    LeaseLost,
    PagingLoop,
    PluginError,
    SourceError,
    StatementTimeout,
    StoreError,
    SyncdError,
    Unavailable,
    Unintelligible,
)
from syncd.events import BatchHalved, CommitLost, CursorFailed
from syncd.frontier import LOOK_MAX, Frontier, Numbered
from syncd.limits import pages_in_flight
from syncd.model import Cursor, Request
from syncd.nodes import AHEAD_MIN, PAGES_MAX, Node, Walked
from syncd.progress import (
    Broke,
    Drained,
    Ended,
    GiveUp,
    OnlyWaiting,
    Wanted,
    after_failure,
)
from syncd.store import passes
from syncd.store.keeper import Tenure
from syncd.store.passes import ActivePass
from syncd.tally import Meter, Tally, page_fetched, progress
from syncd.work import Order, Work
from syncd.writing import Writer

T = TypeVar("T")

WRITERS = 2  # one decodes while the other waits for PostgreSQL
PLUGIN_BUGS_MAX = 5  # distinct cursors a plugin may break before its partition is parked
UNAVAILABLE_MAX = 3  # pages in a row: one is that page's trouble, three are the upstream's


class Walker:
    """Walks one pass under one lease."""

    def __init__(
        self,
        work: Work,
        tenure: Tenure,
        active: ActivePass,
        *,
        order: Order,
        wanted: Wanted,
        committer: Committer,
        conditional: Conditional,
        tally: Tally,
    ) -> None:
        tally.total = active.expected
        self._tally = tally
        self._order = order
        self._work = work
        self._tenure = tenure
        self._pass = active
        self._wanted = wanted
        self._conditional = conditional
        self._where = str(tenure.lease.partition)
        self._first = work.pipeline.feed.streams[0].name
        request = Request(active.mode, active.since, active.until)
        self._context = partial(work.context, tenure.lease.partition, request)
        self._awaiting = Awaiting(order.target, work.threads, work.hops, order.verify)
        self._awaiting.room = Room(work.quota.concurrency, self._notify)
        self._frontier = Frontier((), more=True, numbered=self._numbered())
        self._writer = Writer(work.hops, active.id, self._frontier, committer, tally)
        self._in_flight = self._handing = 0  # pages asked for; of these, those that have come
        self._writing = self._unavailable = 0
        self._ended: Ended | None = None
        self._scope, self._changed = trio.CancelScope(), trio.Event()
        self._idle_since: float | None = None
        self._failing = self._not_understood = False
        self._bugs: set[bytes] = set()

    async def go(self) -> Ended:
        """Walk until the frontier is empty, only waiting cursors remain, or the walk breaks."""
        to_batch, fetched = trio.open_memory_channel[Walked](0)
        to_write, batches = trio.open_memory_channel[list[Walked]](0)
        with self._scope:
            async with trio.open_nursery() as helpers:
                helpers.start_soon(self._watch_drain)
                helpers.start_soon(self._report)
                async with trio.open_nursery() as nursery, batches:
                    nursery.start_soon(self._fetch_all, to_batch)
                    nursery.start_soon(self._batch_all, fetched, to_write)
                    for _ in range(WRITERS):
                        nursery.start_soon(self._write_all, batches.clone())
                helpers.cancel_scope.cancel()
        assert self._ended is not None, "the nursery ends when somebody said how the walk ended"
        return self._ended

    def _numbered(self) -> Numbered | None:
        """Return how page numbers stand, for a feed that is numbered."""
        if self._work.pipeline.feed.paging != "numbered":
            return None
        now, ahead = self._pass, max(AHEAD_MIN, self._allowed())
        return Numbered(Cursor(now.value, number=1), now.high, now.opened, ahead, now.ends_at)

    # -- how it ends ---------------------------------------------------------------------------

    def _wind_down(self, ended: Ended) -> None:
        """Fetch nothing new; what is fetched is committed. The first word stands."""
        if self._ended is None:
            self._ended = ended
        self._notify()

    def _abort(self, error: SyncdError) -> None:
        """Stop at once: nothing more can or may be written."""
        self._ended = Broke(error)
        self._scope.cancel()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def _leased(self, step: Callable[..., T], *args: Any, **asked: Any) -> T:
        """Do a step of the pass in a transaction under the lease."""
        return await self._work.hops.run(step, self._tenure.lease, self._pass.id, *args, **asked)

    async def _watch_drain(self) -> None:
        await self._work.draining.wait()
        self._wind_down(Drained())

    async def _fail_pass(self, message: str, *, outage: bool = False) -> None:
        """End the pass as failed: its watermark stays, and nothing more is written to it."""
        if self._failing:
            return
        self._failing = True
        ending = await self._leased(passes.fail, message, outage=outage)
        self._work.emit(ending.event(self._where))
        self._wind_down(ending.ended)

    async def _report(self) -> None:
        """Say once a second how far the walk is."""
        meter = Meter(trio.current_time(), self._pass.records)
        while True:
            await trio.sleep(1.0)
            done = self._pass.records + self._tally.records
            self._work.emit(
                progress(
                    self._tally,
                    before=self._pass.records,
                    rate=meter.rate(trio.current_time(), done),
                    in_flight=self._in_flight,
                    names=self._order.names(self._tenure.lease),
                )
            )

    # -- fetching ------------------------------------------------------------------------------

    def _allowed(self) -> int:
        latency_seconds = self._work.client.statistics.latency_seconds
        return pages_in_flight(self._work.quota, latency_seconds) + self._awaiting.room.spare

    async def _fetch_all(self, to_batch: trio.MemorySendChannel[Walked]) -> None:
        """Keep as many fetches going as the quota and the frontier have use for."""
        async with to_batch, trio.open_nursery() as fetches:
            while self._ended is None:
                self._frontier.unread.wake(trio.current_time())
                node = self._frontier.take() if self._in_flight < self._allowed() else None
                if node is not None:
                    self._in_flight += 1
                    fetches.start_soon(self._fetch_one, node, to_batch.clone())
                elif self._frontier.more and not self._frontier.ready:
                    await self._guarded(self._refill)
                elif not self._in_flight and not self._writing and self._frontier.orphaned:
                    self._frontier.forget_orphans()
                elif self._frontier.exhausted:
                    await self._guarded(self._find_the_end)
                else:
                    with trio.move_on_at(self._frontier.unread.waiting.until):
                        await self._changed.wait()

    async def _guarded(self, step: Callable[..., Any], *args: Any) -> None:
        """Do a step; PostgreSQL's refusal ends the walk at once, and so does a batch's plugin."""
        try:
            await step(*args)
        except (StoreError, PluginError) as error:
            if isinstance(error, CommitUnknown):
                self._work.emit(CommitLost(self._where, str(error)))
            self._abort(error)

    async def _fetch_one(self, node: Node, to_batch: trio.MemorySendChannel[Walked]) -> None:
        """Fetch one page and hand it on; a failure is noted, never taken for an empty page."""
        async with to_batch:
            try:
                await self._tenure.may_send()
                await self._guarded(self._fetch, node, to_batch)
            finally:
                self._in_flight -= 1
                self._notify()

    async def _fetch(self, node: Node, to_batch: trio.MemorySendChannel[Walked]) -> None:
        try:
            walked = await self._answered(await self._fetched(node))
        except (Unintelligible, PluginError, Unavailable, Deferred) as error:
            await self._cursor_failed(node, error)
        except PagingLoop as error:
            await self._fail_pass(str(error))
        except SourceError as error:  # the whole upstream's trouble, not this page's
            self._wind_down(Broke(error))
        else:
            faults.point("page_fetched")
            self._handing += 1
            await to_batch.send(walked)  # where that is cut, so is the whole walk
            self._handing -= 1

    async def _fetched(self, node: Node) -> Walked:
        asking = await self._conditional.asking(node, self._frontier)
        http, started = asking.http, trio.current_time()
        try:
            page = await asking.page(self._work.pipeline, self._context(http))
            opens = opened(self._work.pipeline, node, page, self._where)
            self._frontier.fetched(node, page, opens)
        finally:
            self._tally.spent(http)
        self._unavailable = 0
        self._tally.total = page.total_records(self._first) or self._tally.total
        sent_at = http.sent_at or self._work.clock.now()
        walked = Walked(node, page, sent_at, opens, http.received_bytes, asking.validator(page))
        self._work.emit(page_fetched(walked, self._where, seconds=trio.current_time() - started))
        return walked

    async def _answered(self, walked: Walked) -> Walked:
        http = self._work.client.for_fetch(traffic=self._conditional.traffic)
        try:
            return await self._awaiting.answered(walked, self._context(http))
        finally:
            self._tally.spent(http)

    async def _cursor_failed(self, node: Node, error: SyncdError) -> None:
        """Note a cursor's failure; its page is asked for again after a wait."""
        work, message = self._work, str(error)
        outage = isinstance(error, Unavailable | Deferred)
        match error:
            case PluginError():
                self._bugs.add(node.key)
            case Unavailable():
                self._unavailable += 1
            case Unintelligible():
                self._not_understood = True
        decided = after_failure(
            attempts=node.attempts,
            failing_since=node.failing_since,
            now=work.clock.now(),
            chance=work.random.random(),
            asked_seconds=error.wait_seconds if isinstance(error, Deferred) else 0.0,
        )
        given_up, noted = isinstance(decided, GiveUp), 0
        if self._frontier.durable(node):
            noted = await self._leased(
                passes.fail_cursor,
                node,
                wait_seconds=decided.wait_seconds,
                give_up=given_up,
                error=message,
                outage=outage,
            )
        until = trio.current_time() + decided.wait_seconds
        self._frontier.failed(node, until=until if noted and not given_up else None)
        wait = None if given_up else round(decided.wait_seconds, 3)
        work.emit(CursorFailed(self._where, str(node), node.attempts + 1, wait, message))
        if given_up and node.cursor.kind == "chain":
            await self._fail_pass(f"{node}: {message}", outage=outage)
        elif len(self._bugs) >= PLUGIN_BUGS_MAX or self._unavailable >= UNAVAILABLE_MAX:
            self._wind_down(Broke(error))

    # -- what the table knows ------------------------------------------------------------------

    async def _refill(self) -> None:
        """Take in the next cursors that the table holds open."""
        where = self._frontier.unread.take()
        look = await self._work.hops.run(passes.look, self._pass.id, where, most=LOOK_MAX)
        self._frontier.refilled(look, now=trio.current_time())

    async def _find_the_end(self) -> None:
        """Nothing is left to fetch: wait for cursors that must wait, or end the pass."""
        if self._frontier.unread.waiting.until < math.inf:
            await self._wait_for_cursors(self._frontier.unread.waiting.until)
            return
        ending = await self._leased(passes.complete, self._wanted)
        if ending is None:
            self._frontier.unread.everything()
            return
        self._work.emit(ending.event(self._where))
        self._wind_down(ending.ended)

    async def _wait_for_cursors(self, until: float) -> None:
        """Wait here while it is worth it; else end the run and leave the pass open."""
        if self._idle_since is None:
            self._idle_since = trio.current_time()
        if until - self._idle_since > self._work.patience_seconds:
            await self._leave_waiting(until)
            return
        with trio.move_on_at(until):
            while self._ended is None:
                await self._changed.wait()

    async def _leave_waiting(self, until: float) -> None:
        waiter, said = self._frontier.unread.waiting.first, ""
        if waiter is not None:
            said = await self._work.hops.run(passes.last_error, self._pass.id, waiter.key)
        nothing = self._not_understood and not self._tally.pages
        message = f"only cursors that must wait remain; the last said: {said}"
        self._wind_down(OnlyWaiting(max(0.0, until - trio.current_time()), nothing, message))

    def _expecting(self) -> bool:
        return self._in_flight > self._handing or self._frontier.ready or self._frontier.more

    # -- batching and writing ------------------------------------------------------------------

    async def _batch_all(
        self,
        fetched: trio.MemoryReceiveChannel[Walked],
        to_write: trio.MemorySendChannel[list[Walked]],
    ) -> None:
        """Put small pages together: by rows, bytes, or a short linger."""
        pending: list[Walked] = []
        closed = False
        async with fetched, to_write:
            while not closed or pending:
                closed = closed or await gather(fetched, pending, expecting=self._expecting)
                batch, pending = self._frontier.admit(pending)
                if batch:
                    await to_write.send(batch)
                elif pending and self._writing:
                    await self._changed.wait()  # their opener is being written
                elif closed:
                    return  # their opener was not committed: both are fetched again

    async def _write_all(self, batches: trio.MemoryReceiveChannel[list[Walked]]) -> None:
        async with batches:
            async for batch in batches:
                self._writing += 1
                try:
                    await self._guarded(self._write_in_time, batch)
                finally:
                    self._writing -= 1
                    self._notify()

    async def _write_in_time(self, batch: list[Walked]) -> None:
        """Write one batch; in halves where that takes too long, openers before what they open."""
        try:
            await self._write(batch)
        except StatementTimeout as error:
            if len(batch) == 1:
                raise  # a page is written whole: its cursor closes in the same transaction
            self._work.emit(BatchHalved(self._where, len(batch), str(error)))
            half = len(batch) // 2
            await self._write_in_time(batch[:half])
            await self._write_in_time(batch[half:])

    async def _write(self, batch: list[Walked]) -> None:
        """Write one batch; what cannot be taken of it fails as if it had not been understood."""
        if self._failing:
            return
        before = self._tally.pages
        try:
            refused = await self._writer.write(batch)
        except LeaseLost:
            if self._failing:
                return  # the pass ended under it; whoever ended it says whether the lease was ours
            raise
        if self._tally.pages > before:
            self._idle_since = None
        for node, error in refused:
            await self._cursor_failed(node, error)
        if self._pass.pages + self._tally.pages > PAGES_MAX and self._ended is None:
            await self._fail_pass(f"more than {PAGES_MAX} pages in one pass")
