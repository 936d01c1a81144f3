"""PostgreSQL is restarted, crashes, loses backends: no data, no page and no process is lost.

Promises P7 (`pg_ctl stop -m immediate` is a crash), P8 (restarts) and P9 (killed backends).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import database_facts as facts
import pytest
import trio
from own_server import Mode, OwnServer, own_server
from processes import Program, Programs, seen
from upstream import Shape, serving, true_rows

SHAPE = Shape(cars=1500, per_page=25, requests_per_second=8)  # 60 pages in 7 s and a half
RESTARTS: list[Mode] = ["fast", "immediate", "fast", "immediate"]
KILLS = 30
KILL_EVERY_SECONDS = 0.1


@pytest.fixture(scope="module")
def restarted() -> Iterator[OwnServer]:
    with own_server({"fsync": "off", "max_connections": "50"}) as running:
        yield running


@pytest.mark.slow
@pytest.mark.own_server
@pytest.mark.parametrize("connector", ["cars", "sightings"])
async def test_restarts_during_a_run_lose_nothing_and_end_no_process(
    restarted: OwnServer, programs: Programs, tmp_path: Path, connector: str
) -> None:
    dsn = restarted.database()
    async with serving(SHAPE) as upstream:
        # Short: a commit that a crash left in doubt may keep its lease until it runs out.
        config = upstream.configuration(tmp_path, dsn, connector=connector, lease="5s")
        program = programs.start(config)
        for count, mode in enumerate(RESTARTS):
            await progressed(program, beyond=committed(program))
            assert program.code is None, f"it ended before restart {count}: {program.said()}"
            await trio.to_thread.run_sync(restarted.restart, mode)

        assert await program.ended(deadline_seconds=90) == 0, program.said()
        if connector == "cars":
            assert facts.stored_rows(dsn) == true_rows(upstream.simulator.inventory)
        else:
            assert facts.sighted(dsn) == upstream.ids
        assert program.events("store.retried"), "no restart was ever noticed"
        assert facts.runs(dsn)[-1].status == "complete"


@pytest.mark.slow
@pytest.mark.direct
@pytest.mark.parametrize("connector", ["cars", "sightings"])
async def test_backends_that_are_killed_all_the_time_lose_nothing(
    dsn: str, programs: Programs, tmp_path: Path, connector: str
) -> None:
    async with serving(SHAPE) as upstream:
        config = upstream.configuration(tmp_path, dsn, connector=connector, lease="5s")
        program = programs.start(config)
        await progressed(program, beyond=0)
        killed = 0
        while killed < KILLS and program.code is None:
            killed += kill_one(dsn)
            await trio.sleep(KILL_EVERY_SECONDS)  # the pace of the attack, not a wait for anything

        assert await program.ended(deadline_seconds=90) == 0, program.said()
        assert killed == KILLS
        if connector == "cars":
            assert facts.stored_rows(dsn) == true_rows(upstream.simulator.inventory)
        else:
            assert facts.sighted(dsn) == upstream.ids
        assert program.events("store.retried"), "no backend was killed at work"


def committed(program: Program) -> int:
    return len(program.events("batch.committed"))


async def progressed(program: Program, *, beyond: int) -> None:
    """Wait until it has committed more batches than so many."""
    await seen(
        f"more than {beyond} commits",
        lambda: committed(program) > beyond or program.code is not None,
        told=program.said,
    )


def kill_one(dsn: str) -> int:
    """Terminate one of the engine's backends, whichever; answer with how many there were."""
    query = (
        "SELECT pg_terminate_backend(pid) AS gone FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name = 'syncd'"
        " ORDER BY random() LIMIT 1"
    )
    return len(facts.rows(dsn, query))
