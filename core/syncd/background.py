"""Effects are delivered in the background: one lane for each kind, beside all syncs.

background nursery
|- lane of a kind       claims what is due, as many calls at once as the kind allows
|  `- call              one bulk of one account: hook, then what became of each is recorded
|- ...
`- forgetting           keys older than 400 days

A lane is woken at once by a commit of this process, and looks by itself else. Whatever its hook
does, it harms that lane alone: what breaks or is away makes the lane rest, ever longer, and is
named; a call that cannot be cancelled keeps its slot, and is named too.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import attrs
import trio

from syncd import asking, closing
from syncd.building import CLOSE_SECONDS, client_of, effective_of
from syncd.daemon import Process
from syncd.errors import StoreError
from syncd.http import Client
from syncd.lanes import Desk, Lane
from syncd.store import effects as store
from syncd.store import registry
from syncd.waiting import first_of

DRAIN_SHARE = 0.5  # of the drain's time for calls under way; the rest stays for the next process
FORGET_SECONDS = 3600.0


@attrs.define(eq=False)
class Background:
    """The lanes of one configuration."""

    process: Process
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
                await first_of(self.process.draining, self.over)
                aside.cancel_scope.cancel()
            self.over.set()
            nursery.start_soon(self._cut)

    def retire(self) -> None:
        """Claim nothing any more: another configuration has taken over, or the work is done."""
        self.over.set()

    async def _cut(self) -> None:
        """Give calls under way their share of the drain's time."""
        seconds = DRAIN_SHARE * self.process.config.daemon.drain_timeout_seconds
        with trio.move_on_after(seconds):
            for lane in self.lanes:
                await lane.ended.wait()
        for lane in self.lanes:
            lane.cut()

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
    async with AsyncExitStack() as stack:
        for configured in process.config.instances.values():
            kinds = configured.connector.effects
            if not kinds:
                continue
            delivers = {kind: process.plugins.deliver(configured, kind) for kind in kinds}
            instance = (await effective_of(process, configured)).instance
            lifespan = process.plugins.lifespan(instance)
            session = await stack.enter_async_context(asking.session(instance.name, lifespan))
            await process.hops.run(registry.register_instance, instance)
            desks = {
                account.name: Desk(account, client_of(process, instance, account, session=session))
                for account in instance.accounts
            }
            for desk in desks.values():
                stack.push_async_callback(_close, desk.client)
            lanes += [
                Lane(process, instance, kind, deliver, desks, session, over)
                for kind, deliver in delivers.items()
            ]
        yield Background(process, lanes, over)


async def _close(client: Client) -> None:
    with trio.CancelScope(shield=True, deadline=closing.deadline(CLOSE_SECONDS)):
        async with client:
            pass  # left is closed
