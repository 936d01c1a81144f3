"""Every moment that is stored is the database's: a process's wall clock may be wrong (P43).

A process an hour behind the database and a database an hour ahead of the process are the same, and
the database has one clock to set: `syncd.clock`.
"""

from __future__ import annotations

import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path

import database_facts as facts
import pytest
from processes import Programs
from traps import Step
from upstream import Shape, serving, true_rows

from syncd.clock import DatabaseClock

SHAPE = Shape(cars=150, per_page=50, requests_per_second=4)  # its lease is renewed on the way
LEASE = timedelta(seconds=1)

WRONG = """
    CREATE OR REPLACE FUNCTION syncd.clock(now timestamptz DEFAULT NULL) RETURNS timestamptz
        LANGUAGE sql VOLATILE PARALLEL SAFE
        AS $$ SELECT coalesce(now, clock_timestamp() + interval '{}') $$
"""

STORED = """
    SELECT least(min(started_at), min(finished_at)) AS first,
           greatest(max(started_at), max(finished_at)) AS last FROM syncd.run
    UNION ALL SELECT min(started_at), max(ended_at) FROM syncd.pass
    UNION ALL SELECT min(seen_at), max(seen_at) FROM syncd.instance
    UNION ALL SELECT min(_syncd_written_at), max(_syncd_written_at) FROM cars.cars
    UNION ALL SELECT to_timestamp(min(_syncd_version) / 1e6),
                     to_timestamp(max(_syncd_version) / 1e6) FROM cars.cars
"""


@pytest.mark.parametrize("ahead", ["1 hour", "-1 hour"])
async def test_under_a_wrong_wall_clock_everything_stored_is_the_databases(
    ahead: str, dsn: str, programs: Programs, tmp_path: Path
) -> None:
    """A lease neither expires early nor lasts longer: the killed process is waited for."""
    facts.execute(dsn, WRONG.format(ahead))
    began = facts.clock(dsn)
    async with serving(SHAPE) as upstream:
        config = upstream.configuration(tmp_path, dsn, connector="cars", lease="1s")
        killed = programs.start(config, at=Step("page_fetched"), sends=signal.SIGKILL)
        assert await killed.ended() == -signal.SIGKILL
        leased_until = facts.partition(dsn)["lease_until"]
        assert began < leased_until <= facts.clock(dsn) + LEASE

        following = programs.start(config)

        assert await following.ended() == 0, following.said()
        assert facts.stored_rows(dsn) == true_rows(upstream.simulator.inventory)
    ended = facts.clock(dsn)
    lost, complete = facts.runs(dsn)
    assert (lost.status, complete.status) == ("lost", "complete")
    assert leased_until <= complete.started_at
    for moments in facts.rows(dsn, STORED):
        assert began <= moments["first"] <= moments["last"] <= ended
    assert facts.partition(dsn)["watermark"] <= ended


def test_between_two_answers_of_the_database_only_time_passed_counts() -> None:
    passed = [1e9]  # of any origin: it is no date
    clock = DatabaseClock(lambda: passed[0])
    told = datetime(2031, 5, 1, 12, tzinfo=UTC)
    clock.observe(told)

    passed[0] += 90.5

    assert clock.now() == told + timedelta(seconds=90.5)
    clock.observe(told - timedelta(hours=1))  # the database's clock was set back
    assert clock.now() == told - timedelta(hours=1)
