"""How many pages to have in flight."""

from __future__ import annotations

import math

from syncd.model import REQUESTS, Quota


def pages_in_flight(quota: Quota, latency_seconds: float | None) -> int:
    """Return how many pages to have in flight so that the quota, not the latency, is the bound.

    Little's law: as many are in flight as leave during one latency; one more waits at the gate.
    At least two, while nothing is known of the latency; never more than the quota's concurrency.
    """
    intervals = [w.per_seconds / w.most for w in quota.windows if w.unit == REQUESTS]
    if not intervals:
        return quota.concurrency
    needed = 2
    if latency_seconds is not None:
        needed = math.ceil(latency_seconds / max(intervals)) + 1
    return min(max(needed, 2), quota.concurrency)
