"""Writes that take too long: less at a time is tried, and no record is blamed for it."""

from __future__ import annotations

from pathlib import Path

import database_facts as facts
import pytest
import sightings
from processes import run_here
from upstream import Shape, serving

from syncd import bulk
from syncd.events import BatchHalved, Event, RunFinished

SHAPE = Shape(cars=400, per_page=50, requests_per_second=1000)  # several pages a batch
BRISK = 'statement_timeout = "500ms"'
SLOW = """
    CREATE FUNCTION public.slow() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF (SELECT count(*) FROM fresh) > {rows} THEN
            PERFORM pg_sleep(30);
        END IF;
        RETURN NULL;
    END $$;
    CREATE TRIGGER slow AFTER INSERT ON sightings.sightings
        REFERENCING NEW TABLE AS fresh EXECUTE FUNCTION public.slow();
"""


@pytest.fixture
def slow_dsn(dsn: str) -> str:
    """A database with the table of sightings."""
    table = bulk.table_of("sightings", sightings.SIGHTINGS)
    with facts.connect(dsn) as connection, connection.transaction():
        bulk.apply(connection, [table], lock_timeout_seconds=5.0)
    return dsn


async def test_a_batch_that_takes_too_long_is_written_in_halves(
    slow_dsn: str, tmp_path: Path
) -> None:
    facts.execute(slow_dsn, SLOW.format(rows=SHAPE.per_page))
    events: list[Event] = []
    async with serving(SHAPE) as upstream:
        config = upstream.configuration(
            tmp_path, slow_dsn, connector="sightings", lease="60s", database=BRISK
        )
        result = await run_here(config, listener=events.append)

    assert result.verdict == "complete", result.message
    halved = [event for event in events if isinstance(event, BatchHalved)]
    assert halved, "every batch was one page"
    assert all("57014" in event.error for event in halved)
    assert facts.sighted(slow_dsn) == upstream.ids


async def test_a_page_that_takes_too_long_fails_the_run_and_quarantines_nothing(
    slow_dsn: str, tmp_path: Path
) -> None:
    facts.execute(slow_dsn, SLOW.format(rows=SHAPE.per_page - 1))
    events: list[Event] = []
    async with serving(SHAPE) as upstream:
        config = upstream.configuration(
            tmp_path, slow_dsn, connector="sightings", lease="60s", database=BRISK
        )
        result = await run_here(config, listener=events.append)

        assert result.verdict == "failed"
        assert "57014" in result.message
        assert "statement_timeout" in result.message
        assert facts.rows(slow_dsn, "SELECT 1 FROM syncd.quarantine") == []
        assert facts.sighted(slow_dsn) == []
        assert facts.passes(slow_dsn) == ["open"]
        assert facts.partition(slow_dsn)["state"] == "ready"
        facts.execute(slow_dsn, "DROP TRIGGER slow ON sightings.sightings")
        again = await run_here(config, listener=events.append)

    assert again.verdict == "complete", again.message
    assert facts.sighted(slow_dsn) == upstream.ids
    finished = [event.status for event in events if isinstance(event, RunFinished)]
    assert finished == ["failed", "complete"]
