"""The database's clock, reckoned: what a claim or a renewal told, plus the time passed since."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta


def boottime() -> float:
    """Return seconds that also pass while the machine sleeps, and never jump."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class DatabaseClock:
    """Tells the database's time without asking it.

    It is never ahead: a moment is set against our own clock only after its answer has arrived. In
    a simulation `tick` is the virtual clock.
    """

    def __init__(self, tick: Callable[[], float] = boottime) -> None:
        self._tick = tick
        self._told_at = tick()
        self._told: datetime | None = None

    def observe(self, told: datetime) -> None:
        """Set the clock by an answer of the database that has just arrived."""
        self._told_at, self._told = self._tick(), told

    def now(self) -> datetime:
        """Return the database's time.

        Raises: `RuntimeError` before the first answer, which would be a mistake of the caller.
        """
        if self._told is None:
            raise RuntimeError("the database has not told its time yet")
        return self._told.astimezone(UTC) + timedelta(seconds=self._tick() - self._told_at)
