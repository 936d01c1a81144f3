"""Header fields are read strictly: what is not understood counts as absent."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.http.headers import accepts, content_length, is_json, media_type
from syncd.limits.announced import http_date, retry_after_seconds

moments = st.datetimes(
    min_value=datetime(1970, 1, 1),  # noqa: DTZ001  # the strategy adds the zone
    max_value=datetime(2200, 1, 1),  # noqa: DTZ001
    timezones=st.just(UTC),
).map(lambda moment: moment.replace(microsecond=0))


@given(st.text(max_size=80))
def test_any_text_is_a_wait_within_an_hour_or_absent(text: str) -> None:
    seconds = retry_after_seconds(text, date=datetime(2026, 11, 1, tzinfo=UTC))

    assert seconds is None or 0 <= seconds <= 3600


@given(st.integers(0, 10**400))
def test_delay_seconds_are_read_up_to_an_hour(asked: int) -> None:
    assert retry_after_seconds(f" {asked} ", date=None) == min(asked, 3600)


@given(date=moments, delta=st.integers(-10_000, 10_000))
def test_a_date_is_measured_against_the_answers_own_date(date: datetime, delta: int) -> None:
    value = format_datetime(date + timedelta(seconds=delta), usegmt=True)

    assert retry_after_seconds(value, date=date) == min(max(delta, 0), 3600)
    assert retry_after_seconds(value, date=None) is None


@pytest.mark.parametrize(
    "value",
    [
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
    ],
)
def test_all_three_forms_of_an_http_date_are_read(value: str) -> None:
    assert http_date(value) == datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC)


@given(st.one_of(st.none(), st.text(max_size=100)))
def test_any_text_is_a_date_in_utc_or_absent(text: str | None) -> None:
    moment = http_date(text)

    assert moment is None or moment.tzinfo is UTC


@pytest.mark.parametrize("junk", ["", "-5", "1.5", "soon", "²", "٣", "1e3", "1 2", "0x10"])
def test_junk_is_no_wait(junk: str) -> None:
    assert retry_after_seconds(junk, date=datetime(2026, 11, 1, tzinfo=UTC)) is None


@pytest.mark.parametrize(
    ("value", "media", "charset"),
    [
        ("application/json", "application/json", None),
        ('Application/JSON ; Charset="UTF-8"', "application/json", "utf-8"),
        ("text/csv;header=present;charset=latin-1", "text/csv", "latin-1"),
        ("", "", None),
    ],
)
def test_a_content_type_is_a_media_type_and_perhaps_a_charset(
    value: str, media: str, charset: str | None
) -> None:
    assert media_type({"content-type": value}) == (media, charset)


@pytest.mark.parametrize(
    ("accept", "media", "is_accepted"),
    [
        ("application/json", "application/json", True),
        ("application/json", "application/vnd.api+json", True),
        ("application/vnd.api+json", "application/json", True),
        ("application/json", "text/json", False),
        ("application/json", "application/json-seq", False),
        ("application/json", "", False),
        ("text/csv, application/json;q=0.5", "text/csv", True),
        ("text/*", "text/csv", True),
        ("text/*", "textual/csv", False),
        ("*/*", "image/png", True),
        ("text/csv", "application/json", False),
    ],
)
def test_an_answer_is_what_was_asked_for(accept: str, media: str, is_accepted: bool) -> None:
    assert accepts(accept, media) is is_accepted


def test_json_is_known_by_its_suffix() -> None:
    assert is_json("application/problem+json")
    assert not is_json("application/jsonp")


@pytest.mark.parametrize(("value", "length"), [("12", 12), ("", None), ("1_0", None), ("-1", None)])
def test_a_length_is_digits(value: str, length: int | None) -> None:
    assert content_length({"content-length": value}) == length
