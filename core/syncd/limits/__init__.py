"""Keeping to what an upstream allows: what decides, apart from what waits.

Moments are seconds of the caller's monotonic clock, chance is a number drawn evenly from [0, 1).
Nothing here waits, looks at a clock or rolls dice; `http.limiter` does, and is led by

    windows      what is spent of windows and buckets, counted so that jitter cannot breach
    lock         until when everybody was asked to wait
    announced    what header fields say of limits; `allowance`: what of it still may leave
    seeking      the rate where nobody announces one; `ceiling`: how many may be in flight
    breaker      an origin that fails again and again is left alone
    fair         who is next: classes by weight, accounts in turn
    ledger       what daemons that share a quota may send together: the law of one UPDATE
    share        one daemon's part of that; `bearing`: where the ledger's clock stands
    gate         the first five of these together, for one quota key
"""

from syncd.limits.depth import pages_in_flight
from syncd.limits.gate import ONE_REQUEST, Gate, Ticket

__all__ = ["ONE_REQUEST", "Gate", "Ticket", "pages_in_flight"]
