"""How far the moment a request counts upstream can lie from the moment it left."""

from __future__ import annotations

import math

import attrs

# The fastest answer is looked for among the last one or two blocks of so many: long enough to
# have met a fast one, short enough to forget a route that is no more.
_BLOCK = 64


@attrs.define
class Transit:
    """The fastest and the slowest answers of late, in seconds from leaving to the answer's head."""

    _fastest: float = math.inf
    _slowest: float = 0.0
    _fastest_before: float = math.inf
    _slowest_before: float = 0.0
    _count: int = 0

    @property
    def fastest_seconds(self) -> float:
        """Return the least that an answer took; 0 while there was none, which is certain."""
        fastest = min(self._fastest, self._fastest_before)
        return 0.0 if fastest == math.inf else fastest

    @property
    def spread_seconds(self) -> float:
        """Return by how much answers differed; infinite while there was none."""
        if not self._count and self._fastest_before == math.inf:
            return math.inf
        return max(self._slowest, self._slowest_before) - self.fastest_seconds

    def note(self, seconds: float) -> None:
        """Take an answer's seconds into account."""
        if self._count == _BLOCK:
            self._fastest_before, self._slowest_before = self._fastest, self._slowest
            self._fastest, self._slowest, self._count = math.inf, 0.0, 0
        self._fastest = min(self._fastest, seconds)
        self._slowest = max(self._slowest, seconds)
        self._count += 1
