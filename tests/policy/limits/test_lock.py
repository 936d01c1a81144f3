"""A lock is a lock: nobody leaves before it ends, and the herd is spread after it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.limits import ONE_REQUEST, Gate
from syncd.limits.lock import BACKOFF_CAP_SECONDS, Lock, answered, returns_at, throttled
from syncd.model import Adaptive, Quota, SlidingWindow, TokenBucket

chances = st.floats(0, 1, exclude_max=True)
quotas = st.sampled_from(
    [
        Quota("k"),
        Quota("k", TokenBucket(10, 1.0, burst=5)),
        Quota("k", SlidingWindow(600, 60.0)),
        Quota("k", adaptive=Adaptive()),
    ]
)


@given(quota=quotas, asked=st.floats(0.001, 3600), early=st.floats(0, 0.999))
def test_while_locked_nobody_passes(quota: Quota, asked: float, early: float) -> None:
    gate = Gate(quota)
    gate.throttled(left_at=0, now=10, asked_seconds=asked, chance=0.5)

    assert gate.opens_at(ONE_REQUEST, now=10 + asked * early) >= 10 + asked


def test_after_a_lock_the_saved_up_burst_is_gone() -> None:
    gate = Gate(Quota("k", TokenBucket(10, 1.0, burst=5)))
    gate.throttled(left_at=0, now=0, asked_seconds=60, chance=0.5)

    now, left_at = 60.0, []
    for _ in range(3):
        now = max(now, gate.opens_at(ONE_REQUEST, now=now))
        gate.ended(gate.leave(ONE_REQUEST, now=now), now=now)
        left_at.append(now)

    assert left_at == pytest.approx([60, 60.1, 60.2])


def test_our_own_backoff_doubles_with_every_strike_up_to_its_cap() -> None:
    lock, now, seconds = Lock(), 0.0, []
    for _ in range(9):
        lock, news = throttled(lock, left_at=now, now=now, asked_seconds=None, chance=0.5)
        seconds.append(news)
        now = lock.until + 1

    assert seconds == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]


def test_answers_to_requests_in_flight_together_are_one_strike() -> None:
    lock = Lock()
    for now in (5.0, 5.01, 5.02, 5.03):
        lock, _ = throttled(lock, left_at=4.9, now=now, asked_seconds=None, chance=0.5)

    assert lock.strikes == 1
    assert lock.until == 5.5


def test_an_answer_ends_the_strikes_unless_it_is_to_an_earlier_request() -> None:
    lock, _ = throttled(Lock(), left_at=4, now=5, asked_seconds=None, chance=0.5)

    assert answered(lock, left_at=4.5).strikes == 1
    assert answered(lock, left_at=6).strikes == 0


def test_a_lock_is_lengthened_by_whoever_asks_for_more_and_never_shortened() -> None:
    lock, first = throttled(Lock(), left_at=0, now=1, asked_seconds=10, chance=0)
    lock, shorter = throttled(lock, left_at=0, now=2, asked_seconds=1, chance=0)
    assert lock.until == 11
    lock, little = throttled(lock, left_at=0, now=2, asked_seconds=9.5, chance=0)
    assert lock.until == 11.5
    lock, much = throttled(lock, left_at=0, now=2, asked_seconds=60, chance=0)

    assert lock.until == 62
    assert (first, shorter, little, much) == (10, None, None, 60)  # what is news


@given(asked=st.floats(0.001, 3600), strikes=st.integers(1, 10), chance=chances)
def test_nobody_comes_back_before_the_lock_ends_nor_long_after(
    asked: float, strikes: int, chance: float
) -> None:
    lock = Lock()
    for _ in range(strikes):
        lock, _ = throttled(lock, left_at=9, now=9, asked_seconds=asked, chance=chance)

    assert 0 <= returns_at(lock, chance=chance) - lock.until <= 10
    assert returns_at(lock, chance=0.9) > returns_at(lock, chance=0.1)


@given(chance=chances, strikes=st.integers(1, 50))
def test_our_own_backoff_never_exceeds_its_cap(chance: float, strikes: int) -> None:
    lock, _ = throttled(Lock(strikes=strikes), left_at=0, now=0, asked_seconds=None, chance=chance)

    assert lock.until <= BACKOFF_CAP_SECONDS


def test_where_a_rate_is_sought_the_first_refusal_cuts_it_and_locks_nobody() -> None:
    gate = Gate(Quota("k", adaptive=Adaptive(rate_start=10.0)))
    gate.ended(gate.leave(ONE_REQUEST, now=0.0), now=0.1)

    for now in (0.1, 1.1):
        gate.throttled(left_at=now - 0.1, now=now, asked_seconds=None, chance=0.5)
        gate.refused(left_at=now - 0.1, now=now)
        if now < 1:
            assert gate.lock.until < now

    assert gate.lock.until > 1.1  # the second one in a row
    assert gate.rate == pytest.approx(10.0 * 0.95 * 0.8)
