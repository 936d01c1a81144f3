"""Laws of how Front's limits are kept: the gate of a company against the simulator's limits.

Time is a number here, and requests take theirs on the way, by chance.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from random import Random
from typing import Literal

import attrs
import pytest

from syncd import Secret
from syncd.limits import Gate, Ticket
from syncd.limits.announced import announcements
from syncd.model import REQUESTS
from syncd_front.settings import SEARCHES, Company, Settings, upstream
from syncd_front.simulator_limits import Limits, Refusal

BEGAN_AT = 1_763_600_000.0
MINUTE = 60.0
COST = {REQUESTS: 1, SEARCHES: 0}
CALLS = 100


@attrs.frozen(order=True)
class _Answer:
    """What comes back at a moment; of one moment the first that was asked for."""

    at: float
    number: int
    ticket: Ticket = attrs.field(order=False)
    told: Mapping[str, str] = attrs.field(order=False)
    refusal: Refusal | None = attrs.field(order=False)


class Traffic:
    """What one token sends as fast as its gate lets it, and another one beside it."""

    def __init__(self, *, burst: bool, tells_burst: bool = True, seed: int = 0) -> None:
        company = Company(Secret("t"), plan="professional", burst=burst)
        (quota,) = upstream(Settings(), company).quotas
        self.gate = Gate(quota)
        self.limits = Limits(CALLS)
        self.now = BEGAN_AT
        self.taken: list[float] = []
        self.refused = 0
        self._tells_burst = tells_burst
        self._random = Random(seed)
        self._road: list[_Answer] = []
        self._sent = 0
        self._arrived_at = 0.0

    def send(self, seconds: float, *, at_once: int = 20, others_a_minute: float = 0.0) -> None:
        """Send for so long, so many at once, while others send evenly."""
        until, other_at = self.now + seconds, self.now
        while True:
            now = self.gate.opens_at(COST, now=self.now) if len(self._road) < at_once else math.inf
            answered_at = self._road[0].at if self._road else math.inf
            at = min(max(now, self.now), answered_at, other_at if others_a_minute else math.inf)
            if at > until:
                break
            self.now = at
            if at == answered_at:
                self._answered()
            elif others_a_minute and at == other_at:
                self.limits.refuses(at, search=False, resource=None)
                other_at += MINUTE / others_a_minute
            else:
                self._leave()
        self.now = until

    def _leave(self) -> None:
        ticket = self.gate.leave(COST, now=self.now)
        # In order, as on one connection; what is counted first is told first.
        arrives_at = max(self.now, self._arrived_at) + self._random.random() * 0.001
        self._arrived_at = arrives_at
        refusal = self.limits.refuses(arrives_at, search=False, resource=None)
        if refusal is None:
            self.taken.append(arrives_at)
        else:
            self.refused += 1
        told = self.limits.headers(arrives_at)
        if not self._tells_burst:
            told = {name: value for name, value in told.items() if "burst" not in name}
        self._sent += 1
        answer = _Answer(arrives_at + 0.1, self._sent, ticket, told, refusal)
        heapq.heappush(self._road, answer)

    def _answered(self) -> None:
        answer = heapq.heappop(self._road)
        at, ticket, told = answer.at, answer.ticket, answer.told
        self.gate.arrived(ticket, now=at)
        said = announcements(told, date=datetime.fromtimestamp(at - 0.1, UTC))
        self.gate.announced(ticket, said, now=at)
        if answer.refusal is not None:
            asked = float(math.ceil(answer.refusal.seconds))
            self.gate.throttled(left_at=ticket.left_at, now=at, asked_seconds=asked, chance=0.5)
        self.gate.ended(ticket, now=at)

    def taken_within(self, begins: float, seconds: float) -> int:
        return sum(0 <= at - BEGAN_AT - begins < seconds for at in self.taken)


@pytest.mark.parametrize(
    ("plan", "calls", "searches"),
    [("starter", 50, 20), ("professional", 100, 40), ("enterprise", 200, 80)],
)
def test_a_plan_has_its_calls_a_minute_and_two_fifths_of_them_are_searches(
    plan: Literal["starter", "professional", "enterprise"], calls: int, searches: int
) -> None:
    (quota,) = upstream(Settings(), Company(Secret("t"), plan=plan)).quotas

    assert quota.per == "account"
    allowed = {(each.unit, each.most, each.per_seconds) for each in quota.windows}
    assert allowed == {(REQUESTS, calls, MINUTE), (SEARCHES, searches, MINUTE)}
    limits, at = Limits(calls), BEGAN_AT
    taken = [limits.refuses(at, search=True, resource=None) is None for _ in range(calls)]
    assert sum(taken) == searches, "as the simulator has it"


def test_a_lock_of_front_is_of_seconds_that_a_window_may_last_whatever_it_says() -> None:
    """Retry-After is documented in seconds, and was seen in milliseconds."""
    gate = Traffic(burst=False).gate
    gate.throttled(left_at=0.0, now=10.0, asked_seconds=30_000.0, chance=0.5)
    assert gate.lock.until == 130.0


def test_the_burst_is_left_to_others_unless_it_is_asked_for() -> None:
    traffic = Traffic(burst=False)
    traffic.send(20 * MINUTE)

    assert traffic.refused == 0
    assert traffic.taken_within(0, MINUTE) <= CALLS
    assert 0.95 * 20 * CALLS <= len(traffic.taken) <= 20 * CALLS
    assert traffic.limits.headers(traffic.now)["x-ratelimit-burst-remaining"] == str(CALLS // 2)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("at_once", [1, 20, 150])
def test_a_burst_that_is_asked_for_is_used_and_what_fills_up_of_it(at_once: int, seed: int) -> None:
    """Half as many again at first, and a twentieth more from then on."""
    traffic = Traffic(burst=True, seed=seed)
    traffic.send(20 * MINUTE, at_once=at_once)

    assert traffic.refused == 0
    assert traffic.taken_within(0, MINUTE) >= 0.95 * 1.5 * CALLS
    assert len(traffic.taken) >= 0.97 * (20 * CALLS + CALLS / 2 + 2 * CALLS / 2)


@pytest.mark.parametrize("others", [1, 60, 120, 149])
def test_what_others_have_used_of_it_is_told_and_nobody_is_refused(others: int) -> None:
    traffic = Traffic(burst=True)
    for _ in range(others):
        assert traffic.limits.refuses(traffic.now, search=False, resource=None) is None
    traffic.send(10 * MINUTE, at_once=1)

    assert traffic.refused == 0
    assert traffic.taken_within(0, MINUTE) <= 1.5 * CALLS + 5 - others


@pytest.mark.parametrize("at_once", [1, 4, 20])
def test_beside_others_who_never_wait_few_are_refused(at_once: int) -> None:
    """Whoever comes first when a call is free again has it: that cannot be told beforehand."""
    alone, sharing = Traffic(burst=False), Traffic(burst=True)
    for traffic in (alone, sharing):
        traffic.send(10 * MINUTE, at_once=at_once, others_a_minute=60)

    assert sharing.refused <= 0.06 * len(sharing.taken)
    assert len(sharing.taken) > len(alone.taken)


def test_a_burst_of_which_nothing_is_told_is_left_to_others() -> None:
    traffic = Traffic(burst=True, tells_burst=False)
    traffic.send(10 * MINUTE)

    assert traffic.refused == 0
    assert traffic.taken_within(0, MINUTE) <= CALLS


def test_a_burst_fills_up_again_while_nothing_is_sent() -> None:
    traffic = Traffic(burst=True)
    traffic.send(MINUTE)
    traffic.now += 10 * MINUTE
    before = len(traffic.taken)
    traffic.send(MINUTE)

    assert traffic.refused == 0
    assert len(traffic.taken) - before >= 0.95 * 1.5 * CALLS
