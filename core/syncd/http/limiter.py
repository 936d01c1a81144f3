"""The gate in front of an upstream: waits by the policy of `syncd.limits`.

One limiter per quota key, shared by everything that spends that quota: feeds, accounts, effects.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

import attrs
import trio

from syncd import limits
from syncd.errors import Throttled
from syncd.model import Quota


@attrs.define
class Patience:
    """How long one request may be kept waiting by an upstream that asked for it."""

    where: str
    seconds: float
    spent_seconds: float = 0.0

    def require(self, seconds: float) -> float:
        """Return what is left, if a wait fits into it.

        Raises: `Throttled`, which carries the wait.
        """
        left = self.seconds - self.spent_seconds
        if seconds > left:
            raise Throttled(
                self.where,
                f"throttled for {seconds:.0f} s more, and {left:.0f} s are left of the"
                f" {self.seconds:g} s that a request waits",
                "nothing to do: it is tried again after that",
                retry_after_seconds=seconds,
            )
        return left


class Limiter:
    """What keeps to one quota: a pace, a number of requests in flight, and a lock for everybody."""

    def __init__(self, key: str, quota: Quota, *, random: Random) -> None:
        self.key = key
        self._quota = quota
        self._random = random
        self._gate = limits.Gate()
        self._turn = trio.Lock()
        self._slots = trio.CapacityLimiter(quota.concurrency)

    def declare(self, quota: Quota) -> None:
        """Take a new declaration of the same quota, from now on; what was spent stays spent."""
        self._quota = quota
        self._slots.total_tokens = quota.concurrency

    @asynccontextmanager
    async def admitted(self, patience: Patience) -> AsyncIterator[None]:
        """Hold the right to have one request in flight; it may leave at once.

        Requests pass in the order they came. Only the first in line takes a slot, and then waits
        for the pace: it is the next to leave, so nobody is kept from leaving by the slot it holds;
        and nothing stands between the pace and the sending, so that requests which the pace let
        pass one by one cannot pile up before a slot and leave together.

        Raises: `Throttled` where the upstream asked for a longer wait than `patience` has left.
        """
        while not await self._pass(patience):
            pass
        try:
            yield
        finally:
            self._slots.release()

    def throttled(self, *, left_at: float, asked_seconds: float | None) -> float | None:
        """Lock the gate for everybody: a request that left at `left_at` was told to wait.

        Returns the seconds of the lock if that is news.
        """
        self._gate, news = limits.throttled(
            self._gate,
            self._quota.rate,
            left_at=left_at,
            now=trio.current_time(),
            asked_seconds=asked_seconds,
            chance=self._random.random(),
        )
        return news

    def answered(self, *, left_at: float) -> None:
        """Note that a request that left at `left_at` was answered, not told to wait."""
        self._gate = limits.answered(self._gate, left_at=left_at)

    async def _pass(self, patience: Patience) -> bool:
        """Wait for the lock's end, the turn, a slot and the pace; false if a lock came between."""
        await self._sit_out(patience)
        async with self._turn:
            await self._slots.acquire()
            passed = False
            try:
                passed = await self._keep_pace()
            finally:
                if not passed:
                    self._slots.release()
        return passed

    async def _sit_out(self, patience: Patience) -> None:
        # Outside the line, each waiter for itself: they come back one by one, and each learns for
        # itself when its patience is at an end.
        while (asked := self._gate.locked_until - (now := trio.current_time())) > 0:
            left = patience.require(asked)
            back_at = limits.returns_at(self._gate, chance=self._random.random())
            try:
                await trio.sleep_until(min(back_at, now + left))
            finally:
                patience.spent_seconds += trio.current_time() - now

    async def _keep_pace(self) -> bool:
        while True:
            now = trio.current_time()
            if self._gate.locked_until > now:
                return False
            self._gate, opens_at = limits.admit(self._gate, self._quota.rate, now=now)
            if opens_at <= now:
                return True
            await trio.sleep_until(opens_at)


class Limiters:
    """All limiters of a process, by quota key."""

    def __init__(self, *, random: Random) -> None:
        self._random = random
        self._limiters: dict[str, Limiter] = {}

    def limiter(self, key: str, quota: Quota) -> Limiter:
        """Return the limiter of a key, declared anew with `quota` (the last declaration counts)."""
        limiter = self._limiters.get(key)
        if limiter is None:
            limiter = self._limiters[key] = Limiter(key, quota, random=self._random)
        else:
            limiter.declare(quota)
        return limiter
