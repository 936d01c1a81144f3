"""Keeping to what an upstream allows: pace, lock and pages in flight."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.limits import (
    BACKOFF_CAP_SECONDS,
    Gate,
    admit,
    answered,
    interval_seconds,
    pages_in_flight,
    returns_at,
    throttled,
)
from syncd.model import Quota, Rate

rates = st.builds(
    Rate,
    requests=st.integers(1, 1000),
    per_seconds=st.floats(0.1, 3600),
    burst=st.integers(1, 50),
)
chances = st.floats(0, 1, exclude_max=True)
STEADY = Rate(10, 1.0)


def departures(rate: Rate, arrivals: list[float], *, began_at: float) -> list[float]:
    """Send requests in order, each as early as the gate lets it."""
    gate, now, left_at = Gate(), began_at, []
    for gap in arrivals:
        now += gap
        gate, opens_at = admit(gate, rate, now=now)
        if opens_at > now:
            now = opens_at
            gate, opens_at = admit(gate, rate, now=now)
        assert opens_at <= now  # who asks again when told to is admitted
        left_at.append(now)
    return left_at


arrival_lists = st.lists(st.one_of(st.just(0.0), st.floats(0, 500)), min_size=1, max_size=20)


@given(rate=rates, arrivals=arrival_lists, began_at=st.floats(0, 1e6))
def test_in_any_window_no_more_leave_than_the_burst_and_the_rate(
    rate: Rate, arrivals: list[float], began_at: float
) -> None:
    left_at = departures(rate, arrivals, began_at=began_at)

    for first, start in enumerate(left_at):
        for last in range(first, len(left_at)):
            window_seconds = left_at[last] - start
            allowed = rate.burst + window_seconds / interval_seconds(rate)
            assert last - first + 1 <= allowed + 1e-4


@given(rate=rates, arrivals=arrival_lists, began_at=st.floats(0, 1e6))
def test_nobody_waits_longer_than_the_burst_and_the_rate_need(
    rate: Rate, arrivals: list[float], began_at: float
) -> None:
    left_at = departures(rate, arrivals, began_at=began_at)

    interval = interval_seconds(rate)
    arrived_at, before = began_at, began_at
    for number, (gap, left) in enumerate(zip(arrivals, left_at, strict=True)):
        arrived_at = before + gap
        if left > arrived_at + 1e-6:  # it waited: because a window behind it is full
            spans = [
                (number - first + 1) - (rate.burst + (left - left_at[first]) / interval)
                for first in range(number)
            ]
            assert max(spans) == pytest.approx(0, abs=1e-4)
        before = left


def test_a_burst_leaves_at_once_and_then_the_pace_holds() -> None:
    left_at = departures(Rate(10, 1.0, burst=3), [0.0] * 6, began_at=0.0)

    assert left_at == pytest.approx([0, 0, 0, 0.1, 0.2, 0.3])


@given(rate=rates, now=st.floats(0, 1e6))
def test_a_request_that_must_wait_has_used_nothing(rate: Rate, now: float) -> None:
    gate = Gate(due_at=now + interval_seconds(rate) * rate.burst)  # a burst has left

    after, opens_at = admit(gate, rate, now=now)

    assert after == gate
    assert opens_at == pytest.approx(now + interval_seconds(rate), abs=1e-6)


@given(rate=st.one_of(st.none(), rates), asked=st.floats(0.001, 3600), early=st.floats(0, 0.999))
def test_while_locked_nobody_passes(rate: Rate | None, asked: float, early: float) -> None:
    gate, _ = throttled(Gate(), rate, left_at=0, now=10, asked_seconds=asked, chance=0.5)

    _, opens_at = admit(gate, rate, now=10 + asked * early)

    assert opens_at >= 10 + asked


def test_after_a_lock_the_saved_up_burst_is_gone() -> None:
    rate = Rate(10, 1.0, burst=5)
    gate, _ = throttled(Gate(), rate, left_at=0, now=0, asked_seconds=60, chance=0.5)

    now = 60.0
    left_at: list[float] = []
    while len(left_at) < 3:
        gate, opens_at = admit(gate, rate, now=now)
        if opens_at <= now:
            left_at.append(now)
        now = max(now, opens_at)

    assert left_at == pytest.approx([60, 60.1, 60.2])


def test_our_own_backoff_doubles_with_every_strike_up_to_its_cap() -> None:
    gate, now, locks = Gate(), 0.0, []
    for _ in range(9):
        gate, seconds = throttled(
            gate, STEADY, left_at=now, now=now, asked_seconds=None, chance=0.5
        )
        locks.append(seconds)
        now = gate.locked_until + 1

    assert locks == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]


def test_answers_to_requests_in_flight_together_are_one_strike() -> None:
    gate = Gate()
    for now in (5.0, 5.01, 5.02, 5.03):
        gate, _ = throttled(gate, STEADY, left_at=4.9, now=now, asked_seconds=None, chance=0.5)

    assert gate.strikes == 1
    assert gate.locked_until == 5.5


def test_an_answer_ends_the_strikes_unless_it_is_to_an_earlier_request() -> None:
    gate, _ = throttled(Gate(), STEADY, left_at=4, now=5, asked_seconds=None, chance=0.5)

    assert answered(gate, left_at=4.5).strikes == 1
    assert answered(gate, left_at=6).strikes == 0


def test_a_lock_is_lengthened_by_whoever_asks_for_more_and_never_shortened() -> None:
    gate, first = throttled(Gate(), STEADY, left_at=0, now=1, asked_seconds=10, chance=0)
    gate, shorter = throttled(gate, STEADY, left_at=0, now=2, asked_seconds=1, chance=0)
    assert gate.locked_until == 11
    gate, little = throttled(gate, STEADY, left_at=0, now=2, asked_seconds=9.5, chance=0)
    assert gate.locked_until == 11.5
    gate, much = throttled(gate, STEADY, left_at=0, now=2, asked_seconds=60, chance=0)

    assert gate.locked_until == 62
    assert (first, shorter, little, much) == (10, None, None, 60)  # what is news


@given(asked=st.floats(0.001, 3600), strikes=st.integers(1, 10), chance=chances)
def test_nobody_comes_back_before_the_lock_ends_nor_long_after(
    asked: float, strikes: int, chance: float
) -> None:
    gate = Gate()
    for _ in range(strikes):
        gate, _ = throttled(gate, None, left_at=9, now=9, asked_seconds=asked, chance=chance)

    assert 0 <= returns_at(gate, chance=chance) - gate.locked_until <= 10
    assert returns_at(gate, chance=0.9) > returns_at(gate, chance=0.1)


@given(chance=chances, strikes=st.integers(1, 50))
def test_our_own_backoff_never_exceeds_its_cap(chance: float, strikes: int) -> None:
    gate = Gate(strikes=strikes)

    gate, _ = throttled(gate, None, left_at=0, now=0, asked_seconds=None, chance=chance)

    assert gate.locked_until <= BACKOFF_CAP_SECONDS


@pytest.mark.parametrize(
    ("quota", "latency_seconds", "pages"),
    [
        (Quota("k", Rate(10, 1.0), concurrency=20), 0.45, 6),  # 4.5 in flight, and one waiting
        (Quota("k", Rate(10, 1.0), concurrency=20), 30.0, 20),
        (Quota("k", Rate(1, 60.0), concurrency=20), 0.2, 2),
        (Quota("k", Rate(10, 1.0), concurrency=20), None, 2),
        (Quota("k", Rate(10, 1.0), concurrency=1), 0.45, 1),
        (Quota("k", None, concurrency=7), 0.45, 7),
        (Quota("k", None, concurrency=7), None, 7),
    ],
)
def test_as_many_pages_are_in_flight_as_the_quota_needs(
    quota: Quota, latency_seconds: float | None, pages: int
) -> None:
    assert pages_in_flight(quota, latency_seconds) == pages
