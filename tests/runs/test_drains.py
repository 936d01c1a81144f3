"""A process that is asked to stop commits what it fetched, and frees its partition at once (P6)."""

from __future__ import annotations

import signal
from pathlib import Path

import database_facts as facts
import pytest
from processes import Programs, seen
from traps import Step
from upstream import Shape, serving, true_rows

from syncd_cars.simulator import Fault, FaultKind

SHAPE = Shape(cars=600, per_page=50)
STALLED = 6


@pytest.mark.parametrize(
    "step",
    [Step("claimed"), Step("page_fetched", after="frontier_written"), Step("upserted", nth=2)],
    ids=str,
)
async def test_a_drain_commits_what_is_fetched_and_frees_the_partition(
    step: Step, dsn: str, programs: Programs, tmp_path: Path
) -> None:
    async with serving(SHAPE) as before, serving(SHAPE) as after:
        config = before.configuration(tmp_path, dsn, connector="cars", lease="1h")
        drained = programs.start(config, at=step, sends=signal.SIGTERM)

        assert await drained.ended() == 75, drained.said()

        assert drained.trapped == step
        assert drained.result()["verdict"] == "drained"
        fetched = set(before.asked()) & set(SHAPE.pages)
        assert fetched == facts.closed_pages(dsn)
        assert facts.partition(dsn)["token"] is None
        assert facts.passes(dsn) == ["open"]

        config = after.configuration(tmp_path, dsn, connector="cars", lease="1h")
        following = programs.start(config, wait_seconds=0)

        assert await following.ended() == 0, following.said()
        (started,) = following.events("run.started")
        assert started["resumed"]
        asked = after.asked()
        assert {page for page in SHAPE.pages if asked[page]} == set(SHAPE.pages) - fetched
        assert facts.stored_rows(dsn) == true_rows(after.simulator.inventory)
        assert [run.status for run in facts.runs(dsn)] == ["drained", "complete"]


@pytest.mark.parametrize("cut_by", ["a second signal", "the deadline"])
async def test_a_request_that_is_never_answered_does_not_hold_a_drain(
    cut_by: str, dsn: str, programs: Programs, tmp_path: Path
) -> None:
    timeout = "1s" if cut_by == "the deadline" else "1h"
    async with serving(SHAPE) as before, serving(SHAPE) as after:
        config = before.configuration(
            tmp_path, dsn, connector="cars", lease="1h", drain_timeout=timeout
        )
        stall = before.simulator.arm(Fault(kind=FaultKind.STALL, page=STALLED, times=None))
        drained = programs.start(config)
        await seen("a request that stalls", lambda: stall.fired, told=drained.said)
        drained.send(signal.SIGTERM)
        await drained.event("drain.started")
        if cut_by == "a second signal":
            drained.send(signal.SIGTERM)

        assert await drained.ended() == 75, drained.said()

        assert [event["status"] for event in drained.events("run.finished")] == ["drained"]
        assert facts.partition(dsn)["token"] is None
        closed = facts.closed_pages(dsn)
        assert STALLED not in closed

        config = after.configuration(tmp_path, dsn, connector="cars", lease="1h")
        following = programs.start(config, wait_seconds=0)

        assert await following.ended() == 0, following.said()
        assert not closed & set(after.asked())
        assert facts.stored_rows(dsn) == true_rows(after.simulator.inventory)


async def test_a_process_that_waits_for_a_partition_stops_at_once(
    dsn: str, programs: Programs, tmp_path: Path
) -> None:
    async with serving(SHAPE) as upstream:
        config = upstream.configuration(tmp_path, dsn, connector="cars", lease="1h")
        holder = programs.start(config, at=Step("claimed"), sends=signal.SIGSTOP)
        await holder.halted()
        waiting = programs.start(config)
        await waiting.event("lease.waiting")

        waiting.send(signal.SIGTERM)

        assert await waiting.ended() == 75, waiting.said()
        assert waiting.result()["verdict"] == "drained"
        assert facts.partition(dsn)["held"]
        assert [run.epoch for run in facts.runs(dsn)] == [1]
