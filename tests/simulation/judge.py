"""A strict judge per quota: counts at arrival, by the bucket form that is stated.

    fixed     at most `limit` in each window that begins at a multiple of it
    sliding   at most `limit` in any window, its beginning left out
    bucket    a token bucket: `limit` per window flow in, at most `burst` stay

A request over the limit is a breach and is refused. What is refused is not counted against the
limit. A lock holds for whoever has been told of it: a request that left after that and arrives
before the lock's end is noted as a call while locked.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Literal

import attrs

Form = Literal["fixed", "sliding", "bucket"]

ROUNDING_SECONDS = 1e-6  # a request exactly one interval after the last is in time


@attrs.frozen
class Allowed:
    """What an upstream allows one key."""

    form: Form
    limit: float
    per_seconds: float
    burst: float = 1.0  # of a bucket

    @property
    def per_second(self) -> float:
        return self.limit / self.per_seconds


@attrs.define
class Arrival:
    at: float
    admitted: bool


@attrs.define
class Judge:
    """Judges the requests of one quota key."""

    key: str
    allowed: Allowed | None
    arrivals: list[Arrival] = attrs.field(factory=list)
    breaches: int = 0
    refusals: int = 0
    calls_while_locked: int = 0
    locked_seconds: float = 0.0  # for everyone
    in_flight_max: int = 0
    _recent: deque[float] = attrs.field(factory=deque)
    _tokens: float = 0.0
    _filled_at: float = 0.0
    _locked_until: float = 0.0
    # By sender: when it heard of locks, and until when each was to last by what it heard.
    _told: dict[int, list[tuple[float, float]]] = attrs.field(factory=dict)

    def __attrs_post_init__(self) -> None:
        if self.allowed is not None:
            self._tokens = self.allowed.burst

    @property
    def calls(self) -> int:
        return len(self.arrivals)

    @property
    def admitted(self) -> int:
        return self.calls - self.refusals

    @property
    def refused_share(self) -> float:
        return self.refusals / self.calls if self.calls else 0.0

    @property
    def locked_until(self) -> float:
        return self._locked_until

    def change(self, allowed: Allowed, at: float) -> None:
        """Let the limit be another one from now on."""
        if self.allowed is not None:
            self._fill(self.allowed, at)
        self.allowed = allowed
        self._tokens = min(self._tokens, allowed.burst)

    def arrives(self, at: float, *, sender: int, left_at: float) -> bool:
        """Let a request arrive; whether it is within the limit."""
        if at < self._locked_until:
            told = self._told.get(sender, ())
            self.calls_while_locked += any(left_at > heard and at < end for heard, end in told)
            admitted = False
        else:
            admitted = self.allowed is None or self._within(self.allowed, at)
            self.breaches += not admitted
        return self._note(at, admitted=admitted)

    def refuses(self, at: float) -> None:
        """Note a refusal that was no breach: an upstream that is short of something itself."""
        self._note(at, admitted=False)

    def _note(self, at: float, *, admitted: bool) -> bool:
        self.arrivals.append(Arrival(at, admitted))
        self.refusals += not admitted
        return admitted

    def lock(self, at: float, until: float) -> Callable[[int, float], None]:
        """Lock the key; the answer is to be called with each sender that hears of it, and when."""
        self.locked_seconds += max(0.0, until - max(at, self._locked_until))
        if at >= self._locked_until:
            self._told.clear()
        self._locked_until = max(self._locked_until, until)
        return partial(self._hears, until)

    def _hears(self, until: float, sender: int, at: float) -> None:
        self._told.setdefault(sender, []).append((at, until))

    def _within(self, allowed: Allowed, at: float) -> bool:
        if allowed.form == "bucket":
            self._fill(allowed, at)
            if self._tokens < 1 - ROUNDING_SECONDS * allowed.per_second:
                return False
            self._tokens -= 1
            return True
        began = at - allowed.per_seconds
        if allowed.form == "fixed":
            began = at // allowed.per_seconds * allowed.per_seconds - ROUNDING_SECONDS
        while self._recent and self._recent[0] <= began + ROUNDING_SECONDS:
            self._recent.popleft()
        if len(self._recent) >= allowed.limit:
            return False
        self._recent.append(at)
        return True

    def _fill(self, allowed: Allowed, at: float) -> None:
        flown = (at - self._filled_at) * allowed.per_second
        self._tokens = min(allowed.burst, self._tokens + flown)
        self._filled_at = at
