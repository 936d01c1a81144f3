"""What requests cost, counted."""

from __future__ import annotations

import attrs


@attrs.frozen
class Statistics:
    """What a client has done so far.

    `requests` counts every sending, `retries` those that repeat an earlier one, for whatever
    reason. `throttled_seconds` sums the waits of all requests, also of those that waited together.
    `latency_seconds` is the running mean over answers that were data, from sending to last byte.
    """

    requests: int = 0
    retries: int = 0
    throttled_seconds: float = 0.0
    in_flight: int = 0
    latency_seconds: float | None = None


@attrs.define
class Tally:
    """The counts of one fetch, or of all."""

    requests: int = 0
    retries: int = 0
    throttled_seconds: float = 0.0
