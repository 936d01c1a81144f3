"""Tasks that are to live as long as the process: begun again when they fail, but not for ever.

What is decided is pure (`restarts.decided`); what waits is here. A task that fails is begun again
after a wait that doubles; one that keeps failing, or too many that fail at once, end the process,
so that whoever started it sees it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from random import Random

import trio

from syncd.border import first_leaf, said
from syncd.errors import ConfigError
from syncd.events import Event, TaskFailed, TaskRestarted
from syncd.restarts import GiveUp, History, Policy, decided


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
            now = self._counted()
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
        self._counted()
        policy = self._policy
        self._emit(TaskFailed(name, said(failure)))
        if len(self._failed_at) >= policy.storm_failures:
            reason = f"tasks failed {len(self._failed_at)} times in {policy.storm_seconds:.0f} s"
            raise TaskGivenUp(f"{name}: {reason}: {said(failure)}") from failure

    def _counted(self) -> float:
        """Count a failure, among those of the last storm's length; answer with its moment."""
        now = trio.current_time()
        recent = [at for at in self._failed_at if now - at < self._policy.storm_seconds]
        self._failed_at = [*recent, now]
        return now

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
