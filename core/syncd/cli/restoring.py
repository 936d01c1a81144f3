"""`syncd after-restore`: what must not be believed any more, and what an operator must look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import trio

from syncd.cli import standings, status, wording
from syncd.cli.database import with_control_tables
from syncd.config import Config
from syncd.errors import Held
from syncd.events import Event
from syncd.store import overview, partitions, restored
from syncd.store.hops import Hops
from syncd.store.overview import Overview
from syncd.store.restored import Fenced
from syncd.store.selection import Selection

SHOWN_MAX = 1000  # partitions that are shown one by one


@attrs.frozen
class Restored:
    """What was done, and how everything stands afterwards."""

    fenced: Fenced
    validators: int
    seen: Overview
    standing: Sequence[Mapping[str, Any]]


def after_restore(config: Config, *, although_alive: bool) -> Restored:
    """Fence off the time line that is lost.

    Raises: `Held` where processes give signs of life on this database, unless `although_alive`.
    """
    known = config.instances.values()

    async def main(hops: Hops) -> Restored:
        alive = await hops.run(restored.alive)
        if alive and not although_alive:
            raise Held("database", _said(alive), "stop them first; or add --yes to go on anyway")
        fenced = await hops.run(restored.fence_all)
        validators = 0
        while forgotten := await hops.run(restored.forget_validators):
            validators += forgotten
        return Restored(
            fenced,
            validators,
            await hops.run(overview.overview, most=SHOWN_MAX, configured=known),
            await hops.run(partitions.standing, Selection(), most=SHOWN_MAX),
        )

    return trio.run(lambda: with_control_tables(config, main, emit=_nobody_listens))


def _said(alive: Sequence[Mapping[str, Any]]) -> str:
    who = ", ".join(f"process {row['pid']} on {row['host']}" for row in alive)
    silent = wording.seconds(max(0.0, min(row["silent_seconds"] for row in alive)))
    return f"{who} gave a sign of life {silent} ago"


def _nobody_listens(_: Event) -> None:
    """Take an event that this command has no use for."""


def advice(found: Restored) -> list[str]:
    """Say what an operator must look at: what the backup cannot know."""
    marks = [row["watermark"] for row in found.standing if row["watermark"] is not None]
    said = []
    if marks:
        oldest = wording.moment(min(marks))
        said.append(
            f"watermarks are those of the backup (the oldest: {oldest}); incremental passes start "
            "there again, which finds every change that the upstream still tells of"
        )
        said.append(
            "where an upstream forgets changes, or rows were deleted by hand since, "
            "run `syncd run JOB --full`"
        )
    if found.seen.passes:
        count = found.seen.passes[0]["matching"]
        said.append(f"open passes are gone on with where their cursors still live: {count}")
    said.append(
        "start only daemons that use this database; one of the old time line writes nothing"
    )
    said += [f"{task.what}; {task.do}" for task in status.tasks(found.seen)]
    return said


def as_text(found: Restored, *, width: int | None = None) -> str:
    """Say what was done and what is to be looked at."""
    done = found.fenced
    lines = [
        f"fenced off: {wording.counted(done.partitions, 'partition')}",
        f"marked as lost: {wording.counted(done.runs, 'run')}",
        f"signs of life forgotten: {wording.count(done.processes)}",
        f"pages to be fetched whole again: {wording.count(found.validators)}",
    ]
    table = [standings.as_table(found.standing, width=width)] if found.standing else []
    looked = ["look at:", *(f"  {each}" for each in advice(found))]
    return "\n\n".join(["\n".join(lines), *table, "\n".join(looked)])


def as_json(found: Restored) -> dict[str, Any]:
    """Return what `--json` prints."""
    return {
        **attrs.asdict(found.fenced),
        "validators": found.validators,
        "partitions_standing": [standings.as_json(row) for row in found.standing],
        "look_at": advice(found),
    }
