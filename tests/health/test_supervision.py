"""What fails is begun again, ever more seldom, and not for ever (P55)."""

from __future__ import annotations

from random import Random

import attrs
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from syncd.errors import ConfigError, StoreUnavailable
from syncd.events import Event, TaskFailed, TaskRestarted
from syncd.restarts import GiveUp, History, Policy, Restart, decided
from syncd.supervision import Supervisor, TaskGivenUp

CALM = Policy(storm_failures=10**9)
chances = st.floats(0.0, 1.0, exclude_max=True)


def one(policy: Policy, history: History, now: float, chance: float) -> Restart | GiveUp:
    return decided(policy, history, all_failed_at=[now], now=now, chance=chance)


@given(st.integers(0, 8), chances)
def test_a_wait_never_exceeds_the_doublings_nor_the_cap(failures: int, chance: float) -> None:
    next_ = one(CALM, History(failures, 0.0), 1.0, chance)

    assert isinstance(next_, Restart)
    assert 0.0 <= next_.wait_seconds <= min(CALM.cap_seconds, CALM.base_seconds * 2.0**failures)
    assert next_.history.failures == failures + 1


@given(st.integers(0, 8), chances)
def test_a_wait_is_drawn_evenly_from_all_that_is_allowed(failures: int, chance: float) -> None:
    """What failed together does not come back together."""
    most = min(CALM.cap_seconds, CALM.base_seconds * 2.0**failures)
    next_ = one(CALM, History(failures, 0.0), 1.0, chance)

    assert isinstance(next_, Restart)
    assert next_.wait_seconds == pytest.approx(chance * most)


# At the boundary itself a sum of floats decides by its last bit, and either is right.
lives = st.floats(0.0, 10_000.0).filter(lambda s: abs(s - CALM.healthy_seconds) > 1e-6)


@given(st.lists(st.tuples(lives, chances), max_size=60))
def test_a_task_is_begun_again_until_it_has_failed_too_often_without_being_well(
    lives: list[tuple[float, float]],
) -> None:
    history, now, in_a_row, ever = History(), 0.0, 0, False
    for lived_seconds, chance in lives:
        now += lived_seconds
        in_a_row = 1 if ever and lived_seconds > CALM.healthy_seconds else in_a_row + 1
        ever = True
        next_ = one(CALM, history, now, chance)
        if in_a_row >= CALM.failures_max:
            assert isinstance(next_, GiveUp)
            return
        assert isinstance(next_, Restart)
        assert next_.history.failures == in_a_row
        history, now = next_.history, now + next_.wait_seconds


@given(st.lists(st.floats(0.0, 6.0), min_size=1, max_size=60))
def test_a_storm_of_failures_ends_the_process_and_only_a_storm(waits: list[float]) -> None:
    policy, now, failed_at = Policy(), 0.0, list[float]()
    for wait in waits:
        now += wait
        failed_at.append(now)
        next_ = decided(policy, History(), all_failed_at=failed_at, now=now, chance=0.5)
        within = [at for at in failed_at if now - at < policy.storm_seconds]
        assert isinstance(next_, GiveUp) == (len(within) >= policy.storm_failures)


def test_what_fails_for_ever_is_given_up_within_its_worst_waits() -> None:
    history, now = History(), 0.0
    while isinstance(next_ := one(CALM, history, now, 0.999), Restart):
        history, now = next_.history, now + next_.wait_seconds

    assert now < 600.0
    assert "10 times" in next_.reason


def supervisor(events: list[Event], policy: Policy | None = None) -> Supervisor:
    return Supervisor(emit=events.append, random=Random(7), policy=policy)


async def test_a_task_that_fails_is_begun_again_and_told_of(autojump_clock: MockClock) -> None:
    events: list[Event] = []
    begun = 0

    async def task() -> None:
        nonlocal begun
        begun += 1
        await trio.sleep(1.0)
        if begun < 4:
            raise StoreUnavailable("database", "away", "wait")

    await supervisor(events).keep("keeper", task)

    assert begun == 4
    told = [event for event in events if isinstance(event, TaskRestarted)]
    assert [event.failures for event in told] == [1, 2, 3]
    assert {event.task for event in told} == {"keeper"}
    assert "StoreUnavailable: database: away" in told[0].error


async def test_a_task_that_keeps_failing_ends_with_what_it_failed_of(
    autojump_clock: MockClock,
) -> None:
    events: list[Event] = []

    async def task() -> None:
        raise ValueError("broken for good")

    with pytest.raises(TaskGivenUp, match=r"beat: it failed 10 times in a row.*broken for good"):
        await supervisor(events).keep("beat", task)

    assert len(events) == Policy().failures_max - 1


async def test_long_health_forgives(autojump_clock: MockClock) -> None:
    events: list[Event] = []
    begun = 0

    async def task() -> None:
        nonlocal begun
        begun += 1
        await trio.sleep(601.0)
        if begun < 30:
            raise ValueError

    await supervisor(events).keep("beat", task)

    assert {event.failures for event in events if isinstance(event, TaskRestarted)} == {1}


async def test_failures_of_different_tasks_count_together(autojump_clock: MockClock) -> None:
    both = supervisor([], attrs.evolve(Policy(), storm_failures=3, base_seconds=0.1))

    async def task() -> None:
        raise ValueError

    with pytest.RaisesGroup(pytest.RaisesExc(TaskGivenUp, match="tasks failed 3 times")):
        async with trio.open_nursery() as nursery:
            for number in range(3):
                nursery.start_soon(both.keep, f"task {number}", task)


async def test_what_is_not_begun_again_counts_too_and_is_told(
    autojump_clock: MockClock,
) -> None:
    events: list[Event] = []
    both = supervisor(events, attrs.evolve(Policy(), storm_failures=3))

    both.note("run of a", ValueError("one"))
    await trio.sleep(Policy().storm_seconds)  # a storm ago: it counts no more
    both.note("run of b", ValueError("two"))
    both.note("run of c", ValueError("three"))
    with pytest.raises(TaskGivenUp, match="run of d: tasks failed 3 times"):
        both.note("run of d", ValueError("four"))

    failed = [event.task for event in events if isinstance(event, TaskFailed)]
    assert failed == ["run of a", "run of b", "run of c", "run of d"]


async def test_an_end_is_no_failure(autojump_clock: MockClock) -> None:
    events: list[Event] = []

    async def group() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            nursery.start_soon(trio.sleep, 1.0)

    with trio.move_on_after(5.0) as scope:
        await supervisor(events).keep("beat", group)

    assert scope.cancelled_caught
    assert events == []


async def test_what_fails_while_it_is_cancelled_does_not_outlive_it(
    autojump_clock: MockClock,
) -> None:
    async def complains() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError

    async def group() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(complains)
            nursery.start_soon(trio.sleep_forever)

    with trio.move_on_after(5.0) as scope:
        await supervisor([]).keep("beat", group)

    assert scope.cancelled_caught


async def test_a_wrong_configuration_is_not_tried_again(autojump_clock: MockClock) -> None:
    events: list[Event] = []

    async def task() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            nursery.start_soon(refuse)

    async def refuse() -> None:
        raise ConfigError("jobs.cars", "wrong", "mend it")

    with pytest.raises(ConfigError):
        await supervisor(events).keep("scheduler", task)

    assert events == []
