"""A process is killed around the commit and the delivery of effects: none is lost (P46, P47)."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import database_facts as facts
import trio
from post_office import configuration, open_office
from processes import Programs, seen
from traps import Step

STEPS = (
    Step("effects_enqueued"),
    Step("after_commit", of="frontier_written"),
    Step("effects_accepted"),
    Step("effects_recorded"),
    Step("after_commit", of="effects_recorded"),
)
THINGS = 5
TIME_GOES_BY = "UPDATE syncd.effect SET due_at = syncd.clock() WHERE due_at IS NOT NULL"


async def test_a_kill_loses_no_effect_and_none_is_taken_twice(
    fresh_dsn: Callable[[], str], programs: Programs, tmp_path: Path
) -> None:
    # Side by side: most of the time goes by in looks at what is due.
    async with trio.open_nursery() as nursery:
        for step in STEPS:
            nursery.start_soon(_survive, step, fresh_dsn(), programs, tmp_path)


async def test_a_look_before_sending_spares_a_provider_that_honours_no_keys_doubles(
    dsn: str, programs: Programs, tmp_path: Path
) -> None:
    """Without it (above) it has each of them twice after the kill, for it is sent twice."""
    await _survive(Step("effects_accepted"), dsn, programs, tmp_path, looks_up=True)


async def _survive(
    step: Step, dsn: str, programs: Programs, folder: Path, *, looks_up: bool = False
) -> None:
    async with open_office(*({"id": n} for n in range(THINGS))) as office:
        looks = f"looks_up = {'true' if looks_up else 'false'}"
        file = configuration(folder, dsn, office, daemon='lease = "2s"', office_table=looks)
        killed = programs.start(file, at=step, serves=True)
        assert await killed.ended() == -signal.SIGKILL, killed.said()
        assert killed.trapped == step
        await facts.left_alone(dsn)
        enqueued = facts.rows(dsn, "SELECT count(*) AS n FROM syncd.effect")[0]["n"]
        written = facts.rows(dsn, "SELECT count(*) AS n FROM office.things")[0]["n"]
        assert enqueued == written == (0 if step.point == "effects_enqueued" else THINGS)
        # The time that the dead one's claims have left goes by.
        facts.execute(
            dsn, "UPDATE syncd.effect SET due_at = syncd.clock() WHERE due_at IS NOT NULL"
        )
        accepted = dict(office.sent)
        assert bool(accepted) == (step in STEPS[2:]), step

        following = programs.start(file, serves=True)
        await following.event("daemon.ready")

        def delivered() -> bool:
            states = facts.rows(dsn, "SELECT state FROM syncd.effect")
            return [row["state"] for row in states] == ["delivered"] * THINGS

        await seen(f"all delivered after {step}", delivered, told=following.said)
        assert sorted(office.taken) == sorted(office.order) == sorted(set(office.order))
        assert len(office.taken) == THINGS
        again = not looks_up and step.point in {"effects_accepted", "effects_recorded"}
        assert set(office.sent.values()) == {2 if again else 1}, step
        following.send(signal.SIGTERM)
        assert await following.ended() == 0, following.said()
