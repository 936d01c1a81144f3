"""What became of a job, as a table, as sentences and as JSON. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import attrs

from syncd.cli import ending
from syncd.cli.columns import table
from syncd.errors import SyncdError
from syncd.events import RunFinished
from syncd.rounds import BY_DEFAULT, Thresholds
from syncd.verdicts import Result, Verdict, exit_code, judged

COUNTS: Final = (
    "records",
    "inserted",
    "updated",
    "unchanged",
    "stale",
    "quarantined",
    "requests",
    "retries",
)
HEADINGS: Final = ("partition", "status", *COUNTS, "throttled s", "seconds", "rows/s")

# What to do about a verdict that the message says nothing of.
_ADVICE: Final[dict[Verdict, str]] = {
    "partial": "what failed is tried again by the next run",
    "waiting": "run it again later, or wait longer with --wait",
    "drained": "run it again to go on where it stopped",
    "held": "wait longer with --wait, or stop the other process",
    "throttled": "try again later",
    "unavailable": "try again when it is reachable",
    "failed": "mend the cause and run it again",
}
_SAID: Final[dict[Verdict, str]] = {
    "partial": "some items failed",
    "waiting": "only pages that must wait are left",
    "drained": "stopped before the end",
    "held": "another process holds it",
    "throttled": "the upstream asked for a longer wait",
    "unavailable": "the upstream or the database is unavailable",
    "failed": "it failed",
}


@attrs.frozen
class JobEnd:
    """How one job ended: what became of its partitions, or what kept them from beginning."""

    job: str
    results: tuple[Result, ...] = ()
    errors: tuple[SyncdError, ...] = ()
    thresholds: Thresholds = BY_DEFAULT

    @property
    def code(self) -> int:
        codes = [ending.code_of(error) for error in self.errors]
        done = [exit_code(self.results, self.thresholds)] if self.results else []
        return ending.worst([*done, *codes])


@attrs.frozen
class Tally:
    """What the runs of one partition did, over all of them."""

    partition: str
    status: str
    records: int = 0
    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    stale: int = 0
    quarantined: int = 0
    requests: int = 0
    retries: int = 0
    throttled_seconds: float = 0.0
    seconds: float = 0.0

    @property
    def rows(self) -> int:
        """The rows that came to PostgreSQL, whatever became of them there."""
        return self.inserted + self.updated + self.unchanged + self.stale

    @property
    def rows_per_second(self) -> int:
        return round(self.rows / self.seconds) if self.seconds else 0

    def cells(self) -> list[Any]:
        return [
            self.partition,
            self.status,
            *(getattr(self, name) for name in COUNTS),
            round(self.throttled_seconds, 1),
            round(self.seconds, 1),
            self.rows_per_second,
        ]


def tallied(partition: str, status: str, runs: Iterable[RunFinished]) -> Tally:
    """Add up the runs of one partition; it may have taken several."""
    tally = Tally(partition, status)
    for run in runs:
        sums = {name: getattr(tally, name) + getattr(run, name) for name in COUNTS}
        tally = attrs.evolve(
            tally,
            throttled_seconds=tally.throttled_seconds + run.throttled_seconds,
            seconds=tally.seconds + run.duration_seconds,
            **sums,
        )
    return tally


def tallies(end: JobEnd, runs: Sequence[RunFinished]) -> list[Tally]:
    """Return one tally for each partition of a job."""
    return [
        tallied(
            result.partition,
            result.verdict,
            [r for r in runs if (r.job, r.partition) == (end.job, result.partition)],
        )
        for result in end.results
    ]


def as_table(
    ends: Sequence[JobEnd], runs: Sequence[RunFinished], *, width: int | None = None
) -> str:
    """Write a line for each partition of each job; empty where there is none."""
    rows = [tally.cells() for end in ends for tally in tallies(end, runs)]
    return table(HEADINGS, rows, width=width) if rows else ""


def sentences(end: JobEnd) -> list[str]:
    """Say for everything that did not end complete: where, what, and what to do."""
    hindered = [f"{end.job}: {error}" for error in end.errors]
    return hindered + [
        f"{result.partition}: {_sentence(result)}"
        for result in end.results
        if result.verdict != "complete"
    ]


def _sentence(result: Result) -> str:
    what, advice = result.message or _SAID[result.verdict], _ADVICE[result.verdict]
    if result.verdict == "drained":
        return f"{what.partition(';')[0]}; {advice}"
    return what if "; " in what else f"{what}; {advice}"


def as_json(ends: Sequence[JobEnd], runs: Sequence[RunFinished]) -> dict[str, Any]:
    """Return what `--json` prints."""
    return {
        "exit_code": ending.worst(end.code for end in ends),
        "jobs": [
            {
                "job": end.job,
                "exit_code": end.code,
                "status": judged(end.results, end.thresholds).status if end.results else "failed",
                "errors": [str(error) for error in end.errors],
                "partitions": [
                    attrs.asdict(tally)
                    | {"rows_per_second": tally.rows_per_second, "message": result.message}
                    for tally, result in zip(tallies(end, runs), end.results, strict=True)
                ],
            }
            for end in ends
        ],
    }
