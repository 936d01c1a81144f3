"""How many requests may be in flight at once: more while all goes well, half when it does not.

Additive increase, multiplicative decrease (Chiu and Jain 1989), as TCP does it: one more for every
round of answers while the ceiling is what holds requests back; half at a refusal (429, 503) or
timeout, once for all requests that were in flight together.
"""

from __future__ import annotations

import math

import attrs


@attrs.frozen
class Ceiling:
    """The number of requests that may be in flight, with the part of one it has grown since."""

    total: float
    cut_at: float = -math.inf

    @property
    def whole(self) -> int:
        return int(self.total)


def refused(ceiling: Ceiling, *, least: int, left_at: float, now: float) -> Ceiling:
    """Halve, unless the request left before the last cut: then it is of the same storm."""
    if left_at < ceiling.cut_at:
        return ceiling
    return Ceiling(max(float(least), ceiling.total / 2.0), cut_at=now)


def answered(ceiling: Ceiling, *, most: int, in_flight: int) -> Ceiling:
    """Grow by one a round of answers, if all that is allowed was in flight."""
    if in_flight + 1 < ceiling.whole or ceiling.total >= most:
        return ceiling
    return attrs.evolve(ceiling, total=min(float(most), ceiling.total + 1.0 / ceiling.total))
