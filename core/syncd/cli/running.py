"""`syncd run`: jobs, one after the other, in a process of their own."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from datetime import datetime

import attrs
import click
import msgspec
import trio

from syncd import background
from syncd.cli import deliveries, ending, summary
from syncd.cli.loading import Loaded
from syncd.cli.outcomes import Outcome
from syncd.cli.screen import Attendance, attend
from syncd.cli.summary import JobEnd
from syncd.config import Job
from syncd.config.values import did_you_mean
from syncd.daemon import Process, Root
from syncd.errors import ConfigError, SyncdError
from syncd.feeding import feeds_of
from syncd.jobs import run_job
from syncd.model import Mode
from syncd.progress import Bounds
from syncd.verdicts import Result


@attrs.frozen
class Window:
    """What a backfill asks for, as it was typed: without an end, until now."""

    since: datetime
    until: datetime | None

    def bounds(self, now: datetime) -> Bounds:
        """Return the window's bounds.

        Raises: `ConfigError` where it lies in the future, by the database's clock.
        """
        if self.since >= now:
            raise ConfigError(
                f"--from {self.since}", f"it is {now} by now", "begin with a moment that has passed"
            )
        return Bounds(self.since, min(self.until or now, now))


@attrs.frozen
class How:
    """How jobs are run."""

    full: bool
    verify: bool
    wait_seconds: float
    effects: bool = False  # are delivered, too
    backfill: Window | None = None

    def mode_of(self, job: Job) -> Mode:
        if self.backfill:
            return "backfill"
        return "full" if self.full else job.mode


def named_jobs(loaded: Loaded, names: Sequence[str]) -> list[Job]:
    """Return the jobs of these names.

    Raises: `click.UsageError` where one is not configured.
    """
    jobs = loaded.config.jobs
    for name in names:
        if name not in jobs:
            there = ", ".join(jobs) or "none"
            near = did_you_mean(name, jobs)
            raise click.UsageError(f"no job is named {name!r}; configured: {there}{near}")
    return [jobs[name] for name in dict.fromkeys(names)]


def refuse_unbounded(loaded: Loaded, jobs: Sequence[Job]) -> None:
    """Let pass only jobs that have a feed which can be asked for a window of time.

    Raises: `click.UsageError`.
    """
    for job in jobs:
        feeds = [feed for feed, _ in feeds_of(loaded.config.instances[job.connector], job)]
        if not any(feed.incremental for feed in feeds):
            names = ", ".join(feed.name for feed in feeds)
            raise click.UsageError(
                f"job {job.name!r} can only be walked in full ({names}): run "
                f"`syncd run {job.name} --full`"
            )


def run(loaded: Loaded, jobs: Sequence[Job], how: How, *, as_json: bool) -> int:
    """Run jobs, show how they go and what became of them; answer with the exit code."""
    attendance = attend(loaded.config, loaded.secrets, only_json=as_json)
    outcome = Outcome()
    attendance.observer.listen(outcome.note)
    for warning in loaded.config.warnings:
        attendance.screen.say(f"syncd: warning: {warning}")
    root = Root(loaded.config, loaded.plugins, attendance.observer)

    async def main(process: Process) -> None:
        async with background.beside(process) if how.effects else nullcontext() as lanes:
            outcome.ends = [await end_of(process, job, how) for job in jobs]
            if lanes is not None:
                outcome.left = await lanes.settled(how.wait_seconds)

    with attendance.screen.showing():
        trio.run(root.run, main)
    _print(outcome, how, attendance, as_json=as_json, log_to=loaded.config.log.destination)
    return outcome.code


async def end_of(process: Process, job: Job, how: How) -> JobEnd:
    """Run one job to its end; what keeps it from beginning does not keep the next one."""
    if process.draining.is_set():
        drained = Result(job.name, "drained", "stopped before it began", None)
        return JobEnd(job.name, (drained,), thresholds=job.thresholds)
    errors: list[SyncdError] = []
    results: list[Result] = []
    try:
        results = await run_job(
            process,
            job,
            mode=how.mode_of(job),
            wait_seconds=how.wait_seconds,
            verify=how.verify,
            bounds=how.backfill.bounds(process.clock.now()) if how.backfill else None,
        )
    except* SyncdError as group:
        errors = [leaf for leaf in ending.leaves(group) if isinstance(leaf, SyncdError)]
    return JobEnd(job.name, tuple(results), tuple(errors), job.thresholds)


def _print(
    outcome: Outcome, how: How, attendance: Attendance, *, as_json: bool, log_to: str
) -> None:
    redact, ends, runs = attendance.screen.redact, outcome.ends, outcome.runs
    sentences = [said for end in ends for said in summary.sentences(end)]
    effects, left = outcome.effects, outcome.left
    sentences += deliveries.sentences(effects, left, delivering=how.effects)
    if as_json:
        told = summary.as_json(ends, runs) | {"exit_code": outcome.code}
        told["effects"] = deliveries.as_json(effects, left)
        text = msgspec.json.encode(told).decode()
        click.echo(redact(msgspec.json.format(text, indent=2)))
    else:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        # Who reads JSON lines from stdout gets nothing else there.
        table = summary.as_table(ends, runs, width=width)
        if table:
            click.echo(redact(table), err=log_to == "stdout" and not sys.stdout.isatty())
    for sentence in sentences:
        click.echo(redact(f"syncd: {sentence}"), err=True)
