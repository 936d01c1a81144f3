"""The lock of a quota: until when an upstream asked everybody to wait."""

from __future__ import annotations

import math

import attrs

from syncd.backoff import full_jitter

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
class Lock:
    """Until when everybody was asked to wait, and how often in a row."""

    until: float = -math.inf
    seconds: float = 0.0  # how long the last lock was when it was set
    throttled_at: float = -math.inf  # when the last answer came that asked us to wait
    strikes: int = 0  # such answers in a row, those to requests in flight together counted once


def throttled(
    lock: Lock, *, left_at: float, now: float, asked_seconds: float | None, chance: float
) -> tuple[Lock, float | None]:
    """Lock for everybody, because the request that left at `left_at` was told to wait.

    Without `asked_seconds` (or with 0, which says nothing) the lock is our own backoff, growing
    with consecutive strikes. Requests that were in flight together are told once: a later answer
    to an earlier request is no further strike, and lengthens the lock only if it says how long.

    Returns the next state, and the seconds of the lock if that is news.
    """
    same_storm = left_at < lock.throttled_at
    strikes = lock.strikes if same_storm else lock.strikes + 1
    seconds = asked_seconds or 0.0
    if not asked_seconds and not same_storm:
        seconds = full_jitter(
            strikes,
            base_seconds=BACKOFF_BASE_SECONDS,
            cap_seconds=BACKOFF_CAP_SECONDS,
            chance=chance,
        )
    return lengthened(
        attrs.evolve(lock, throttled_at=now, strikes=strikes), now=now, seconds=seconds
    )


def lengthened(lock: Lock, *, now: float, seconds: float) -> tuple[Lock, float | None]:
    """Lock for so long from now, if it is not locked for longer.

    Returns the next state, and the seconds of the lock if that is news.
    """
    until = now + seconds
    if until <= lock.until or not seconds:
        return lock, None
    news = lock.until <= now or until > lock.until + _NEWS_SECONDS
    return attrs.evolve(lock, until=until, seconds=seconds), seconds if news else None


def answered(lock: Lock, *, left_at: float) -> Lock:
    """End the strikes: a request that left after the last one was answered."""
    if lock.strikes and left_at >= lock.throttled_at:
        return attrs.evolve(lock, strikes=0)
    return lock


def returns_at(lock: Lock, *, chance: float) -> float:
    """Return when one waiter comes back from the lock: after its end, never before, never all."""
    spread_seconds = lock.seconds * SPREAD_SHARE
    return lock.until + chance * min(max(spread_seconds, SPREAD_MIN_SECONDS), SPREAD_MAX_SECONDS)
