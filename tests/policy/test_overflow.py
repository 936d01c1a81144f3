"""How much of a page may be set aside before it is no page of bad records, but another API."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from syncd.errors import Rejected
from syncd.model import Cursor, Page
from syncd.nodes import Node, Walked
from syncd.overflow import PagesOverflow, allowance, refuse_overflow

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def page(number: int, **records: int) -> Walked:
    node = Node.of(Cursor({}, number=number), depth=0, ordinal=number)
    return Walked(node, Page({name: [None] * n for name, n in records.items()}), NOW, ())


def aside(number: int, count: int, stream: str = "cars") -> list[Rejected]:
    one = Rejected(stream, "decode", "said", b"{}", None, cursor=f"page {number}")
    return [one] * count


@pytest.mark.parametrize(
    ("total", "most"),
    [(1, 20), (20, 20), (400, 20), (419, 20), (420, 21), (1000, 50), (100_000, 5000)],
)
def test_more_than_twenty_and_more_than_one_in_twenty_are_too_many(total: int, most: int) -> None:
    batch = [page(1, cars=total)]

    assert allowance(total) == most
    refuse_overflow("cars.cars", batch, aside(1, most), rows={})
    with pytest.raises(PagesOverflow):
        refuse_overflow("cars.cars", batch, aside(1, most + 1), rows={})


def test_only_the_pages_that_are_over_are_refused_each_with_its_first_reason() -> None:
    batch = [page(1, cars=25), page(2, cars=25), page(3, cars=25)]
    rejected = aside(1, 20) + aside(2, 25) + aside(3, 1)

    with pytest.raises(PagesOverflow) as caught:
        refuse_overflow("cars.cars", batch, rejected, rows={})

    ((key, error),) = caught.value.pages.items()
    assert key == batch[1].node.key
    assert str(error) == (
        "cars.cars page 2: 25 of 25 records of cars would be set aside, the first one because "
        "(decode) said; see whether the API has changed; nothing of this page is written"
    )


def test_a_small_stream_does_not_hide_behind_a_large_one() -> None:
    batch = [page(1, cars=10_000, lots=30)]

    with pytest.raises(PagesOverflow):
        refuse_overflow("cars.cars", batch, aside(1, 30, "lots"), rows={})


def test_rows_of_a_record_that_is_split_count_against_all_rows() -> None:
    batch = [page(1, cars=100)]

    refuse_overflow("cars.cars", batch, aside(1, 30), rows={"cars": ["page 1"] * 3000})


def test_what_names_no_page_refuses_none() -> None:
    nameless = [Rejected("cars", "key", "said", None, None)] * 30

    refuse_overflow("cars.cars", [page(1, cars=30)], nameless, rows={})


def test_cursors_that_only_begin_alike_are_two_pages() -> None:
    one, two = (Node.of(Cursor("x" * 300 + end), depth=0, ordinal=0) for end in "ab")

    assert str(one) != str(two)
    assert len(str(one)) < 250
