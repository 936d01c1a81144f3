"""The gate of one quota: all its windows, its lock, what was announced, and what is sought."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import attrs

from syncd.limits import allowance, seeking, windows
from syncd.limits import lock as locks
from syncd.limits.allowance import Allowance
from syncd.limits.announced import Announced
from syncd.limits.lock import Lock
from syncd.limits.seeking import Sought
from syncd.limits.transit import Transit
from syncd.limits.windows import Count, Pace, SlidingLog, Slip, count_of
from syncd.model import REQUESTS, Quota, SlidingWindow, TokenBucket

ONE_REQUEST: Mapping[str, int] = {REQUESTS: 1}
_UNTOLD = Allowance()


def unfit(costs: Mapping[str, int]) -> str | None:
    """Say which cost is no number of units; of one that is none, no window would open again."""
    for unit, cost in costs.items():
        if not isinstance(cost, int) or isinstance(cost, bool) or cost < 0:
            return f"costs {cost!r:.40} {unit}, which is no whole number"
    return None


@attrs.define(eq=False)
class Ticket:
    """The right of one request to be in flight, and what it is counted as."""

    left_at: float
    costs: Mapping[str, int]
    slips: tuple[tuple[Count, Slip], ...]
    arrived: bool = False  # the head of its answer is here
    ended: bool = False
    tries: bool = False  # whether an origin that was left alone answers again


class Gate:
    """What one quota key has used. It waits for nobody: every moment is told or answered.

    `opens_at`, and if that is not in the future `leave`; then `arrived` when the head of the answer
    is here, and `ended` in any case.
    """

    def __init__(self, quota: Quota) -> None:
        self.quota = quota
        self.lock = Lock()
        self.in_flight = 0
        self._counts = [count_of(window) for window in quota.windows]
        self._transit = Transit()
        self._allowances: dict[str, Allowance] = {}
        self._costs_in_flight: dict[str, int] = {}
        self._sought = _sought(quota)

    @property
    def rate(self) -> float | None:
        """Return the rate that is sought, in requests per second."""
        return None if self._sought is None else self._sought.rate

    def used(self, now: float) -> list[tuple[Count, float]]:
        """Return what is used of each window."""
        late_seconds = self._transit.late_seconds
        return [(each, each.used(now, late_seconds=late_seconds)) for each in self._counts]

    def declare(self, quota: Quota) -> None:
        """Take a new declaration of the same quota; what was spent of like windows stays spent."""
        if quota == self.quota:
            return
        old = {_kind(count): count for count in self._counts}
        self._counts = [count_of(window) for window in quota.windows]
        for place, count in enumerate(self._counts):
            known = old.get(_kind(count))
            if known is not None:
                known.declared = count.declared
                self._counts[place] = known
        sought = _sought(quota)
        if sought is None or self._sought is None:
            self._sought = sought
        self.quota = quota

    def refuses(self, costs: Mapping[str, int]) -> str | None:
        """Say why a request of such costs could never pass; `None` where it can."""
        if (why := unfit(costs)) is not None:
            return why
        for window in self.quota.windows:
            if window.unit not in costs:
                return f"names no cost in {window.unit}, which its quota counts"
            most = window.burst if isinstance(window, TokenBucket) else window.most
            if costs[window.unit] > most:
                return f"costs {costs[window.unit]} {window.unit}, and {most} are allowed at once"
        return None

    def charge(self, costs: Mapping[str, int]) -> float:
        """Return what a request takes of the quota, in requests of the steady pace."""
        if costs is ONE_REQUEST or not self.quota.windows:
            return 1.0
        share = max(costs[window.unit] / window.most for window in self.quota.windows)
        requests = [window.most for window in self.quota.windows if window.unit == REQUESTS]
        return max(1.0, share * min(requests, default=1))

    def allows_at(self, costs: Mapping[str, int]) -> float:
        """Return when the upstream's announcements let a request of such costs pass."""
        return max(
            (
                allowance.opens_at(each, costs.get(unit, 0))
                for unit, each in self._allowances.items()
            ),
            default=-math.inf,
        )

    def opens_at(self, costs: Mapping[str, int], *, now: float) -> float:
        """Return when a request of such costs may leave: at or before `now`, at once.

        What is in the future may come nearer with every answer. Nothing changes by asking, so a
        waiter that gives up has used nothing.
        """
        opens_at = max(self.lock.until, self.allows_at(costs) if self._allowances else -math.inf)
        if self._sought is not None:
            opens_at = max(opens_at, seeking.opens_at(self._sought))
        late_seconds = self._transit.late_seconds if self._counts else 0.0
        for count in self._counts:
            cost = costs.get(count.declared.unit, 0)  # of a unit that was declared just now
            if isinstance(count, Pace):
                opens_at = max(opens_at, count.opens_at(cost, late_seconds=late_seconds))
            elif not allowance.has_burst(self._above(count), cost, now=now):
                room_at = count.opens_at(cost, now=now, late_seconds=late_seconds)
                opens_at = max(opens_at, room_at)
        return opens_at

    def leave(self, costs: Mapping[str, int], *, now: float) -> Ticket:
        """Count a request that leaves now."""
        slips = tuple((each, self._slip(each, costs, now=now)) for each in self._counts)
        for unit, each in self._allowances.items():
            left = allowance.leave(each, costs.get(unit, 0), now=now)
            self._allowances[unit] = left
        if self._sought is not None and self.quota.adaptive is not None:
            self._sought = seeking.leave(self._sought, self.quota.adaptive, now=now)
        for unit, cost in costs.items():
            self._costs_in_flight[unit] = self._costs_in_flight.get(unit, 0) + cost
        self.in_flight += 1
        return Ticket(now, costs, slips)

    def _slip(self, count: Count, costs: Mapping[str, int], *, now: float) -> Slip:
        """Count a request in a window, which does not count what is of the burst above it."""
        cost = costs.get(count.declared.unit, 0)
        is_above = allowance.bursts(self._above(count), cost, now=now)
        return count.leave(0 if is_above else cost, now=now)

    def _above(self, count: Count) -> Allowance:
        """Return what answers told of a window's burst: nothing where it is left to others."""
        known = self._allowances.get(count.declared.unit) if _uses_burst(count) else None
        return known or _UNTOLD

    def arrived(self, ticket: Ticket, *, now: float, refused: bool = False) -> None:
        """Note that the head of an answer is here: the request was received before.

        What was `refused` was answered sooner than others are, for want of work, and does not tell
        what they take: by its measure every one of them would be late.
        """
        if ticket.arrived:
            return
        ticket.arrived = True
        seconds = now - ticket.left_at
        if not refused:
            self._transit.note(seconds)
        for count, slip in ticket.slips:
            count.received(slip, after_seconds=seconds, transit=self._transit)

    def ended(self, ticket: Ticket, *, now: float) -> None:
        """Note that a request is over; one that had no answer was received by now, if ever."""
        if ticket.ended:
            return
        ticket.ended = True
        self.in_flight -= 1
        for unit, cost in ticket.costs.items():
            self._costs_in_flight[unit] -= cost
        if not ticket.arrived:
            for count, slip in ticket.slips:
                count.received(slip, after_seconds=now - ticket.left_at, transit=self._transit)

    def cost(self, ticket: Ticket, costs: Mapping[str, int]) -> None:
        """Note what a request has really cost, as its answer tells.

        Raises: `ValueError` for what is no cost.
        """
        if (why := unfit(costs)) is not None:
            raise ValueError(f"an answer {why}")
        for count, slip in ticket.slips:
            real = costs.get(count.declared.unit)
            if (
                real is not None
                and real != slip.cost
                and (self.quota.gives_back or real > slip.cost)
            ):
                count.correct(slip, real)

    def announced(self, ticket: Ticket, said: Iterable[Announced], *, now: float) -> None:
        """Take what an answer says of what is left."""
        for each in said:
            others = self._costs_in_flight.get(each.unit, 0)
            others -= 0 if ticket.ended else ticket.costs.get(each.unit, 0)
            self._allowances[each.unit] = allowance.announced(
                self._allowances.get(each.unit, _UNTOLD),
                each,
                left_at=ticket.left_at,
                now=now,
                in_flight=others,
                turn_seconds=windows.turn_seconds(self.quota.windows, each),
                uses_burst=any(map(_uses_burst, self._counts)),
            )
            for count in self._counts:
                if isinstance(count, SlidingLog) and count.declared.unit == each.unit:
                    count.announced(each, now=now)

    def throttled(
        self, *, left_at: float, now: float, asked_seconds: float | None, chance: float
    ) -> float | None:
        """Lock for everybody: the request that left at `left_at` was told to wait.

        Where a rate is sought and no wait was asked for, the cut of the rate is the answer to the
        first refusal; a lock answers those that follow. Returns the seconds of the lock if news.
        """
        if asked_seconds and self.quota.lock_max_seconds is not None:
            asked_seconds = min(asked_seconds, self.quota.lock_max_seconds)
        now_locked, news = locks.throttled(
            self.lock, left_at=left_at, now=now, asked_seconds=asked_seconds, chance=chance
        )
        if self._sought is not None and not asked_seconds and now_locked.strikes <= 1:
            self.lock = attrs.evolve(now_locked, until=self.lock.until, seconds=self.lock.seconds)
            return None
        self.lock = now_locked
        for count in self._counts:  # no burst for whoever was told off, even if saved up
            if isinstance(count, Pace):
                count.empty(self.lock.until)
        return news

    def refused(self, *, left_at: float, now: float) -> bool:
        """Cut the rate that is sought; say whether that changed it."""
        if self._sought is None or self.quota.adaptive is None:
            return False
        before = self._sought
        self._sought = seeking.refused(before, self.quota.adaptive, left_at=left_at, now=now)
        return self._sought is not before

    def answered(self, *, left_at: float) -> None:
        """Note that a request was answered, not told to wait."""
        self.lock = locks.answered(self.lock, left_at=left_at)


def _sought(quota: Quota) -> Sought | None:
    """Seek a rate where that is allowed and no window of requests is declared."""
    if quota.adaptive is None or any(window.unit == REQUESTS for window in quota.windows):
        return None
    return Sought(quota.adaptive.rate_start)


def _uses_burst(count: Count) -> bool:
    window = count.declared
    return isinstance(window, SlidingWindow) and window.burst == "announced"


def _kind(count: Count) -> tuple[type[Count], str, float]:
    return type(count), count.declared.unit, count.declared.per_seconds
