"""Laws of what is sent for queued registrations, and of what its answers mean."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from syncd import (
    Dead,
    Delivered,
    Queued,
    Response,
    Retry,
    SourceError,
    Throttled,
    Unauthorized,
    Unavailable,
    Unintelligible,
)
from syncd_ship24 import api, registering
from syncd_ship24.plugin import REGISTER

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


def answered(value: Any, status: int, path: str) -> Response:
    body = value if isinstance(value, bytes) else msgspec.json.encode(value)
    return Response(status, {}, body, NOON, NOON, f"https://api.ship24.test/public/v1{path}")


def refusal(code: str) -> dict[str, Any]:
    return {"errors": [{"code": code, "message": "it says why"}], "data": None}


def queued(*numbers: Any, **more: Any) -> list[Queued]:
    return [
        Queued(place, f"key {place}", {"trackingNumber": number, **more})
        for place, number in enumerate(numbers, start=1)
    ]


def told(answer: Response, effects: list[Queued]) -> dict[int, Any]:
    wanted, refused = registering.read(effects)
    (bulk,) = registering.bulks(wanted)
    return refused | registering.outcomes(answer, bulk)


def item(number: str, status: str, **more: Any) -> dict[str, Any]:
    return {"itemStatus": status, "inputData": {"trackingNumber": number}, **more}


def made(number: str, status: str = "created") -> dict[str, Any]:
    return item(number, status, tracker={"trackerId": f"id of {number}"}, errors=None)


def bulk_answer(*items: dict[str, Any], status: int = 207) -> Response:
    return answered({"status": "partial", "data": items, "error": None}, status, api.BULK)


def test_items_are_matched_by_their_input_in_whatever_order_they_come() -> None:
    wrong = [{"code": "validation_error", "message": "no"}]
    effects = queued("AAAAA1", "bbbbb2", "CCCCC3", "DDDDD4")
    found = told(
        bulk_answer(
            item("CCCCC3", "error", errors=wrong),
            made("BBBBB2", "existing"),
            item("DDDDD4", "error", tracker=None, errors=wrong),
            made("AAAAA1"),
            made("EEEEE5"),
        ),
        effects,
    )

    assert found == {
        1: Delivered({"trackerId": "id of AAAAA1", "itemStatus": "created"}),
        2: Delivered({"trackerId": "id of BBBBB2", "itemStatus": "existing"}),
        3: Dead("validation_error: no"),
        4: Dead("validation_error: no"),
    }


def test_what_no_item_tells_of_is_unknown() -> None:
    assert set(told(bulk_answer(made("AAAAA1")), queued("AAAAA1", "BBBBB2"))) == {1}


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("quota_limit_reached", Retry("quota_limit_reached: no", 900.0, counts=False)),
        (
            "bulk_create_limit_exceeded",
            Retry("bulk_create_limit_exceeded: no", 900.0, counts=False),
        ),
        ("request_conflict", Retry("request_conflict: no")),
        ("server_error", Retry("server_error: no")),
        ("something_new", Retry("something_new: no")),
        ("validation_error", Dead("validation_error: no")),
        ("missing_mandatory_field", Dead("missing_mandatory_field: no")),
        ("parsing_error", Dead("parsing_error: no")),
        ("tracker_conflict", Dead("tracker_conflict: no")),
        ("shipping_date_outdated", Dead("shipping_date_outdated: no")),
    ],
)
def test_an_items_error_says_whether_it_may_pass_later(code: str, expected: Any) -> None:
    errors = [{"code": code, "message": "no"}]
    answer = bulk_answer(item("AAAAA1", "error", errors=errors), made("BBBBB2"))
    found = told(answer, queued("AAAAA1", "BBBBB2"))

    assert found[1] == expected
    assert isinstance(found[2], Delivered)


@pytest.mark.parametrize("status", ["created", "existing"])
@pytest.mark.parametrize("tracker", [{}, {"tracker": None}, {"tracker": {"id": 7}, "errors": "?"}])
def test_an_item_that_is_taken_is_delivered_whatever_else_it_says(
    status: str, tracker: dict[str, Any]
) -> None:
    found = told(bulk_answer(item("AAAAA1", status, **tracker), status=201), queued("AAAAA1"))

    assert found == {1: Delivered({"itemStatus": status})}


@pytest.mark.parametrize("errors", [{}, {"errors": None}, {"errors": []}, {"errors": ["?"]}])
def test_an_error_without_a_reason_may_pass_later(errors: dict[str, Any]) -> None:
    answer = bulk_answer(item("AAAAA1", "error", **errors), made("BBBBB2"))

    assert told(answer, queued("AAAAA1", "BBBBB2"))[1] == Retry("error")


@pytest.mark.parametrize(
    "odd",
    [
        7,
        None,
        {},
        {"itemStatus": "created"},
        {"itemStatus": "created", "inputData": "AAAAA1"},
        {"itemStatus": None, "inputData": {"trackingNumber": "AAAAA1"}},
        {"itemStatus": "created", "inputData": {"trackingNumber": ["AAAAA1"]}},
    ],
)
def test_an_item_that_cannot_be_read_is_unknown_and_costs_no_other(odd: Any) -> None:
    found = told(bulk_answer(odd, made("BBBBB2")), queued("AAAAA1", "BBBBB2"))

    assert set(found) == {2}
    assert isinstance(found[2], Delivered)


def test_a_number_that_comes_back_as_an_integer_is_still_the_number() -> None:
    echoed = {"itemStatus": "created", "inputData": {"trackingNumber": 1234567}}
    found = told(bulk_answer(echoed, made("BBBBB2")), queued("1234567", "BBBBB2"))

    assert found[1] == Delivered({"itemStatus": "created"})


def test_a_quota_that_every_item_is_over_is_nobodys_outcome() -> None:
    errors = [{"code": "quota_limit_reached", "message": "no"}]
    over = [item(number, "error", errors=errors) for number in ("AAAAA1", "BBBBB2")]

    with pytest.raises(Throttled, match="quota_limit_reached") as refused:
        told(bulk_answer(*over), queued("AAAAA1", "BBBBB2", "CCCCC3"))
    assert refused.value.retry_after_seconds == api.QUOTA_SECONDS


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (Throttled("x", "wait", retry_after_seconds=7.0), Retry("x: wait", 7.0, counts=False)),
        (Unavailable("x", "away"), Retry("x: away", counts=False)),
        (Unauthorized("x", "no"), Retry("x: no", counts=False)),
        (Unintelligible("x", "what?"), Retry("x: what?")),
    ],
)
def test_what_a_later_request_of_a_call_fails_with_counts_as_it_would_by_itself(
    error: SourceError, expected: Retry
) -> None:
    wanted, _ = registering.read(queued("AAAAA1", "BBBBB2"))

    assert registering.later(error, wanted) == {1: expected, 2: expected}


def test_a_registration_lives_longer_than_any_month_after_which_a_quota_comes_back() -> None:
    assert REGISTER.age_max_seconds > 31 * 86400


def test_a_whole_refusal_of_one_is_final_only_for_what_it_holds() -> None:
    def alone(code: str) -> dict[int, Any]:
        return told(answered(refusal(code), 400, api.BULK), queued("AAAAA1"))

    assert alone("validation_error") == {1: Dead("validation_error: it says why")}
    assert alone("server_error") == {1: Retry("server_error: it says why")}


@pytest.mark.parametrize("body", [b"<html>", b"{}", b'{"data": null}', b"[]", b'{"data": {}}'])
def test_a_success_that_is_none_of_the_api_is_an_outage_and_not_halved(body: bytes) -> None:
    with pytest.raises(Unavailable):
        told(answered(body, 200, api.BULK), queued("AAAAA1", "BBBBB2"))


def test_a_bulk_that_is_refused_as_a_whole_is_to_be_halved_and_one_alone_is_dead() -> None:
    error = {"data": None, "error": {"code": "processing_error", "message": "all failed"}}
    answer = answered(error, 400, api.BULK)

    with pytest.raises(Unintelligible, match="all failed"):
        told(answer, queued("AAAAA1", "BBBBB2"))
    assert told(answer, queued("AAAAA1")) == {1: Dead("processing_error: all failed")}


@pytest.mark.parametrize("status", [402, 403, 405])
def test_a_quota_at_its_end_is_nobodys_outcome_and_says_what_it_is(status: int) -> None:
    error = {"status": "error", "data": None, "error": {"code": "quota_limit_reached"}}
    with pytest.raises(Throttled, match="quota_limit_reached") as refused:
        told(answered(error, status, api.BULK), queued("AAAAA1"))

    assert refused.value.retry_after_seconds == api.QUOTA_SECONDS


def test_a_refusal_that_nobody_can_read_is_no_outcome() -> None:
    with pytest.raises(Unauthorized, match="forbidden"):
        told(answered(refusal("forbidden"), 403, api.BULK), queued("AAAAA1"))
    with pytest.raises(Unintelligible):
        told(answered(b"nothing that anyone knows", 400, api.BULK), queued("AAAAA1"))


def test_what_cannot_be_sent_is_dead_and_the_others_go() -> None:
    effects = [*queued("AAAAA1", "x", 7, "A" * 51, "a b c d"), Queued(6, "k", "no object")]
    wanted, refused = registering.read(effects)

    assert [each.effect.id for each in wanted] == [1]
    assert set(refused) == {2, 3, 4, 5, 6}
    assert all(isinstance(each, Dead) for each in refused.values())


def test_one_payload_is_always_sent_alike_and_holds_no_null() -> None:
    (effect,) = queued("AAAAA1", title="", recipient=None, courierCode=["ups"], orderNumber="7")
    ((wanted,), _) = registering.read([effect])

    assert wanted.body == {"trackingNumber": "AAAAA1", "courierCode": ["ups"], "orderNumber": "7"}


def test_no_number_stands_twice_in_a_request_and_none_has_more_than_a_hundred() -> None:
    numbers = [f"NUMBER{place:03}" for place in range(150)]
    wanted, _ = registering.read(queued(*numbers, "number000", "NUMBER000"))
    found = registering.bulks(wanted)

    assert [len(bulk) for bulk in found] == [100, 51, 1]
    assert sum(map(len, found)) == len(wanted)
    for bulk in found:
        assert len({each.number for each in bulk}) == len(bulk)
