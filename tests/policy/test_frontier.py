"""The frontier's decisions, by themselves."""

from __future__ import annotations

from datetime import UTC, datetime
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.errors import PagingLoop, Unintelligible
from syncd.frontier import IN_MEMORY_MAX, Frontier, Numbered
from syncd.model import JSON, Cursor, Page
from syncd.nodes import DEPTH_MAX, Node, Walked, children, cursor_key, roots

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def chain(value: object) -> Node:
    return Node.of(Cursor({"at": value}), depth=0, ordinal=0)  # type: ignore[dict-item]


def walked(node: Node, *opens: Node, records: int = 1) -> Walked:
    page = Page({"s": ["r"] * records}, opens=tuple(each.cursor for each in opens))
    return Walked(node, page, NOW, tuple(opens))


def numbered(*, high: int = 0, opened: int = 1, ahead: int = 4) -> Numbered:
    return Numbered(Cursor({}, number=1), high, opened, ahead)


@given(st.dictionaries(st.text(), st.integers() | st.text() | st.none()), st.randoms())
def test_a_cursor_is_the_same_whatever_the_order_of_its_keys(
    value: dict[str, JSON], random: Random
) -> None:
    items = list(value.items())
    random.shuffle(items)

    assert cursor_key(Cursor(dict(items))) == cursor_key(Cursor(value))


def test_page_numbers_and_values_make_different_cursors() -> None:
    cursors = [Cursor({}), Cursor({}, number=1), Cursor({}, number=2), Cursor({"a": 1}, number=1)]

    assert len({cursor_key(each) for each in cursors}) == 4


def test_the_deepest_cursor_goes_first_then_the_order_of_opening() -> None:
    nodes = [
        Node.of(Cursor("a"), depth=0, ordinal=0),
        Node.of(Cursor("b"), depth=2, ordinal=1),
        Node.of(Cursor("c"), depth=2, ordinal=0),
    ]
    frontier = Frontier(nodes, more=False, numbered=None)

    taken = [frontier.take() for _ in range(4)]

    assert [node and node.cursor.value for node in taken] == ["c", "b", "a", None]


def test_a_page_waits_until_its_opener_is_committed_or_in_the_same_batch() -> None:
    first, second, third = chain(1), chain(2), chain(3)
    frontier = Frontier([first], more=False, numbered=None)
    assert frontier.take() == first
    frontier.fetched(first, Page({}), (second,))
    assert frontier.take() == second
    frontier.fetched(second, Page({}), (third,))

    alone, held = frontier.admit([walked(second, third)])
    together, none_held = frontier.admit([walked(second, third), walked(first, second)])

    assert (alone, len(held)) == ([], 1)
    assert ({page.node.key for page in together}, none_held) == ({first.key, second.key}, [])


def test_a_cursor_named_again_in_a_run_is_not_fetched_again() -> None:
    first, second = chain(1), chain(2)
    frontier = Frontier([first], more=False, numbered=None)
    frontier.take()
    page = walked(first, second, first)
    frontier.fetched(first, page.page, page.opens)
    openings = frontier.openings([page])
    frontier.committed([page], openings, [second.key])

    assert frontier.take() == second
    frontier.fetched(second, Page({}), (first,))
    assert frontier.take() is None


def test_a_page_committed_together_with_its_opener_is_not_fetched_again() -> None:
    first, second = chain(1), chain(2)
    frontier = Frontier([first], more=False, numbered=None)
    frontier.take()
    frontier.fetched(first, Page({}), (second,))
    frontier.take()
    frontier.fetched(second, Page({}), ())
    batch = [walked(first, second), walked(second)]

    frontier.committed(batch, frontier.openings(batch), [second.key])

    assert frontier.take() is None
    assert frontier.exhausted


def test_what_is_beyond_memory_is_left_to_the_table() -> None:
    first = chain("first")
    opens = tuple(chain(number) for number in range(IN_MEMORY_MAX + 50))
    frontier = Frontier([first], more=False, numbered=None)
    frontier.take()
    page = walked(first, *opens)
    frontier.fetched(first, page.page, opens)
    frontier.committed([page], frontier.openings([page]), [node.key for node in opens])

    assert len(frontier) <= IN_MEMORY_MAX
    assert frontier.more


def test_numbered_pages_are_fetched_ahead_of_commits_up_to_the_window() -> None:
    frontier = Frontier(numbered_nodes(1), more=False, numbered=numbered(ahead=3))

    taken = [frontier.take() for _ in range(4)]

    assert [node and node.cursor.number for node in taken] == [1, 2, 3, None]
    frontier.fetched(numbered().node(1), Page({"s": ["r"]}), ())
    following = frontier.take()
    assert following is not None
    assert following.cursor.number == 4


def numbered_nodes(*numbers: int) -> list[Node]:
    return [numbered().node(number) for number in numbers]


def test_an_empty_page_below_one_with_records_is_not_understood() -> None:
    frontier = Frontier(numbered_nodes(1), more=False, numbered=numbered())
    for _ in range(3):
        frontier.take()
    frontier.fetched(numbered().node(3), Page({"s": ["r"]}), ())

    with pytest.raises(Unintelligible, match="page 2: no records, though page 3 holds some"):
        frontier.fetched(numbered().node(2), Page({"s": []}), ())


def test_an_end_marker_on_an_empty_page_is_not_believed() -> None:
    frontier = Frontier(numbered_nodes(1), more=False, numbered=numbered())
    for _ in range(3):
        frontier.take()

    frontier.fetched(numbered().node(2), Page({"s": []}, end=True), ())

    assert frontier.ends_at is None
    assert frontier.take() is not None


def test_the_end_marker_drops_the_pages_above_it() -> None:
    frontier = Frontier(numbered_nodes(1), more=False, numbered=numbered(ahead=5))
    for _ in range(5):
        frontier.take()
    frontier.fetched(numbered().node(2), Page({"s": ["r"]}, end=True), ())

    late = Walked(numbered().node(4), Page({"s": []}), NOW, ())
    batch, held = frontier.admit([late])

    assert (batch, held, frontier.ends_at) == ([], [], 2)
    assert frontier.take() is None


@given(st.integers(2, 12), st.permutations(range(1, 13)))
def test_openings_leave_no_gap_whatever_the_order_of_answers(ahead: int, order: list[int]) -> None:
    """Whatever is committed in whatever order, pages 1..high + ahead stand open or are closed."""
    frontier = Frontier(numbered_nodes(1), more=False, numbered=numbered(ahead=ahead))
    opened = {1}
    for number in order:
        page = Walked(numbered().node(number), Page({"s": ["r"]}), NOW, ())
        openings = frontier.openings([page])
        opened |= {node.cursor.number for node in openings if node.cursor.number}
        frontier.committed([page], openings, [node.key for node in openings])

    assert opened == set(range(1, 12 + ahead + 1))


def test_a_feed_that_always_names_a_next_page_is_a_paging_loop() -> None:
    deep = Node.of(Cursor(1), depth=DEPTH_MAX, ordinal=0)

    with pytest.raises(PagingLoop):
        children(deep, Page({}, opens=(Cursor(2),)), "here")
    assert children(deep, Page({}), "here") == ()


def test_roots_of_a_numbered_feed_stand_at_their_number() -> None:
    """The second one stands beside the first: a false empty page 1 opens nothing."""
    nodes = roots([Cursor({}, number=1)])

    assert [(node.cursor.number, node.ordinal, node.depth) for node in nodes] == [
        (1, 1, 0),
        (2, 2, 0),
    ]


def test_a_page_that_was_fetched_twice_stands_in_a_batch_once() -> None:
    """Its close would touch one row for two pages, each time anew."""
    first = chain(1)
    frontier = Frontier([first], more=False, numbered=None)
    frontier.take()
    again = walked(first, records=2)

    assert frontier.admit([walked(first), again]) == ([again], [])


def test_cursors_whose_openers_are_gone_are_left_to_the_table() -> None:
    first, second = chain(1), chain(2)
    frontier = Frontier([first], more=False, numbered=None)
    frontier.take()
    frontier.fetched(first, Page({}), (second,))
    frontier.take()
    frontier.reconciled([first.key], [])  # somebody else has closed the opener meanwhile
    frontier.unread.take()

    assert frontier.orphaned
    frontier.forget_orphans()
    assert frontier.admit([walked(second)]) == ([], [])
    assert frontier.more
