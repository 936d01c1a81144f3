"""What is said about a database that is away: soon, now and then, and when it is back."""

from __future__ import annotations

from collections.abc import Callable

from syncd.errors import StoreError
from syncd.events import DbExhausted, DbRecovered, DbUnavailable, Event

TELL_AFTER_SECONDS = 2.0  # a connection that was replaced by then is nobody's business
TELL_AGAIN_SECONDS = 10.0


class Outage:
    """Whether the database is away; moments are Trio's."""

    def __init__(self, emit: Callable[[Event], None]) -> None:
        self._emit = emit
        self._since: float | None = None
        self._told_at: float | None = None
        self._exhausted_told_at: float | None = None

    @property
    def lasts(self) -> bool:
        return self._since is not None

    def failed(self, error: StoreError, now: float, *, since: float) -> None:
        """Note that a transaction, begun at `since`, found no connection or lost it."""
        if self._since is None:
            self._since = since
        if now - self._since >= TELL_AFTER_SECONDS and _again(self._told_at, now):
            self._told_at = now
            self._emit(DbUnavailable(str(error)))

    def over(self, now: float) -> None:
        """Note that a transaction was committed."""
        if self._told_at is not None and self._since is not None:
            self._emit(DbRecovered(round(now - self._since, 3)))
        self._since = self._told_at = None

    def exhausted(self, error: StoreError, now: float) -> None:
        """Note that the server lacks something."""
        if _again(self._exhausted_told_at, now):
            self._exhausted_told_at = now
            self._emit(DbExhausted(str(error)))


def _again(told_at: float | None, now: float) -> bool:
    return told_at is None or now - told_at >= TELL_AGAIN_SECONDS
