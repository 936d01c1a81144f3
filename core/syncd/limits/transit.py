"""How far the moment a request counts upstream can lie from the moment it left."""

from __future__ import annotations

import math

import attrs

# The fastest answer is looked for among the last one or two blocks of so many: long enough to
# have met a fast one, short enough to forget a route that is no more.
_BLOCK = 256
_ENOUGH = 16


@attrs.define
class Transit:
    """The fastest and the slowest answers of late, in seconds from leaving to the answer's head."""

    _fastest: float = math.inf
    _slowest: float = 0.0
    _fastest_before: float = math.inf
    _slowest_before: float = 0.0
    _count: int = 0

    @property
    def is_known(self) -> bool:
        return self._count >= _ENOUGH or self._fastest_before < math.inf

    @property
    def fastest_seconds(self) -> float:
        """Return the least that an answer takes; 0 while too few have come to say."""
        return min(self._fastest, self._fastest_before) if self.is_known else 0.0

    @property
    def spread_seconds(self) -> float:
        """Return by how much answers differ; infinite while too few have come to say."""
        if not self.is_known:
            return math.inf
        return max(self._slowest, self._slowest_before) - self.fastest_seconds

    @property
    def likely_seconds(self) -> float:
        """Return what an answer takes at least, as far as the fastest so far tells."""
        return max(self.fastest_seconds - self._margin_seconds, 0.0)

    @property
    def late_seconds(self) -> float:
        """Return by how much a request may be late, as far as others tell."""
        return self.spread_seconds + self._margin_seconds

    @property
    def _margin_seconds(self) -> float:
        # Of n sums of two even chances (there, and back) the least lies about 1/sqrt(2n) of their
        # spread above the least there is; this is three times that.
        known = self._count + (_BLOCK if self._fastest_before < math.inf else 0)
        return self.spread_seconds * min(1.0, 2.0 / math.sqrt(known)) if self.is_known else 0.0

    @property
    def certain_seconds(self) -> float:
        """Return what an answer takes at least, even if the fastest is yet to come."""
        return max(self.fastest_seconds - self.spread_seconds, 0.0)

    def note(self, seconds: float) -> None:
        """Take an answer's seconds into account."""
        if self._count == _BLOCK:
            self._fastest_before, self._slowest_before = self._fastest, self._slowest
            self._fastest, self._slowest, self._count = math.inf, 0.0, 0
        self._fastest = min(self._fastest, seconds)
        self._slowest = max(self._slowest, seconds)
        self._count += 1
