"""A rate that nobody announces is found, kept to, and found again when it moves."""

from __future__ import annotations

import bisect
import heapq
from collections import deque
from itertools import count
from random import Random
from typing import Protocol

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.limits import ONE_REQUEST, Gate, Ticket
from syncd.limits.seeking import CUTS, NEAR, PATIENT_SECONDS, Sought, leave, opens_at, refused
from syncd.model import Adaptive, Quota, SlidingWindow

BOUNDS = Adaptive()
HOUR = 3600


def allowed(at: float) -> int:
    """10 a second, after 20 minutes 4, after 40 minutes 20."""
    return 10 if at < 1200 else 4 if at < 2400 else 20


class Judge(Protocol):
    def __call__(self, at: float) -> bool: ...


@attrs.define
class Sliding:
    """At most so many in any second."""

    passed: deque[float] = attrs.field(factory=deque)

    def __call__(self, at: float) -> bool:
        while self.passed and self.passed[0] <= at - 1.0:
            self.passed.popleft()
        if len(self.passed) >= allowed(at):
            return False
        self.passed.append(at)
        return True


@attrs.define
class Bucket:
    """A token bucket with a burst of two."""

    level: float = 2.0
    at: float = 0.0

    def __call__(self, at: float) -> bool:
        self.level = min(2.0, self.level + (at - self.at) * allowed(at))
        self.at = at
        if self.level < 1.0:
            return False
        self.level -= 1.0
        return True


def an_hour(judge: Judge, seed: int) -> tuple[list[float], int]:
    """Return when requests were let pass, and how many were refused; latency 0.2 to 0.3 s."""
    gate, chance, order = Gate(Quota("k", adaptive=BOUNDS)), Random(seed), count()
    road: list[tuple[float, int, str, Ticket]] = []
    passed, refusals, now = [], 0, 0.0
    while now < HOUR:
        leaves_at = max(gate.opens_at(ONE_REQUEST, now=now), now)
        if not road or road[0][0] > leaves_at:
            now = leaves_at
            ticket = gate.leave(ONE_REQUEST, now=now)
            arrives_at = now + 0.1 + chance.random() * 0.05
            heapq.heappush(road, (arrives_at, next(order), "arrives", ticket))
            continue
        now, _, what, ticket = heapq.heappop(road)
        if what == "arrives":
            what = "answered" if judge(now) else "refused"
            passed += [now] if what == "answered" else []
            refusals += what == "refused"
            heapq.heappush(road, (now + 0.1 + chance.random() * 0.05, next(order), what, ticket))
            continue
        gate.arrived(ticket, now=now)
        gate.ended(ticket, now=now)
        if what == "refused":
            left_at = ticket.left_at
            gate.throttled(left_at=left_at, now=now, asked_seconds=None, chance=chance.random())
            gate.refused(left_at=left_at, now=now)
        else:
            gate.answered(left_at=ticket.left_at)
    return sorted(passed), refusals


@pytest.mark.parametrize("kind", [Sliding, Bucket])
def test_an_unknown_limit_that_moves_is_reached_within_a_minute(
    kind: type[Sliding | Bucket],
) -> None:
    """To 90 % of it, as a mean over 10 s, with less than 2 % refused over the hour."""
    passed, refusals = an_hour(kind(), seed=1)

    def share(began_at: int) -> float:
        many = bisect.bisect(passed, began_at + 10) - bisect.bisect(passed, began_at)
        return many / 10 / allowed(began_at)

    assert refusals / (refusals + len(passed)) < 0.02
    for changed_at in (0, 1200, 2400):
        assert any(share(at) >= 0.9 for at in range(changed_at, changed_at + 50))
        after = [share(at) for at in range(changed_at + 60, changed_at + 1190)]
        assert sum(after) / len(after) >= 0.9
        assert sum(each >= 0.9 for each in after) >= 0.9 * len(after)


def busily(sought: Sought, bounds: Adaptive, seconds: float) -> Sought:
    """Send as fast as it lets, for so long."""
    until = sought.left_at + seconds
    while (now := opens_at(sought)) <= until:
        sought = leave(sought, bounds, now=now)
    return sought


def test_from_a_remembered_4_to_18_a_second_in_46_s() -> None:
    sought = Sought(4.0 * NEAR, level=4.0, left_at=0.0)

    assert busily(sought, BOUNDS, PATIENT_SECONDS).rate == pytest.approx(4.0, rel=0.02)
    assert busily(sought, BOUNDS, 45).rate < 18 < busily(sought, BOUNDS, 48).rate


def test_a_rate_that_is_not_used_does_not_grow() -> None:
    sought = Sought(10.0, left_at=0.0)
    for now in range(10, 600, 10):
        sought = leave(sought, BOUNDS, now=float(now))

    assert sought.rate < 10.0 * 2 ** (60 * 0.25 / 12)  # what 60 requests at that pace would make


def test_refusals_of_requests_that_left_together_cut_once() -> None:
    sought = Sought(10.0, left_at=5.0)
    for left_at, now in ((4.8, 5.0), (4.9, 5.1), (5.0 - 1e-9, 5.2)):
        sought = refused(sought, BOUNDS, left_at=left_at, now=now)

    assert sought.rate == pytest.approx(10.0 * CUTS[0])
    assert sought.level == 10.0


def test_refusals_that_follow_each_other_cut_deeper() -> None:
    sought, rates = Sought(10.0, left_at=0.0), []
    for now in (1.0, 2.0, 3.0, 4.0):
        sought = refused(sought, BOUNDS, left_at=now - 0.1, now=now)
        rates.append(round(sought.rate, 3))

    assert rates == [9.5, 7.6, 3.8, 1.9]


@given(
    st.lists(st.tuples(st.floats(0, 30), st.booleans()), max_size=200),
    st.floats(0.1, 5),
    st.floats(5, 100),
)
def test_the_rate_stays_within_its_bounds(
    steps: list[tuple[float, bool]], least: float, most: float
) -> None:
    bounds = Adaptive(rate_least=least, rate_start=5.0, rate_most=most)
    sought, now = Sought(5.0), 0.0
    for seconds, is_refused in steps:
        now = max(now + seconds, opens_at(sought))
        sought = leave(sought, bounds, now=now)
        if is_refused:
            sought = refused(sought, bounds, left_at=now, now=now)

    assert least <= sought.rate <= most


def test_where_a_window_of_requests_is_declared_no_rate_is_sought() -> None:
    assert Gate(Quota("k", SlidingWindow(10, 1.0), adaptive=BOUNDS)).rate is None
    tokens = SlidingWindow(10, 1.0, unit="tokens")
    assert Gate(Quota("k", tokens, adaptive=BOUNDS)).rate == BOUNDS.rate_start
