"""Asks the ledger for what this process's limiters want of quotas that daemons share.

One question at a time holds all that is wanted, twice a second at most unless a lock is to be told.
Where the ledger does not answer soon, every limiter goes by its fraction until it does.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TypeAlias

import trio

from syncd.border import said
from syncd.errors import StoreError
from syncd.events import Event, LimitShared, LimitUnshared
from syncd.http import Limiter, Limiters
from syncd.limits.ledger import FRACTION, Ask, Grant

# Longer than a healthy ledger takes by far, and as long as tokens last.
ANSWER_SECONDS = 1.0

# Keys that would ask within this time ask together: one transaction for many accounts.
TOGETHER_SECONDS = 0.1

# Raises `StoreError`, whatever the ledger is.
Ledger: TypeAlias = Callable[[Sequence[Ask]], Awaitable[Sequence[Grant]]]


class Accountant:
    """Keeps the limiters of one process in tokens. `daemons`: how many live, as last seen."""

    def __init__(self, limiters: Limiters, *, emit: Callable[[Event], None], daemons: int) -> None:
        assert limiters.sharing is not None
        self.daemons = daemons
        self._limiters = limiters
        self._sharing = limiters.sharing
        self._ledger: Ledger | None = None
        self._emit = emit
        self._unshared_since: float | None = None

    async def serve(self, open_ledger: Callable[[], AbstractAsyncContextManager[Ledger]]) -> None:
        """Open the ledger, and ask it until we are cancelled.

        Raises: what the ledger's client raises; until this is begun anew, fractions hold.
        """
        try:
            async with open_ledger() as ledger:
                await self.run(ledger)
        except Exception as error:  # whatever it is: who waits for tokens must not wait for us
            self._cut_off(said(error))
            raise

    async def run(self, ledger: Ledger) -> None:
        """Ask whenever something is wanted; runs until it is cancelled."""
        self._ledger = ledger
        while True:
            now = trio.current_time()
            wanted = {limiter: limiter.asks_at(now) for limiter in self._limiters}
            if (next_at := min(wanted.values(), default=math.inf)) > now:
                await self._sharing.wanted_by(next_at)
                continue
            soon = now + TOGETHER_SECONDS
            await self._ask(ledger, [limiter for limiter, at in wanted.items() if at <= soon])
            await trio.lowlevel.checkpoint()

    async def leave(self) -> None:
        """Say good-bye: what we do not use is the others' at once.

        Raises: `StoreError`.
        """
        asks = [limiter.share.leaving() for limiter in self._limiters if limiter.share]
        known = [ask for ask in asks if ask is not None]
        if known and self._ledger is not None:
            await self._ledger(known)

    async def _ask(self, ledger: Ledger, asking: Sequence[Limiter]) -> None:
        asks = [limiter.ask(daemons=self.daemons) for limiter in asking]
        asked_at = trio.current_time()
        error = f"no answer within {ANSWER_SECONDS:g} s"
        grants: Sequence[Grant] = ()
        async with trio.open_nursery() as waiting:
            waiting.start_soon(self._give_up, error)
            try:
                grants = await ledger(asks)
            except StoreError as failure:
                self._cut_off(str(failure))
            waiting.cancel_scope.cancel()
        for limiter, ask, grant in zip(asking, asks, grants, strict=False):
            for event in limiter.granted(ask, grant, asked_at=asked_at):
                self._emit(event)
        if grants:
            self._note_answer(asking)

    async def _give_up(self, error: str) -> None:
        # A thread that asks cannot be cancelled: its answer may still come, and tells what it can.
        await trio.sleep(ANSWER_SECONDS)
        self._cut_off(error)

    def _cut_off(self, error: str) -> None:
        for limiter in self._limiters:
            limiter.cut_off(daemons=self.daemons)
        self._note_loss(error)

    def _note_loss(self, error: str) -> None:
        self._sharing.cut_off_among = self.daemons
        if self._unshared_since is None:
            self._unshared_since = trio.current_time()
            self._emit(LimitUnshared(self.daemons, FRACTION, error))

    def _note_answer(self, asking: Sequence[Limiter]) -> None:
        if any(limiter.share is not None and limiter.share.unshared for limiter in asking):
            self._note_loss("its answers take longer than its tokens last")
            return
        self._sharing.cut_off_among = None
        if self._unshared_since is not None:
            seconds = trio.current_time() - self._unshared_since
            self._unshared_since = None
            self._emit(LimitShared(round(seconds, 3)))
