"""What is asked conditionally, what is kept with a page, and what a 304 stands for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from urllib.parse import urlencode

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.batching import BATCH_ROWS, full
from syncd.errors import Rejected, Unintelligible
from syncd.frontier import Frontier, Numbered
from syncd.model import JSON, Cursor, Feed, Page, Stream
from syncd.nodes import Walked, cursor_key, doubted, known_rows
from syncd.progress import Wanted
from syncd.validators import (
    FIELD_MAX_BYTES,
    OPENS_MAX_BYTES,
    Condition,
    Validator,
    condition_of,
    dumped,
    fingerprint_of,
    kept,
    loaded,
    may_keep,
    request_key,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
DATE = "Thu, 01 Jan 2026 00:00:00 GMT"
STREAM = Stream("s", record=object, key=("id",))
FEED = Feed("f", streams=(STREAM,), quota="q", conditional=True)
LASTING = attrs.evolve(FEED, lasting_cursors=True)
CONDITION = Condition(b"k" * 16, '"1"', None)
WANTED = Wanted("full", "r", {"s": {"row": "a", "version_rule": "sent"}}, "1", 60.0)

# --- Which request --------------------------------------------------------------------------------


def key(address: str, params: list[tuple[str, str]], accept: str = "application/json") -> bytes:
    return request_key(address, urlencode(params), accept=accept)


PARAMETERS = st.lists(st.tuples(st.text(min_size=1), st.text()), unique_by=lambda each: each[0])


@given(PARAMETERS, st.randoms())
def test_a_request_is_the_same_whatever_the_order_of_its_parameters(
    params: list[tuple[str, str]], random: Random
) -> None:
    shuffled = list(params)
    random.shuffle(shuffled)

    assert key("http://x/a", shuffled) == key("http://x/a", params)
    assert len(key("http://x/a", params)) == 16


@given(PARAMETERS, PARAMETERS)
def test_requests_of_other_parameters_are_other_requests(
    one: list[tuple[str, str]], other: list[tuple[str, str]]
) -> None:
    assert (key("http://x/a", one) == key("http://x/a", other)) == (sorted(one) == sorted(other))


def test_address_media_type_and_the_order_of_repeated_parameters_make_another_request() -> None:
    pair = [("a", "1"), ("a", "2")]
    keys = [
        key("http://x/a", pair),
        key("http://x/a", pair[::-1]),
        key("http://x/b", pair),
        key("http://y/a", pair),
        key("http://x/a", pair, accept="text/csv"),
        key("http://x/a", [("a", "1&a=2")]),
        key("http://x/a", []),
    ]

    assert len(set(keys)) == len(keys)


# --- Which validators -----------------------------------------------------------------------------


def told(etag: str | None = None, last_modified: str | None = None, **dates: Any) -> Any:
    dates = {"modified_at": NOW, "date": NOW + timedelta(days=1)} | dates
    return condition_of(b"k" * 16, etag=etag, last_modified=last_modified, **dates)


@pytest.mark.parametrize("etag", ['"a"', 'W/"a"', '""', '"!#~"'])
def test_an_etag_is_sent_back_as_it_came(etag: str) -> None:
    assert told(etag).fields == {"if-none-match": etag}


@pytest.mark.parametrize(
    "etag", ["a", '"a', 'w/"a"', '"a" ', '"a", "b"', '"a\r\nb: c"', '"ä"', f'"{"a" * 1024}"']
)
def test_what_is_no_etag_counts_as_none(etag: str) -> None:
    assert told(etag) is None


def test_both_validators_are_sent_where_both_are_known() -> None:
    assert told('"a"', DATE).fields == {"if-none-match": '"a"', "if-modified-since": DATE}


@pytest.mark.parametrize(
    "dates",
    [
        {"date": None},
        {"date": NOW},  # RFC 9110 8.8.2.2: it may have changed again within that second
        {"date": NOW - timedelta(days=1)},
        {"modified_at": None},
    ],
)
def test_a_date_that_may_stand_for_two_states_counts_as_none(dates: dict[str, Any]) -> None:
    assert told(None, DATE, **dates) is None
    assert told('"a"', DATE, **dates).fields == {"if-none-match": '"a"'}


def test_a_date_that_is_too_long_counts_as_none() -> None:
    assert told(None, " " * (FIELD_MAX_BYTES + 1)) is None


def test_validators_that_a_304_tells_are_newer() -> None:
    before = Condition(b"k" * 16, '"1"', DATE)

    assert before.renewed(None) == before
    assert before.renewed(Condition(b"k" * 16, '"2"', None)) == Condition(b"k" * 16, '"2"', DATE)


def test_validators_are_not_shown() -> None:
    assert "secret" not in repr(Condition(b"k" * 16, '"secret"', None))


# --- Which pages ----------------------------------------------------------------------------------

CHAIN, ITEM, NUMBER = Cursor("c"), Cursor("i", kind="item"), Cursor({}, number=2)
FULL = Page({"s": ["r"]})


@pytest.mark.parametrize(
    ("feed", "cursor", "first", "opens", "keeps"),
    [
        (FEED, NUMBER, False, (), True),
        (FEED, ITEM, False, (), True),
        (FEED, ITEM, False, (ITEM, NUMBER), True),
        (FEED, ITEM, False, (ITEM, CHAIN), False),
        (FEED, CHAIN, False, (), False),
        (FEED, CHAIN, True, (ITEM,), True),
        (FEED, CHAIN, True, (CHAIN,), False),
        (LASTING, CHAIN, False, (CHAIN, ITEM), True),
    ],
)
def test_a_validator_is_kept_where_cursors_mean_the_same_in_the_next_pass(
    feed: Feed, cursor: Cursor, first: bool, opens: tuple[Cursor, ...], keeps: bool
) -> None:
    page = attrs.evolve(FULL, opens=opens)

    assert (kept(feed, cursor, page, first=first, condition=CONDITION) is not None) == keeps


@pytest.mark.parametrize(
    ("page", "condition"),
    [
        (FULL, None),
        (Page({"s": []}), CONDITION),  # an empty page number may be a false one
        (attrs.evolve(FULL, total=-1), CONDITION),
        (attrs.evolve(FULL, total=2**63), CONDITION),
        (attrs.evolve(FULL, opens=(Cursor("x" * OPENS_MAX_BYTES, kind="item"),)), CONDITION),
    ],
)
def test_what_cannot_be_vouched_for_is_not_kept(page: Page, condition: Condition | None) -> None:
    assert kept(FEED, NUMBER, page, first=False, condition=condition) is None
    assert kept(FEED, NUMBER, FULL, first=False, condition=CONDITION) is not None


def test_only_full_passes_of_feeds_that_say_so_keep_validators() -> None:
    plain = attrs.evolve(FEED, conditional=False)
    appending = attrs.evolve(FEED, streams=(STREAM, Stream("log", record=object, mode="append")))

    assert may_keep(FEED, "full")
    assert not may_keep(FEED, "incremental")
    assert not may_keep(FEED, "backfill")
    assert not may_keep(plain, "full")
    assert not may_keep(appending, "full")


def test_a_validator_holds_good_as_long_as_rows_requests_and_tables_are_what_they_were() -> None:
    other_rows = {"s": {"row": "b", "version_rule": "sent"}}
    prints = {
        fingerprint_of(WANTED, {"s": 1}, settings="a"),
        fingerprint_of(attrs.evolve(WANTED, row_fingerprints=other_rows), {"s": 1}, settings="a"),
        fingerprint_of(attrs.evolve(WANTED, request_fingerprint="b"), {"s": 1}, settings="a"),
        fingerprint_of(attrs.evolve(WANTED, connector_version="2"), {"s": 1}, settings="a"),
        fingerprint_of(WANTED, {"s": 1}, settings="b"),
        fingerprint_of(WANTED, {"s": 2}, settings="a"),
        fingerprint_of(WANTED, {"s": None}, settings="a"),
    }

    assert len(prints) == 7
    assert fingerprint_of(attrs.evolve(WANTED, mode="backfill"), {"s": 1}, settings="a") in prints


VALUES: st.SearchStrategy[JSON] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
CURSORS = st.builds(
    Cursor,
    VALUES,
    number=st.none() | st.integers(1, 10**6),
    kind=st.sampled_from(["chain", "item"]),
    version=st.none() | st.integers(-(2**63), 2**63 - 1),
)


@given(st.lists(CURSORS).map(tuple))
def test_cursors_are_made_again_as_they_were(cursors: tuple[Cursor, ...]) -> None:
    again = loaded(dumped(cursors))

    assert again == cursors
    assert [cursor_key(each) for each in again] == [cursor_key(each) for each in cursors]


# --- What a 304 stands for ------------------------------------------------------------------------


def unchanged(page: Page, cursor: Cursor = NUMBER) -> Page:
    validator = Validator(
        CONDITION, page.opens, page.end, page.date is not None, page.total, page.counts
    )
    return validator.page(NOW)


@given(
    counts=st.dictionaries(st.sampled_from("abc"), st.integers(0, 3)),
    end=st.booleans(),
    total=st.none() | st.integers(0, 100),
    opens=st.lists(CURSORS, max_size=3).map(tuple),
    date=st.sampled_from([None, NOW]),
)
def test_a_304_says_what_the_page_said(
    counts: dict[str, int],
    end: bool,
    total: int | None,
    opens: tuple[Cursor, ...],
    date: datetime | None,
) -> None:
    sent = Page({name: ["r"] * n for name, n in counts.items()}, opens, end, date, total)
    same = unchanged(sent)

    assert same.records == {}
    for name in ("counts", "empty", "opens", "end", "total", "date"):
        assert getattr(same, name) == getattr(sent, name)
    assert [same.total_records(name) for name in "abc"] == [sent.total_records(n) for n in "abc"]


@attrs.define
class Two:
    """The same walk twice: by pages that are sent, and with 304s among them."""

    ahead: int
    walks: list[Frontier] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.walks = [self._frontier(), self._frontier()]

    def _frontier(self) -> Frontier:
        numbered = Numbered(Cursor({}, number=1), 0, 1, self.ahead)
        return Frontier([numbered.node(1)], more=False, numbered=numbered)

    def answer(self, number: int, page: Page, *, same: bool) -> list[Any]:
        """Return what each of them makes of an answer."""
        return [
            self._told(walk, number, said)
            for walk, said in zip(
                self.walks, (page, unchanged(page) if same else page), strict=True
            )
        ]

    def _told(self, walk: Frontier, number: int, page: Page) -> Any:
        assert walk.numbered is not None
        node = walk.numbered.node(number)
        try:
            walk.fetched(node, page, ())
        except Unintelligible as error:
            walk.failed(node)
            return str(error)
        walked = Walked(node, page, NOW, ())
        batch, held = walk.admit([walked])
        openings = walk.openings(batch)
        walk.committed(batch, openings, [each.key for each in openings])
        return len(batch), len(held), openings, walk.ends_at, walk.numbered.high


@given(st.integers(2, 6), st.integers(1, 9), st.booleans(), st.data())
def test_numbered_pages_are_walked_alike_whether_they_are_sent_or_not(
    ahead: int, last: int, marks_its_end: bool, data: st.DataObject
) -> None:
    two = Two(ahead)
    in_flight: list[int] = []
    for _ in range(40):
        taken = [walk.take() for walk in two.walks]
        assert taken[0] == taken[1]
        if taken[0] is not None and taken[0].cursor.number is not None:
            in_flight.append(taken[0].cursor.number)
            if data.draw(st.booleans()):
                continue
        if not in_flight:
            break
        number = in_flight.pop(data.draw(st.integers(0, len(in_flight) - 1)))
        records = ["r"] if number <= last and data.draw(st.integers(0, 9)) else []
        page = Page({"s": records}, end=marks_its_end and number == last)
        first, second = two.answer(number, page, same=data.draw(st.booleans()))
        assert first == second


def node_of(number: int) -> Any:
    return Numbered(Cursor({}, number=1), 0, 1, 2).node(number)


def walked(number: int, *, same: bool, records: int = 3) -> Walked:
    page = Page({"s": ["r"] * records, "other": ["r"]})
    return Walked(node_of(number), unchanged(page) if same else page, NOW, ())


def test_pages_that_were_not_sent_fill_no_batch() -> None:
    assert full([walked(1, same=False, records=BATCH_ROWS)])
    assert not full([walked(1, same=True, records=BATCH_ROWS)])


def test_records_that_were_not_sent_count_as_unchanged_where_they_are_wanted() -> None:
    batch = [walked(1, same=True), walked(2, same=False), walked(3, same=True)]

    assert known_rows(batch, {"s"}) == 6
    assert [page.records for page in batch] == [4, 4, 4]


def test_a_page_is_doubted_for_a_record_set_aside_and_a_batch_for_a_stale_row() -> None:
    batch = [walked(1, same=False), walked(2, same=False), walked(3, same=True)]
    keys = [page.node.key for page in batch]

    def aside(cursor: str | None) -> list[Rejected]:
        return [Rejected("s", "decode", "no", None, None, cursor=cursor)]

    assert doubted(batch, [], stale=0) == set()
    assert doubted(batch, aside("page 2"), stale=0) == {keys[1]}
    assert doubted(batch, aside(None), stale=0) == set(keys[:2])
    assert doubted(batch, [], stale=1) == set(keys[:2])
