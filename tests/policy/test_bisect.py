"""Bisecting finds exactly the culprits, in order, and in few attempts."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.bulk.bisect import TooManyRefused, bisect


class Refused(Exception):
    """Not these rows."""


class Broken(Exception):
    """Nobody's fault."""


def attempts(rows: Sequence[int], culprits: set[int]) -> tuple[list[int], list[int], int]:
    """Answer who was accepted, who was found out, and how many attempts that took."""
    count = 0

    def attempt(part: Sequence[int]) -> list[int]:
        nonlocal count
        count += 1
        if culprits & set(part):
            raise Refused
        return list(part)

    accepted, found = bisect(rows, attempt, refusal=Refused, blames=lambda _: True)
    return [row for part in accepted for row in part], [row for row, _ in found], count


@given(st.data())
def test_exactly_the_culprits_are_found_and_the_order_is_kept(data: st.DataObject) -> None:
    rows = list(range(data.draw(st.integers(2, 5000))))
    culprits = data.draw(st.sets(st.sampled_from(rows), min_size=1, max_size=20))

    accepted, found, count = attempts(rows, culprits)

    assert found == sorted(culprits)
    assert accepted == [row for row in rows if row not in culprits]
    assert count <= 2 * len(culprits) * math.ceil(math.log2(len(rows)))


def test_one_culprit_among_a_thousand_takes_no_more_than_twenty_attempts() -> None:
    worst = max(attempts(range(1000), {culprit})[2] for culprit in range(1000))

    assert worst <= 20


@given(st.data())
def test_the_search_ends_with_the_first_culprit_that_is_too_many(data: st.DataObject) -> None:
    rows = list(range(data.draw(st.integers(1, 400))))
    culprits = data.draw(st.sets(st.sampled_from(rows), min_size=1))
    most = data.draw(st.integers(0, len(rows)))
    count = 0

    def attempt(part: Sequence[int]) -> None:
        nonlocal count
        count += 1
        if culprits & set(part):
            raise Refused

    def search() -> list[tuple[int, Refused]]:
        return bisect(rows, attempt, refusal=Refused, blames=lambda _: True, most=most)[1]

    if len(culprits) <= most:
        assert [row for row, _ in search()] == sorted(culprits)
        return
    with pytest.raises(TooManyRefused) as caught:
        search()
    assert (caught.value.count, caught.value.first[0]) == (most + 1, min(culprits))
    assert count <= max(1, 2 * (most + 1) * math.ceil(math.log2(len(rows))))


@given(st.integers(1, 40))
def test_if_each_half_is_accepted_by_itself_nobody_is_blamed(size: int) -> None:
    """Rows that are refused only together."""

    def attempt(part: Sequence[int]) -> int:
        if len(part) == size > 1:
            raise Refused
        return len(part)

    accepted, found = bisect(range(size), attempt, refusal=Refused, blames=lambda _: True)

    assert (sum(accepted), found) == (size, [])


def test_errors_that_blame_no_row_propagate() -> None:
    def attempt(_: Sequence[int]) -> None:
        raise Broken

    with pytest.raises(Broken):
        bisect([1, 2], attempt, refusal=Refused, blames=lambda _: True)
    with pytest.raises(Broken):
        bisect([1, 2], attempt, refusal=Broken, blames=lambda _: False)
