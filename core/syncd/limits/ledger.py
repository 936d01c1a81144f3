"""What a quota allows all daemons together, as one ledger grants it. Pure.

Every window becomes a lane: a train of tokens, one every `interval_seconds` of the ledger's clock
(the generic cell rate algorithm, ITU-T I.371). A daemon reserves the next tokens, some before their
moments, and each token may be used from its moment on until `slack_seconds` later; then it is lost.
The intervals are long enough for a judge who sees every token used as late as it can be, and its
request received `LATE_SHARE` of the lane's delay after that: a token counts at its latest use.

`reserve` is the law. `queries/quota.sql` says it in SQL, `scripts/quota.lua` in Lua: one UPDATE
or one script is all that daemons contend for, and a test holds all three against each other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

import attrs

from syncd.model import TokenBucket, Window

# Tokens are reserved so far ahead and no further: who learns of a lock learns of it with the next
# block, and what a daemon that dies has reserved is lost for no longer.
HORIZON_SECONDS = 1.0

# A daemon that asked within this time has a part in the horizon.
ACTIVE_SECONDS = 2.0

# One that fell silent without a good-bye may go by its fraction, so the others leave that to it;
# after so long it is gone (as `store.registry.STALE_SECONDS` says of processes).
FORGET_SECONDS = 60.0

# Of its part of the limit, for a daemon that cannot reach the ledger.
FRACTION = 0.8
LEAST_PART = 0.2  # of the limit, for those that can, however many cannot

# By how much a token may be used and received late: this share of the window (of a bucket: of the
# distance of two requests, or of a second where that is more), at most a second. It costs as much
# of what is allowed.
DELAY_SHARE = 0.05
DELAY_MAX_SECONDS = 1.0
LATE_SHARE = 0.4  # of the delay, on the way; the rest is for whoever uses the token

BURST_SHARE = 0.01  # of a window, which may leave at once; it costs as much of the pace
GUARD_SECONDS = 0.001  # clocks round, as in `windows`

# What the same law takes by name where it is kept in SQL and in Lua.
LAW: Final[Mapping[str, float]] = {
    "forget_seconds": FORGET_SECONDS,
    "active_seconds": ACTIVE_SECONDS,
    "horizon_seconds": HORIZON_SECONDS,
    "fraction": FRACTION,
    "least_part": LEAST_PART,
}


@attrs.frozen
class Lane:
    """One window as the ledger keeps it. `guard_seconds` lie after each reservation.

    Inside one, a bucket without burst is kept by whoever holds the tokens; `least` are worth the
    guard.
    """

    name: str
    unit: str
    interval_seconds: float
    saved_seconds: float
    guard_seconds: float
    slack_seconds: float
    least: int = 1


def lane_of(window: Window, *, at_once: int = 1) -> Lane:
    """Return how a window is shared by requests that take up to `at_once` of it."""
    name = f"{type(window).__name__} {window.unit} {window.per_seconds:g}"
    if isinstance(window, TokenBucket):
        interval = window.per_seconds / window.most
        delay = min(DELAY_SHARE * max(interval, 1.0), DELAY_MAX_SECONDS)
        burst_seconds = (window.burst - 1) * interval
        guard = max(delay + (at_once - 1) * interval - burst_seconds, 0.0)
        least = max(1, math.ceil(guard / (interval * DELAY_SHARE) - 1e-9))
        saved = max(burst_seconds - delay, 0.0)
        return Lane(name, window.unit, interval, saved, guard, delay * (1 - LATE_SHARE), least)
    delay = min(DELAY_SHARE * window.per_seconds, DELAY_MAX_SECONDS)
    burst = min(max(at_once, int(window.most * BURST_SHARE)), window.most)
    # Of tokens an interval apart, `burst` of them at once and all up to `delay` late, at most
    # `most` lie in one window.
    held_seconds = window.per_seconds + delay + min(GUARD_SECONDS, window.per_seconds / 1000)
    interval = held_seconds / (window.most - burst + 1)
    return Lane(name, window.unit, interval, (burst - 1) * interval, 0.0, delay * (1 - LATE_SHARE))


@attrs.frozen
class Want:
    """What is asked of one lane: `count` tokens, `least` of which the next request takes."""

    lane: Lane
    count: int
    least: int
    held: int = 0  # tokens that the asker has and has not used; 0 where the next request lacks some


@attrs.frozen
class Ask:
    """What one daemon says to the ledger of one quota key."""

    key: str
    asker: str
    wants: tuple[Want, ...] = ()
    lock_seconds: float = 0.0  # still, as the asker was told by the upstream; 0: it was not
    refusals: int = 0  # that it met since it last asked
    daemons: int = 1  # that live
    empty: bool = False  # it has sent beside the ledger of late: nothing is saved up
    leaves: bool = False  # it wants nothing for now


@attrs.frozen
class Block:
    """Tokens of one lane, from `begins_at` by the ledger's clock; none: not before it."""

    begins_at: float
    count: int
    interval_seconds: float


@attrs.frozen
class Grant:
    """What the ledger answers, at `at` by its clock."""

    at: float
    locked_seconds: float
    refusals: int  # all that all daemons ever told of
    sharers: int  # daemons that use this key now, the asker included
    blocks: Mapping[str, Block]


@attrs.frozen
class Book:
    """What a ledger holds of one key."""

    locked_until: float = 0.0
    refusals: int = 0
    askers: Mapping[str, float] = attrs.field(factory=dict)  # when each asked last
    due: Mapping[str, float] = attrs.field(factory=dict)  # by lane


def reserve(book: Book, ask: Ask, *, now: float) -> tuple[Book, Grant]:
    """Answer an ask; return the book as it is then."""
    locked_until = book.locked_until
    if ask.lock_seconds > 0:
        locked_until = max(locked_until, now + ask.lock_seconds)
    is_fresh = ask.empty or locked_until > now
    known = book.askers.items()
    askers = {who: at for who, at in known if who != ask.asker and at > now - FORGET_SECONDS}
    if not ask.leaves:
        askers[ask.asker] = now
    silent = sum(1 for at in askers.values() if at < now - ACTIVE_SECONDS)
    sharers = max(len(askers) - silent, 1)
    part = max(1 - FRACTION * silent / max(ask.daemons, len(askers), 1), LEAST_PART)
    begins = {}
    for want in ask.wants:
        saved = want.lane.saved_seconds
        since = max(now, locked_until) + (saved if is_fresh else 0.0)
        begins[want.lane.name] = max(book.due.get(want.lane.name, 0.0), since) - saved
    # All lanes let the first request pass together: what one of them has before is lost by then.
    first = {w.lane.name: (w.least - 1) * w.lane.interval_seconds / part for w in ask.wants}
    starts_at = max((begins[name] + first[name] for name in begins), default=now)
    is_near = max(begins.values(), default=now) <= now + HORIZON_SECONDS
    due, blocks = dict(book.due), {}
    for want in ask.wants:
        lane, interval = want.lane, want.lane.interval_seconds / part
        begins_at, count = begins[lane.name], 0
        if is_near:
            begins_at = max(begins_at, starts_at - first[lane.name])
            share = max(math.floor(HORIZON_SECONDS / interval / sharers), 1) - want.held
            room = math.floor((now + HORIZON_SECONDS - begins_at) / interval) + 1
            least = 0 if want.held else max(want.least, lane.least)
            count = min(want.count, max(least, min(share, room), 0))
        if count > 0:
            due[lane.name] = begins_at + lane.saved_seconds + count * interval + lane.guard_seconds
        blocks[lane.name] = Block(begins_at, count, interval)
    locked_seconds = max(locked_until - now, 0.0)
    refusals = book.refusals + ask.refusals
    return (
        Book(locked_until, refusals, askers, due),
        Grant(now, locked_seconds, refusals, sharers, blocks),
    )
