"""Pages that bring nothing new are told from pages that are merely alike (P26)."""

from __future__ import annotations

from random import Random
from typing import Any

import attrs
import msgspec
import pytest

from syncd.errors import PagingLoop
from syncd.model import Cursor, Page, Record
from syncd.nodes import Node
from syncd.repeats import REPEATS_MAX, TRAILS_MAX, Repeats, content_of
from syncd.validators import Unchanged


def page(*records: int, parent: int | None = None) -> Page:
    given = {} if parent is None else {"car": parent}
    return Page({"cars": [Record(msgspec.Raw(b"%d" % n), given) for n in records]})


def chain(number: int, kind: Any = "chain") -> Node:
    return Node.of(Cursor(number, kind=kind), depth=number, ordinal=0)


def numbered(number: int) -> Node:
    return Node.of(Cursor(None, number=number), depth=0, ordinal=number)


def walk(repeats: Repeats, contents: list[Page], first: int = 0) -> int:
    """Walk a chain of pages; answer with how many went by before it was seen to loop."""
    for n, each in enumerate(contents, first):
        try:
            repeats.fetched(chain(n), each, (chain(n + 1),))
        except PagingLoop:
            return n - first
    return len(contents)


@pytest.mark.parametrize("circle", [1, 2, 7, 500])
def test_a_chain_that_turns_in_a_circle_is_seen_ten_pages_later(circle: int) -> None:
    looping = [page(n % circle) for n in range(circle + 100)]

    assert walk(Repeats(), looping) == circle + REPEATS_MAX - 1


def test_empty_pages_between_hide_no_circle_and_make_none() -> None:
    between = [each for _ in range(30) for each in (page(1), page())]

    assert walk(Repeats(), between) == 2 * REPEATS_MAX
    assert walk(Repeats(), [page()] * 100) == 100


def test_one_new_page_in_ten_is_no_circle() -> None:
    slow = [page(n if n % REPEATS_MAX == 0 else 0) for n in range(500)]

    assert walk(Repeats(), slow) == 500


def test_two_lists_that_hold_the_same_are_no_circle() -> None:
    """A look-up opens both: each is walked by itself."""
    repeats = Repeats()
    look_up, mine, all_of_them = chain(0), chain(100), chain(300)
    repeats.fetched(look_up, page(0), (mine, all_of_them))
    same = [page(n) for n in range(1, 50)]

    assert walk(repeats, same, first=100) == 49
    assert walk(repeats, same, first=300) == 49


def test_items_that_a_chain_names_do_not_hide_that_it_turns_in_a_circle() -> None:
    repeats = Repeats()
    for n in range(REPEATS_MAX):
        repeats.fetched(chain(n), page(1), (chain(n + 1), chain(1000 + n, "item")))

    with pytest.raises(PagingLoop):
        repeats.fetched(chain(REPEATS_MAX), page(1), ())


def test_what_stands_around_records_makes_them_others() -> None:
    assert content_of(page(1, parent=1)) != content_of(page(1, parent=2))
    assert content_of(page(1, parent=1)) == content_of(page(1, parent=1))
    assert content_of(page(1, 2)) != content_of(page(2, 1))


def test_finished_objects_count_by_their_values() -> None:
    @attrs.define
    class Car:
        id: int
        extra: object = None

    def of(*cars: Any) -> int | None:
        return content_of(Page({"cars": cars}))

    assert of(Car(1)) == of(Car(1)) != of(Car(2))
    assert of(Car(1, 2**80)) != of(Car(1, 2**81)), "what msgspec cannot encode counts, too"


def test_a_page_that_was_not_sent_tells_nothing() -> None:
    unchanged = Unchanged({}, stored={"cars": 3})

    assert content_of(unchanged) is None


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("circle", [1, 4])
def test_numbers_that_bring_the_same_are_seen_in_whatever_order_they_come(
    seed: int, circle: int
) -> None:
    """As many in flight as a quota allows: 16 numbers come in any order."""
    chance, repeats = Random(seed), Repeats()
    asked: list[int] = []
    for start in range(1, 400, 16):
        numbers = list(range(start, start + 16))
        chance.shuffle(numbers)
        asked += numbers

    def answer_all() -> int:
        for count, number in enumerate(asked, 1):
            content = number if number < 50 else 50 + number % circle
            try:
                repeats.fetched(numbered(number), page(content), ())
            except PagingLoop:
                return count
        return 0

    assert 50 < answer_all() <= 50 + circle + REPEATS_MAX + 16


def test_a_number_that_is_asked_again_repeats_nobody() -> None:
    repeats = Repeats()
    for number in [*range(1, 40), *range(1, 40)]:
        repeats.fetched(numbered(number), page(number), ())


def test_chains_that_nobody_walks_are_forgotten() -> None:
    repeats = Repeats()
    for n in range(3 * TRAILS_MAX):
        repeats.fetched(chain(n), page(n), (chain(10**6 + n),))

    assert len(repeats._trails) == TRAILS_MAX
