"""Laws of what Nhanh's API is asked, what its answers say, and where passes begin: all pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import msgspec
import pytest

from syncd import (
    Cursor,
    CursorExpired,
    Pass,
    Request,
    Response,
    Slice,
    SourceError,
    Throttled,
    Unauthorized,
    Unavailable,
    Unintelligible,
)
from syncd_nhanh import api
from syncd_nhanh.refusals import judge

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
SECOND = int(NOON.timestamp())
HTML = {"content-type": "text/html; charset=UTF-8"}
FIRST = Cursor({"filters": {}})

PAGE = """
{"code":1,"warning":"v2 ends soon","data":[{"id":142401158,"name":"Nguyễn Thị An"},{"id":"7"}],
 "paginator":{"size":100,"next":%s}}
"""


def answer(
    body: Any, *, status: int = 200, headers: dict[str, str] | None = None, date: Any = NOON
) -> Response:
    content = body.encode() if isinstance(body, str) else msgspec.json.encode(body)
    fields = {"content-type": "application/json; charset=utf-8"} if headers is None else headers
    return Response(status, fields, content, sent_at=NOON, date=date, url="https://nhanh.test")


def asked(cursor: Cursor, size: int = 100) -> Any:
    """Return a question as it leaves."""
    return msgspec.json.encode(api.question(cursor, size=size)).decode()


def stored(cursor: Cursor) -> Cursor:
    """Return a cursor as it comes out of the frontier: jsonb keeps no spelling."""
    value = msgspec.json.decode(msgspec.json.encode(cursor.value, order="sorted"))
    return Cursor(value)


# pages


@pytest.mark.parametrize(
    "following",
    [
        '{"id":142399871}',
        '[142399871,"x"]',
        '{"z":1,"a":{"n":12345678901234567890123,"f":1.50}}',
        '"a text"',
        '{"name":"An \\u0000 \\ud83d\\ude00 é"}',
    ],
)
def test_next_goes_back_as_it_came_with_the_filters_it_came_with(following: str) -> None:
    first = Cursor({"filters": {"updatedAtFrom": 5}})

    page = api.page_of(answer(PAGE % following), first, business_id=3)
    (cursor,) = map(stored, page.opens)

    assert (page.end, page.date) == (False, NOON)
    said = '{"filters":{"updatedAtFrom":5},"paginator":{"size":100,"next":%s}}'
    assert asked(cursor) == said % following


@pytest.mark.parametrize("following", ["null", "{}", "[ ]", '""', "0", "false"])
def test_a_next_that_is_empty_ends_the_pass(following: str) -> None:
    page = api.page_of(answer(PAGE % following), FIRST, business_id=3)

    assert (page.opens, page.end) == ((), True)
    assert [record.parent for record in page.records["customers"]] == [{"business_id": 3}] * 2


def test_a_next_that_is_absent_ends_the_pass() -> None:
    paginators: list[Any] = [{"size": 100}, {}, []]
    for paginator in paginators:
        page = api.page_of(answer({"data": [], "paginator": paginator}), FIRST, business_id=3)
        assert (page.opens, page.end) == ((), True)


def test_an_empty_page_that_names_a_next_goes_on() -> None:
    body = {"code": 1, "data": [], "paginator": {"next": [1]}}

    page = api.page_of(answer(body), FIRST, business_id=3)

    assert (page.empty, page.end, len(page.opens)) == (True, False, 1)


@pytest.mark.parametrize(
    "body", [{"code": 1}, {"data": []}, {"data": None, "paginator": {}}, [], "null", "{"]
)
def test_what_is_no_page_is_not_taken_for_the_last_one(body: Any) -> None:
    with pytest.raises(Unintelligible):
        api.page_of(answer(body), FIRST, business_id=3)


def test_a_next_that_cannot_be_sent_back_is_not_understood() -> None:
    with pytest.raises(Unintelligible, match="surrogate"):
        api.page_of(answer(PAGE % r'{"id":"\ud800"}'), FIRST, business_id=3)


def test_filters_are_an_object_also_where_there_are_none() -> None:
    assert asked(FIRST, 7) == '{"filters":{},"paginator":{"size":7}}'


# errors


def refused(code: Any, *, status: int = 200, **more: Any) -> SourceError | None:
    return judge(answer({"code": 0, "errorCode": code, **more}, status=status))


@pytest.mark.parametrize(
    ("said", "heard"),
    [
        ({"messages": "Invalid"}, "Invalid"),
        ({"messages": ["Invalid", "token"]}, "Invalid; token"),
        ({"messages": {"size": "must be", "next": ["a", "b"]}}, "size: must be; next: a; b"),
        ({"message": "Invalid"}, "Invalid"),
        ({"messages": None, "message": ""}, ""),
        ({}, ""),
    ],
)
def test_whatever_an_error_says_is_heard_in_each_of_its_shapes(said: Any, heard: str) -> None:
    error = refused("ERR_INVALID_ACCESS_TOKEN", **said)

    assert isinstance(error, Unauthorized)
    assert error.what == f"ERR_INVALID_ACCESS_TOKEN{f': {heard}' if heard else ''}"


@pytest.mark.parametrize("status", [200, 400, 401, 403, 422, 429, 500])
@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("ERR_INVALID_ACCESS_TOKEN", Unauthorized),
        ("ERR_403", Unauthorized),
        (403, Unauthorized),
        ("ERR_BUSINESS_NOT_ENABLE_API", Unauthorized),
        ("ERR_INVALID_APP_ID", Unauthorized),
        ("ERR_INVALID_BUSINESS_ID", Unauthorized),
        ("ERR_INVALID_FORM_FIELDS", Unintelligible),
        ("ERR_INVALID_DATA", Unintelligible),
        ("ERR_INVALID_VERSION", Unintelligible),
        ("ERR_500", Unavailable),
        ("ERR_429", Throttled),
        ("429", Throttled),
        (429, Throttled),
        ("ERR_EXCEEDED_RATE_LIMIT", Throttled),
    ],
)
def test_a_body_says_what_went_wrong_whatever_the_status(
    code: Any, kind: type[SourceError], status: int
) -> None:
    assert type(refused(code, status=status)) is kind


def test_a_code_that_nobody_knows_is_not_understood_unless_the_status_says_more() -> None:
    assert type(refused("ERR_NEW")) is Unintelligible
    assert type(refused(None)) is Unintelligible
    assert type(judge(answer({"errorCode": "ERR_NEW"}))) is Unintelligible
    assert refused("ERR_NEW", status=401) is None
    assert refused("ERR_NEW", status=503) is None


def test_an_error_is_seen_behind_a_byte_order_mark_and_however_deep_it_speaks() -> None:
    body = '{"code":0,"errorCode":"ERR_429","message":"wait","data":{"lockedSeconds":4}}'
    error = judge(answer("\ufeff" + body))
    deep = refused("ERR_403", messages=msgspec.json.decode("[" * 90 + "]" * 90))
    hostile = judge(answer('{"code":0,"messages":' + "[" * 10**5 + "]" * 10**5 + "}"))

    assert isinstance(error, Throttled)
    assert error.retry_after_seconds == 5.0
    assert type(deep) is Unauthorized
    assert hostile is None


def test_a_cursor_that_is_refused_begins_the_pass_anew() -> None:
    error = refused("ERR_INVALID_FORM_FIELDS", messages={"paginator.next": "is invalid"})

    assert type(error) is CursorExpired


@pytest.mark.parametrize("body", [PAGE % "null", {"code": "1"}, {"data": []}, "null", "{", [1]])
def test_no_error_is_seen_where_there_is_none(body: Any) -> None:
    assert judge(answer(body)) is None


@pytest.mark.parametrize("headers", [HTML, {}, {"content-type": "text/plain"}])
def test_a_web_page_is_asked_for_again_and_never_read(headers: dict[str, str]) -> None:
    body = '{"code":0,"errorCode":"ERR_403"}'

    assert type(judge(answer(body, headers=headers))) is Unavailable
    assert type(judge(answer("<html>", headers=headers, status=404))) is Unavailable
    for status in (429, 502, 503):
        assert judge(answer("<html>", headers=headers, status=status)) is None


@pytest.mark.parametrize(
    ("data", "seconds"),
    [
        ({"unlockedAt": SECOND + 10}, 11.0),
        ({"unlockedAt": SECOND + 10, "lockedSeconds": 10}, 11.0),
        ({"unlockedAt": SECOND + 10, "lockedSeconds": 40}, 41.0),
        ({"unlockedAt": str(SECOND + 10)}, 11.0),
        ({"unlockedAt": SECOND - 10, "lockedSeconds": 5}, 6.0),
        ({"unlockedAt": SECOND - 10}, 1.0),
        ({"lockedSeconds": "5"}, 6.0),
        ({"unlockedAt": SECOND + 10**6}, 3600.0),
        ({"unlockedAt": SECOND * 1000}, 30.0),
        ({"unlockedAt": "soon", "lockedSeconds": None}, 30.0),
        ([], 30.0),
        (None, 30.0),
    ],
)
def test_a_lock_lasts_until_it_is_told_to_and_a_second_more(data: Any, seconds: float) -> None:
    error = refused("ERR_429", message="exceeded", data=data)

    assert isinstance(error, Throttled)
    assert error.retry_after_seconds == seconds


def test_a_lock_is_measured_by_the_upstreams_own_clock() -> None:
    body = {"code": 0, "errorCode": "ERR_429", "data": {"unlockedAt": SECOND + 10}}

    error = judge(answer(body, date=NOON - timedelta(seconds=60)))

    assert isinstance(error, Throttled)
    assert error.retry_after_seconds == 71.0


# where a pass begins

WEEK = 7 * 86400.0


def begun(
    mode: Any,
    *,
    since: datetime | None = None,
    until: datetime = NOON,
    part: Slice | None = None,
    full_every_seconds: float = 0.0,
) -> Pass:
    return api.first_pass(
        part or Slice(),
        Request(mode, since, until),
        NOON,
        account="shop",
        overlap_seconds=600.0,
        full_every_seconds=full_every_seconds,
    )


def filters_of(answered: Pass) -> list[Any]:
    return [cursor.value["filters"] for cursor in answered.cursors]  # type: ignore[index, call-overload]


def test_a_full_pass_is_unfiltered() -> None:
    answered = begun("full")

    assert (answered.mode, filters_of(answered)) == ("full", [{}])


def test_an_incremental_pass_reaches_back_and_is_open_towards_now() -> None:
    since = NOON - timedelta(hours=1, microseconds=1)

    answered = begun("incremental", since=since)

    # Whole seconds, rounded down; and one more, for nobody says that the bound is included.
    assert answered.mode == "incremental"
    assert filters_of(answered) == [{"updatedAtFrom": SECOND - 3600 - 1 - 1 - 600}]


def test_a_backfill_keeps_to_its_bounds_whichever_of_them_are_included() -> None:
    since, until = NOON - timedelta(days=2), NOON - timedelta(days=1)

    answered = begun("backfill", since=since, until=until)

    assert answered.mode == "backfill"
    assert filters_of(answered) == [
        {"updatedAtFrom": SECOND - 2 * 86400 - 1, "updatedAtTo": SECOND - 86400 + 1}
    ]


BOUNDARIES = ("2024-01-01", "2025-07-01T07:00:00+07:00")
JANUARY, JULY = 1_704_067_200, 1_751_328_000


def windows() -> list[Slice]:
    return api.slices_of(api.boundaries_of(BOUNDARIES), everything=True)


def test_windows_are_the_whole_feed_together_and_everything_stands_beside_them() -> None:
    slices = windows()

    assert [(each.name, each.covers) for each in slices] == [
        ("before 2024-01-01", "part"),
        ("2024-01-01 to 2025-07-01", "part"),
        ("2025-07-01 to now", "part"),
        ("everything", "all"),
    ]
    assert [filters_of(begun("full", part=each))[0] for each in slices] == [
        {"updatedAtTo": JANUARY + 1},
        {"updatedAtFrom": JANUARY, "updatedAtTo": JULY + 1},
        {"updatedAtFrom": JULY},
        {},
    ]
    assert api.slices_of((), everything=True) == api.slices_of((), everything=False) == [Slice()]
    assert len(api.slices_of((JANUARY,), everything=False)) == 2


def test_only_the_window_that_holds_now_asks_what_changed() -> None:
    since = NOON - timedelta(hours=1)

    found = [filters_of(begun("incremental", since=since, part=each)) for each in windows()]

    assert found == [[], [], [{"updatedAtFrom": SECOND - 3600 - 1 - 600}], []]


def test_a_backfill_asks_the_windows_that_it_touches() -> None:
    since, until = datetime(2025, 6, 1, tzinfo=UTC), datetime(2025, 8, 1, tzinfo=UTC)

    found = [
        filters_of(begun("backfill", since=since, until=until, part=each)) for each in windows()
    ]

    june, august = 1_748_736_000, 1_754_006_400
    assert found == [
        [],
        [{"updatedAtFrom": june - 1, "updatedAtTo": JULY + 1}],
        [{"updatedAtFrom": JULY, "updatedAtTo": august + 1}],
        [],
    ]


@pytest.mark.parametrize("second", [JANUARY - 1, JANUARY, JANUARY + 1, JULY, JULY + 1])
@pytest.mark.parametrize("to_is_in", [True, False])
@pytest.mark.parametrize("from_is_in", [True, False])
def test_no_second_is_between_two_windows(second: int, *, from_is_in: bool, to_is_in: bool) -> None:
    def holds(filters: dict[str, int]) -> bool:
        since = filters.get("updatedAtFrom", 0) - from_is_in
        return since < second < filters.get("updatedAtTo", 2**40) + to_is_in

    assert any(holds(filters_of(begun("full", part=each))[0]) for each in windows()[:3])


# everything, every week


def passes_of(*, every: timedelta, days: int, account: str = "shop", lost: range = range(0)) -> Any:
    """Let a store's hourly passes follow each other; yield when which was full."""
    watermark = NOON
    for hour in range(1, 24 * days):
        now = NOON + timedelta(hours=hour)
        answered = api.first_pass(
            Slice(),
            Request("incremental", watermark, now),
            now,
            account=account,
            overlap_seconds=600.0,
            full_every_seconds=every.total_seconds(),
        )
        if answered.mode == "full":
            yield now
        if hour not in lost:  # a pass that failed leaves the watermark where it was
            watermark = now - timedelta(seconds=60)


@pytest.mark.parametrize("account", ["shop", "hanoi", "huế", ""])
def test_once_a_week_everything_is_walked_without_anybody_asking(account: str) -> None:
    full = list(passes_of(every=timedelta(days=7), days=70, account=account))

    assert len(full) == 10
    assert {later - earlier for earlier, later in pairwise(full)} == {timedelta(days=7)}


def test_a_moment_just_before_a_pass_is_not_passed_by() -> None:
    def due(since: float, now: float) -> bool:
        moments = (datetime.fromtimestamp(each, UTC) for each in (since, now))
        return api.full_is_due(*moments, every_seconds=WEEK, offset_seconds=500.0)

    assert not due(WEEK + 440, WEEK + 499)
    assert due(WEEK + 440, WEEK + 500)
    assert due(WEEK + 499, 3 * WEEK)
    assert not due(WEEK + 500, 2 * WEEK + 499)


def test_accounts_do_not_walk_everything_in_the_same_hour() -> None:
    first = [next(passes_of(every=timedelta(days=7), days=8, account=f"{n}")) for n in range(20)]

    assert len(set(first)) > 10


def test_a_full_pass_that_failed_is_still_due() -> None:
    (begins,) = passes_of(every=timedelta(days=7), days=7)
    hour = int((begins - NOON) / timedelta(hours=1))

    again = list(passes_of(every=timedelta(days=7), days=7, lost=range(hour, hour + 3)))

    assert again == [begins + timedelta(hours=n) for n in range(4)]


def test_it_may_be_left_out() -> None:
    assert list(passes_of(every=timedelta(0), days=70)) == []


def test_beside_windows_the_slice_of_everything_is_walked_once_a_week_and_else_asks_nothing() -> (
    None
):
    everything = windows()[-1]
    week, hour = (
        begun("incremental", since=since, part=everything, full_every_seconds=WEEK)
        for since in (NOON - timedelta(days=8), NOON)
    )

    assert (week.mode, filters_of(week)) == ("full", [{}])
    assert (hour.mode, hour.cursors) == ("incremental", ())


# moments and tokens


@pytest.mark.parametrize("text", ["2026-11-22T12:00:00Z", str(SECOND), "2026-11-22T19:00:00+07:00"])
def test_moments_may_be_written_in_each_of_these_ways(text: str) -> None:
    assert api.moment_of(text) == NOON


@pytest.mark.parametrize("text", ["", "soon", "9" * 30, "2026-13-01", "0001-01-01T00:00+07:00"])
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="wanted a moment"):
        api.moment_of(text)


def test_boundaries_ascend() -> None:
    with pytest.raises(ValueError, match="ascend"):
        api.boundaries_of(("2025-01-01", "2025-01-01"))


@pytest.mark.parametrize(
    ("data", "ends_at"),
    [
        ({"expiredAt": SECOND, "accessToken": "x"}, NOON),
        ({"expiredAt": str(SECOND)}, NOON),
        ({"expiredAt": "never"}, None),
        ({}, None),
        ([], None),
        (None, None),
    ],
)
def test_the_end_of_a_token_is_read_where_it_is_told(data: Any, ends_at: datetime | None) -> None:
    assert api.token_ends_at(answer({"code": 1, "data": data})) == ends_at
