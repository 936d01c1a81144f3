"""A process is killed at every named step: nothing is lost, and only what was not committed is
fetched again (P1, P2).
"""

from __future__ import annotations

import signal
from pathlib import Path

import database_facts as facts
import pytest
from processes import Programs, run_here
from traps import Step
from upstream import Shape, serving, true_rows

from syncd import faults
from syncd.events import Event, RunStarted

BATCH, END, RELEASE = "frontier_written", "pass_completed", "released"

STEPS = (
    Step("claimed"),
    Step("page_fetched"),
    Step("page_fetched", after=BATCH),
    Step("rows_copied"),
    Step("rows_copied", nth=3),
    Step("upserted"),
    Step("upserted", nth=3),
    Step("frontier_written"),
    Step("frontier_written", nth=3),
    Step("before_commit", of=BATCH),
    Step("before_commit", of=BATCH, nth=3),
    Step("after_commit", of=BATCH),
    Step("after_commit", of=BATCH, nth=3),
    Step("pass_completed"),
    Step("before_commit", of=END),
    Step("after_commit", of=END),
    Step("released"),
    Step("before_commit", of=RELEASE),
    Step("after_commit", of=RELEASE),
)

SMALL = Shape()
COPIED = Shape(cars=1500, per_page=500)  # from 500 rows on a batch is copied


def test_every_named_step_is_killed_at() -> None:
    assert {step.point for step in STEPS} == set(faults.POINTS)


@pytest.mark.parametrize("step", STEPS, ids=str)
async def test_a_kill_loses_nothing_and_repeats_only_what_was_not_committed(
    step: Step, dsn: str, programs: Programs, tmp_path: Path
) -> None:
    shape = COPIED if step.point == "rows_copied" else SMALL
    async with serving(shape) as upstream:
        config = upstream.configuration(tmp_path, dsn, connector="cars", lease="1s")
        killed = programs.start(config, "cars", at=step, signal=signal.SIGKILL)
        assert await killed.ended() == -signal.SIGKILL, killed.said()
        assert killed.trapped == step
        await facts.left_alone(dsn)
        before = facts.passes(dsn)
        committed = set(shape.pages) if before == ["complete"] else facts.closed_pages(dsn)
        assert committed or not (step.after or step.nth > 1)
        await upstream.forget()
        events: list[Event] = []

        (result,) = await run_here(config, "cars", listener=events.append)

        assert result.verdict == "complete"
        assert facts.stored_rows(dsn) == true_rows(upstream.simulator.inventory)
        asked = upstream.asked()
        assert {page: asked[page] for page in shape.pages} == {
            page: int(page not in committed) for page in shape.pages
        }
        (started,) = [event for event in events if isinstance(event, RunStarted)]
        assert started.resumed == (before == ["open"])
        given_back = step.point == "after_commit" and step.of == RELEASE
        ended = [(run.epoch, run.status) for run in facts.runs(dsn)]
        assert ended == [(1, "complete" if given_back else "lost"), (2, "complete")]
