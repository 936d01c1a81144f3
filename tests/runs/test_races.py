"""Several processes, one partition: who holds the lease walks, and nobody else writes (P38, P39).

Processes stop themselves at named steps, so that every race is decided before it is looked at.
"""

from __future__ import annotations

import signal
from pathlib import Path

import database_facts as facts
from processes import Program, Programs, seen
from traps import Step
from upstream import Shape, serving, true_rows

QUICK = Shape(cars=300, per_page=50)
SLOW = Shape(cars=300, per_page=50, requests_per_second=10)  # a page is written before the next
MIDWAY = Step("page_fetched", after="frontier_written")


async def test_of_two_processes_one_walks_and_the_other_is_told_who_holds_it(
    dsn: str, programs: Programs, tmp_path: Path
) -> None:
    facts.audit_commits(dsn)
    async with serving(QUICK) as upstream:
        config = upstream.configuration(tmp_path, dsn, connector="cars", lease="30s")
        both = [
            programs.start(config, wait_seconds=0.8, at=Step("page_fetched"), sends=signal.SIGSTOP)
            for _ in range(2)
        ]
        holder, other = await _first_to_stop(both)

        assert await other.ended() == 75, other.said()

        assert other.result()["verdict"] == "held"
        assert f"process {holder.pid} " in other.result()["message"]
        assert other.events("lease.waiting")
        assert not other.events("run.started")
        holder.send(signal.SIGCONT)
        assert await holder.ended() == 0, holder.said()
        assert holder.result()["verdict"] == "complete"
        assert [(run.epoch, run.status) for run in facts.runs(dsn)] == [(1, "complete")]
        assert list(facts.audited(dsn)) == [1]
        asked = upstream.asked()
        assert {asked[page] for page in upstream.shape.pages} == {1}
        assert facts.stored_rows(dsn) == true_rows(upstream.simulator.inventory)


async def test_who_waits_takes_over_when_the_first_is_done(
    dsn: str, programs: Programs, tmp_path: Path
) -> None:
    facts.audit_commits(dsn)
    async with serving(QUICK) as upstream:
        config = upstream.configuration(tmp_path, dsn, connector="cars", lease="30s")
        both = [
            programs.start(config, at=Step("page_fetched"), sends=signal.SIGSTOP) for _ in range(2)
        ]
        holder, other = await _first_to_stop(both)
        await other.event("lease.waiting")
        assert [(run.epoch, run.status) for run in facts.runs(dsn)] == [(1, "running")]

        holder.send(signal.SIGCONT)

        assert await holder.ended() == 0, holder.said()
        await other.halted()  # at the first page of its own pass
        other.send(signal.SIGCONT)
        assert await other.ended() == 0, other.said()
        first, second = facts.runs(dsn)
        assert [(run.epoch, run.status) for run in (first, second)] == [
            (1, "complete"),
            (2, "complete"),
        ]
        assert first.owner != second.owner
        assert first.finished_at <= second.started_at
        assert facts.audited(dsn) == {1: first.owner, 2: second.owner}
        assert facts.stored_rows(dsn) == true_rows(upstream.simulator.inventory)


async def test_a_stopped_process_writes_nothing_after_others_took_over(
    dsn: str, programs: Programs, tmp_path: Path
) -> None:
    """Two processes in a row stop between fetch and commit for longer than their leases."""
    facts.audit_commits(dsn)
    async with serving(SLOW) as upstream:
        config = upstream.configuration(tmp_path, dsn, connector="sightings", lease="1s")
        stopped = []
        for _ in range(2):
            stopped.append(programs.start(config, at=MIDWAY, sends=signal.SIGSTOP))
            assert await stopped[-1].halted() == MIDWAY
        third = programs.start(config)
        assert await third.ended() == 0, third.said()
        assert facts.sighted(dsn) == upstream.ids
        before = facts.versions(dsn, "sightings.sightings")
        lost = facts.runs(dsn)[:2]

        for process in stopped:
            process.send(signal.SIGCONT)

        for process in stopped:
            assert await process.ended() == 0, process.said()
            assert len(process.events("lease.lost")) == 1
            finished = [event["status"] for event in process.events("run.finished")]
            assert finished == ["lost", "complete"]
        assert facts.versions(dsn, "sightings.sightings") == before
        assert facts.runs(dsn)[:2] == lost
        assert [run.status for run in lost] == ["lost", "lost"]
        assert [run.status for run in facts.runs(dsn)[2:]] == ["complete"] * 3
        assert {1, 2, 3} <= facts.audited(dsn).keys()


async def test_the_fence_alone_keeps_a_late_commit_out(
    dsn: str, programs: Programs, tmp_path: Path
) -> None:
    """The late process believes in its lease, and the page it holds is open: nobody walked it."""
    facts.audit_commits(dsn)
    async with serving(SLOW) as upstream:
        config = upstream.configuration(tmp_path, dsn, connector="sightings", lease="30s")
        late = programs.start(config, at=MIDWAY, sends=signal.SIGSTOP)
        await late.halted()
        facts.expire_lease(dsn)
        holder = programs.start(config, at=Step("claimed"), sends=signal.SIGSTOP)
        await holder.halted()
        before, closed = facts.sighted(dsn), facts.closed_pages(dsn)

        late.send(signal.SIGCONT)

        (finished,) = await late.event("run.finished")
        assert finished["status"] == "lost"
        assert late.events("lease.lost")
        assert facts.sighted(dsn) == before
        assert facts.closed_pages(dsn) == closed
        assert list(facts.audited(dsn)) == [1]
        holder.send(signal.SIGCONT)
        assert await holder.ended() == 0, holder.said()
        assert await late.ended() == 0, late.said()
        assert facts.sighted(dsn) == upstream.ids
        assert [(run.epoch, run.status) for run in facts.runs(dsn)] == [
            (1, "lost"),
            (2, "complete"),
            (3, "complete"),
        ]


async def _first_to_stop(both: list[Program]) -> tuple[Program, Program]:
    """Return the process that got as far as its step, and the other one."""
    stopped = await seen("one of two processes stopped", lambda: [p for p in both if p.stopped])
    (holder,) = stopped
    (other,) = (program for program in both if program is not holder)
    return holder, other
