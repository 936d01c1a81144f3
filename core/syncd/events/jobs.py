"""Jobs and their rounds."""

from __future__ import annotations

import attrs

from syncd.events.event import Event


@attrs.frozen
class RoundStarted(Event):
    """A job is due: every partition has a turn. `trigger`: schedule, trigger, after, queued."""

    name = "round.started"
    job: str
    number: int
    trigger: str
    partitions: int


@attrs.frozen
class RoundFinished(Event):
    """Every partition of a job had its turn. `status`: complete, partial, failed or cancelled."""

    name = "round.finished"
    job: str
    number: int
    status: str
    message: str
    partitions: int
    complete: int
    duration_seconds: float


@attrs.frozen
class RoundSkipped(Event):
    """A moment of a job's schedule passed by."""

    name = "round.skipped"
    job: str
    reason: str
    queued: bool  # another round follows the one that runs


@attrs.frozen
class JobHindered(Event):
    """A plugin's look-ups failed: of an account's partitions, those that are known have a turn."""

    name = "job.hindered"
    level = "warning"
    job: str
    where: str
    error: str
