"""Effects are delivered in the background: one lane for each kind, beside all syncs.

background nursery
|- accounts             of the table are followed, in the same way for all lanes of an instance
|- lane of a kind       claims what is due, as many calls at once as the kind allows
|  `- call              one bulk of one account: hook, then what became of each is recorded
|- ...
|- forgetting           keys older than 400 days
`- telling              how much is left

A lane is woken at once by a commit of this process, and looks by itself else. Whatever its hook
does, it harms that lane alone: what breaks or is away makes the account rest, ever longer, and is
named; a call that cannot be cancelled keeps its slot, and is named too.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from math import inf

import attrs
import trio

from syncd import deliverers
from syncd.daemon import Process
from syncd.deliverers import LOOK_SECONDS, Deliverers
from syncd.errors import StoreError
from syncd.events import DbUnavailable, EffectBacklog
from syncd.lanes import DEAF, Lane
from syncd.store import effects as store
from syncd.store.effects import Backlog
from syncd.waiting import first_of
from syncd.watchdog import HEED_SECONDS

DRAIN_SHARE = 0.5  # of the drain's time for calls under way; the rest stays for the next process
FORGET_SECONDS = 3600.0
TELL_SECONDS = 20.0  # between two words about what is left, as of the pool
SETTLE_LOOK_SECONDS = 0.25


@attrs.define(eq=False)
class Background:
    """The lanes of one configuration."""

    process: Process
    deliverers: Sequence[Deliverers]
    lanes: Sequence[Lane]
    over: trio.Event

    async def run(self) -> None:
        """Deliver until the process drains or `retire` is called; calls under way then end."""
        if not self.lanes:
            return
        async with trio.open_nursery() as nursery:
            for lane in self.lanes:
                name = f"effects of kind {lane.kind.name}"
                nursery.start_soon(self.process.supervisor.keep, name, lane.run)
            async with trio.open_nursery() as aside:
                aside.start_soon(self._forget)
                aside.start_soon(self._tell)
                keep = self.process.supervisor.keep
                aside.start_soon(keep, "accounts that deliver", self._follow)
                await first_of(self.process.draining, self.over)
                aside.cancel_scope.cancel()
            self.over.set()
            nursery.start_soon(self._cut)

    def retire(self) -> None:
        """Claim nothing any more: another configuration has taken over, or the work is done."""
        self.over.set()

    async def settled(self, wait_seconds: float) -> list[Backlog]:
        """Wait until all is delivered that may be within so long, or nothing has ended for so long.

        Answers with what is left then, or when the process drains; with nothing where the database
        is away, for nobody knows.
        """
        least, since = inf, trio.current_time()
        while True:
            try:
                left = await self._left(within_seconds=wait_seconds)
            except StoreError as error:
                self.process.emit(DbUnavailable(str(error)))
                return []
            now, open_ = trio.current_time(), sum(each.open for each in left)
            if open_ < least:
                least, since = open_, now
            is_over = not any(each.soon for each in left) or now - since >= wait_seconds
            if is_over or self.process.draining.is_set():
                return left
            with trio.move_on_after(SETTLE_LOOK_SECONDS):
                await self.process.draining.wait()

    async def _left(self, *, within_seconds: float = 0.0) -> list[Backlog]:
        lanes = [(lane.instance.name, lane.kind.name) for lane in self.lanes]
        return await self.process.hops.run(store.backlog, lanes, within_seconds=within_seconds)

    async def _tell(self) -> None:
        """Say now and then what is left; once more when nothing is any more."""
        told: set[str] = set()
        while True:
            await trio.sleep(TELL_SECONDS)
            with suppress(StoreError):  # the next word comes
                for each in await self._left():
                    name = f"{each.instance}.{each.kind}"
                    if each.open or each.dead or name in told:
                        oldest = round(each.oldest_seconds, 1)
                        self.process.emit(
                            EffectBacklog(each.kind, each.instance, each.open, oldest, each.dead)
                        )
                    (told.add if each.open or each.dead else told.discard)(name)

    async def _cut(self) -> None:
        """Give calls under way their share of the drain's time."""
        seconds = DRAIN_SHARE * self.process.config.daemon.drain_timeout_seconds
        with trio.move_on_after(seconds):
            for lane in self.lanes:
                await lane.ended.wait()
        for lane in self.lanes:
            lane.cut()
        with trio.move_on_after(HEED_SECONDS) as waiting:
            for lane in self.lanes:
                await lane.ended.wait()
        if waiting.cancelled_caught:  # a call does not heed that: nobody would come past it
            self.process.drain(DEAF)

    async def _follow(self) -> None:
        while True:
            for each in self.deliverers:
                with suppress(StoreError):  # which lanes say
                    await each.look()
            await trio.sleep(LOOK_SECONDS * (0.5 + self.process.random.random() / 2))

    async def _forget(self) -> None:
        while True:
            with suppress(StoreError):  # the next hour comes
                while await self.process.hops.run(store.forget) == store.FORGET_AT_ONCE:
                    pass
            await trio.sleep(FORGET_SECONDS)


@asynccontextmanager
async def opened(process: Process) -> AsyncIterator[Background]:
    """Open what the lanes of a configuration work with: a session and a client for each account.

    Raises: what plugins' lifespans and the database raise, `HookError` for a kind nobody delivers.
    """
    over = trio.Event()
    lanes: list[Lane] = []
    all_deliverers: list[Deliverers] = []
    async with AsyncExitStack() as stack:
        for configured in process.config.instances.values():
            kinds = configured.connector.effects
            if not kinds:
                continue
            delivers = {kind: process.plugins.deliver(configured, kind) for kind in kinds}
            each = await stack.enter_async_context(deliverers.opened(process, configured))
            all_deliverers.append(each)
            lanes += [
                Lane(process, each, kind, deliver, over) for kind, deliver in delivers.items()
            ]
        yield Background(process, all_deliverers, lanes, over)


@asynccontextmanager
async def beside(process: Process) -> AsyncIterator[Background]:
    """Deliver effects while the block runs; what is left then is for the next process.

    Raises: as `opened`.
    """
    async with opened(process) as background, trio.open_nursery() as nursery:
        nursery.start_soon(background.run)
        try:
            yield background
        finally:
            background.retire()
