"""Where another's clock stands: between what it told when asked, and when its answer came."""

from __future__ import annotations

import math

import attrs

# By how much two clocks may drift apart: quartz errs by less than 100 parts in a million, and a
# clock that is being corrected (adjtime) by up to 500.
DRIFT = 0.0006


@attrs.define
class Bearing:
    """Bounds of the other's clock less ours: the narrowest that all answers allow."""

    least: float = -math.inf
    most: float = math.inf
    _noted_at: float = -math.inf

    @property
    def width_seconds(self) -> float:
        return self.most - self.least

    def note(self, told: float, *, asked_at: float, came_at: float) -> None:
        """Take an answer into account that was asked for and came at these moments of ours."""
        drift = (came_at - self._noted_at) * DRIFT if self._noted_at > -math.inf else 0.0
        least = max(self.least - drift, told - came_at)
        most = min(self.most + drift, told - asked_at)
        if least > most:  # its clock was set
            least, most = told - came_at, told - asked_at
        self.least, self.most, self._noted_at = least, most, came_at

    def ours(self, theirs: float) -> float:
        """Return the latest moment of ours at which that moment comes there."""
        return theirs - self.least
