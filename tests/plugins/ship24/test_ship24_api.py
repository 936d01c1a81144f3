"""Laws of what is asked of Ship24 and read in its answers: pure functions over answers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from syncd import (
    Cursor,
    Request,
    Response,
    Secret,
    Throttled,
    Unauthorized,
    Unavailable,
    Unintelligible,
)
from syncd.model import RouteRequest
from syncd_ship24 import api, times, webhook
from syncd_ship24.records import EventRecord, event_of

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
SECRET = Secret("an-invented-secret")


def answered(value: Any, status: int = 200, path: str = "/trackers") -> Response:
    body = value if isinstance(value, bytes) else msgspec.json.encode(value)
    return Response(status, {}, body, NOON, NOON, f"https://api.ship24.test/public/v1{path}")


def refusal(code: str) -> dict[str, Any]:
    return {"errors": [{"code": code, "message": "it says why"}], "data": None}


# --- Errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "code", "path", "expected"),
    [
        (200, "", "/trackers", None),
        (400, "validation_error", "/trackers", None),
        (400, "auth_missing_header", "/trackers", Unauthorized),
        (400, "auth_invalid_header", api.BULK, Unauthorized),
        (401, "auth_invalid_api_key", "/trackers", Unauthorized),
        (402, "quota_limit_reached", "/trackers", Throttled),
        (403, "quota_limit_reached", "/trackers", Throttled),
        (405, "quota_limit_reached", "/trackers", Throttled),
        (403, "quota_limit_reached", api.BULK, None),
        (404, "tracker_not_found", "/trackers/x/results", None),
        (409, "request_conflict", "/trackers", Unavailable),
        (400, "processing_error", api.BULK, None),
        (422, "no_active_subscription", "/trackers", Unauthorized),
        (503, "unknown", "/trackers", None),
    ],
)
def test_an_error_means_what_its_code_says(
    status: int, code: str, path: str, expected: type[Exception] | None
) -> None:
    error = api.judge(answered(refusal(code), status, path))

    assert (type(error) if error is not None else None) is expected
    if isinstance(error, Throttled):
        assert error.retry_after_seconds == api.QUOTA_SECONDS


@pytest.mark.parametrize("body", [b"Too Many Requests", b"", b"{", b"[1]", b'{"errors": 3}'])
def test_what_is_no_error_of_the_api_is_left_to_its_status(body: bytes) -> None:
    assert api.judge(answered(body, 429)) is None
    assert api.judge(answered(body, 400)) is None
    assert api.error_of(answered(body, 400)) == ("", "")


# --- Times ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "moment", "order"),
    [
        ("2026-11-21T08:12:00.000Z", NOON - timedelta(hours=3, minutes=48), None),
        ("2026-11-21T08:12:00+08:00", NOON - timedelta(hours=11, minutes=48), None),
        ("2026-11-21T08:12:00", None, NOON - timedelta(hours=3, minutes=48)),
        ("2026-11-21", None, NOON - timedelta(hours=12)),
        ("yesterday", None, None),
        ("0001-01-01T00:00:00+14:00", None, None),
        ("", None, None),
        (None, None, None),
    ],
)
def test_a_time_without_a_zone_is_no_moment_and_still_has_its_place(
    text: str | None, moment: datetime | None, order: datetime | None
) -> None:
    assert times.moment_of(text) == moment
    assert times.order_of(text) == (order or moment)


def test_an_events_time_is_kept_as_it_came() -> None:
    made = event_of(EventRecord("e", occurrence_datetime="2026-11-21", told_at=NOON.isoformat()))

    assert (made.occurrence_text, made.occurrence_at) == ("2026-11-21", None)
    assert made.told_at == NOON


# --- Passes and pages -----------------------------------------------------------------------------


def test_a_full_pass_lists_the_oldest_first_and_an_incremental_one_the_young_newest_first() -> None:
    full = api.first_pass(Request("full", None, NOON), NOON, follow_seconds=86400)
    young = api.first_pass(Request("incremental", NOON, NOON), NOON, follow_seconds=86400)

    assert (full.mode, full.cursors) == ("full", (Cursor({"page": 1}),))
    since = (NOON - timedelta(days=1)).isoformat()
    assert (young.mode, young.cursors) == ("incremental", (Cursor({"page": 1, "since": since}),))
    assert api.list_params({"page": 3}, limit=500) == {"page": 3, "limit": 500, "sort": 1}
    assert api.list_params({"page": 1, "since": since}, limit=9)["sort"] == -1


def listed(*created: str | None) -> Response:
    trackers = [{"trackerId": f"t{n}", "createdAt": at} for n, at in enumerate(created)]
    return answered({"data": {"trackers": trackers}})


def test_a_page_of_the_list_names_trackers_and_the_next_page_until_an_empty_one() -> None:
    page = api.list_page(listed("2026-11-21T00:00:00Z", None), {"page": 4})
    last = api.list_page(listed(), {"page": 5})

    assert [each.value for each in page.opens] == [
        {"tracker": "t0"},
        {"tracker": "t1"},
        {"page": 5},
    ]
    assert [each.kind for each in page.opens] == ["item", "item", "chain"]
    assert (page.end, page.empty, last.end, last.opens) == (False, True, True, ())


def test_a_page_with_an_old_tracker_is_the_last_of_the_young() -> None:
    cursor = {"page": 1, "since": NOON.isoformat()}
    page = api.list_page(listed("2026-11-22T00:00:00Z", "2026-11-20T00:00:00Z"), cursor)

    assert [each.value for each in page.opens] == [{"tracker": "t0"}]
    assert page.end


def test_results_are_cut_into_the_tracker_and_its_events() -> None:
    tracking = {"tracker": {"trackerId": "t"}, "events": [{"eventId": "a"}, {"eventId": "b"}]}
    page = api.results_page(answered({"data": {"trackings": [tracking, {"tracker": 7}]}}))

    assert page.counts == {"trackers": 2, "tracking_events": 2}
    parents = [each.parent for each in page.records["tracking_events"]]
    assert parents == [{"tracker_id": "t", "told_at": NOON.isoformat()}] * 2
    assert bytes(page.records["trackers"][1].raw) == b'{"tracker":7}', "whole, to be set aside"


def test_a_tracker_that_is_gone_is_no_record_and_any_other_404_no_page() -> None:
    gone = api.results_page(answered(refusal("tracker_not_found"), 404))

    assert (gone.empty, gone.end) == (True, True)
    with pytest.raises(Unintelligible, match="404 without saying"):
        api.results_page(answered(b"<html>", 404))


@pytest.mark.parametrize("body", [b"{}", b'{"data": null}', b"[]", b'{"data": {"tracker": {}}}'])
def test_what_is_no_page_is_never_an_empty_one(body: bytes) -> None:
    with pytest.raises(Unintelligible):
        api.list_page(answered(body), {"page": 1})
    with pytest.raises(Unintelligible):
        api.results_page(answered(body))


# --- Webhooks -------------------------------------------------------------------------------------


def posted(value: Any, given: str = "Bearer an-invented-secret") -> RouteRequest:
    body = value if isinstance(value, bytes) else msgspec.json.encode(value)
    return RouteRequest("POST", "/webhook", {}, {"authorization": given}, body, received_at=NOON)


def tracking(message_id: str | None = "m1") -> dict[str, Any]:
    metadata = {"generatedAt": "2026-11-21T08:15:00.000Z", "messageId": message_id}
    return {
        "metadata": metadata,
        "tracker": {"trackerId": "t"},
        "events": [{"eventId": "e", "occurrenceDatetime": "2026-11-21T08:12:00"}],
    }


def test_a_message_is_records_of_both_streams_and_known_by_its_id() -> None:
    answer = webhook.heard(SECRET, posted({"trackings": [tracking()]}))

    assert (answer.status, answer.event_id) == (200, "m1")
    assert {name: len(records) for name, records in answer.records.items()} == {
        "trackers": 1,
        "tracking_events": 1,
    }
    (event,) = answer.records["tracking_events"]
    assert event.parent == {"tracker_id": "t", "told_at": "2026-11-21T08:15:00.000Z"}
    assert msgspec.json.decode(answer.body) == {"success": True}


def test_what_is_told_from_the_future_is_told_when_it_comes() -> None:
    said = tracking()
    said["metadata"]["generatedAt"] = "2099-01-01T00:00:00.000Z"
    answer = webhook.heard(SECRET, posted({"trackings": [said]}))

    (tracker,), (event,) = answer.records["trackers"], answer.records["tracking_events"]
    assert tracker.parent == {"told_at": NOON.isoformat(), "whole": False}
    assert event.parent == {"tracker_id": "t", "told_at": NOON.isoformat()}
    assert answer.event_id == "m1"


def test_several_trackings_have_one_id_and_one_without_an_id_none() -> None:
    both = [tracking("m1"), tracking("m2")]
    ids = [webhook.heard(SECRET, posted({"trackings": both})).event_id for _ in range(2)]

    assert ids[0] == ids[1] not in {None, "m1", "m2"}
    both.append(tracking(None))
    assert webhook.heard(SECRET, posted({"trackings": both})).event_id is None


@pytest.mark.parametrize(
    ("secret", "given", "status"),
    [
        (SECRET, "Bearer another-secret", 401),
        (SECRET, "an-invented-secret", 401),
        (SECRET, "", 401),
        (Secret(""), "Bearer ", 401),
        (None, "Bearer ", 403),
    ],
)
def test_only_who_knows_the_secret_is_heard(secret: Secret | None, given: str, status: int) -> None:
    answer = webhook.heard(secret, posted({"trackings": [tracking()]}, given))

    assert (answer.status, answer.records, answer.event_id) == (status, {}, None)
    assert b"an-invented" not in answer.body


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"data": {"trackings": []}}', b"\xff"])
def test_what_is_no_message_is_refused(body: bytes) -> None:
    answer = webhook.heard(SECRET, posted(body))

    assert (answer.status, answer.records) == (400, {})


def test_a_tracking_that_cannot_be_read_does_not_cost_the_others() -> None:
    broken: dict[str, Any] = {"tracker": "no object", "events": 7}
    answer = webhook.heard(SECRET, posted({"trackings": [broken, tracking()]}))

    assert answer.status == 200
    assert len(answer.records["trackers"]) == 2, "one of them to be set aside"
