"""How long answers take: what every one of them takes, and how much they differ."""

from __future__ import annotations

import math

import attrs

# The fastest answer is looked for among the last one or two blocks of so many: long enough to
# have met a fast one, short enough to forget a route that is no more.
_BLOCK = 256
_ENOUGH = 16


@attrs.define
class Transit:
    """The fastest and the slowest answers of late, in seconds from leaving to the answer's head.

    `certain_seconds`: what an answer takes at least, even if the fastest is yet to come;
    `likely_seconds`: the same as far as the fastest so far tells; both 0 while too few have come.
    `late_seconds`: by how much a request may be late as far as others tell; infinite till then.
    """

    certain_seconds: float = 0.0
    likely_seconds: float = 0.0
    late_seconds: float = math.inf
    _fastest: float = math.inf
    _slowest: float = 0.0
    _fastest_before: float = math.inf
    _slowest_before: float = 0.0
    _count: int = 0

    def note(self, seconds: float) -> None:
        """Take an answer's seconds into account."""
        if self._count == _BLOCK:
            self._fastest_before, self._slowest_before = self._fastest, self._slowest
            self._fastest, self._slowest, self._count = math.inf, 0.0, 0
        self._count += 1
        self._fastest = min(self._fastest, seconds)
        self._slowest = max(self._slowest, seconds)
        known = self._count + (_BLOCK if self._fastest_before < math.inf else 0)
        if known >= _ENOUGH:
            self._conclude(known)

    def _conclude(self, known: int) -> None:
        fastest = min(self._fastest, self._fastest_before)
        spread = max(self._slowest, self._slowest_before) - fastest
        # Of n sums of two even chances (there, and back) the least lies about 1/sqrt(2n) of their
        # spread above the least there is; this is three times that.
        margin = spread * min(1.0, 2.0 / math.sqrt(known))
        self.certain_seconds = max(fastest - spread, 0.0)
        self.likely_seconds = max(fastest - margin, 0.0)
        self.late_seconds = spread + margin
