"""`syncd runs`, `resume` and `migrate`: what the control tables know, and mending it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click
import trio

from syncd.cli import columns
from syncd.cli.database import with_control_tables, with_database
from syncd.config import Config
from syncd.config.values import did_you_mean
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

    async def ask(hops: Hops) -> list[dict[str, Any]]:
        return await hops.run(registry.recent_runs, job=job, most=most)

    return trio.run(lambda: with_control_tables(config, ask, emit=_nobody_listens))


def resume(config: Config, instance: str, *, account: str | None) -> int:
    """Resume what is parked of an instance; answer with how many accounts and partitions."""

    async def mend(hops: Hops) -> int:
        return await hops.run(registry.resume, instance, account)

    return trio.run(lambda: with_control_tables(config, mend, emit=_nobody_listens))


def refuse_unknown(what: str, name: str, known: Mapping[str, Any]) -> None:
    """Let pass only a name that is configured.

    Raises: `click.BadParameter`, with the name that was probably meant.
    """
    if name not in known:
        there = ", ".join(known) or "none"
        raise click.BadParameter(
            f"{name!r} is not configured; there: {there}{did_you_mean(name, known)}",
            param_hint=what,
        )


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
        row["started_at"].astimezone().strftime("%Y-%m-%d %H:%M:%S"),
        row["job"],
        str(part),
        f"{row['mode']} {row['pass_number']}" if row["mode"] else "",
        row["status"],
        row["records"],
        row["inserted"],
        row["updated"],
        row["unchanged"],
        None if milliseconds is None else round(float(milliseconds) / 1000, 1),
        _cut(row["message"] or ""),
    ]


def _cut(message: str) -> str:
    line = " ".join(message.split())
    if len(line) <= MESSAGE_CHARACTERS_MAX:
        return line
    return f"{line[: MESSAGE_CHARACTERS_MAX - 3]}..."


def _nobody_listens(_: Event) -> None:
    """Take an event that none of these commands has a use for."""
