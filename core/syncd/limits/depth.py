"""How many pages to have in flight."""

from __future__ import annotations

import math

from syncd.model import REQUESTS, Quota

# Of a call, while none was made: few APIs answer sooner over the Internet.
LATENCY_ASSUMED_SECONDS = 0.5


def pages_in_flight(quota: Quota, latency_seconds: float | None) -> int:
    """Return how many pages to have in flight so that the quota, not the latency, is the bound.

    Little's law: as many are in flight as leave during one latency; one more waits at the gate.
    Half a second is assumed while nothing is known of it. Always two, for a steady pace; never more
    than the quota's concurrency.
    """
    intervals = [w.per_seconds / w.most for w in quota.windows if w.unit == REQUESTS]
    if not intervals:
        return quota.concurrency
    seconds = LATENCY_ASSUMED_SECONDS if latency_seconds is None else latency_seconds
    needed = math.ceil(seconds / max(intervals)) + 1
    return min(max(needed, 2), quota.concurrency)
