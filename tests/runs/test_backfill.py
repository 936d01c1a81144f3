"""A backfill: a pass of its own bounds, which no watermark notices."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from console import configured, syncd
from job_world import Answer, World, world
from upstream import Shape, serving

from syncd.events import PassFinished, PassSuperseded, RunStarted
from syncd.progress import Bounds

BROKEN = 2  # the page that cannot be had


def an_hour() -> Bounds:
    now = datetime.now(UTC)
    return Bounds(now - timedelta(hours=1), now)


def watermark(there: World) -> Any:
    return there.query("SELECT watermark FROM syncd.partition")[0]["watermark"]


def walked(there: World) -> list[tuple[str, bool]]:
    """Return the passes of the last run, and whether they were gone on with."""
    return [(event.mode, event.resumed) for event in there.told(RunStarted)]


async def left_open(there: World, **how: Any) -> None:
    """Walk a pass that ends before its second page, and stays open."""
    there.simulator.script = lambda asked: Answer(b"", 503) if asked.page == BROKEN else None
    (result,) = await there.run(wait_seconds=0.0, per_page=20, **how)
    there.simulator.script = None
    there.let_waits_pass()
    assert result.verdict in {"waiting", "unavailable"}, result


async def test_a_backfill_writes_what_changed_and_moves_no_watermark(dsn: str) -> None:
    async with world(dsn, cars=300) as there:
        await there.run()
        before = watermark(there)
        there.simulator.inventory.change(0.1, seed=9)
        there.simulator.counts.reset()

        (result,) = await there.run(mode="backfill", bounds=an_hour())

        assert (result.verdict, walked(there)) == ("complete", [("backfill", False)])
        assert there.differences() == {}
        assert {query.get("minutes") for _, query in there.log()} <= {
            "76",
            "77",
        }  # its margin, and what begins counts
        assert watermark(there) == before
        (told,) = there.query("SELECT trigger, status FROM syncd.round ORDER BY id DESC LIMIT 1")
        assert told == {"trigger": "backfill", "status": "complete"}


async def test_a_window_that_the_upstream_does_not_know_is_walked_in_full(dsn: str) -> None:
    async with world(dsn, cars=150) as there:
        await there.run()
        before = watermark(there)
        there.simulator.inventory.change(0.1, seed=9)
        long_ago = datetime.now(UTC) - timedelta(days=30)

        (result,) = await there.run(
            mode="backfill", bounds=Bounds(long_ago, long_ago + timedelta(days=1))
        )

        assert (result.verdict, walked(there)) == ("complete", [("backfill", False)])
        assert there.differences() == {}
        assert watermark(there) == before


async def test_an_open_pass_ends_before_the_backfill_in_one_run(dsn: str) -> None:
    async with world(dsn, cars=300) as there:
        await there.run()
        # a watermark is the second that the upstream's Date header names: this one is long over
        there.query(
            "UPDATE syncd.partition SET watermark = watermark - interval '1 minute' RETURNING 1"
        )
        before = watermark(there)
        there.simulator.inventory.change(0.3, seed=9)
        await left_open(there, mode="incremental")

        (result,) = await there.run(mode="backfill", bounds=an_hour(), per_page=20)

        assert result.verdict == "complete"
        assert walked(there) == [("incremental", True), ("backfill", False)]
        assert len({event.run_id for event in there.told(RunStarted)}) == 1
        assert watermark(there) > before
        assert there.differences() == {}


async def test_an_interrupted_backfill_is_gone_on_with_by_whoever_comes(dsn: str) -> None:
    async with world(dsn, cars=300) as there:
        await there.run()
        before = watermark(there)
        there.simulator.inventory.change(0.3, seed=9)
        bounds = an_hour()
        await left_open(there, mode="backfill", bounds=bounds)

        (result,) = await there.run(mode="incremental", per_page=20)

        assert (result.verdict, walked(there)) == ("complete", [("backfill", True)])
        (kept,) = there.query("SELECT since, until FROM syncd.pass WHERE mode = 'backfill'")
        assert kept == {"since": bounds.since, "until": bounds.until}
        assert watermark(there) == before
        assert there.differences() == {}


async def test_a_backfill_whose_cursors_mean_something_else_begins_anew(dsn: str) -> None:
    async with world(dsn, cars=300) as there:
        await there.run()
        there.simulator.inventory.change(0.3, seed=9)
        await left_open(there, mode="backfill", bounds=an_hour())

        (result,) = await there.run(mode="incremental", per_page=30)

        assert (result.verdict, walked(there)) == ("complete", [("backfill", False)])
        assert len(there.told(PassSuperseded)) == 1
        assert [event.status for event in there.told(PassFinished)] == ["complete"]
        assert there.differences() == {}


async def test_the_command_says_what_it_cannot_do_and_does_what_it_can(
    dsn: str, tmp_path: Path
) -> None:
    async with serving(Shape(cars=60, per_page=50, requests_per_second=100.0)) as upstream:
        file = configured(upstream, tmp_path, dsn)
        with file.open("a") as more:
            more.write(
                '\n[jobs.brands]\nconnector = "cars"\nstreams = ["manufacturers"]\nmode = "full"\n'
            )

        def backfill(*words: str) -> Any:
            return syncd("-c", file, "backfill", *words, folder=tmp_path)

        junk = await backfill("cars", "--from", "yesterday")
        late = await backfill("cars", "--from", "2999-01-01")
        turned = await backfill("cars", "--from", "2026-01-02", "--to", "2026-01-01")
        whole = await backfill("brands", "--from", "2026-01-01")
        done = await backfill(
            "cars", "--from", f"{datetime.now(UTC) - timedelta(hours=2)}", "--json"
        )

    assert [each.code for each in (junk, late, turned, whole)] == [64, 78, 64, 64]
    assert "2026-10-01T08:00+07:00" in junk.err
    assert "begin with a moment that has passed" in late.err
    assert "begins before it ends" in turned.err
    assert "syncd run brands --full" in whole.err
    assert done.code == 0, done.err
    assert done.json()["jobs"][0]["partitions"][0]["status"] == "complete"
