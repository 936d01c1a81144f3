"""What an upstream says is left of a quota: it narrows what was declared, until its reset."""

from __future__ import annotations

import math

import attrs

from syncd.limits.announced import Announced


@attrs.frozen
class Allowance:
    """How much may still leave before the reset; `told_at`: when the request left that told it."""

    left: float = math.inf
    resets_at: float = -math.inf
    told_at: float = -math.inf


def announced(
    allowance: Allowance, said: Announced, *, left_at: float, now: float, in_flight: int
) -> Allowance:
    """Take what an answer said; a later one to a request that left earlier knows less.

    `in_flight` is what others on their way cost: they may not have been counted yet.
    """
    if said.remaining is None or said.resets_in_seconds is None or left_at < allowance.told_at:
        return allowance
    left = float(said.remaining - in_flight)
    resets_at = now + said.resets_in_seconds
    if left_at == allowance.told_at:  # two dialects in one answer
        left, resets_at = min(left, allowance.left), max(resets_at, allowance.resets_at)
    return Allowance(left, resets_at, left_at)


def opens_at(allowance: Allowance, cost: int) -> float:
    """Return when so much may leave, as far as the upstream has told."""
    return allowance.resets_at if allowance.left < cost else -math.inf


def leave(allowance: Allowance, cost: int, *, now: float) -> Allowance:
    """Count a request against what is left, before the reset."""
    if allowance.left == math.inf or now >= allowance.resets_at:
        return allowance if allowance.left == math.inf else Allowance(told_at=allowance.told_at)
    return attrs.evolve(allowance, left=allowance.left - cost)
