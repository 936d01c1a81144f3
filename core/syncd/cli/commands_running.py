"""The commands that do a job's work themselves: `run` and `backfill`."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from syncd.cli.invocation import Invocation
from syncd.cli.options import json_option


def _seconds(_: click.Context, __: click.Parameter, value: str) -> float:
    """Read a duration as the configuration does."""
    from syncd.config import Unwanted, duration_seconds

    try:
        return duration_seconds(value)
    except Unwanted as error:
        raise click.BadParameter(f"found {value!r}, {error}") from error


def _moment(_: click.Context, __: click.Parameter, value: str | None) -> datetime | None:
    """Read a moment (ISO 8601); without a zone it is one of UTC."""
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError as error:
        raise click.BadParameter(
            f"found {value!r}, wanted a date or a moment: 2026-10-01 or 2026-10-01T08:00+07:00"
        ) from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


wait_option = click.option(
    "--wait",
    "wait_seconds",
    callback=_seconds,
    default="30s",
    show_default=True,
    metavar="DURATION",
    help="How long to wait for partitions that another process holds, and for pages that must "
    "wait.",
)

effects_option = click.option(
    "--effects",
    is_flag=True,
    help="Deliver effects too, and stay until all are delivered that may be within --wait. Without "
    "it they wait for `syncd serve`.",
)


@click.command(
    "run",
    short_help="Run jobs now, due or not.",
    epilog="""\b
Examples:
  syncd run cars                    go on with the open pass, or begin one
  syncd run cars --full             walk everything, whatever changed
  syncd run cars --verify           and compare every row with what its record says
  syncd run cars stores --wait 5m   two jobs, patient with pages and partitions that must wait
  syncd run mail --effects          and deliver what the rows cause elsewhere

\b
Exit codes: 0 complete; 3 partial, or only pages that must wait longer than --wait are left (with
--effects: or effects that wait or are dead); 75 stopped by a signal, held by another process for
longer than --wait, or throttled; 69 database or upstream unavailable; 1 failed; 78 configuration.
Of several the worst.""",
)
@click.argument("jobs", nargs=-1, required=True, metavar="JOB...")
@click.option(
    "--full", is_flag=True, help="Walk everything; an open incremental pass is set aside."
)
@click.option(
    "--verify",
    is_flag=True,
    help="Walk everything and compare every row, also where its record came unchanged: mends rows "
    "that were edited by hand.",
)
@wait_option
@effects_option
@json_option
@click.pass_obj
def run(
    invocation: Invocation,
    *,
    jobs: tuple[str, ...],
    full: bool,
    verify: bool,
    wait_seconds: float,
    effects: bool,
    as_json: bool,
) -> int:
    """Run jobs now, due or not, one after the other.

    Each partition goes on with its open pass, or begins one. Ctrl-C (or SIGTERM) stops: what is
    fetched is committed, and the next run goes on there; a second one stops at once, and loses
    nothing that was committed.
    """
    from syncd.cli import loading, running

    loaded = loading.load(invocation)
    wanted = running.named_jobs(loaded, jobs)
    how = running.How(
        full=full or verify, verify=verify, wait_seconds=wait_seconds, effects=effects
    )
    return running.run(loaded, wanted, how, as_json=as_json)


@click.command(
    "backfill",
    short_help="Fetch once more what changed in a window of time.",
    epilog="""\b
Examples:
  syncd backfill cars --from 2026-10-01
  syncd backfill cars --from 2026-10-01T08:00+07:00 --to 2026-10-02

\b
Exit codes: as of `syncd run`.""",
)
@click.argument("jobs", nargs=-1, required=True, metavar="JOB...")
@click.option(
    "--from",
    "since",
    callback=_moment,
    required=True,
    metavar="MOMENT",
    help="Where the window begins; without a zone: UTC.",
)
@click.option(
    "--to",
    "until",
    callback=_moment,
    metavar="MOMENT",
    help="Where it ends: now, at the latest.  [default: now]",
)
@wait_option
@effects_option
@json_option
@click.pass_obj
def backfill(
    invocation: Invocation,
    *,
    jobs: tuple[str, ...],
    since: datetime,
    until: datetime | None,
    wait_seconds: float,
    effects: bool,
    as_json: bool,
) -> int:
    """Fetch once more what changed in a window of time, for jobs of this configuration.

    Each partition walks a pass of its own bounds: its rows are written as ever (never an older
    state over a newer one), and its watermark stays where it is. A pass that is open is walked to
    its end before. One that was interrupted is gone on with by this command, by `syncd run` or by
    the daemon, whoever comes first. Feeds that can only be walked in full are left out; an
    upstream that knows no end of a window answers with what changed since as well.
    """
    from syncd.cli import loading, running

    if until is not None and until <= since:
        raise click.UsageError(f"a window begins before it ends, not from {since} to {until}")
    loaded = loading.load(invocation)
    wanted = running.named_jobs(loaded, jobs)
    running.refuse_unbounded(loaded, wanted)
    how = running.How(
        full=False,
        verify=False,
        wait_seconds=wait_seconds,
        effects=effects,
        backfill=running.Window(since, until),
    )
    return running.run(loaded, wanted, how, as_json=as_json)
