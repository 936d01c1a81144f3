"""What syncd is to reach against limits, in small: `make simulate-report` plays it at full size."""

from __future__ import annotations

import pytest
from judge import Allowed, Judge
from plot import sparkline, svg
from scenarios import SCENARIOS, Scenario, play


@pytest.mark.parametrize(
    "scenario",
    [pytest.param(each, id=each.name) for each in SCENARIOS],
)
def test_what_a_limit_allows_is_used(scenario: Scenario, worlds: str) -> None:
    reached = play(scenario, worlds, small=True)

    assert reached.misses == []
    assert reached.judge.admitted > 0


def judged(form: Allowed, *moments: float) -> list[bool]:
    judge = Judge("all", form)
    return [judge.arrives(at, sender=1, left_at=at) for at in moments]


def test_the_judge_keeps_to_the_form_that_is_stated() -> None:
    five = [0.0, 0.1, 9.9, 10.0, 10.05]

    assert judged(Allowed("fixed", 3, 10.0), *five, 10.1) == [True] * 6
    assert judged(Allowed("sliding", 3, 10.0), *five) == [True, True, True, True, False]
    assert judged(Allowed("bucket", 1, 10.0, burst=2), *five) == [True, True, False, True, False]


def test_a_call_counts_as_made_while_locked_if_its_sender_knew() -> None:
    judge = Judge("all", None)
    hears = judge.lock(10.0, 20.0)
    hears(1, 10.5)

    judge.arrives(11.0, sender=1, left_at=10.4)
    judge.arrives(11.0, sender=2, left_at=10.9)
    assert judge.calls_while_locked == 0
    judge.arrives(12.0, sender=1, left_at=11.9)
    judge.arrives(20.0, sender=1, left_at=19.9)
    assert judge.calls_while_locked == 1
    assert (judge.refusals, judge.locked_seconds) == (3, 10.0)


def test_who_heard_of_a_shorter_lock_keeps_to_that_one() -> None:
    judge = Judge("all", None)
    judge.lock(10.0, 20.0)(1, 10.5)
    judge.lock(10.2, 12.0)(2, 10.7)

    judge.arrives(13.0, sender=2, left_at=12.9)
    assert judge.calls_while_locked == 0
    judge.arrives(11.0, sender=2, left_at=10.9)
    judge.arrives(13.0, sender=1, left_at=12.9)
    assert judge.calls_while_locked == 2


def test_a_plot_shows_what_came_and_what_was_allowed() -> None:
    judge = Judge("all", Allowed("sliding", 60, 60.0))
    for second in range(100):
        judge.arrives(float(second), sender=1, left_at=float(second))

    drawn = svg("a & b", judge, 100.0, [(0.0, 1.0), (50.0, 2.0)])
    assert "a &amp; b" in drawn
    assert drawn.count("<polyline") == 4
    assert len(sparkline(judge, 100.0)) == 60
