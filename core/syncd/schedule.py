"""When a job is due: an interval or a cron expression. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from cronsim import CronSim


def first_moment(
    *, every_seconds: float | None, cron: str | None, timezone: str, now: datetime
) -> datetime | None:
    """Return when a job with a new schedule is first due: an interval begins at once."""
    if cron is None:
        return None if every_seconds is None else now
    return _next_by_cron(cron, timezone, now)


def next_moment(
    *,
    every_seconds: float | None,
    cron: str | None,
    timezone: str,
    planned_at: datetime | None,
    now: datetime,
) -> datetime | None:
    """Return the first moment after `now`: those that were missed coalesce.

    An interval is counted from the moment that was planned, so that a late round shifts none of the
    following ones. Across a change of the clocks a cron moment comes once, as cronsim reckons it
    (like Debian's cron).
    """
    if cron is not None:
        return _next_by_cron(cron, timezone, now)
    if every_seconds is None:
        return None
    since = (now - planned_at).total_seconds() if planned_at is not None else 0.0
    if planned_at is None or since < 0:
        return now + timedelta(seconds=every_seconds)
    return planned_at + timedelta(seconds=(since // every_seconds + 1) * every_seconds)


def _next_by_cron(cron: str, timezone: str, now: datetime) -> datetime:
    return next(CronSim(cron, now.astimezone(ZoneInfo(timezone)))).astimezone(now.tzinfo)
