"""What a walk has yet to read, by itself."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd import unread
from syncd.unread import ALL, Place, Range, Ranges, Unread, Waiter, Waiting, after

places = st.tuples(
    st.booleans(), st.integers(-9, 0), st.integers(0, 9), st.binary(min_size=1, max_size=2)
)
spans = st.tuples(places, places).map(lambda two: Range(min(two), after(max(two))))


def waiter(until: float, key: bytes, number: int | None = None) -> Waiter:
    return Waiter(until, (False, 0, 0, key), number)


@given(st.lists(spans), places)
def test_ranges_hold_what_was_added_and_stay_apart(added: list[Range], place: Place) -> None:
    ranges = Ranges(added)
    expected = any(each.first <= place < each.end for each in added)
    held = place in ranges
    taken = []
    while ranges:
        taken.append(ranges.take())

    assert held == expected or (held and len(taken) == unread.RANGES_MAX)
    assert all(one.end < other.first for one, other in pairwise(taken))


@given(places)
def test_nothing_lies_between_a_place_and_the_one_after_it(place: Place) -> None:
    ranges = Ranges()
    ranges.add_places([place])

    assert place in ranges
    assert after(place) not in ranges
    assert place in Ranges([ALL])


def test_more_ranges_than_are_worth_a_look_each_are_joined_and_lose_nothing() -> None:
    each = [(False, 0, 2 * n, b"k") for n in range(3 * unread.RANGES_MAX)]
    ranges = Ranges(Range(place, after(place)) for place in each)
    held = [place for place in each if place in ranges]
    looks = 0
    while ranges:
        ranges.take()
        looks += 1

    assert held == each
    assert looks <= unread.RANGES_MAX


def test_who_waits_is_looked_at_again_when_due_and_not_before() -> None:
    table = Unread()
    for until, key in ((3.0, b"c"), (1.0, b"a"), (2.0, b"b")):
        table.waiting.add(waiter(until, key))
    table.wake(0.5)
    early = bool(table)
    table.wake(2.0)

    assert not early
    assert (False, 0, 0, b"a") in table.ranges
    assert (False, 0, 0, b"c") not in table.ranges
    assert table.waiting.until == 3.0


def test_who_is_no_longer_open_is_not_waited_for() -> None:
    waiting = Waiting()
    for number in (1, 2, 3):
        waiting.add(waiter(float(number), b"%d" % number, number))
    waiting.forget(b"1")
    waiting.forget_above(2)

    assert waiting.until == 2.0
    waiting.forget(b"2")
    assert waiting.until == math.inf


def test_those_that_found_no_room_make_everything_be_read_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(unread, "WAITING_MAX", 1)
    table = Unread()
    table.waiting.add(waiter(1.0, b"a"))
    table.waiting.add(waiter(5.0, b"b"))
    table.wake(1.0)
    until = table.waiting.until
    table.ranges.take()
    table.wake(5.0)

    assert until == 5.0
    assert table.take() == ALL
    assert table.waiting.until == math.inf
