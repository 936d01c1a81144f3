"""What an upstream says is left of a quota: it narrows what was declared, until its reset."""

from __future__ import annotations

import math

import attrs

from syncd.limits.announced import Announced


@attrs.frozen
class Allowance:
    """How much may still leave before the reset; `told_at`: when the request left that told it.

    `burst`: how much of it lies above the limit, and is taken last.
    """

    left: float = math.inf
    resets_at: float = -math.inf
    told_at: float = -math.inf
    burst: float = 0.0


def announced(
    allowance: Allowance,
    said: Announced,
    *,
    left_at: float,
    now: float,
    in_flight: int,
    turn_seconds: float = math.inf,
    uses_burst: bool = False,
) -> Allowance:
    """Take what an answer said; a later one to a request that left earlier knows less.

    `in_flight` is what others on their way cost: they may not have been counted yet.
    `turn_seconds`: the window that is meant has turned by then, counted from the leaving.
    `uses_burst`: what is told of a burst may be taken as well.
    """
    if said.remaining is None or said.resets_in_seconds is None or left_at < allowance.told_at:
        return allowance
    burst = float(said.burst or 0) if uses_burst else 0.0
    left = said.remaining + burst - in_flight
    resets_at = min(now + said.resets_in_seconds, left_at + turn_seconds)
    if left_at == allowance.told_at:  # two dialects in one answer
        left, resets_at = min(left, allowance.left), max(resets_at, allowance.resets_at)
    return Allowance(left, resets_at, left_at, min(burst, left))


def opens_at(allowance: Allowance, cost: int) -> float:
    """Return when so much may leave, as far as the upstream has told."""
    return allowance.resets_at if allowance.left < cost else -math.inf


def has_burst(allowance: Allowance, cost: int, *, now: float) -> bool:
    """Say whether so much may leave whatever our own count says: the upstream has told of more."""
    return allowance.burst > 0 and now < allowance.resets_at and allowance.left >= cost


def bursts(allowance: Allowance, cost: int, *, now: float) -> bool:
    """Say whether so much is taken of the burst, which the limit does not count."""
    return has_burst(allowance, cost, now=now) and allowance.left - cost < allowance.burst


def leave(allowance: Allowance, cost: int, *, now: float) -> Allowance:
    """Count a request against what is left, before the reset."""
    if allowance.left == math.inf or now >= allowance.resets_at:
        return allowance if allowance.left == math.inf else Allowance(told_at=allowance.told_at)
    left = allowance.left - cost
    return attrs.evolve(allowance, left=left, burst=min(allowance.burst, left))
