"""Laws of the TikTok connector's pure part: requests, pages, errors, days, tokens, rows."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest

from syncd import (
    Credential,
    CursorExpired,
    Record,
    Response,
    Secret,
    SourceError,
    Throttled,
    Unauthorized,
    Unavailable,
    Unintelligible,
)
from syncd_tiktok import api
from syncd_tiktok.records import UserRecord, VideoRecord, counts_of, user_of, video_of

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
UTC_ZONE = ZoneInfo("UTC")
BEGUN: Any = api.first_cursor(NOON).value

# Recorded style, values invented.
OK = {"code": "ok", "message": "", "log_id": "20261121120000ABCDEF"}
USER = {
    "open_id": "723f24d7-e717-40f8-a2b6-cb8464cd23b4",
    "union_id": "c9c60f44-a68e-4f5d-84dd-ce22faeb0ba1",
    "avatar_url": "https://p16.example/a.jpeg?x-expires=1763780000&x-signature=abc",
    "display_name": "Toko Melati",
    "profile_deep_link": "https://vm.example/melati?sec=1",
    "is_verified": False,
    "username": "tokomelati",
    "follower_count": 15230,
    "following_count": 87,
    "likes_count": 5_000_000_000,
    "video_count": 311,
}
VIDEO = {
    "id": "7300000000000000001",
    "create_time": 1763599123,
    "cover_image_url": "https://p16.example/c.jpeg?x-expires=1763620000&x-signature=abc",
    "share_url": "https://www.example/@tokomelati/video/7300000000000000001?utm_source=x",
    "video_description": "promo #sale",
    "duration": 34,
    "height": 1024,
    "width": 576,
    "title": "promo",
    "like_count": 120,
    "comment_count": 4,
    "share_count": 2,
    "view_count": 5120,
}


def answered(body: Any, status: int = 200) -> Response:
    content = body if isinstance(body, bytes) else msgspec.json.encode(body)
    return Response(status, {}, content, NOON, NOON, "https://open.tiktokapis.example/v2/x/")


def said(code: str, status: int = 200) -> Response:
    return answered({"data": {}, "error": {"code": code, "message": "why", "log_id": "1"}}, status)


def listed(*videos: Any, cursor: Any = None, has_more: bool = False) -> Response:
    data = {"videos": videos, "cursor": cursor, "has_more": has_more}
    return answered({"data": data, "error": OK})


# --- Errors stand in bodies -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("access_token_invalid", 401, Unauthorized),
        ("scope_not_authorized", 401, Unauthorized),
        ("scope_permission_missed", 401, Unauthorized),
        ("scope_permission_missed", 403, Unauthorized),
        ("rate_limit_exceeded", 429, Throttled),
        ("internal_error", 500, Unavailable),
        ("invalid_params", 400, Unintelligible),
    ],
)
def test_an_error_in_a_body_counts_before_the_status(
    code: str, status: int, kind: type[SourceError]
) -> None:
    for each in (status, 200):
        error = api.judge(said(code, each))
        assert type(error) is kind
        assert code in error.what
        assert "why" in error.what


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"data": {}, "error": OK}, 200),
        ({"access_token": "act.x", "expires_in": 7200}, 200),
        (b"<html>busy</html>", 502),
        (b'{"data":{"user":', 200),  # the excerpt of a longer body
        (b'"text"', 200),
        ({"error": {"code": "brand_new", "message": ""}}, 503),
    ],
)
def test_what_is_no_error_of_the_apis_is_left_to_its_status(body: Any, status: int) -> None:
    assert api.judge(answered(body, status)) is None


def test_an_unknown_error_behind_a_good_status_is_no_data() -> None:
    error = api.judge(said("brand_new"))

    assert type(error) is Unintelligible
    assert "brand_new" in error.what


@pytest.mark.parametrize("status", [200, 400, 401])
@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ("invalid_grant", Unauthorized),
        ("access_denied", Unauthorized),
        ("invalid_client", Unintelligible),  # of the app: no store is parked for it
        ("unsupported_grant_type", Unintelligible),
        ("temporarily_unavailable", Unavailable),
        ("server_error", Unavailable),
    ],
)
def test_an_error_of_oauth_is_known_by_its_key_whatever_the_status(
    error: str, kind: type[SourceError], status: int
) -> None:
    body = {"error": error, "error_description": "Refresh token is invalid.", "log_id": "1"}
    found = api.judge(answered(body, status))

    assert type(found) is kind
    assert error in found.what


# --- What is asked --------------------------------------------------------------------------------


def test_only_granted_fields_are_asked_for() -> None:
    everything = api.granted("user.info.basic,user.info.profile,user.info.stats", api.SCOPES)
    without_profile = api.granted("user.info.basic user.info.stats", api.SCOPES)

    assert "username" in str(api.user_params(everything)["fields"])
    fields = str(api.user_params(without_profile)["fields"]).split(",")
    assert fields[0] == "open_id"
    assert "follower_count" in fields
    assert "username" not in fields
    assert "avatar_large_url" not in fields
    assert "embed_html" not in str(api.video_params(api.granted(None, api.SCOPES))["fields"])


def test_a_scope_without_which_nothing_is_left_is_named() -> None:
    basic = api.granted("user.info.basic", api.SCOPES)

    with pytest.raises(Unauthorized, match=r"has not granted user\.info\.stats"):
        api.user_params(basic)
    with pytest.raises(Unauthorized, match=r"has not granted video\.list"):
        api.video_params(basic)


def test_the_newest_are_asked_for_without_a_cursor() -> None:
    assert api.list_body(BEGUN) == {"max_count": 20}
    assert api.list_body({**BEGUN, "cursor": 17}) == {"max_count": 20, "cursor": 17}


# --- Cursors --------------------------------------------------------------------------------------

P = 1_763_599_123_000


@pytest.mark.parametrize(
    ("before", "told", "after"),
    [
        (None, P, P + 1000),
        (P + 90_000, P, P + 1000),
        (P + 1000, P, P),  # 20 videos of one second: on below it
        (None, P + 7, P + 7),  # milliseconds name one video
        (P + 1000, P - 5000, P - 4000),
    ],
)
def test_a_second_at_a_pages_edge_is_asked_for_again_where_that_leads_on(
    before: int | None, told: int, after: int
) -> None:
    cursor = BEGUN if before is None else {**BEGUN, "cursor": before}

    assert api.next_cursor(cursor, told, reread=True).value == {**BEGUN, "cursor": after}
    assert api.next_cursor(cursor, told, reread=False).value == {**BEGUN, "cursor": told}


@pytest.mark.parametrize("told", [None, 0, P, P + 1])
def test_a_cursor_that_leads_nowhere_is_no_end(told: int | None) -> None:
    with pytest.raises(Unintelligible, match="there is more"):
        api.next_cursor({**BEGUN, "cursor": P}, told, reread=True)


@pytest.mark.parametrize("videos", [(), (VIDEO,), None])
def test_only_has_more_is_the_end(videos: Any) -> None:
    response = listed(*(videos or ()), cursor=P, has_more=True)
    page = api.videos_page(response, BEGUN, NOON.date(), reread=True)
    assert (len(page.opens), page.end) == (1, False)

    data = {"videos": videos, "cursor": P, "has_more": False}
    last = answered({"data": data, "error": OK})
    page = api.videos_page(last, BEGUN, NOON.date(), reread=True)
    assert (page.opens, page.end) == ((), True)


@pytest.mark.parametrize(
    "body", [b"[]", {"data": {"videos": []}}, {"data": {"videos": "x"}, "error": OK}]
)
def test_what_is_no_page_is_not_taken_for_an_empty_one(body: Any) -> None:
    with pytest.raises(Unintelligible):
        api.videos_page(answered(body), BEGUN, NOON.date(), reread=True)


@pytest.mark.parametrize("data", [{}, {"user": None}, {"user": {}}])
def test_an_answer_without_a_user_is_no_snapshot(data: Any) -> None:
    with pytest.raises(Unintelligible, match="no user"):
        api.user_page(answered({"data": data, "error": OK}), NOON.date())


# --- Days -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("zone", "day"),
    [("UTC", 21), ("Asia/Jakarta", 21), ("Pacific/Kiritimati", 22), ("Pacific/Midway", 21)],
)
def test_a_snapshot_is_of_the_day_that_the_pass_began_on_in_the_stores_zone(
    zone: str, day: int
) -> None:
    assert api.snapshot_date(BEGUN, ZoneInfo(zone), NOON) == date(2026, 11, day)


def test_a_pass_over_midnight_is_one_snapshot_and_none_of_a_day_that_is_long_over() -> None:
    evening = api.first_cursor(NOON.replace(hour=23, minute=50)).value
    midnight = datetime(2026, 11, 22, tzinfo=UTC)

    for minutes in (0, 1, 59):
        now = midnight + timedelta(minutes=minutes)
        assert api.snapshot_date(evening, UTC_ZONE, now) == date(2026, 11, 21)
    with pytest.raises(CursorExpired, match="2026-11-21, a day that is over in UTC"):
        api.snapshot_date(evening, UTC_ZONE, midnight + timedelta(hours=1))


# --- Rows -----------------------------------------------------------------------------------------


def decoded(record: Record, kind: type[Any]) -> Any:
    found = msgspec.json.decode(record.raw, type=kind)
    for name, value in record.parent.items():
        setattr(found, name, value)
    return found


def test_a_user_becomes_a_snapshot_of_its_day() -> None:
    page = api.user_page(answered({"data": {"user": USER}, "error": OK}), NOON.date())
    (record,) = page.records["user_daily"]
    row = user_of(decoded(record, UserRecord))

    assert (row.snapshot_date, row.captured_at) == (NOON.date(), NOON)
    assert (row.follower_count, row.likes_count) == (15230, 5_000_000_000)
    assert row.profile_deep_link == "https://vm.example/melati"
    assert row.avatar_url == USER["avatar_url"]
    assert row.bio_description is None


def test_a_video_becomes_a_row_without_what_differs_at_every_look_and_its_counts_another() -> None:
    page = api.videos_page(listed(VIDEO), BEGUN, NOON.date(), reread=True)
    (one,), (two,) = page.records["videos"], page.records["video_daily"]
    video = video_of(decoded(one, VideoRecord))
    counts = counts_of(decoded(two, VideoRecord))

    assert video.video_id == "7300000000000000001"
    assert video.create_time == datetime(2025, 11, 20, 0, 38, 43, tzinfo=UTC)
    assert video.share_url == "https://www.example/@tokomelati/video/7300000000000000001"
    assert video.cover_expires_at == datetime.fromtimestamp(1763620000, UTC)
    assert video.duration_seconds == 34
    assert (counts.video_id, counts.snapshot_date) == (video.video_id, NOON.date())
    assert (counts.view_count, counts.like_count) == (5120, 120)
    assert (counts.comment_count, counts.share_count) == (4, 2)


@pytest.mark.parametrize("wrong", [{"id": 7300000000000000001}, {"view_count": 1.5}, {"id": None}])
def test_ids_are_text_and_counts_are_whole(wrong: Mapping[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(msgspec.json.encode({**VIDEO, **wrong}), type=VideoRecord)


def test_what_was_not_granted_stays_null() -> None:
    bare = msgspec.json.decode(b'{"id":"1"}', type=VideoRecord)

    assert video_of(bare).create_time is None
    assert video_of(bare).cover_expires_at is None


# --- Tokens ---------------------------------------------------------------------------------------

HELD = Credential(
    Secret("act.old"),
    Secret("rft.old"),
    access_expires_at=NOON,
    refresh_expires_at=NOON + timedelta(days=9),
    details={"open_id": "one", "scope": "user.info.basic", "note": "kept"},
)


def test_a_refresh_trades_the_refresh_token_in_a_form() -> None:
    form = api.refresh_form("key", Secret("hidden"), HELD)

    assert form["grant_type"] == "refresh_token"
    assert form["refresh_token"] == Secret("rft.old")
    assert form["client_secret"] == Secret("hidden")
    with pytest.raises(Unintelligible, match="client_key"):
        api.refresh_form(None, Secret("hidden"), HELD)
    with pytest.raises(Unauthorized, match="no refresh token"):
        api.refresh_form("key", Secret("hidden"), Credential(Secret("act.old")))


def test_lifetimes_are_as_told_and_what_is_left_out_stays() -> None:
    body = {
        "access_token": "act.new",
        "expires_in": 7200,
        "open_id": "one",
        "refresh_token": "rft.new",
        "refresh_expires_in": 15552000,
        "scope": "user.info.basic,video.list",
        "token_type": "Bearer",
    }
    rotated = api.credential_of(answered(body), HELD)
    kept = api.credential_of(answered({"access_token": "act.new", "expires_in": 86400}), HELD)

    assert rotated.access_token == Secret("act.new")
    assert rotated.refresh_token == Secret("rft.new")
    assert rotated.access_expires_at == NOON + timedelta(hours=2)
    assert rotated.refresh_expires_at == NOON + timedelta(days=180)
    assert rotated.details == {"open_id": "one", "scope": body["scope"], "note": "kept"}
    assert (kept.refresh_token, kept.refresh_expires_at) == (
        HELD.refresh_token,
        HELD.refresh_expires_at,
    )
    assert kept.access_expires_at == NOON + timedelta(days=1)
    assert kept.details == HELD.details


def test_an_answer_without_a_token_is_no_credential() -> None:
    with pytest.raises(Unintelligible):
        api.credential_of(answered({"expires_in": 1}), HELD)


def test_the_token_goes_in_a_header() -> None:
    assert api.authorize(HELD) == {"authorization": Secret("Bearer act.old")}
