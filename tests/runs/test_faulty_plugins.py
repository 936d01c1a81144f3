"""A plugin's fault costs its own partition, and nobody else anything (P31, P32, P34)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import psycopg
import pytest
import saboteur
import trio
import trio.testing
from processes import DEADLINE_SECONDS
from saboteur import ODD_CURSORS, ODD_PAGES, ODD_SLICES, PAGES, RAISED, configuration

from syncd import asking, config, threads
from syncd.daemon import Process, Root
from syncd.errors import PluginError
from syncd.events import CursorFailed, DrainStarted, Event, RunFinished, ThreadAbandoned
from syncd.jobs import run_job
from syncd.observe import Observer
from syncd.plugins import Plugins
from syncd.verdicts import Result, exit_code

SECONDS = 1.5  # instead of minutes, for what must be back by then


class Ran:
    """What became of the partitions of a job, and what was said meanwhile."""

    def __init__(self, results: Sequence[Result], events: Sequence[Event]) -> None:
        self.by_slice = {each.partition.partition("[")[2].rstrip("]"): each for each in results}
        self.results = results
        self.events = events

    def verdict(self, name: str) -> str:
        return self.by_slice[name].verdict


async def ran(folder: Path, dsn: str, *, hook: str, does: str, more: str = "") -> Ran:
    """Run the saboteur's job in this process."""
    file = configuration(
        folder, dsn, connector=f'hook = "{hook}"\ndoes = "{does}"\n{more}', daemon=""
    )
    plugins = Plugins({"saboteur": saboteur})
    settings = config.structure(config.read(file), plugins.connectors, environment={})
    events: list[Event] = []
    observer = Observer()
    observer.listen(events.append)

    async def main(process: Process) -> list[Result]:
        return await run_job(process, settings.jobs["things"], mode="full", wait_seconds=0.0)

    with trio.fail_after(DEADLINE_SECONDS):
        results = await Root(settings, plugins, observer).run(main)
    return Ran(results, events)


def rows(dsn: str, *, bad: bool) -> int:
    with psycopg.connect(dsn) as connection:
        found = connection.execute("SELECT count(*) FROM saboteur.things WHERE bad = %s", [bad])
        ((count,),) = found.fetchall()
    return int(count)


@pytest.mark.parametrize("does", [*RAISED, "raises what was cancelled"])
async def test_whatever_a_fetch_raises_costs_its_partition_alone(
    does: str, dsn: str, tmp_path: Path
) -> None:
    done = await ran(tmp_path, dsn, hook="fetch", does=does)

    assert done.verdict("good") == "complete"
    assert done.verdict("bad") != "complete"
    assert rows(dsn, bad=False) == PAGES
    assert rows(dsn, bad=True) == 1  # the page before
    failed = [event for event in done.events if isinstance(event, CursorFailed)]
    assert "fetch of plugin saboteur raised" in failed[0].error


@pytest.mark.parametrize("does", ["ValueError", *RAISED][1:])
@pytest.mark.parametrize("hook", ["begin", "write"])
async def test_whatever_a_plain_hook_raises_costs_its_partition_alone(
    hook: str, does: str, dsn: str, tmp_path: Path
) -> None:
    done = await ran(tmp_path, dsn, hook=hook, does=does)

    assert done.verdict("good") == "complete"
    assert done.verdict("bad") == "failed"
    finished = [event for event in done.events if isinstance(event, RunFinished)]
    assert any(f"{hook} " in event.message for event in finished)


@pytest.mark.parametrize("does", ODD_CURSORS)
async def test_a_first_cursor_that_cannot_be_kept_costs_its_partition_alone(
    does: str, dsn: str, tmp_path: Path
) -> None:
    done = await ran(tmp_path, dsn, hook="begin", does=does)

    assert done.verdict("good") == "complete"
    assert done.verdict("bad") == "failed"
    finished = [event for event in done.events if isinstance(event, RunFinished)]
    assert any("begin for plugin saboteur" in event.message for event in finished)


@pytest.mark.parametrize("does", ODD_PAGES)
async def test_whatever_a_page_is_made_of_costs_its_partition_alone(
    does: str, dsn: str, tmp_path: Path
) -> None:
    done = await ran(tmp_path, dsn, hook="fetch", does=does)

    assert done.verdict("good") == "complete"
    assert rows(dsn, bad=False) == PAGES
    _, becomes = ODD_PAGES[does]
    assert done.verdict("bad") == becomes
    assert becomes == "complete" or "mend the plugin" in done.by_slice["bad"].message


@pytest.mark.parametrize("does", RAISED)
async def test_whatever_a_transform_raises_costs_its_records_or_its_partition(
    does: str, dsn: str, tmp_path: Path
) -> None:
    done = await ran(tmp_path, dsn, hook="transform", does=does)

    assert done.verdict("good") == "complete"
    assert rows(dsn, bad=False) == PAGES
    assert rows(dsn, bad=True) == 0
    # Each record is set aside by itself, but for what no thread can name.
    nameless = does in {"BaseException", "BaseExceptionGroup"}
    assert done.verdict("bad") == ("failed" if nameless else "complete")


@pytest.mark.parametrize("does", ["ValueError", "BaseException", "SystemExit"][1:])
async def test_slices_that_cannot_be_had_fail_their_account(
    does: str, dsn: str, tmp_path: Path
) -> None:
    done = await ran(tmp_path, dsn, hook="partitions", does=does)

    assert [result.verdict for result in done.results] == ["failed"]
    assert "partitions for plugin saboteur raised" in done.results[0].message


@pytest.mark.parametrize("does", ODD_SLICES)
async def test_slices_that_cannot_be_kept_fail_their_account(
    does: str, dsn: str, tmp_path: Path
) -> None:
    done = await ran(tmp_path, dsn, hook="partitions", does=does)

    assert [result.verdict for result in done.results] == ["failed"]
    assert "partitions for plugin saboteur" in done.results[0].message
    assert "mend the plugin" in done.results[0].message


@pytest.mark.parametrize("hook", ["lifespan", "lifespan's end"])
async def test_a_session_that_breaks_is_an_error_of_its_plugin(
    hook: str, dsn: str, tmp_path: Path
) -> None:
    with pytest.raises(PluginError, match="lifespan raised"):
        await ran(tmp_path, dsn, hook=hook, does="SystemExit")

    assert hook == "lifespan" or rows(dsn, bad=False) == PAGES


@pytest.mark.parametrize("hook", ["fetch", "partitions", "lifespan"])
async def test_a_hook_that_never_returns_is_cut_by_its_deadline(
    hook: str, dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "FETCH_TIMEOUT_SECONDS", SECONDS)
    if hook == "lifespan":
        with pytest.raises(PluginError, match="took over"):
            await ran(tmp_path, dsn, hook=hook, does="hangs")
        return

    done = await ran(tmp_path, dsn, hook=hook, does="hangs")

    if hook == "fetch":
        assert done.verdict("good") == "complete"
        assert done.verdict("bad") != "complete"
    else:
        assert "took over" in done.results[0].message


async def test_a_transform_that_blocks_is_left_and_counted(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "RETURN_SECONDS", SECONDS)

    done = await ran(tmp_path, dsn, hook="transform", does="sleeps 5")

    assert done.verdict("good") == "complete"
    assert done.verdict("bad") == "failed"
    (left,) = [event for event in done.events if isinstance(event, ThreadAbandoned)]
    assert (left.connector, left.where, left.count) == ("saboteur", "saboteur.things[bad]", 1)


async def test_a_connector_that_loses_too_many_threads_asks_for_a_new_process(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "RETURN_SECONDS", SECONDS)
    monkeypatch.setattr(threads, "ABANDONED_MAX", 1)

    done = await ran(tmp_path, dsn, hook="transform", does="sleeps 5", more="page_seconds = 0.3")

    assert [e.reason for e in done.events if isinstance(e, DrainStarted)] == ["threads"]
    assert exit_code([r for r in done.results if r.verdict != "failed"]) in {0, 75}


async def test_lost_threads_of_one_connector_leave_others_theirs() -> None:
    made = threads.Threads()
    began = time.monotonic()
    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(made.run, "bad", "where", time.sleep, 3.0)
        await trio.testing.wait_all_tasks_blocked(0.05)

        assert await made.run("good", "where", lambda: 42) == 42

        assert time.monotonic() - began < 3.0
        nursery.cancel_scope.cancel()
    assert made.abandoned("bad") == threads.THREADS_MAX
    assert made.abandoned("good") == 0
