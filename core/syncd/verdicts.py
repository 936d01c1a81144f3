"""What became of a job's partitions, and of the job: status and exit code. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal

import attrs

from syncd.errors import (
    CommitUnknown,
    CursorExpired,
    LeaseLost,
    StoreUnavailable,
    SyncdError,
    Throttled,
    Unavailable,
)
from syncd.progress import Broke, Drained, OnlyWaiting, PassEnded
from syncd.rounds import BY_DEFAULT, Judged, Thresholds, judge
from syncd.run import Finished

Verdict = Literal[
    "complete", "partial", "waiting", "drained", "held", "throttled", "unavailable", "failed"
]


@attrs.frozen
class Result:
    """What became of one partition."""

    partition: str
    verdict: Verdict
    message: str
    finished: Finished | None  # its last run; `None` where it was never claimed


def judged(results: Sequence[Result], thresholds: Thresholds = BY_DEFAULT) -> Judged:
    """Say how a job's run ended, by the share of its partitions that are complete."""
    ended = judge(Counter(result.verdict for result in results), thresholds)
    if any(result.verdict == "drained" for result in results):
        return attrs.evolve(ended, status="cancelled")
    return ended


def exit_code(results: Sequence[Result], thresholds: Thresholds = BY_DEFAULT) -> int:
    """Return the exit code of a job's run: of a failure, the worst cause speaks."""
    match judged(results, thresholds).status:
        case "complete":
            return 0
        case "partial":
            return 3
        case "cancelled" if all(result.verdict != "failed" for result in results):
            return 75
    verdicts = {result.verdict for result in results}
    for code, those in ((1, {"failed"}), (69, {"unavailable"}), (75, {"held", "throttled"})):
        if verdicts & those:
            return code
    return 1


def verdict_of(finished: Finished) -> Verdict | None:
    """Return what a run's end means for its partition; `None`: it is to be claimed again."""
    match finished.ended:
        case PassEnded(status=status):
            return status
        case OnlyWaiting():
            return "waiting"
        case Drained():
            return "drained"
        case Broke(error=LeaseLost() | CommitUnknown() | CursorExpired()):
            return None
        case Broke(error=error):
            return verdict_on(error)


def verdict_on(error: SyncdError) -> Verdict:
    """Return what an error means for a partition in this job run."""
    match error:
        case Throttled():
            return "throttled"
        case Unavailable() | StoreUnavailable():
            return "unavailable"
        case _:
            return "failed"
