"""A process is killed at every named step: nothing is lost, little is fetched again (P1, P2).

Again means: pages that were fetched and not committed, and no others.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import database_facts as facts
import pytest
import trio
from processes import Programs
from test_effect_crashes import STEPS as OF_EFFECTS
from traps import Step
from upstream import Shape, serving, true_rows

from syncd import faults

BATCH, END, RELEASE = "frontier_written", "pass_completed", "released"

STEPS = {
    "before anything is written": (
        Step("claimed"),
        Step("page_fetched"),
        Step("page_fetched", after=BATCH),
    ),
    "while rows are written": (
        Step("rows_copied"),
        Step("rows_copied", after=BATCH),
        Step("upserted"),
        Step("upserted", nth=3),
    ),
    "around the commit of a batch": (
        Step("frontier_written"),
        Step("frontier_written", nth=3),
        Step("before_commit", of=BATCH),
        Step("before_commit", of=BATCH, nth=3),
        Step("after_commit", of=BATCH),
        Step("after_commit", of=BATCH, nth=3),
    ),
    "around the end": (
        Step("pass_completed"),
        Step("before_commit", of=END),
        Step("after_commit", of=END),
        Step("released"),
        Step("before_commit", of=RELEASE),
        Step("after_commit", of=RELEASE),
    ),
}

SMALL = Shape(cars=600, per_page=30, requests_per_second=30)  # two pages a batch
COPIED = Shape(cars=2500, per_page=500, requests_per_second=10)  # from 500 rows on: a COPY


def test_every_named_step_is_one_to_be_killed_at() -> None:
    here = {step.point for steps in STEPS.values() for step in steps}
    assert here | {step.point for step in OF_EFFECTS} == set(faults.POINTS)


@pytest.mark.parametrize("when", STEPS)
async def test_a_kill_loses_nothing_and_repeats_only_what_was_not_committed(
    when: str, fresh_dsn: Callable[[], str], programs: Programs, tmp_path: Path
) -> None:
    # Side by side, for most of the time goes by until a dead process's lease has run out. Only
    # the dead one's is short: a machine that stalls must not cost the other its pages.
    async with trio.open_nursery() as nursery:
        for step in STEPS[when]:
            nursery.start_soon(_survive, step, fresh_dsn(), programs, tmp_path)


async def _survive(step: Step, dsn: str, programs: Programs, folder: Path) -> None:
    shape = COPIED if step.point == "rows_copied" else SMALL
    async with serving(shape) as before, serving(shape) as after:
        config = before.configuration(folder, dsn, connector="cars", lease="2s")
        killed = programs.start(config, at=step, sends=signal.SIGKILL)
        assert await killed.ended() == -signal.SIGKILL, killed.said()
        assert killed.trapped == step
        await facts.left_alone(dsn)
        begun = facts.passes(dsn)
        committed = set(shape.pages) if begun == ["complete"] else facts.closed_pages(dsn)
        assert committed or not (step.after or step.nth > 1), f"{step} came too early"

        config = after.configuration(folder, dsn, connector="cars", lease="1h")
        restarted = programs.start(config)

        assert await restarted.ended() == 0, f"{step}: {restarted.said()}"
        assert facts.stored_rows(dsn) == true_rows(after.simulator.inventory), step
        asked = after.asked()
        said = f"{step}: {restarted.said()}"
        again = {page: asked[page] for page in shape.pages}
        assert again == {page: int(page not in committed) for page in shape.pages}, said
        (started,) = restarted.events("run.started")
        assert started["resumed"] == (begun == ["open"]), step
        given_back = step.point == "after_commit" and step.of == RELEASE
        runs = [(run.epoch, run.status) for run in facts.runs(dsn)]
        assert runs == [(1, "complete" if given_back else "lost"), (2, "complete")], step
