"""Laws of the cars API's requests and pages: pure, no upstream needed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd import CursorExpired, Page, Response, Unintelligible
from syncd.asking import FETCH_TIMEOUT_SECONDS
from syncd_cars import api
from syncd_cars.inventory import Inventory
from syncd_cars.records import CarRecord, LotRecord
from syncd_cars.simulator_pages import Question, page_of, rows_for, understand

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
LONGEST_WINDOW_MINUTES = 4320  # 72 hours, as users of the API report

ages = st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=10))
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


def response(body: bytes) -> Response:
    return Response(200, {}, body, sent_at=NOON, date=NOON, url="http://upstream.example/cars")


def page(body: Any) -> Page:
    return api.cars_page(response(msgspec.json.encode(body)))


def params(**changed: Any) -> dict[str, str | int]:
    asked: dict[str, Any] = {
        "number": 1,
        "per_page": 1000,
        "since": None,
        "now": NOON,
        "filters": {},
        "totals": False,
    }
    return api.cars_params(**(asked | changed))


def raws(found: Page, stream: str) -> list[Any]:
    return [msgspec.json.decode(record.raw) for record in found.records[stream]]


def without_lots(cars: Sequence[Any]) -> list[Any]:
    """Return cars as they are handed over: their lots are records of their own."""
    return [
        {**car, "lots": None} if isinstance(car, dict) and "lots" in car else car for car in cars
    ]


# the window


@pytest.mark.parametrize(
    ("age", "minutes"),
    [
        (timedelta(0), 15),
        (timedelta(microseconds=1), 16),
        (timedelta(minutes=1), 16),
        (timedelta(minutes=60), 75),
        (timedelta(minutes=60, microseconds=1), 76),
        (timedelta(minutes=4305), 4320),
    ],
)
def test_minutes_are_the_age_rounded_up_and_a_quarter_of_an_hour(
    age: timedelta, minutes: int
) -> None:
    assert params(since=NOON - age)["minutes"] == minutes


@given(age=ages, waited=st.timedeltas(min_value=timedelta(0), max_value=timedelta(hours=12)))
def test_the_window_covers_its_start_however_late_a_page_is_asked_for(
    age: timedelta, waited: timedelta
) -> None:
    since, sent_at = NOON - age, NOON + waited
    try:
        minutes = int(params(since=since, now=sent_at)["minutes"])
    except CursorExpired:
        assert age + waited > timedelta(minutes=LONGEST_WINDOW_MINUTES - 15)
        return

    assert minutes <= LONGEST_WINDOW_MINUTES
    begins_at = sent_at - timedelta(minutes=minutes)
    assert since - timedelta(minutes=16) < begins_at <= since - timedelta(minutes=15)


@given(age=ages)
def test_a_window_is_asked_for_exactly_where_the_api_reaches_back_to_it(age: timedelta) -> None:
    since = NOON - age
    if api.reaches_back(since, NOON):
        assert params(since=since)["minutes"] <= LONGEST_WINDOW_MINUTES  # type: ignore[operator]
        return

    with pytest.raises(CursorExpired):
        params(since=since)


def test_a_window_that_moved_out_of_reach_says_where_and_what_and_what_follows() -> None:
    with pytest.raises(CursorExpired) as caught:
        params(since=NOON - timedelta(minutes=4305, microseconds=1))

    assert str(caught.value) == (
        "GET /cars: the window since 2026-11-19T12:14:59.999999+00:00 is 4321 minutes long, at "
        "most 4320 are kept; a full pass follows"
    )


@given(st.datetimes(timezones=st.sampled_from([UTC])))
def test_the_start_of_a_window_survives_in_a_cursor(since: datetime) -> None:
    stored = msgspec.json.decode(msgspec.json.encode({"since": since.isoformat()}))

    assert api.since_of(stored) == since


@pytest.mark.parametrize("value", [{}, {"since": None}, {"since": ""}, None, [], "since"])
def test_a_cursor_without_a_start_asks_for_everything(value: Any) -> None:
    assert api.since_of(value) is None


# parameters


def test_a_full_page_asks_for_nothing_but_its_number_and_size() -> None:
    assert params(number=7, per_page=50) == {"page": 7, "per_page": 50}


def test_brands_go_as_a_comma_list_and_totals_as_the_api_spells_them() -> None:
    assert params(filters={"manufacturer_ids": [11, 12]}, totals=True) == {
        "page": 1,
        "per_page": 1000,
        "manufacturer_id": "11,12",
        "simple_paginate": 0,
    }


@pytest.mark.parametrize("filters", [{}, {"manufacturer_ids": []}])
def test_no_brands_are_no_filter(filters: dict[str, Any]) -> None:
    assert "manufacturer_id" not in params(filters=filters)


# pages


def test_cars_and_lots_are_the_bytes_that_came_and_each_lot_knows_its_car() -> None:
    first = b'{"lots":[{"lot":"a", "x" : 1.50},{"lot":2}],"id":7}'
    second = b'{"id":8,"lots":[]}'
    third = b'{"id":9,"lots": []}'
    body = b'{"data":[%s, %s, %s],"links":{"next":null}}' % (first, second, third)

    found = api.cars_page(response(body))

    cars = found.records["cars"]
    assert [bytes(record.raw) for record in cars] == [
        b'{"lots":null,"id":7}',
        b'{"id":8,"lots":null}',
        b'{"id":9,"lots": []}',  # blanks are left alone
    ]
    assert [record.key for record in cars] == [(7,), (8,), (9,)]
    lots = found.records["lots"]
    assert [bytes(record.raw) for record in lots] == [b'{"lot":"a", "x" : 1.50}', b'{"lot":2}']
    assert [record.parent for record in lots] == [{"car_id": 7}, {"car_id": 7}]


@pytest.mark.parametrize("car", [{"id": 7}, {"id": 7, "lots": None}, {"id": 7, "lots": []}])
def test_a_car_may_have_no_lots(car: dict[str, Any]) -> None:
    found = page({"data": [car], "links": {"next": None}})

    assert (len(found.records["cars"]), len(found.records["lots"])) == (1, 0)


@pytest.mark.parametrize("lots", [{"0": {"lot": 1}}, "none", 5, {}])
def test_lots_in_another_shape_are_handed_over_whole_and_never_dropped(lots: Any) -> None:
    found = page({"data": [{"id": 7, "lots": lots}], "links": {"next": None}})

    assert raws(found, "cars") == [{"id": 7, "lots": None}]
    assert raws(found, "lots") == [lots]


@pytest.mark.parametrize("car", [{"lots": [{}]}, {"id": "7"}, {"id": None}, [], 5, "car", None])
def test_a_car_that_cannot_be_read_is_handed_over_and_the_others_with_it(car: Any) -> None:
    found = page({"data": [car, {"id": 8, "lots": [{"lot": 1}]}], "links": {"next": None}})

    assert raws(found, "cars") == [car, {"id": 8, "lots": None}]
    assert raws(found, "lots") == [{"lot": 1}]


def test_the_end_is_the_missing_next_link_and_not_the_number_of_records() -> None:
    some, none = [{"id": 1}], list[Any]()

    assert page({"data": some, "links": {"next": None}}).end
    assert page({"data": none, "links": {"next": None}}).end
    assert not page({"data": some, "links": {"next": "http://upstream.example/?page=2"}}).end
    assert not page({"data": none, "links": {"next": "http://upstream.example/?page=2"}}).end


def test_an_empty_page_is_empty_and_a_page_of_unreadable_cars_is_not() -> None:
    assert page({"data": [], "links": {"next": None}}).empty
    assert not page({"data": [None], "links": {"next": None}}).empty


@pytest.mark.parametrize(
    ("meta", "total"),
    [({"total": 190_000}, 190_000), ({"total": None}, None), ({}, None), (None, None)],
)
def test_the_total_is_known_only_where_it_is_told(meta: Any, total: int | None) -> None:
    assert page({"data": [{"id": 1}], "links": {"next": None}, "meta": meta}).total == total


def test_a_page_carries_the_upstreams_clock() -> None:
    assert page({"data": [], "links": {"next": None}}).date == NOON


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b'{"data":[]}',
        b'{"data":[],"links":null}',
        b'{"data":{},"links":{"next":null}}',
        b'{"links":{"next":null}}',
        b'{"data":[],"links":{"next":5}}',
        b'{"data":[{"id":1}],,"links":{"next":null}}',
        b'{"message":"Too Many Attempts."}',
        b'{"data":' + b"[" * 100_000 + b"]" * 100_000 + b',"links":{"next":null}}',
        b'\xff{"data":[],"links":{"next":null}}',
    ],
)
def test_a_body_that_is_no_page_is_never_taken_for_an_empty_one(body: bytes) -> None:
    with pytest.raises(Unintelligible, match=r"^GET /cars: .+; compare with the API"):
        api.cars_page(response(body))


@given(
    body=st.binary(max_size=60)
    | json_values.map(msgspec.json.encode)
    | st.builds(
        lambda data, links: msgspec.json.encode({"data": data, "links": links}),
        st.lists(
            json_values
            | st.fixed_dictionaries({"id": st.integers(0, 9) | json_values, "lots": json_values}),
            max_size=3,
        ),
        st.fixed_dictionaries({"next": st.none() | st.text(max_size=3)}) | json_values,
    )
)
def test_any_body_is_a_page_with_all_of_its_cars_or_is_refused(body: bytes) -> None:
    try:
        found = api.cars_page(response(body))
    except Unintelligible:
        return

    assert without_lots(raws(found, "cars")) == without_lots(msgspec.json.decode(body)["data"])


def test_a_page_of_the_stand_in_is_read_whole_and_every_record_decodes() -> None:
    question = understand("/cars", "page=2&per_page=40&simple_paginate=0")
    assert isinstance(question, Question)
    inventory = Inventory(100, seed=3)
    rows = rows_for(question, inventory)
    body = page_of(question, rows, public_url="", next_keeps_query=False)

    found = api.cars_page(response(body))

    truth = list(inventory.cars())[40:80]
    assert raws(found, "cars") == without_lots(truth)
    assert raws(found, "lots") == [lot for car in truth for lot in car["lots"]]
    assert (found.total, found.end) == (100, False)
    for record in found.records["cars"]:
        msgspec.json.decode(record.raw, type=CarRecord)
    for record in found.records["lots"]:
        msgspec.json.decode(record.raw, type=LotRecord)


def test_manufacturers_are_read_like_cars_without_lots() -> None:
    body = b'{"data":[{"id":11,"name":"Audi"}],"links":{"next":null},"meta":{"total":1}}'

    found = api.manufacturers_page(response(body))

    assert raws(found, "manufacturers") == [{"id": 11, "name": "Audi"}]
    assert (found.end, found.total, set(found.records)) == (True, 1, {"manufacturers"})
    with pytest.raises(Unintelligible, match=r"^GET /manufacturers/cars: "):
        api.manufacturers_page(response(b"[]"))


def test_the_window_is_never_shorter_than_the_wait_for_a_page() -> None:
    """`minutes` is reckoned before a fetch waits for the limit; a fetch may take 15 minutes."""
    assert math.ceil(FETCH_TIMEOUT_SECONDS / 60) <= api.MARGIN_MINUTES
