"""Derived streams in whole runs: after what they read, under the lease, never a request."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs
import clinic
import database_facts as facts
import pytest
import trio
from clinic import Clinic, Plugin, job, open_clinic
from processes import Programs, seen
from traps import Step, Trap

from syncd import faults, scheduler
from syncd.cli import checking, previewing
from syncd.cli.findings import Finding
from syncd.cli.loading import Loaded
from syncd.daemon import Process, Stopped
from syncd.errors import HookError
from syncd.events import BatchCommitted, Event, LeaseLost, RunFinished, RunStarted
from syncd.plugins import Plugins
from syncd.preview import Preview
from syncd.progress import Bounds
from syncd.serving import generation

ALL = job("all")
LEADS = job("all", "leads")


def leads(dsn: str) -> dict[int, str]:
    found = facts.rows(dsn, "SELECT npi, status FROM clinic.leads")
    return {row["npi"]: row["status"] for row in found}


def calls(dsn: str, table: str = "calls") -> dict[Any, int]:
    found = facts.rows(dsn, f"SELECT * FROM clinic.{table}")
    return {
        (row["account_id"], row["state"]) if table == "tallies" else row["state"]: row["leads"]
        for row in found
    }


def ran(there: Clinic) -> list[str]:
    """Return the partitions whose runs began, in that order."""
    return [each.partition.removeprefix("clinic.") for each in there.told(RunStarted)]


async def test_what_is_derived_comes_after_what_it_is_made_of_and_asks_for_nothing(
    dsn: str,
) -> None:
    async with open_clinic(dsn) as there:
        there.enlist("CA", 1, 2, 10)
        there.enlist("TX", 3, 4)
        results = await there.run(ALL)

        assert {each.verdict for each in results.values()} == {"complete"}
        order = ran(there)
        assert set(order[:3]) == {"doctors[CA]", "doctors[NY]", "doctors[TX]"}
        assert sorted(order[3:]) == ["calls", "leads", "tallies"]
        assert order.index("leads") < order.index("calls")
        assert leads(dsn) == dict.fromkeys([1, 2, 3, 4], "new")
        assert calls(dsn) == {"CA": 2, "TX": 2}
        assert there.asked.total() == 3

        facts.execute(dsn, "UPDATE clinic.leads SET status = 'called' WHERE npi = 1")
        there.enlist("NY", 5)
        await there.run(ALL)

    assert leads(dsn) == {1: "called"} | dict.fromkeys([2, 3, 4, 5], "new")
    assert calls(dsn) == {"CA": 2, "TX": 2, "NY": 1}
    told = [each for each in there.told(BatchCommitted) if each.partition == "clinic.leads"]
    assert [(e.pages, e.records, e.inserted, e.updated, e.unchanged) for e in told] == [
        (1, 5, 1, 0, 4)
    ]
    (run,) = [each for each in there.told(RunFinished) if each.partition == "clinic.leads"]
    assert (run.status, run.requests, run.pages, run.records, run.inserted) == (
        "complete", 0, 1, 5, 1
    )  # fmt: skip
    kept = facts.rows(
        dsn,
        "SELECT s.mode, s.state, s.pages, s.records, s.inserted, s.unchanged, p.account"
        " FROM syncd.pass s JOIN syncd.partition p ON p.id = s.partition_id"
        " WHERE p.feed = 'leads' ORDER BY s.number",
    )
    assert [tuple(row.values()) for row in kept] == [
        ("full", "complete", 1, 4, 4, 0, "default"),
        ("full", "complete", 1, 5, 1, 4, "default"),
    ]
    assert facts.rows(dsn, "SELECT 1 FROM syncd.frontier") == [], "and forgotten with its pass"


async def test_a_derived_stream_of_another_job_joins_whoever_walks_what_it_reads(
    dsn: str,
) -> None:
    jobs = job("all", "doctors") + job("calling", "leads", more='mode = "incremental"')
    async with open_clinic(dsn) as there:
        first = await there.run(jobs, job="calling")
        assert {name: each.verdict for name, each in first.items()} == {"leads": "complete"}
        assert leads(dsn) == {}
        assert there.asked.total() == 0
        there.enlist("CA", 1, 2)

        await there.run(jobs)

    assert ran(there)[-1] == "leads"
    assert leads(dsn) == {1: "new", 2: "new"}
    tables = facts.rows(dsn, "SELECT relname FROM pg_stat_user_tables WHERE schemaname = 'clinic'")
    assert {row["relname"] for row in tables} == {"doctors", "leads"}, "no job names the others"


async def test_what_is_made_for_all_accounts_has_one_partition_and_else_one_each(dsn: str) -> None:
    async with open_clinic(dsn) as there:
        there.enlist("CA", 1, 2, account="north")
        there.enlist("CA", 2, 3, account="south")
        there.closed = {"TX"}
        results = await there.run(ALL, accounts=["north", "south"])

    assert {name for name in results if "doctors" not in name} == {
        "calls", "leads", "tallies[north]", "tallies[south]"
    }  # fmt: skip
    assert {each.verdict for name, each in results.items() if "doctors" not in name} == {"complete"}
    assert leads(dsn) == {1: "new", 2: "new", 3: "new"}
    assert calls(dsn, "tallies") == {("north", "CA"): 2, ("south", "CA"): 2}


async def test_a_backfill_makes_what_is_made_of_what_it_brings(dsn: str) -> None:
    plugin = Plugin(incremental=True)
    more = 'mode = "incremental"'
    bounds = Bounds(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC))
    async with open_clinic(dsn) as there:
        await there.run(job("all", more=more), plugin=plugin, mode="incremental")
        there.enlist("CA", 1)
        jobs = job("all", more=more)
        results = await there.run(jobs, plugin=plugin, mode="backfill", bounds=bounds)

    assert {each.verdict for each in results.values()} == {"complete"}
    assert leads(dsn) == {1: "new"}
    modes = facts.rows(dsn, "SELECT DISTINCT mode FROM syncd.pass WHERE number = 2")
    assert {row["mode"] for row in modes} == {"backfill", "full"}


# --- Crashes, lost leases, failures ---------------------------------------------------------------

BATCH, END = "frontier_written", "pass_completed"
STEPS = {
    Step("upserted"): 0,
    Step("before_commit", of=BATCH): 0,
    Step("after_commit", of=BATCH): 1,
    Step("after_commit", of=END): 1,
}


async def test_a_kill_at_any_step_repeats_the_statement_only_where_it_was_not_committed(
    fresh_dsn: Callable[[], str], programs: Programs, tmp_path: Path
) -> None:
    async with trio.open_nursery() as nursery:
        for step, committed in STEPS.items():
            nursery.start_soon(_survive, step, committed, fresh_dsn(), programs, tmp_path)


async def _survive(step: Step, committed: int, dsn: str, programs: Programs, folder: Path) -> None:
    there = Clinic(dsn)
    facts.execute(dsn, _SOME_DOCTORS)
    name = str(step).replace(" ", "-")
    dying, heir = folder / f"{name}-1.toml", folder / f"{name}-2.toml"
    dying.write_text(there.text(LEADS, lease="2s"))
    heir.write_text(there.text(LEADS))
    killed = programs.start(dying, at=step, sends=signal.SIGKILL)
    assert await killed.ended() == -signal.SIGKILL, killed.said()
    await facts.left_alone(dsn)
    assert len(leads(dsn)) == 9 * committed
    facts.execute(dsn, "UPDATE clinic.leads SET status = 'called'")

    restarted = programs.start(heir)

    assert await restarted.ended() == 0, f"{step}: {restarted.said()}"
    assert leads(dsn) == dict.fromkeys(range(1, 10), "called" if committed else "new"), step
    again = step.of == END  # that pass had ended: the command walks one of its own
    told = [(e["inserted"], e["unchanged"]) for e in restarted.events("batch.committed")]
    assert told == ([(0, 9)] if again else [] if committed else [(9, 0)]), step
    counted = facts.rows(dsn, "SELECT state, records, inserted FROM syncd.pass ORDER BY number")
    assert [tuple(row.values()) for row in counted] == [
        ("complete", 9, 9), *([("complete", 9, 0)] if again else [])
    ], step  # fmt: skip


_SOME_DOCTORS = """
    CREATE SCHEMA clinic;
    CREATE TABLE clinic.doctors (account_id text NOT NULL, npi bigint NOT NULL, state text,
        specialty text, _syncd_written_at timestamptz NOT NULL, _syncd_version bigint NOT NULL,
        _syncd_hash bytea, PRIMARY KEY (account_id, npi));
    INSERT INTO clinic.doctors SELECT 'default', n, 'CA', 'surgeon', now(), 1
    FROM generate_series(1, 9) AS n
"""


async def test_a_lost_lease_writes_nothing(dsn: str) -> None:
    facts.execute(dsn, _SOME_DOCTORS)

    def lose() -> None:
        facts.execute(dsn, "UPDATE syncd.partition SET epoch = epoch + 1")

    faults.arm(Trap(Step("claimed"), lose))
    try:
        async with open_clinic(dsn) as there:
            results = await there.run(LEADS)
    finally:
        faults.arm(None)

    assert [each.status for each in there.told(RunFinished)] == ["lost"]
    assert [each.epoch for each in there.told(LeaseLost)] == [1]
    assert results["leads"].verdict == "held"
    assert (leads(dsn), there.told(BatchCommitted)) == ({}, [])
    cursors = facts.rows(dsn, "SELECT state FROM syncd.frontier")
    assert {row["state"] for row in cursors} <= {"open"}


async def test_a_lease_that_is_lost_behind_the_beginning_of_the_pass_writes_nothing(
    dsn: str,
) -> None:
    facts.execute(dsn, _SOME_DOCTORS)

    def lose(event: Event) -> None:
        if isinstance(event, RunStarted):  # its pass is begun, its statement is not
            facts.execute(dsn, "UPDATE syncd.partition SET epoch = epoch + 1")

    async with open_clinic(dsn) as there:
        there.hears = lose
        await there.run(LEADS)

        assert [each.status for each in there.told(RunFinished)] == ["lost"]
        assert (leads(dsn), there.told(BatchCommitted)) == ({}, [])
    assert facts.rows(dsn, "SELECT state FROM syncd.frontier") == [{"state": "open"}]


async def test_what_cannot_be_written_fails_its_run_and_is_tried_again(dsn: str) -> None:
    """No record is set aside: what is wrong is the rows that it reads, or the statement."""
    divides = 'leads = "SELECT npi, state, (1 / (npi - 5))::text AS status FROM {doctors}"'
    sleeps = 'leads = "SELECT npi, state, pg_sleep(9)::text AS status FROM {doctors}"'
    async with open_clinic(dsn) as there:
        there.enlist("CA", 4, 5, 6)
        results = await there.run(ALL, settings=divides)

        assert {n: r.verdict for n, r in results.items() if r.verdict != "complete"} == {
            "leads": "failed"
        }
        assert "clinic.leads: derive of plugin clinic: its rows cannot be written: division by" in (
            results["leads"].message
        )
        query = "SELECT state FROM syncd.partition WHERE feed = 'leads'"
        assert facts.rows(dsn, query) == [{"state": "ready"}]
        facts.execute(dsn, "DELETE FROM clinic.doctors WHERE npi = 5")
        results = await there.run(LEADS, settings=divides)
        assert (results["leads"].verdict, sorted(leads(dsn))) == ("complete", [4, 6])
        assert [each.resumed for each in there.told(RunStarted)] == [True], "its cursor was open"

        results = await there.run(LEADS, settings=sleeps, database='statement_timeout = "1s"')
    assert results["leads"].verdict == "failed"
    assert "57014" in results["leads"].message


# --- Daemons --------------------------------------------------------------------------------------


async def test_daemons_derive_once_a_round_after_the_last_and_catch_up_between_rounds(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler, "SETTLE_SECONDS", 0.2)
    jobs = job("all", "doctors", "leads", "calls", more='mode = "full"\nevery = "1h"')
    async with open_clinic(dsn) as there:
        there.enlist("CA", 1, 2)
        there.enlist("TX", 3)
        there.closed = {"TX"}
        config = there.config(jobs)

        async def main(process: Process) -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(generation, process, 0.1)
                await seen("the end of the round", lambda: _rounds(dsn)[0]["finished_at"])
                await _one_more_pass(there)
                await seen("calls of the late state", lambda: calls(dsn).get("TX"))
                await seen("rest", lambda: not _working(dsn))
                process.drain("the test is over")

        with suppress(Stopped):
            await there.within(config, main)

    assert leads(dsn) == {1: "new", 2: "new", 3: "new"}
    runs = facts.rows(
        dsn,
        "SELECT p.feed, r.round_id IS NOT NULL AS of_round, r.status FROM syncd.run r"
        " JOIN syncd.partition p ON p.id = r.partition_id ORDER BY r.id",
    )
    of_round = [row["feed"] for row in runs if row["of_round"]]
    assert of_round[-2:] == ["leads", "calls"]
    assert of_round.count("leads") == of_round.count("calls") == 1
    between = [row["feed"] for row in runs if not row["of_round"] and row["status"] == "complete"]
    assert between == ["doctors", "leads", "calls"], "and never again without a reason"
    (first,) = _rounds(dsn)
    assert (first["partitions"], first["complete"], first["status"]) == (5, 4, "failed")


def _rounds(dsn: str) -> list[dict[str, Any]]:
    return facts.rows(dsn, "SELECT * FROM syncd.round") or [{"finished_at": None}]


def _working(dsn: str) -> list[dict[str, Any]]:
    return facts.rows(dsn, "SELECT FROM syncd.partition WHERE token IS NOT NULL OR job IS NOT NULL")


async def _one_more_pass(there: Clinic) -> None:
    """Open the closed state, and let what waits for it be due."""
    there.closed = set()
    facts.execute(there.dsn, "UPDATE syncd.frontier SET not_before = '-infinity'")
    facts.execute(
        there.dsn,
        "UPDATE syncd.partition SET due_at = syncd.clock(), claim_at = syncd.clock()"
        " WHERE token IS NULL AND job IS NOT NULL",
    )


# --- What operators see ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("select", "complaint"),
    [
        ("SELECT npi, state FROM {doctors}", "its select lacks status"),
        (
            "SELECT npi::text, state, '' AS status FROM {doctors}",
            "column 'npi' is text, and bigint",
        ),
        ("SELECT npi, state, '' AS status FROM {calls}", r"its select names \{calls\}"),
    ],
)
async def test_a_wrong_select_is_refused_before_anything_is_asked(
    dsn: str, select: str, complaint: str
) -> None:
    async with open_clinic(dsn) as there:
        with pytest.raises(HookError, match=f"leads: derive of plugin clinic: .*{complaint}"):
            await there.run(ALL, settings=f'leads = "{select}"')

        assert there.asked.total() == 0


def test_check_and_preview_look_at_a_select_and_write_nothing(dsn: str) -> None:
    there = Clinic(dsn)
    select = 'leads = "SELECT npi, state, 1 AS status FROM {doctors}"'

    assert _select(_checked(there)).said == (
        "is looked at by the next run, which makes clinic.doctors fit first"
    )
    facts.execute(dsn, _SOME_DOCTORS)
    assert _select(_checked(there)).said == "fits; it reads doctors"
    wrong = _select(_checked(there, settings=select))
    assert wrong.code == 78
    assert wrong.said.startswith("clinic.leads: derive of plugin clinic: of its select, column 'st")
    next_pass = {each.what: each.said for each in _checked(there)}["job all: clinic.leads"]
    assert next_pass == "the next pass is full (asked for)"

    found = _previewed(there, most=4)
    assert (found.table, len(found.rows), found.whole) == ("clinic.leads", 4, False)
    assert set(found.rows[0]) == {"npi", "state", "status"}
    assert _previewed(there, most=10).whole
    assert facts.rows(dsn, "SELECT to_regclass('clinic.leads')::text AS it") == [{"it": None}]


def _loaded(there: Clinic, **more: Any) -> Loaded:
    return Loaded(there.config(ALL, **more), Plugins({"clinic": clinic.PLUGIN}), ())


def _checked(there: Clinic, **more: Any) -> Sequence[Finding]:
    return trio.run(checking._ask_database, _loaded(there, **more), {})


def _select(found: Sequence[Finding]) -> Finding:
    (one,) = (each for each in found if each.what == "select of clinic.leads")
    return one


def _previewed(there: Clinic, *, most: int) -> Preview:
    loaded = _loaded(there)
    asked = previewing.wanted(
        loaded, "clinic.leads", account=None, slice=None, records_max=most, pages_max=1
    )
    assert attrs.has(type(asked))
    return previewing.preview(loaded, asked, as_json=True)
