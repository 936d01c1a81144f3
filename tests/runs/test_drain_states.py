"""A drain ends in every state within its time and a second, and what can be given back is (P6)."""

from __future__ import annotations

import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import database_facts as facts
import pytest
import saboteur
import trio
from fault_proxy import faulty
from mall import Mall, configuration
from processes import Program, Programs, Stalls, seen

from syncd.closing import EXIT_SECONDS, LAST_SECONDS

DRAIN_SECONDS = 2.0
BAR_SECONDS = DRAIN_SECONDS + 1.0
DRAIN = f'drain_timeout = "{DRAIN_SECONDS:g}s"'
HELD = "SELECT 1 FROM syncd.partition WHERE token IS NOT NULL"


async def drained(program: Program, *, twice: bool = False) -> float:
    """Ask a process to stop; answer with how long it took while the machine did not stand still."""
    stalls, began = Stalls(program.pid), time.monotonic()
    with stalls.measured():
        program.send(signal.SIGTERM)
        if twice:
            await program.event("drain.started")
            began = time.monotonic()
            program.send(signal.SIGTERM)
        await program.ended()
    return time.monotonic() - began - stalls.seconds


@asynccontextmanager
async def keeping(
    mall: Mall, dsn: str, programs: Programs, folder: Path, *, url: str, drain: str = DRAIN
) -> AsyncIterator[Program]:
    """Run a daemon that has something to do, and see that afterwards nothing is half done."""
    config = configuration(folder, dsn, url, stores=list(mall.sold), daemon=drain)
    yield programs.start(config, serves=True)


@pytest.mark.parametrize("state", ["a backoff", "half of a body", "a lock"])
async def test_a_drain_leaves_what_waits_and_gives_its_partitions_back(
    state: str, dsn: str, programs: Programs, tmp_path: Path
) -> None:
    mall = Mall(4, orders=500)
    mall.pause_seconds = 0.02
    async with mall.serve() as url, keeping(mall, dsn, programs, tmp_path, url=url) as daemon:
        await daemon.event("batch.committed", times=4)
        if state == "a backoff":
            mall.closed = set(mall.sold)
            await daemon.event("request.retried", times=2)
            took = await drained(daemon)
        elif state == "half of a body":
            mall.stuck = set(mall.sold)
            await seen("all are stuck", lambda: mall.halves >= 4, told=daemon.said)
            took = await drained(daemon)
        else:
            with facts.connect(dsn) as connection, connection.transaction():
                connection.execute("LOCK TABLE mall.orders IN ACCESS EXCLUSIVE MODE")
                waits = "SELECT 1 FROM pg_locks WHERE NOT granted"
                await seen("a waiting writer", lambda: facts.rows(dsn, waits), told=daemon.said)
                took = await drained(daemon)

        assert daemon.code == 0, daemon.said()
        assert took <= BAR_SECONDS, daemon.said()
        assert facts.rows(dsn, HELD) == []
        assert daemon.events("process.cut") == []
        statuses = {each["status"] for each in daemon.events("run.finished")}
        assert statuses <= {"drained", "waiting"}


@pytest.mark.parametrize("twice", [False, True], ids=["the deadline", "a second signal"])
async def test_a_silent_database_holds_no_drain(
    twice: bool, dsn: str, programs: Programs, tmp_path: Path
) -> None:
    """The sum of all last words fits: each transaction that hangs, giving back, leaving."""
    mall = Mall(4, orders=500)
    mall.pause_seconds = 0.02
    drain = 'drain_timeout = "60s"' if twice else DRAIN
    async with (
        faulty(dsn) as proxy,
        mall.serve() as url,
        keeping(mall, proxy.dsn, programs, tmp_path, url=url, drain=drain) as daemon,
    ):
        await daemon.event("batch.committed", times=4)
        proxy.silence("up", "down")
        await seen("somebody speaks into the void", lambda: proxy.held_bytes, told=daemon.said)
        took = await drained(daemon, twice=twice)

        assert took <= (LAST_SECONDS + EXIT_SECONDS if twice else DRAIN_SECONDS) + 1.0, (
            daemon.said()
        )
        assert daemon.events("process.cut") == [], "it ended by itself"
        assert daemon.code == 0


@pytest.mark.parametrize("does", ["swallows", "spins"])
async def test_a_hook_that_swallows_cancellation_holds_no_drain(
    does: str, dsn: str, programs: Programs, tmp_path: Path
) -> None:
    file = saboteur.configuration(
        tmp_path, dsn, daemon=DRAIN, connector=f'hook = "fetch"\ndoes = "{does}"'
    )
    program = programs.start(file)
    await program.event("loop.stalled" if does == "spins" else "batch.committed")
    await trio.lowlevel.checkpoint()

    took = await drained(program)

    assert program.code == 70, program.said()
    assert took <= BAR_SECONDS, program.said()
