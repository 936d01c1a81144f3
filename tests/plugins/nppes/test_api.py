"""Laws of the registry's requests and pages."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from syncd import Cursor, Response, Throttled, Unavailable, Unintelligible
from syncd_nppes import api
from syncd_nppes.searches import Search, placed, searches_of, slices_of

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
RECORDED = Path(__file__).parent / "recorded"
SEARCH = {"taxonomy_description": "Internal Medicine", "state": "TX"}
HTML = b"<html>The registry is being maintained.</html>"


def answered(body: bytes, status: int = 200, **headers: str) -> Response:
    fields = {"content-type": "application/json"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    return Response(status, fields, body, NOON, NOON, "https://registry.example/api/")


def rows(count: int, **fields: Any) -> list[msgspec.Raw]:
    place = {"state": "TX", "postal_code": "78701"}
    row = {"number": "1234567893", "enumeration_type": "NPI-1", "addresses": [place]} | fields
    return [msgspec.Raw(msgspec.json.encode(row))] * count


def opens(count: int, ask: api.Ask, rest: api.Rest = "seen", **fields: Any) -> list[api.Ask]:
    found = api.openings(rows(count, **fields), ask, SEARCH, limit=200, rest=rest)
    return [api.Ask.of(cursor.value) for cursor in found]


# requests


def test_a_request_names_version_limit_and_what_is_searched_for() -> None:
    first = api.params(SEARCH, limit=200, skip=0)

    assert first == {"version": "2.1", "limit": 200, **SEARCH}
    assert api.params(SEARCH, limit=200, skip=400) == {**first, "skip": 400}


def test_a_search_that_was_walked_before_is_asked_for_as_many_pages_as_it_had() -> None:
    def skips(expected: int | None) -> list[int]:
        cursors = api.first_cursors(limit=200, ahead=3, expected=expected)
        assert [cursor.kind for cursor in cursors] == ["chain"] + ["item"] * (len(cursors) - 1)
        return [api.Ask.of(cursor.value).skip for cursor in cursors]

    assert skips(None) == [0, 200, 400]
    assert skips(0) == skips(30) == skips(200) == [0]
    assert skips(201) == [0, 200]
    assert skips(1199) == skips(50_000) == [0, 200, 400, 600, 800, 1000]


@pytest.mark.parametrize(("limit", "last"), [(200, 1000), (150, 900), (7, 994), (1, 1000)])
def test_no_page_begins_beyond_what_is_handed_out(limit: int, last: int) -> None:
    assert api.last_skip(limit) == last
    cursors = api.first_cursors(limit=limit, ahead=3, expected=10**6)
    assert api.Ask.of(cursors[-1].value).skip == last


def test_a_cursor_holds_what_differs_from_the_first_page_and_comes_back_whole() -> None:
    assert api.Ask().cursor() == Cursor({}, kind="item")
    ask = api.Ask({"postal_code": "78*"}, 400, by_names=True, kind="rest")
    assert api.Ask.of(ask.cursor().value) == ask


# pages


def test_a_full_page_opens_the_next_ones_and_a_short_one_opens_none() -> None:
    assert opens(200, api.Ask()) == [api.Ask(skip=200)]
    assert [each.skip for each in opens(200, api.Ask(ahead=3))] == [200, 400, 600]
    assert [each.skip for each in opens(200, api.Ask(skip=800, ahead=3))] == [1000]
    assert opens(199, api.Ask(ahead=3)) == opens(0, api.Ask()) == []
    assert opens(199, api.Ask(skip=1000)) == []


def test_a_full_last_page_opens_the_parts_of_its_search() -> None:
    split = opens(200, api.Ask(skip=1000, ahead=3))

    assert split == [api.Ask({"postal_code": f"{two}*"}) for two in (73, 75, 76, 77, 78, 79, 88)]
    leaf = {"postal_code": "78701", "enumeration_type": "NPI-1", "last_name": "smithson"}
    assert opens(200, api.Ask(leaf, skip=1000)) == [api.Ask(leaf, kind="too many")] * 2


def test_whom_no_part_finds_opens_the_rest() -> None:
    strange = [{"state": "TX", "postal_code": "T2P"}]
    at_end = api.Ask(skip=1000)

    assert opens(200, api.Ask(), addresses=strange) == [api.Ask(skip=200), api.Ask(kind="rest")]
    assert opens(200, api.Ask(), "never", addresses=strange) == [api.Ask(skip=200)]
    by_type = [api.Ask({"enumeration_type": kind}, by_names=True) for kind in ("NPI-1", "NPI-2")]
    assert opens(200, api.Ask(kind="rest")) == by_type
    assert opens(199, api.Ask(kind="rest")) == []
    assert opens(200, at_end, addresses=strange)[-2:] == by_type
    assert opens(200, at_end, "always")[-2:] == by_type
    assert len(opens(200, api.Ask({"postal_code": "78*"}, 1000), "always")) == 10


def test_a_row_that_cannot_be_read_opens_the_rest_and_is_handed_over() -> None:
    broken = [msgspec.Raw(b'{"number":[1]}')] * 200
    page = api.page_of(broken, api.Ask(), SEARCH, limit=200, rest="seen", response=answered(b"{}"))

    assert len(page.records["providers"]) == 200
    assert [api.Ask.of(cursor.value).kind for cursor in page.opens] == ["page", "rest"]
    assert page.date == NOON


# answers


def test_rows_come_as_they_are_and_their_count_is_not_believed() -> None:
    body = (RECORDED / "person.json").read_bytes().replace(b'"result_count":1', b'"result_count":7')

    (row,) = api.rows_of(answered(body), SEARCH)
    assert b'"1063837144"' in bytes(row)


def test_what_the_registry_refuses_names_the_search_and_the_reason() -> None:
    refused = answered((RECORDED / "refused.json").read_bytes())

    with pytest.raises(Unintelligible) as caught:
        api.rows_of(refused, SEARCH)
    assert "search Internal Medicine, TX: the registry refuses it: 07 Field state" in str(
        caught.value
    )


@pytest.mark.parametrize("body", [b"{}", b'{"result_count":0}', b"[]", b'{"results":{}}', b"x"])
def test_what_lacks_results_is_no_empty_page(body: bytes) -> None:
    with pytest.raises(Unintelligible, match="Internal Medicine"):
        api.rows_of(answered(body), SEARCH)


def test_a_maintenance_page_is_no_answer_whatever_its_status_or_type_say() -> None:
    xml = answered(b"<?xml?>", content_type="text/xml")

    for response in (answered(HTML, content_type="text/html"), xml, answered(b" \n" + HTML)):
        assert isinstance(api.judge(response), Unavailable)
    assert api.judge(answered(b'{"results":[]}')) is None
    assert api.judge(answered(HTML, 503)) is None  # the status says it


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 60.0),
        ({"retry_after": "7"}, 7.0),
        ({"retry_after": "999999"}, 3600.0),
        ({"retry_after": "Sun, 22 Nov 2026 12:00:30 GMT"}, 30.0),
        ({"retry_after": "soon"}, 60.0),
    ],
)
def test_who_is_kept_out_waits_since_there_is_no_credential(
    headers: dict[str, str], seconds: float
) -> None:
    error = api.judge(answered(HTML, 403, **headers))

    assert isinstance(error, Throttled)
    assert error.retry_after_seconds == seconds


# searches


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"state": "TX"}, "wanted a specialty"),
        ({"enumeration_type": "NPI-1"}, "wanted a specialty"),
        ({"specialty": "*"}, "after two characters"),
        ({"city": "A*"}, "after two characters"),
        ({"city": "A*N"}, "after two characters"),
        ({"postal_code": "7*"}, "postal code"),
        ({"postal_code": "787"}, "postal code"),
        ({"city": "AUSTIN", "state": "TEX"}, "two letters"),
    ],
)
def test_what_the_registry_would_refuse_is_refused_before(
    fields: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        Search(**fields)


def test_specialties_are_searched_for_in_places_and_each_search_stands_once() -> None:
    listed = (placed("Pediatrics", "Austin, tx"), Search("Pediatrics", postal_code="787*"))
    found = searches_of(listed, ("Pediatrics", "Chiropractor"), ("TX", "787*"))

    assert [each.name for each in found] == [
        "Pediatrics, Austin, TX",
        "Pediatrics, 787*",
        "Pediatrics, TX",
        "Chiropractor, TX",
        "Chiropractor, 787*",
    ]
    slices = slices_of(found)
    assert [each.priority for each in slices] == [5, 4, 3, 2, 1]
    assert slices[0].settings == {
        "taxonomy_description": "Pediatrics", "city": "Austin", "state": "TX"
    }  # fmt: skip
    assert {each.covers for each in slices} == {"part"}
    assert [each.name for each in searches_of((), ("Chiropractor",), ())] == ["Chiropractor"]
    with pytest.raises(ValueError, match="place 'Texas'"):
        searches_of((), (), ("Texas",))
