"""Seeking a rate that nobody announces: remember what was refused, come near it gently, look past.

- Below `NEAR` of the remembered level the rate doubles every `DOUBLING_SECONDS`.
- From there on it climbs so gently that it reaches the level after `PATIENT_SECONDS`.
- `PATIENT_SECONDS` above `NEAR` without a refusal: the level is forgotten, the rate doubles again.
  So from 4/s to 90 % of 20/s: 20 + 12 x log2(4.5) = 46 s.
- A refusal makes the rate at which it was met the level, and takes a little off the rate. The next
  one that comes soon after takes more, as the limit may have fallen; from the third on it is half.
  Refusals of requests that left before the last cut are of the same storm, and cut nothing.
- Only a rate that is used grows: seconds between requests that came of themselves do not count.
"""

from __future__ import annotations

import math

import attrs

from syncd.model import Adaptive

DOUBLING_SECONDS = 12.0
PATIENT_SECONDS = 20.0
NEAR = 0.9
CUTS = (0.95, 0.8, 0.5)  # of the rate: by the first refusal, the second soon after, all others
SOON_SECONDS = 5.0


@attrs.frozen
class Sought:
    """A rate in requests per second, and what is known of the limit."""

    rate: float
    level: float = math.inf  # at which the last refusal was met
    near_seconds: float = 0.0  # used above `NEAR` of the level, without a refusal
    left_at: float = -math.inf  # when the last request left
    cut_at: float = -math.inf
    cuts: int = 0  # that followed each other soon


def opens_at(sought: Sought) -> float:
    """Return when the next request may leave."""
    return sought.left_at + 1.0 / sought.rate


def leave(sought: Sought, bounds: Adaptive, *, now: float) -> Sought:
    """Count a request, and let the rate grow if it is what requests waited for."""
    used_seconds = min(now - sought.left_at, 2.0 / sought.rate)
    left = attrs.evolve(sought, left_at=now)
    return left if sought.left_at == -math.inf else _grown(left, bounds, used_seconds)


def _grown(sought: Sought, bounds: Adaptive, seconds: float) -> Sought:
    near = sought.level * NEAR
    if sought.rate < near:
        rate = min(sought.rate * 2.0 ** (seconds / DOUBLING_SECONDS), near)
        return attrs.evolve(sought, rate=min(rate, bounds.rate_most))
    if sought.near_seconds < PATIENT_SECONDS and sought.level < math.inf:
        gently = (1.0 - NEAR) * sought.level / PATIENT_SECONDS
        rate = max(sought.rate, min(sought.rate + gently * seconds, sought.level))
        near_seconds = sought.near_seconds + seconds
        return attrs.evolve(sought, rate=min(rate, bounds.rate_most), near_seconds=near_seconds)
    rate = min(sought.rate * 2.0 ** (seconds / DOUBLING_SECONDS), bounds.rate_most)
    return attrs.evolve(sought, rate=rate, level=math.inf)


def refused(sought: Sought, bounds: Adaptive, *, left_at: float, now: float) -> Sought:
    """Cut the rate, because the request that left at `left_at` was refused."""
    if left_at < sought.cut_at:
        return sought
    cuts = sought.cuts + 1 if now - sought.cut_at <= SOON_SECONDS else 1
    rate = max(sought.rate * CUTS[min(cuts, len(CUTS)) - 1], bounds.rate_least)
    return attrs.evolve(
        sought, rate=rate, level=sought.rate, near_seconds=0.0, cut_at=now, cuts=cuts
    )
