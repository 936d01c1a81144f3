"""What header fields say of limits is read in all their dialects, and only narrows."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.limits import ONE_REQUEST, Gate
from syncd.limits.allowance import Allowance, announced, leave, opens_at
from syncd.limits.announced import (
    Announced,
    announcements,
    reset_seconds,
    retry_after_seconds,
)
from syncd.model import REQUESTS, FixedWindow, Quota, SlidingWindow

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
UNIX = int(NOW.timestamp())


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("30", 30.0),
        (" 30 ", 30.0),
        ("0", 0.0),
        ("1.5", 1.5),
        (str(UNIX + 20), 20.0),
        (f"{UNIX + 20}.25", 20.25),
        (str((UNIX + 20) * 1000), 20.0),
        (str((UNIX + 20) * 1000 + 500), 20.5),
        (str(UNIX - 20), 0.0),
        ("1s", 1.0),
        ("20ms", 0.02),
        ("120ms", 0.12),
        ("6m0s", 360.0),
        ("1m30.5s", 90.5),
        ("1h0m1s", 3600.0),  # no more than an hour
        ("8.64s", 8.64),
        ("500us", 0.0005),
        ("Sun, 01 Nov 2026 12:00:20 GMT", 20.0),
        ("86400", 3600.0),
        ("", None),
        ("soon", None),
        ("-1", None),
        ("1e9", None),
        ("s", None),
        ("٣", None),
        ("9" * 400, None),
    ],
)
def test_a_reset_is_read_in_every_dialect(value: str, seconds: float | None) -> None:
    found = reset_seconds(value, date=NOW)

    assert found == (None if seconds is None else pytest.approx(seconds, abs=1e-4))


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        (
            {
                "ratelimit-limit": "100, 100;w=60",
                "ratelimit-remaining": "5",
                "ratelimit-reset": "7",
            },
            Announced(REQUESTS, 100, 5, 7.0, 60.0),
        ),
        (
            {"ratelimit": "limit=100, remaining=50, reset=5", "ratelimit-policy": "100;w=10"},
            Announced(REQUESTS, 100, 50, 5.0, 10.0),
        ),
        (
            {"ratelimit": '"default";r=50;t=30', "ratelimit-policy": '"default";q=100;w=60'},
            Announced(REQUESTS, 100, 50, 30.0, 60.0),
        ),
        (
            {
                "x-ratelimit-limit": "50",
                "x-ratelimit-remaining": "0",
                "x-ratelimit-reset": f"{UNIX + 9}.5",
            },
            Announced(REQUESTS, 50, 0, 9.5),
        ),
        (
            {"x-rate-limit-remaining": "-3", "x-rate-limit-reset": "4"},
            Announced(REQUESTS, None, 0, 4.0),
        ),
        (
            {
                "x-ratelimit-limit-tokens": "200000",
                "x-ratelimit-remaining-tokens": "149984",
                "x-ratelimit-reset-tokens": "6m0s",
            },
            Announced("tokens", 200_000, 149_984, 360.0),
        ),
        ({"x-ratelimit-remaining": "many"}, Announced()),
    ],
)
def test_remaining_and_reset_are_read_in_every_dialect(
    headers: dict[str, str], said: Announced
) -> None:
    assert announcements(headers, date=NOW) == (said,)


def test_two_dialects_and_two_units_of_one_answer_are_all_heard() -> None:
    headers = {
        "ratelimit-remaining": "2",
        "ratelimit-reset": "1",
        "x-ratelimit-remaining": "2",
        "x-ratelimit-reset": str(UNIX + 1),
        "x-ratelimit-remaining-requests": "7",
        "x-ratelimit-reset-requests": "120ms",
        "content-type": "text/plain",
    }
    found = announcements(headers, date=NOW)

    assert sorted(each.remaining or 0 for each in found) == [2, 2, 7]
    assert all(each.unit == REQUESTS for each in found)


def test_what_is_left_of_a_burst_is_heard_beside_what_is_left_of_the_limit() -> None:
    headers = {
        "x-ratelimit-limit": "100",
        "x-ratelimit-remaining": "0",
        "x-ratelimit-reset": "12",
        "x-ratelimit-burst-limit": "50",
        "x-ratelimit-burst-remaining": "49",
    }

    assert announcements(headers, date=None) == (Announced("requests", 100, 0, 12.0, burst=49),)


@given(st.integers(0, 200), st.integers(0, 100), st.integers(0, 50))
def test_a_burst_that_is_told_of_is_used_where_that_is_declared_and_not_without(
    remaining: int, burst: int, in_flight: int
) -> None:
    said = Announced("requests", 100, remaining, 60.0, burst=burst)

    for uses, left in ((False, remaining - in_flight), (True, remaining + burst - in_flight)):
        known = announced(
            Allowance(), said, left_at=0.0, now=0.0, in_flight=in_flight, uses_burst=uses
        )
        sent = 0
        while opens_at(known, 1) <= 0.0:
            known, sent = leave(known, 1, now=0.0), sent + 1
        assert sent == max(left, 0)


def test_retry_after_ms_is_finer_than_retry_after() -> None:
    assert retry_after_seconds("2", date=None, milliseconds="1500") == 1.5
    assert retry_after_seconds("2", date=None, milliseconds="junk") == 2.0


@given(st.dictionaries(st.sampled_from(["ratelimit", "ratelimit-policy", "ratelimit-reset",
       "x-ratelimit-remaining", "x-ratelimit-reset-tokens"]), st.text(max_size=60)))  # fmt: skip
def test_junk_is_never_more_than_nothing(headers: dict[str, str]) -> None:
    for said in announcements(headers, date=NOW):
        assert said.resets_in_seconds is None or 0 <= said.resets_in_seconds <= 3600
        assert said.remaining is None or said.remaining >= 0


def gate_told(quota: Quota, *said: Announced, now: float = 1.0) -> Gate:
    gate = Gate(quota)
    ticket = gate.leave(ONE_REQUEST, now=0.0)
    gate.arrived(ticket, now=now)
    gate.announced(ticket, said, now=now)
    gate.ended(ticket, now=now)
    return gate


def test_what_is_left_holds_until_the_reset() -> None:
    gate = gate_told(Quota("k"), Announced(remaining=2, resets_in_seconds=30.0))

    for _ in range(2):
        assert gate.opens_at(ONE_REQUEST, now=1.0) <= 1.0
        gate.leave(ONE_REQUEST, now=1.0)
    assert gate.opens_at(ONE_REQUEST, now=1.0) == 31.0
    gate.leave(ONE_REQUEST, now=31.0)
    assert gate.opens_at(ONE_REQUEST, now=31.0) <= 31.0


PER_SECOND = Quota("k", SlidingWindow(3, 1.0))


@pytest.mark.parametrize("limit", [3, None])
def test_a_reset_in_whole_seconds_does_not_lengthen_a_window_of_one(limit: int | None) -> None:
    gate = gate_told(PER_SECOND, Announced(REQUESTS, limit, 0, 2.0), now=0.25)

    assert 1.0 <= gate.opens_at(ONE_REQUEST, now=0.25) < 1.1


@pytest.mark.parametrize(
    "said",
    [
        Announced(REQUESTS, 5000, 0, 2.0),  # of a day, which is over in a moment
        Announced(REQUESTS, 3, 0, 30.0),
        Announced(REQUESTS, None, 0, 30.0),
    ],
)
def test_a_reset_that_may_be_of_another_window_counts_as_it_is_told(said: Announced) -> None:
    gate = gate_told(PER_SECOND, said, now=0.25)

    assert gate.opens_at(ONE_REQUEST, now=0.25) == 0.25 + (said.resets_in_seconds or 0.0)


def test_requests_on_their_way_are_taken_off_what_is_left() -> None:
    gate = Gate(Quota("k"))
    first, *_ = [gate.leave(ONE_REQUEST, now=0.0) for _ in range(3)]
    gate.announced(first, [Announced(remaining=3, resets_in_seconds=10.0)], now=1.0)

    gate.leave(ONE_REQUEST, now=1.0)
    assert gate.opens_at(ONE_REQUEST, now=1.0) == 11.0


def test_an_answer_to_an_earlier_request_knows_less() -> None:
    gate = Gate(Quota("k"))
    early, late = gate.leave(ONE_REQUEST, now=0.0), gate.leave(ONE_REQUEST, now=1.0)
    gate.ended(early, now=2.0)
    gate.announced(late, [Announced(remaining=0, resets_in_seconds=10.0)], now=2.0)
    gate.announced(early, [Announced(remaining=100, resets_in_seconds=10.0)], now=2.0)

    assert gate.opens_at(ONE_REQUEST, now=2.0) == 12.0


@given(limit=st.integers(1, 1000), remaining=st.integers(0, 1000))
def test_announcements_never_widen_what_is_declared(limit: int, remaining: int) -> None:
    said = Announced(REQUESTS, limit, remaining, 5.0, 60.0)
    gate = gate_told(Quota("k", SlidingWindow(10, 60.0)), said)

    left = 1
    while gate.opens_at(ONE_REQUEST, now=1.0) <= 1.0:
        gate.leave(ONE_REQUEST, now=1.0)
        left += 1
    assert left == max(1, min(10, limit, remaining + 1))


def test_a_fixed_window_begins_anew_where_its_phase_is_announced_and_else_not() -> None:
    said = Announced(resets_in_seconds=4.0)
    known = gate_told(Quota("k", FixedWindow(1, 30.0, phase="announced")), said)
    unknown = gate_told(Quota("k", FixedWindow(1, 30.0)), said)

    assert known.opens_at(ONE_REQUEST, now=1.0) == 5.0
    assert known.opens_at(ONE_REQUEST, now=5.0) <= 5.0
    assert unknown.opens_at(ONE_REQUEST, now=5.0) >= 30.0
