"""The limit of one URL: so many calls in a window, and a lock that calls make longer."""

from __future__ import annotations

from collections import deque
from typing import Protocol

LOCK_SECONDS = 10  # at first; each call while locked adds as many


def lock_ends_at(at: float, locked_until: float) -> float:
    """Say until when a call that is refused locks its URL; one while it is locked, the longer."""
    return max(at, locked_until) + LOCK_SECONDS


class Gate(Protocol):
    """Who counts the calls."""

    def passes(self, key: str, at: float) -> float | None:
        """Let a call arrive; answer with the end of the lock where it is refused."""
        ...


class Limit:
    """Counts by app, business and URL: `calls` in any window of `per_seconds`; `None` admits all.

    What is refused is not counted. `locks` and `while_locked` count what happened.
    """

    def __init__(self, calls: int | None = 150, per_seconds: float = 30.0) -> None:
        self._calls = calls
        self._per_seconds = per_seconds
        self._recent: dict[str, deque[float]] = {}
        self._locked_until: dict[str, float] = {}
        self.locks = 0
        self.while_locked = 0

    def passes(self, key: str, at: float) -> float | None:
        if self._calls is None:
            return None
        locked_until = self._locked_until.get(key, 0.0)
        recent = self._recent.setdefault(key, deque())
        while recent and recent[0] <= at - self._per_seconds:
            recent.popleft()
        if at >= locked_until and len(recent) < self._calls:
            recent.append(at)
            return None
        self.while_locked += at < locked_until
        self.locks += at >= locked_until
        self._locked_until[key] = lock_ends_at(at, locked_until)
        return self._locked_until[key]
