"""The rate limit of the simulated upstream, and what it counts and remembers for judges."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import ceil

import msgspec

_LOG_ENTRIES_MAX = 100_000
_ROUNDING = 1e-9  # a request exactly one interval after the last is in time, whatever floats make


class TokenBucket:
    """Admits `rate` requests a second and `burst` at once; a refused request costs no token.

    `rate` None admits all. `clock` is monotonic, in seconds.
    """

    def __init__(self, rate: float | None, burst: int, clock: Callable[[], float]) -> None:
        self._rate = rate
        self._burst = float(burst)
        self._clock = clock
        self._tokens = self._burst
        self._filled_at = clock()

    def admits(self) -> bool:
        """Take a token, if there is one."""
        if self._rate is None:
            return True
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + (now - self._filled_at) * self._rate)
        self._filled_at = now
        if self._tokens < 1 - _ROUNDING:
            return False
        self._tokens -= 1
        return True

    def retry_after_seconds(self) -> int:
        """Return the whole seconds after which there is a token again, at least one."""
        lack = max(1 - self._tokens, 0)
        return max(ceil(lack / self._rate), 1) if self._rate else 1


class LogEntry(msgspec.Struct, frozen=True):
    """One answered request. `at` is monotonic, in seconds; `status` 0 was never answered."""

    at: float
    path: str
    query: str
    status: int


class PageKey(msgspec.Struct, frozen=True):
    """What makes two pages the same page."""

    path: str
    page: int
    per_page: int
    minutes: int | None = None
    manufacturer_ids: tuple[int, ...] = ()


class Counts:
    """What the upstream has seen since it started or was reset."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.requests = 0
        self.too_many_requests = 0
        self.in_flight = 0
        self.in_flight_max = 0
        self.pages_served: Counter[PageKey] = Counter()
        """How often each page was served whole, with 200."""
        self.log: deque[LogEntry] = deque(maxlen=_LOG_ENTRIES_MAX)

    def reset(self) -> None:
        """Begin at zero again; what is in flight stays counted."""
        self.requests = self.too_many_requests = 0
        self.in_flight_max = self.in_flight
        self.pages_served.clear()
        self.log.clear()

    @contextmanager
    def request(self) -> Iterator[None]:
        """Count a request, in flight until the block ends."""
        self.requests += 1
        self.in_flight += 1
        self.in_flight_max = max(self.in_flight_max, self.in_flight)
        try:
            yield
        finally:
            self.in_flight -= 1

    def answered(self, path: str, query: str, status: int) -> None:
        """Remember how a request was answered."""
        self.too_many_requests += status == 429
        self.log.append(LogEntry(self._clock(), path, query, status))
