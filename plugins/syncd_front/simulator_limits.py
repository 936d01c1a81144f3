"""How many calls the simulated upstream takes: of a company, of searches, of one resource."""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Mapping

import attrs

BURST_SECONDS = 600.0  # in which the extra half fills up again
SEARCH_SHARE = 0.4
RESOURCE_CALLS = 5  # a second, of one conversation's messages


@attrs.frozen
class Refusal:
    """Too many: when it is worth asking again, and whether a tier of its own says so."""

    seconds: float
    tier: str | None = None


class Window:
    """So many calls in any so many seconds."""

    def __init__(self, most: int, seconds: float) -> None:
        self.most = most
        self.seconds = seconds
        self._left: deque[tuple[float, int]] = deque()
        self._used = 0

    def used(self, now: float) -> int:
        """Return how much of the window is spent."""
        while self._left and self._left[0][0] <= now - self.seconds:
            self._used -= self._left.popleft()[1]
        return self._used

    def room(self, now: float, cost: int = 1) -> bool:
        return self.used(now) + cost <= self.most

    def take(self, now: float, cost: int = 1) -> None:
        self._left.append((now, cost))
        self._used += cost

    def frees_in(self, now: float) -> float:
        """Return in how many seconds something of it is free again."""
        self.used(now)
        return self._left[0][0] + self.seconds - now if self._left else 0.0


class Limits:
    """The limits of one company; without a number of `calls` a minute there are none."""

    def __init__(self, calls: int | None) -> None:
        self.calls = calls
        self._core = Window(calls or 0, 60.0)
        self._search = Window(round((calls or 0) * SEARCH_SHARE), 60.0)
        self._resources: dict[str, Window] = defaultdict(lambda: Window(RESOURCE_CALLS, 1.0))
        self._burst = self._burst_most = (calls or 0) / 2
        self._burst_at = -math.inf

    def refuses(self, now: float, *, search: bool, resource: str | None) -> Refusal | None:
        """Take a call, or say why not."""
        if self.calls is None:
            return None
        self._refill(now)
        if resource is not None and not self._resources[resource].room(now):
            return Refusal(1.0, tier="resource")
        if search and not self._search.room(now):
            return Refusal(self._search.frees_in(now))
        if self._core.room(now):
            self._core.take(now)
        elif self._burst >= 1.0:
            self._burst -= 1.0
        else:
            return Refusal(self._core.frees_in(now))
        if search:
            self._search.take(now)
        if resource is not None:
            self._resources[resource].take(now)
        return None

    def headers(self, now: float) -> Mapping[str, str]:
        """Return what is said of the limit; the reset in seconds since 1970, with decimals."""
        if self.calls is None:
            return {}
        left = self.calls - self._core.used(now)
        return {
            "x-ratelimit-limit": str(self.calls),
            "x-ratelimit-remaining": str(max(left, 0)),
            "x-ratelimit-reset": f"{now + self._core.frees_in(now):.3f}",
            "x-ratelimit-burst-limit": str(int(self._burst_most)),
            "x-ratelimit-burst-remaining": str(int(self._burst)),
        }

    def _refill(self, now: float) -> None:
        passed = now - self._burst_at
        if passed == math.inf:
            self._burst = self._burst_most
        else:
            gained = passed * self._burst_most / BURST_SECONDS
            self._burst = min(self._burst + gained, self._burst_most)
        self._burst_at = now
