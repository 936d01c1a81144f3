"""When a round begins, what became of it, and when the next one is due."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.rounds import Begin, End, JobState, PassBy, Thresholds, judge, step
from syncd.schedule import first_moment, next_moment

NOW = datetime(2026, 11, 22, 1, 30, tzinfo=UTC)


def state(**other: Any) -> JobState:
    said: dict[str, Any] = {
        "name": "cars",
        "paused": False,
        "next_at": None,
        "asked": None,
        "cancelled": False,
        "round_id": None,
        "round_number": None,
        "started_at": None,
        "owed": False,
        "now": NOW,
    }
    return JobState(**(said | other))


RUNNING = {"round_id": 7, "round_number": 3, "started_at": NOW, "owed": True}
DUE, LATER = {"next_at": NOW}, {"next_at": NOW + timedelta(seconds=1)}


@pytest.mark.parametrize(
    ("stands", "overlap", "expected"),
    [
        ({}, "skip", None),
        (LATER, "skip", None),
        (DUE, "skip", Begin("schedule")),
        ({"asked": "after"} | LATER, "skip", Begin("after")),
        (DUE | {"paused": True}, "queue", PassBy("it is paused")),
        ({"asked": "trigger", "paused": True}, "skip", None),
        (RUNNING | LATER, "queue", None),
        (RUNNING | DUE, "skip", PassBy("round 3 still runs")),
        (RUNNING | DUE, "queue", PassBy("round 3 still runs", queue=True)),
        (RUNNING | {"asked": "trigger"}, "skip", None),
        (RUNNING | {"owed": False} | DUE, "skip", End()),
        (RUNNING | {"cancelled": True}, "skip", End(cancelled=True)),
        ({"cancelled": True} | LATER, "skip", None),
        (RUNNING | {"owed": False, "paused": True}, "skip", End()),
    ],
)
def test_one_look_at_a_job_says_what_is_to_be_done(
    stands: dict[str, Any], overlap: Any, expected: Any
) -> None:
    assert step(state(**stands), overlap=overlap) == expected


verdicts = st.dictionaries(
    st.sampled_from(["complete", "partial", "waiting", "failed", "parked", "held"]),
    st.integers(1, 400),
)
shares = st.floats(0, 1)


@given(verdicts, shares, shares)
def test_a_round_is_judged_by_the_share_that_is_complete(
    counts: dict[str, int], one: float, other: float
) -> None:
    thresholds = Thresholds(max(one, other), min(one, other))

    judged = judge(counts, thresholds)

    total = sum(counts.values())
    assert (judged.partitions, judged.complete) == (total, counts.get("complete", 0))
    if total <= 1:
        return
    share = judged.complete / total
    if share >= thresholds.partial_below:
        assert judged.status == "complete"
    elif share < thresholds.failed_below - 1e-6:
        assert judged.status == "failed"
    for verdict, count in counts.items():
        assert f"{count} " in judged.message, verdict


@pytest.mark.parametrize(
    ("verdict", "status"),
    [
        ("complete", "complete"),
        ("partial", "partial"),
        ("waiting", "partial"),
        ("failed", "failed"),
        ("parked", "failed"),
    ],
)
def test_a_round_of_one_partition_ends_as_that_does(verdict: str, status: str) -> None:
    assert judge({verdict: 1}, Thresholds()).status == status


def test_ninety_of_a_hundred_are_no_failure_whatever_floats_say() -> None:
    assert judge({"complete": 90, "failed": 10}, Thresholds()).status == "partial"
    assert judge({"complete": 89, "failed": 11}, Thresholds()).status == "failed"
    assert judge({"complete": 3, "failed": 7}, Thresholds(0.3, 0.1 + 0.2)).status == "complete"


# --- Moments --------------------------------------------------------------------------------------


def following(*, planned_at: datetime | None, now: datetime = NOW, **schedule: Any) -> Any:
    said = {"every_seconds": None, "cron": None, "timezone": "UTC"} | schedule
    return next_moment(**said, planned_at=planned_at, now=now)


@given(st.floats(1, 1e6), st.floats(0, 1e7))
def test_an_interval_keeps_its_grid_however_late_a_round_began(every: float, late: float) -> None:
    planned_at = NOW - timedelta(seconds=late)

    moment = following(planned_at=planned_at, every_seconds=every)

    assert moment > NOW - timedelta(milliseconds=1)
    assert moment <= NOW + timedelta(seconds=every, milliseconds=1)
    steps = (moment - planned_at).total_seconds() / every
    assert abs(steps - round(steps)) < 1e-3


def test_missed_moments_count_once() -> None:
    a_week_ago = NOW - timedelta(days=7)

    assert following(planned_at=a_week_ago, every_seconds=3600.0) == NOW + timedelta(hours=1)
    assert following(planned_at=a_week_ago, cron="0 2 * * *") == NOW + timedelta(minutes=30)


def test_cron_is_read_in_its_time_zone() -> None:
    assert following(planned_at=None, cron="0 9 * * *", timezone="Asia/Ho_Chi_Minh") == (
        NOW + timedelta(minutes=30)
    )


def test_a_cron_moment_comes_once_across_a_change_of_the_clocks() -> None:
    """02:30 does not exist on 2026-03-29 in Berlin, and comes twice on 2026-10-25."""
    berlin = ZoneInfo("Europe/Berlin")
    for day in (
        datetime(2026, 3, 28, 12, tzinfo=berlin),
        datetime(2026, 10, 24, 12, tzinfo=berlin),
    ):
        now, found = day.astimezone(UTC), []
        for _ in range(3):
            now = following(planned_at=None, now=now, cron="30 2 * * *", timezone="Europe/Berlin")
            found.append(now.astimezone(berlin).date())
        assert found == [day.date() + timedelta(days=n) for n in (1, 2, 3)]


def test_a_new_interval_begins_at_once_and_a_new_cron_at_its_moment() -> None:
    def first(**schedule: Any) -> Any:
        said = {"every_seconds": None, "cron": None, "timezone": "UTC"} | schedule
        return first_moment(**said, now=NOW)

    assert first(every_seconds=60.0) == NOW
    assert first(cron="0 2 * * *") == NOW + timedelta(minutes=30)
    assert first() is None
    assert following(planned_at=None) is None
