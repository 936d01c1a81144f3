"""What effects cost the syncs that they follow from, and how soon a queue of them is gone."""

from __future__ import annotations

import psycopg
import pytest
from effect_stages import drained, tracked_mail
from judge import Judge
from scenarios import Scenario, play
from stages import Stage
from stand_ins import ship24

SAME = 0.02  # of the scan's duration
USED_LEAST = 0.95  # of the limit

MODES: tuple[ship24.Mode, ...] = ("up", "slow", "down")
QUEUED = "SELECT count(*) FROM syncd.effect"


def test_a_scan_takes_as_long_whether_ship24_answers_soon_late_or_never(worlds: str) -> None:
    seconds: dict[ship24.Mode, float] = {}
    for mode in MODES:
        stage = tracked_mail(small=True, mode=mode)
        reached = play(of(stage), worlds, small=True)
        assert reached.misses == []
        assert count(worlds, QUEUED) > 50
        assert stage.others[ship24.HOST].judge.calls > 0
        assert (count(worlds, ship24.DELIVERED) > 0) == (mode == "up")
        seconds[mode] = reached.seconds

    assert seconds == pytest.approx(dict.fromkeys(MODES, seconds["up"]), rel=SAME)


def test_a_queue_of_thousands_is_gone_as_soon_as_the_limit_allows(worlds: str) -> None:
    reached = play(of(drained(small=True)), worlds, small=True)

    assert reached.misses == []
    assert count(worlds, ship24.DELIVERED) == 5_000
    assert used(reached.judge, reached.seconds) >= USED_LEAST


def of(stage: Stage) -> Scenario:
    return Scenario("", "", lambda _: stage)


def used(judge: Judge, seconds: float) -> float:
    """Return how much of its limit was used; a judge sees calls, each with as many as may be."""
    assert judge.allowed is not None
    assert judge.admitted == judge.calls
    return judge.admitted / seconds / judge.allowed.per_second


def count(dsn: str, query: str) -> int:
    with psycopg.connect(dsn) as connection:
        found = connection.execute(query.encode()).fetchone()
    assert found is not None
    return int(found[0])
