"""Tasks that are to live as long as the process: begun again when they fail, but not for ever.

What is decided is a pure function of the failures so far, the time and chance (`decided`); what
waits is a few lines around it (`Supervisor.keep`). A task that fails is begun again after a wait
that doubles; one that keeps failing, or too many that fail at once, end the process, so that
whoever started it sees it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from random import Random

import attrs
import trio

from syncd.backoff import full_jitter
from syncd.border import first_leaf, said
from syncd.errors import ConfigError
from syncd.events import Event, TaskFailed, TaskRestarted


@attrs.frozen
class Policy:
    """How often and how soon what failed is begun again.

    A task that fails at once each time waits 4 minutes in all, on average, before its tenth
    failure: what ails it did not pass. Twenty failures of whatever tasks within a minute are not
    one task's trouble (Erlang's supervisors call this the restart intensity).
    """

    base_seconds: float = 1.0
    cap_seconds: float = 300.0
    healthy_seconds: float = 600.0  # after so long without a failure, the next one is the first
    failures_max: int = 10  # of one task, none of them healthy in between
    storm_failures: int = 20  # of all tasks together
    storm_seconds: float = 60.0


@attrs.frozen
class History:
    """The failures of one task that count."""

    failures: int = 0
    last_at: float | None = None


@attrs.frozen
class Restart:
    """Begin again after a wait."""

    wait_seconds: float
    history: History


@attrs.frozen
class GiveUp:
    """Do not begin again: the process is to end."""

    reason: str


def decided(
    policy: Policy, history: History, *, all_failed_at: Sequence[float], now: float, chance: float
) -> Restart | GiveUp:
    """Decide what follows on a failure at `now`, which is the last of `all_failed_at`.

    `history`: of the task before it. `chance`: evenly drawn from [0, 1).
    """
    healthy = history.last_at is not None and now - history.last_at > policy.healthy_seconds
    failures = 1 if healthy else history.failures + 1
    if failures >= policy.failures_max:
        return GiveUp(f"it failed {failures} times in a row")
    storm = sum(1 for at in all_failed_at if now - at < policy.storm_seconds)
    if storm >= policy.storm_failures:
        return GiveUp(f"tasks failed {storm} times in {policy.storm_seconds:.0f} s")
    wait = full_jitter(
        failures, base_seconds=policy.base_seconds, cap_seconds=policy.cap_seconds, chance=chance
    )
    # The wait is no time in which it was well.
    return Restart(wait, History(failures, now + wait))


class TaskGivenUp(Exception):
    """A task of the process's own keeps failing: a bug, or a world in which syncd cannot live."""


class Supervisor:
    """Keeps the tasks of one process alive."""

    def __init__(
        self, *, emit: Callable[[Event], None], random: Random, policy: Policy | None = None
    ) -> None:
        self._emit = emit
        self._random = random
        self._policy = policy or Policy()
        self._failed_at: list[float] = []  # of all tasks, no older than a storm

    async def keep(self, name: str, task: Callable[[], Awaitable[None]]) -> None:
        """Run a task until it returns; begin it again when it fails.

        To be started in the nursery that lives as long as the process. Cancellation passes, and
        what is no `Exception`.

        Raises: `TaskGivenUp` where it is not begun again; `ConfigError`, which no repetition mends.
        """
        history = History()
        while True:
            failure = await self._failure(task)
            if failure is None:
                return
            now = trio.current_time()
            recent = [at for at in self._failed_at if now - at < self._policy.storm_seconds]
            self._failed_at = [*recent, now]
            next_ = decided(
                self._policy,
                history,
                all_failed_at=self._failed_at,
                now=now,
                chance=self._random.random(),
            )
            if isinstance(next_, GiveUp):
                raise TaskGivenUp(f"{name}: {next_.reason}: {said(failure)}") from failure
            history = next_.history
            wait = round(next_.wait_seconds, 3)
            self._emit(TaskRestarted(name, said(failure), history.failures, wait))
            await trio.sleep(next_.wait_seconds)

    def note(self, name: str, failure: Exception) -> None:
        """Take note of something that failed and is not begun again here: a run, say.

        Raises: `TaskGivenUp` where too much fails at once.
        """
        now = trio.current_time()
        policy = self._policy
        recent = [at for at in self._failed_at if now - at < policy.storm_seconds]
        self._failed_at = [*recent, now]
        self._emit(TaskFailed(name, said(failure)))
        if len(self._failed_at) >= policy.storm_failures:
            reason = f"tasks failed {len(self._failed_at)} times in {policy.storm_seconds:.0f} s"
            raise TaskGivenUp(f"{name}: {reason}: {said(failure)}") from failure

    async def _failure(self, task: Callable[[], Awaitable[None]]) -> Exception | None:
        """Run a task once; return what it failed with."""
        failures: list[Exception] = []
        try:
            await task()
        except* Exception as group:  # noqa: BLE001 - whatever fails is told, and tried again
            failures.append(group)
        for failure in failures:
            leaf = first_leaf(failure)
            if isinstance(leaf, ConfigError):
                raise leaf  # alone: whoever ends the program shows it as one line
            return failure
        return None
