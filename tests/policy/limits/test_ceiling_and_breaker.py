"""Concurrency grows by one and is halved; who fails again and again is left alone."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.limits import breaker, ceiling, pages_in_flight
from syncd.limits.breaker import FAILURES_MAX, OPEN_CAP_SECONDS, Breaker
from syncd.limits.ceiling import Ceiling
from syncd.model import Quota, SlidingWindow, TokenBucket


def test_it_is_halved_once_for_all_that_were_in_flight_together() -> None:
    known = Ceiling(16.0)
    for left_at in (4.0, 4.5, 4.9):
        known = ceiling.refused(known, least=1, left_at=left_at, now=left_at + 1)
    assert known.whole == 8

    known = ceiling.refused(known, least=1, left_at=6.0, now=7.0)
    assert known.whole == 4


def test_it_grows_by_one_a_round_of_answers_and_only_where_it_is_used() -> None:
    known = Ceiling(4.0)
    for _ in range(4):
        known = ceiling.answered(known, most=8, in_flight=4)
    assert known.total == pytest.approx(4.9, abs=0.1)

    assert ceiling.answered(known, most=8, in_flight=1) is known


@given(st.lists(st.booleans(), max_size=300), st.integers(1, 4), st.integers(4, 50))
def test_it_stays_within_its_bounds(steps: list[bool], least: int, most: int) -> None:
    known = Ceiling(float(most))
    for now, is_refused in enumerate(steps):
        if is_refused:
            known = ceiling.refused(known, least=least, left_at=now, now=now)
        else:
            known = ceiling.answered(known, most=most, in_flight=most)
        assert least <= known.whole <= most


def broken(*, chance: float = 1.0) -> Breaker:
    known, seconds = Breaker(), None
    for now in range(FAILURES_MAX):
        known, seconds = breaker.failed(known, left_at=now, now=now, chance=chance)
        assert (seconds is None) == (now < FAILURES_MAX - 1)
    return known


def test_an_open_breaker_lets_one_through_after_its_wait() -> None:
    known = broken()
    opens_at = breaker.opens_at(known)
    assert opens_at == FAILURES_MAX - 1 + 5.0

    known = breaker.leave(known)
    assert breaker.opens_at(known) == math.inf
    assert breaker.opens_at(breaker.given_up(known)) == opens_at
    known, closed = breaker.answered(known, left_at=opens_at)
    assert closed
    assert known == Breaker()


def test_while_it_fails_it_stays_open_for_longer_up_to_its_cap() -> None:
    known, waits = broken(), []
    for _ in range(6):
        now = breaker.opens_at(known)
        known, seconds = breaker.failed(breaker.leave(known), left_at=now, now=now, chance=1.0)
        waits.append(seconds)

    assert waits == [10, 20, 30, 30, 30, 30]
    assert OPEN_CAP_SECONDS == 30


def test_failures_of_those_in_flight_when_it_opened_say_nothing_new() -> None:
    known = broken()

    assert breaker.failed(known, left_at=0.0, now=50.0, chance=1.0) == (known, None)
    assert breaker.answered(known, left_at=0.0) == (known, False)


@pytest.mark.parametrize(
    ("failing", "accounts", "opens"),
    [(1, 1, True), (1, 2, True), (1, 20, False), (4, 20, False), (10, 20, True), (10, 300, True)],
)
def test_a_few_of_many_accounts_break_no_origin(
    failing: int, accounts: int, *, opens: bool
) -> None:
    known = Breaker()
    for n in range(5 * FAILURES_MAX):
        known, _ = breaker.failed(
            known, left_at=n, now=n, chance=0.0, account=f"a{n % failing}", accounts=accounts
        )

    assert bool(known.opened) is opens


@given(st.lists(st.booleans(), max_size=60))
def test_an_answer_in_between_keeps_it_closed(steps: list[bool]) -> None:
    known, row = Breaker(), 0
    for now, is_answered in enumerate([*steps, True]):
        if is_answered:
            known, _ = breaker.answered(known, left_at=now)
            row = 0
        elif row < FAILURES_MAX - 1:
            known, _ = breaker.failed(known, left_at=now, now=now, chance=0.0)
            row += 1
        assert not known.opened


@pytest.mark.parametrize(
    ("quota", "latency_seconds", "pages"),
    [
        (Quota("k", TokenBucket(10, 1.0), concurrency=20), 0.45, 6),  # 4.5 and one waiting
        (Quota("k", SlidingWindow(600, 60.0), concurrency=20), 0.45, 6),
        (Quota("k", (SlidingWindow(600, 60.0), TokenBucket(1, 1.0)), concurrency=20), 0.45, 2),
        (Quota("k", TokenBucket(10, 1.0), concurrency=20), 30.0, 20),
        (Quota("k", TokenBucket(1, 60.0), concurrency=20), 0.2, 2),
        (Quota("k", TokenBucket(10, 1.0), concurrency=20), None, 6),  # as if 0.5 s
        (Quota("k", TokenBucket(1, 1.0), concurrency=20), None, 2),
        (Quota("k", TokenBucket(10, 1.0), concurrency=1), 0.45, 1),
        (Quota("k", concurrency=7), 0.45, 7),
        (Quota("k", concurrency=7), None, 7),
    ],
)
def test_as_many_pages_are_in_flight_as_the_quota_needs(
    quota: Quota, latency_seconds: float | None, pages: int
) -> None:
    assert pages_in_flight(quota, latency_seconds) == pages
