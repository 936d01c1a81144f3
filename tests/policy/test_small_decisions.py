"""Schedules, shares of a pool, exit codes, meters, the reckoned clock: pure decisions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.clock import DatabaseClock
from syncd.daemon import pool_size
from syncd.model import Page
from syncd.rounds import Thresholds
from syncd.store.registry import Life
from syncd.tally import Meter, Tally, progress
from syncd.verdicts import Result, Verdict, exit_code

NOW = datetime(2026, 11, 22, 1, 30, tzinfo=UTC)


@given(st.integers(1, 1000), st.integers(1, 50), st.integers(10, 5000))
def test_all_processes_together_stay_within_their_share(
    wanted: int, daemons: int, connections: int
) -> None:
    size = pool_size(wanted, Life(daemons, connections, NOW))

    assert 1 <= size <= max(1, wanted)
    assert size == 1 or size * daemons <= connections * 0.6


@pytest.mark.parametrize(
    ("verdicts", "code"),
    [
        ([], 0),
        (["complete"], 0),
        (["partial"], 3),
        (["waiting"], 3),
        (["failed"], 1),
        (["held"], 75),
        (["throttled"], 75),
        (["unavailable"], 69),
        (["complete"] * 19 + ["failed"], 3),
        (["complete"] * 8 + ["failed"] * 2, 1),
        (["complete"] * 8 + ["unavailable", "throttled"], 69),
        (["complete"] * 8 + ["partial"] * 2, 1),
        (["partial", "drained"], 75),
        (["complete", "drained", "failed"], 1),
    ],
)
def test_the_share_that_is_complete_and_the_worst_cause_make_the_exit_code(
    verdicts: list[Verdict], code: int
) -> None:
    assert exit_code([Result("p", verdict, "", None) for verdict in verdicts], Thresholds()) == code


def test_the_reckoned_clock_goes_on_without_asking_and_is_never_ahead() -> None:
    ticks = iter([100.0, 105.0, 108.0])
    clock = DatabaseClock(lambda: next(ticks))
    clock.observe(NOW)

    assert clock.now() == NOW + timedelta(seconds=3)


def test_a_clock_that_was_never_told_says_so() -> None:
    with pytest.raises(RuntimeError):
        DatabaseClock().now()


def test_a_rate_is_that_of_the_last_samples() -> None:
    meter = Meter(started=0.0, before=50)
    rates = [meter.rate(float(second), 50 + 100 * second) for second in range(1, 30)]

    assert rates == pytest.approx([100.0] * 29)


def test_progress_knows_its_end_only_with_a_total() -> None:
    names = {"run_id": 1, "job": "j", "partition": "p"}
    blind = progress(Tally(records=40), before=10, rate=5.0, in_flight=2, names=names)
    told = progress(Tally(records=40, total=100), before=10, rate=5.0, in_flight=2, names=names)

    assert (blind.processed, blind.percent, blind.eta_seconds) == (50, None, None)
    assert (told.percent, told.eta_seconds) == (50.0, 10.0)


def test_a_total_of_the_first_stream_is_scaled_to_all_records() -> None:
    page = Page({"cars": ["c"] * 10, "lots": ["l"] * 15}, total=1000)

    assert page.total_records("cars") == 2500
    assert Page({"cars": []}, total=1000).total_records("cars") is None
