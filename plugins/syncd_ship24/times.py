"""Ship24's times: ISO 8601 as text, sometimes without a zone, sometimes without a time. Pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

# By how much a clock of theirs may be ahead of ours and is still believed: machines that nobody
# sets are wrong by minutes, and by an hour where summer time was set by hand. What lies within it
# is in the order in which it was told, however late it comes; a wrong one wins for no longer.
AHEAD_MAX = timedelta(hours=1)


def moment_of(text: str | None) -> datetime | None:
    """Return the moment that a text names; `None` where it names none, or not in which zone."""
    told = _told(text)
    return told if told is not None and told.tzinfo is not None else None


def order_of(text: str | None) -> datetime | None:
    """Return where a text stands among others: as if it were UTC where it names no zone.

    It may be wrong by the hours of a zone, always by the same: a text has one place. `None` where
    it names no day.
    """
    told = _told(text)
    if told is None:
        return None
    return told if told.tzinfo is not None else told.replace(tzinfo=UTC)


def believed(text: str | None, *, now: datetime) -> str | None:
    """Return when something says that it was told, or now where that is too far ahead.

    What cannot be read stays as it is.
    """
    told = order_of(text)
    return now.isoformat() if told is not None and told > now + AHEAD_MAX else text


def _told(text: str | None) -> datetime | None:
    try:
        told = datetime.fromisoformat(text.strip()) if text else None
    except ValueError:
        return None
    if told is None or told.tzinfo is None:
        return told
    try:
        return told.astimezone(UTC)
    except OverflowError:  # of the first or last day that a calendar has
        return None
