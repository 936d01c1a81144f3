"""`syncd runs` and `migrate`: what ran, and the tables that know it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import trio

from syncd.cli import columns, wording
from syncd.cli.database import ask_database, with_database
from syncd.config import Config
from syncd.events import Event
from syncd.model import Partition, Slice
from syncd.store import migrations, registry
from syncd.store.hops import Hops

HEADINGS = (
    "started",
    "job",
    "partition",
    "pass",
    "status",
    "records",
    "inserted",
    "updated",
    "unchanged",
    "seconds",
    "message",
)
MESSAGE_CHARACTERS_MAX = 100  # `--json` has all of it


def runs(config: Config, *, job: str | None, most: int) -> list[dict[str, Any]]:
    """Return the newest runs."""
    return ask_database(config, registry.recent_runs, job=job, most=most)


def migrate(config: Config) -> list[str]:
    """Apply the migrations that the database lacks; answer with their names."""

    async def apply(hops: Hops) -> list[str]:
        return await hops.run(migrations.migrate)

    return trio.run(lambda: with_database(config, apply, emit=_nobody_listens))


def as_table(rows: Sequence[Mapping[str, Any]], *, width: int | None = None) -> str:
    """Write runs as a table."""
    return columns.table(HEADINGS, [_cells(row) for row in rows], width=width)


def _cells(row: Mapping[str, Any]) -> list[Any]:
    part = Partition(row["instance"], row["account"], row["feed"], Slice(row["slice"]))
    milliseconds = row["duration_ms"]
    return [
        wording.moment(row["started_at"]),
        row["job"],
        str(part),
        f"{row['mode']} {row['pass_number']}" if row["mode"] else "",
        row["status"],
        row["records"],
        row["inserted"],
        row["updated"],
        row["unchanged"],
        None if milliseconds is None else round(float(milliseconds) / 1000, 1),
        wording.cut(row["message"] or "", MESSAGE_CHARACTERS_MAX),
    ]


def _nobody_listens(_: Event) -> None:
    """Take an event that none of these commands has a use for."""
