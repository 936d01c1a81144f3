"""Keeping to what an upstream allows: pure functions of a gate's state and the moment.

Moments are seconds of the caller's monotonic clock; chance is a number drawn evenly from [0, 1).
`http.limiter` waits by these functions; whoever keeps the state elsewhere (a database shared by
daemons) replaces that shell, not the policy.
"""

from __future__ import annotations

import math

import attrs

from syncd.backoff import full_jitter
from syncd.model import Quota, Rate

# Our own wait after a 429 without Retry-After.
BACKOFF_BASE_SECONDS = 1.0
BACKOFF_CAP_SECONDS = 60.0

# After a lock requests come back spread over a tenth of it, so that the daemons and tasks of one
# quota do not stampede: at least half a second, at most ten.
SPREAD_SHARE = 0.1
SPREAD_MIN_SECONDS = 0.5
SPREAD_MAX_SECONDS = 10.0

# Answers to requests in flight each move the lock a little; only more than this is news.
_NEWS_SECONDS = 1.0


@attrs.frozen
class Gate:
    """What one quota key has used, and until when the upstream asked everybody to wait."""

    due_at: float = -math.inf  # GCRA's theoretical arrival time of the next request
    locked_until: float = -math.inf
    locked_seconds: float = 0.0  # how long the last lock was when it was set
    throttled_at: float = -math.inf  # when the last answer came that asked us to wait
    strikes: int = 0  # such answers in a row, those to requests in flight together counted once


def interval_seconds(rate: Rate) -> float:
    """Return the distance of two requests at a steady pace."""
    return rate.per_seconds / rate.requests


def tolerance_seconds(rate: Rate) -> float:
    """Return how far ahead of the steady pace a burst may run."""
    return interval_seconds(rate) * (rate.burst - 1)


def admit(gate: Gate, rate: Rate | None, *, now: float) -> tuple[Gate, float]:
    """Let one request pass, or say when to ask again.

    Returns the gate's next state and the moment it opens: at or before `now` the request is
    admitted and counted, after it nothing has changed. So a waiter that gives up has used nothing.
    The moment is absolute, because a wait added to a clock may fall short by a rounding error.

    Source: the generic cell rate algorithm (ITU-T I.371): at most ``burst + requests *
    seconds / per_seconds`` requests in any span of seconds.
    """
    if rate is None:
        return gate, gate.locked_until
    opens_at = max(gate.locked_until, gate.due_at - tolerance_seconds(rate))
    if opens_at > now:
        return gate, opens_at
    return attrs.evolve(gate, due_at=max(gate.due_at, now) + interval_seconds(rate)), opens_at


def throttled(
    gate: Gate,
    rate: Rate | None,
    *,
    left_at: float,
    now: float,
    asked_seconds: float | None,
    chance: float,
) -> tuple[Gate, float | None]:
    """Lock the gate for everybody, because the request that left at `left_at` was told to wait.

    Without `asked_seconds` (or with 0, which says nothing) the lock is our own backoff, growing
    with consecutive strikes. Requests that were in flight together are told once: a later answer
    to an earlier request is no further strike, and lengthens the lock only if it says how long.

    Returns the next state, and the seconds of the lock if that is news.
    """
    same_storm = left_at < gate.throttled_at
    strikes = gate.strikes if same_storm else gate.strikes + 1
    seconds = asked_seconds or 0.0
    if not asked_seconds and not same_storm:
        seconds = full_jitter(
            strikes,
            base_seconds=BACKOFF_BASE_SECONDS,
            cap_seconds=BACKOFF_CAP_SECONDS,
            chance=chance,
        )
    until = now + seconds
    told = attrs.evolve(gate, throttled_at=now, strikes=strikes)
    if until <= gate.locked_until or not seconds:
        return told, None
    news = gate.locked_until <= now or until > gate.locked_until + _NEWS_SECONDS
    # Whoever was told off does not come back with a burst, even if one has been saved up.
    due_at = until + tolerance_seconds(rate) if rate else gate.due_at
    told = attrs.evolve(
        told,
        locked_until=until,
        locked_seconds=seconds,
        due_at=max(gate.due_at, due_at),
    )
    return told, seconds if news else None


def answered(gate: Gate, *, left_at: float) -> Gate:
    """End the strikes: a request that left after the last one was answered."""
    if gate.strikes and left_at >= gate.throttled_at:
        return attrs.evolve(gate, strikes=0)
    return gate


def returns_at(gate: Gate, *, chance: float) -> float:
    """Return when one waiter comes back from the lock: after its end, never before, never all."""
    spread = gate.locked_seconds * SPREAD_SHARE
    return gate.locked_until + chance * min(max(spread, SPREAD_MIN_SECONDS), SPREAD_MAX_SECONDS)


def pages_in_flight(quota: Quota, latency_seconds: float | None) -> int:
    """Return how many pages to have in flight so that the quota, not the latency, is the bound.

    Little's law: as many are in flight as leave during one latency; one more waits at the gate.
    At least two, while nothing is known of the latency; never more than the quota's concurrency.
    """
    if quota.rate is None:
        return quota.concurrency
    needed = 2
    if latency_seconds is not None:
        needed = math.ceil(latency_seconds / interval_seconds(quota.rate)) + 1
    return min(max(needed, 2), quota.concurrency)
