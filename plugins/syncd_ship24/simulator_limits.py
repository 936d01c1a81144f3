"""The limits of the simulated upstream: a bucket for each endpoint, told of in two dialects."""

from __future__ import annotations

import math
from collections.abc import Mapping

import attrs

PER_SECOND: Mapping[str, int] = {
    "bulk": 3,
    "create": 10,
    "list": 10,
    "results": 10,
    "tracker": 10,
    "resend": 1,
}


@attrs.define
class _Bucket:
    left: float
    at: float


class Limits:
    """Who may pass: each endpoint's calls a second, and as many at once."""

    def __init__(self, per_second: Mapping[str, int] = PER_SECOND) -> None:
        self._per_second = per_second
        self._buckets: dict[str, _Bucket] = {}

    def told(self, endpoint: str, at: float) -> dict[str, str]:
        """Count a call; return the fields of its answer, with Retry-After where it is refused."""
        most = self._per_second.get(endpoint)
        if most is None:
            return {}
        bucket = self._buckets.setdefault(endpoint, _Bucket(most, at))
        bucket.left = min(most, bucket.left + max(at - bucket.at, 0.0) * most)
        bucket.at = max(at, bucket.at)
        refused = bucket.left < 1
        bucket.left -= 0 if refused else 1
        # Seconds to go in the one, a moment in the other.
        seconds = math.ceil((most - bucket.left) / most)
        fields = {
            "ratelimit-limit": str(most),
            "ratelimit-remaining": str(int(bucket.left)),
            "ratelimit-reset": str(seconds),
            "x-ratelimit-limit": str(most),
            "x-ratelimit-remaining": str(int(bucket.left)),
            "x-ratelimit-reset": str(math.ceil(at + seconds)),
        }
        return {**fields, "retry-after": "1"} if refused else fields
