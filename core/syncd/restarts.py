"""When a task that failed is begun again, and when no more: a pure function of its failures."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from syncd.backoff import full_jitter


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
