"""How long what is cut may still take: the end of a drain bounds every last word.

Whatever must be done although its task was cancelled (a lease to give back, a pool to close) is
shielded until a deadline from here. Each such step has a time of its own; all of them together have
what is left until the process is to be gone, so that their sum cannot outlast a drain.
"""

from __future__ import annotations

import math

import trio

# Between the cut and the end of a drain: a transaction that hangs is cancelled, then its socket is
# shut, then the lease goes back over another connection. Each takes half of what is left.
LAST_SECONDS = 1.5

EXIT_SECONDS = 0.5  # for Python to end, on a machine that has other things to do

_gone_by: trio.lowlevel.RunVar[float] = trio.lowlevel.RunVar("syncd.gone_by", math.inf)


def cut_after(drain_seconds: float) -> float:
    """Return after how many seconds a drain cuts what goes on: what follows takes time, too."""
    return drain_seconds - min(LAST_SECONDS + EXIT_SECONDS, drain_seconds / 2)


def gone_after(drain_seconds: float) -> float:
    """Return after how many seconds of a drain the last words are over; some there always are."""
    return max(EXIT_SECONDS, drain_seconds - min(EXIT_SECONDS, drain_seconds / 8))


def be_gone_by(moment: float) -> None:
    """Set when the process is to be gone, on Trio's clock; the earliest word stands."""
    _gone_by.set(min(_gone_by.get(), moment))


def left_seconds() -> float:
    """Return how long there is until the process is to be gone; without an end, infinity."""
    return max(0.0, _gone_by.get() - trio.current_time())


def deadline(seconds: float) -> float:
    """Return when a last step is to be over: in so many seconds, or with the process."""
    return trio.current_time() + min(seconds, left_seconds())
