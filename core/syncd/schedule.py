"""When a partition is due again: an interval or a cron expression. Pure."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

from cronsim import CronSim

ON_REQUEST_SECONDS = 366 * 86400.0  # of a job without a schedule: it runs when it is asked to


def seconds_until_next(
    *, every_seconds: float | None, cron: str | None, timezone: str, now: datetime
) -> float:
    """Return the seconds from `now` to a job's next moment.

    Missed moments coalesce: only the next one counts. Across a change of the clocks a cron moment
    comes once, as cronsim reckons it (like Debian's cron).
    """
    if cron is not None:
        local = now.astimezone(ZoneInfo(timezone))
        return (next(CronSim(cron, local)) - local).total_seconds()
    return ON_REQUEST_SECONDS if every_seconds is None else every_seconds
