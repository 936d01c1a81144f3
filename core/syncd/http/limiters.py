"""All limiters of a process, and what they want of the ledger that daemons share."""

from __future__ import annotations

import math
from collections.abc import Iterator
from random import Random

import trio

from syncd.http.limiter import Limiter
from syncd.limits.share import Share
from syncd.limits.usage import Usage
from syncd.model import Quota


class Sharing:
    """In whose name a process asks the ledger, and when there is something to ask."""

    def __init__(self, asker: str) -> None:
        self.asker = asker
        self.cut_off_among: int | None = None  # daemons, while the ledger does not answer
        self._wanted = trio.Event()
        self._next_at = math.inf

    def wants(self, at: float) -> None:
        """Say that a limiter is to ask at that moment, if none does before."""
        if at < self._next_at:
            self._wanted.set()

    async def wanted_by(self, at: float) -> None:
        """Wait for that moment, or until a limiter is to ask before."""
        self._next_at = at
        with trio.move_on_at(at):
            await self._wanted.wait()
        self._wanted, self._next_at = trio.Event(), math.inf


class Limiters:
    """All limiters of a process, by quota key; with `sharing`, they leave by a ledger's tokens."""

    def __init__(self, *, random: Random, sharing: Sharing | None = None) -> None:
        self.sharing = sharing
        self._random = random
        self._limiters: dict[str, Limiter] = {}

    def __iter__(self) -> Iterator[Limiter]:
        return iter(list(self._limiters.values()))

    def limiter(self, key: str, quota: Quota) -> Limiter:
        """Return the limiter of a key, declared anew with `quota` (the last declaration counts)."""
        limiter = self._limiters.get(key)
        if limiter is None:
            limiter = self._limiters[key] = self._new(key, quota)
        else:
            limiter.declare(quota)
        return limiter

    def _new(self, key: str, quota: Quota) -> Limiter:
        if (sharing := self.sharing) is None:
            return Limiter(key, quota, random=self._random)
        share = Share(key, quota, asker=sharing.asker)
        limiter = Limiter(key, quota, random=self._random, share=share, wants=sharing.wants)
        if sharing.cut_off_among is not None:
            limiter.cut_off(daemons=sharing.cut_off_among)
        return limiter

    def usages(self) -> list[Usage]:
        """Return how all of them stand, by key."""
        return [self._limiters[key].usage() for key in sorted(self._limiters)]
