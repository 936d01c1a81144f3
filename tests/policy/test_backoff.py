"""How long to wait after a failure, and how often to try again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.backoff import (
    RETRY_ALLOWANCE,
    RETRY_SHARE,
    RetryBudget,
    earn,
    full_jitter,
    spend,
)

chances = st.floats(0, 1, exclude_max=True)
seconds = st.floats(0.001, 1e6)


@given(failures=st.integers(-5, 10**6), base=seconds, cap=seconds, chance=chances)
def test_a_backoff_is_never_negative_and_never_over_its_cap(
    failures: int, base: float, cap: float, chance: float
) -> None:
    wait = full_jitter(failures, base_seconds=base, cap_seconds=cap, chance=chance)

    assert 0 <= wait <= cap


@given(failures=st.integers(1, 200), base=seconds, cap=seconds, chance=chances)
def test_a_backoff_grows_with_failures_never_shrinks(
    failures: int, base: float, cap: float, chance: float
) -> None:
    earlier = full_jitter(failures, base_seconds=base, cap_seconds=cap, chance=chance)
    later = full_jitter(failures + 1, base_seconds=base, cap_seconds=cap, chance=chance)

    assert earlier <= later <= 2 * earlier or later == pytest.approx(chance * min(cap, base))


def test_the_first_backoff_is_drawn_from_the_base_and_each_next_from_double() -> None:
    drawn = [full_jitter(n, base_seconds=1, cap_seconds=5, chance=0.5) for n in (1, 2, 3, 4, 5)]

    assert drawn == [0.5, 1, 2, 2.5, 2.5]


@given(st.lists(st.booleans(), max_size=150))
def test_retries_stay_within_a_tenth_of_the_requests_and_the_allowance(turns: list[bool]) -> None:
    """`True` is a request, `False` a wish to retry."""
    budget, requests, retries = RetryBudget(), 0, 0

    for is_request in turns:
        if is_request:
            budget, requests = earn(budget), requests + 1
        elif (paid := spend(budget)) is not None:
            budget, retries = paid, retries + 1

        assert retries <= RETRY_ALLOWANCE + RETRY_SHARE * requests + 1e-9
        assert 0 <= budget.retries <= RETRY_ALLOWANCE


def test_good_traffic_does_not_pay_for_a_long_storm() -> None:
    budget = RetryBudget()
    for _ in range(10_000):
        budget = earn(budget)

    retries = 0
    while (paid := spend(budget)) is not None:
        budget, retries = paid, retries + 1

    assert retries == RETRY_ALLOWANCE
