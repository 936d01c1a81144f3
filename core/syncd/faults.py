"""Named points at which the tests stop or kill a process; in production they do nothing.

A promise about crashes is worth what its crash test reaches: `tests/runs/test_crashes.py` kills a
real process at each of these names and proves that it was there.
"""

from __future__ import annotations

from collections.abc import Callable

POINTS = (
    "claimed",
    "page_fetched",
    "rows_copied",
    "upserted",
    "effects_enqueued",
    "frontier_written",
    "before_commit",
    "after_commit",
    "pass_completed",
    "released",
    "effects_accepted",
    "effects_recorded",
)

_armed: Callable[[str], None] | None = None


def arm(reached: Callable[[str], None] | None) -> None:
    """Call `reached(name)` at every point from now on; `None` disarms. For test programs only."""
    global _armed  # noqa: PLW0603  # one switch, so that a point costs one comparison
    _armed = reached


def point(name: str) -> None:
    """Say that a step has been reached."""
    if _armed is not None:
        _armed(name)
