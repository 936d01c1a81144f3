"""One daemon's part of a shared quota: the tokens it holds, and when it asks for more.

    shared      requests leave by tokens that the ledger granted, each at its moment
    unshared    the ledger is out of reach: they leave at `FRACTION` of limit / live daemons, evenly

Going over from one to the other breaches nothing: tokens of before lie on the ledger's train, the
slower pace begins an interval later, and nobody comes back to a burst.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping

import attrs

from syncd.limits.bearing import Bearing
from syncd.limits.ledger import (
    ACTIVE_SECONDS,
    FRACTION,
    HORIZON_SECONDS,
    Ask,
    Grant,
    Lane,
    Want,
    lane_of,
)
from syncd.model import Quota

# Two questions a second for each key at most, but for news of a lock.
ASK_GAP_SECONDS = 0.5

# What was heard of locks holds for so long; whoever sends asks anew before.
NEWS_SECONDS = 1.0
POLL_SECONDS = 0.7


@attrs.define
class Train:
    """Tokens by our clock: each leaves its moment `slack_seconds` to whoever uses it."""

    begins_at: float
    interval_seconds: float
    count: int
    floor_at: float
    slack_seconds: float
    used: int = 0

    @property
    def left(self) -> int:
        return self.count - self.used

    def moment(self, number: int) -> float:
        return max(self.begins_at + number * self.interval_seconds, self.floor_at)

    def expire(self, now: float, cost: int) -> None:
        """Lose the tokens that nobody has used in time; `cost` of them leave together."""
        if now <= self.floor_at + self.slack_seconds:
            return
        passed_seconds = now - self.slack_seconds - self.begins_at
        gone = math.ceil(passed_seconds / self.interval_seconds) - (cost - 1)
        self.used = min(max(self.used, gone), self.count)


class Share:
    """What one daemon may send of one quota key, as far as others leave it to him."""

    def __init__(self, key: str, quota: Quota, *, asker: str) -> None:
        self.key = key
        self.asker = asker
        self.sharers = 1
        self.unshared = False
        self._bearing = Bearing()
        self._left: deque[float] = deque()  # when requests left, over the last second
        self._owed: dict[str, int] = {}  # by requests that cost more than they had told
        self._locked_until = -math.inf  # which the ledger has not been told yet
        self._locked_told = -math.inf
        self._refusals = 0
        self._refusals_known = 0
        self._heard_at = self._asked_at = self._retry_at = -math.inf
        # Our last tokens on the ledger's train: where, how long, among how many.
        self._turn_at, self._turn_seconds, self._turn_among = -math.inf, 0.0, 1
        self._counted = False  # among those who ask
        self._empty = True
        self._daemons = 1
        self._next_at: dict[str, float] = {}
        self.declare(quota)

    def declare(self, quota: Quota) -> None:
        """Take a new declaration; tokens of windows that are no more are lost."""
        self._windows = quota.windows
        self._at_once: dict[str, int] = {}
        self._lanes = tuple(lane_of(window) for window in quota.windows)
        self._trains: dict[str, deque[Train]] = {lane.name: deque() for lane in self._lanes}
        latest = max(self._next_at.values(), default=-math.inf)
        self._next_at = {lane.name: self._next_at.get(lane.name, latest) for lane in self._lanes}

    # -- leaving -------------------------------------------------------------------------------

    def opens_at(self, costs: Mapping[str, int], *, now: float) -> float:
        """Return when such a request may leave; infinite until more is granted."""
        self._widen(costs)
        if self.unshared:
            return max((self._next_at[lane.name] for lane in self._lanes), default=-math.inf)
        if not self._lanes:
            return -math.inf if now < self._heard_at + NEWS_SECONDS else math.inf
        return max(self._ready_at(lane, self._cost(lane, costs), now) for lane in self._lanes)

    def leave(self, costs: Mapping[str, int], *, now: float) -> None:
        """Use the tokens of a request that leaves now."""
        self._left.append(now)
        for lane in self._lanes:
            cost = self._cost(lane, costs)
            if self.unshared:
                next_at = max(self._next_at[lane.name], now)
                self._next_at[lane.name] = next_at + cost * self._fraction_seconds(lane)
                continue
            for train in self._trains[lane.name]:
                taken = min(cost, train.left)
                train.used += taken
                cost -= taken
        self._owed.clear()

    def cost(self, more: Mapping[str, int]) -> None:
        """Note what a request has cost beyond what it had told."""
        for unit, count in more.items():
            if count > 0:
                self._owed[unit] = self._owed.get(unit, 0) + count

    def _widen(self, costs: Mapping[str, int]) -> None:
        """Leave room for the dearest request that was met, which takes its tokens at once."""
        if all(cost <= self._at_once.get(unit, 1) for unit, cost in costs.items()):
            return
        self._at_once = {u: max(cost, self._at_once.get(u, 1)) for u, cost in costs.items()}
        self._lanes = tuple(
            lane_of(window, at_once=self._at_once.get(window.unit, 1)) for window in self._windows
        )

    def _cost(self, lane: Lane, costs: Mapping[str, int]) -> int:
        return costs.get(lane.unit, 1) + self._owed.get(lane.unit, 0)

    def _ready_at(self, lane: Lane, cost: int, now: float) -> float:
        self._expire(lane, cost, now)
        ready_at = -math.inf
        for train in self._trains[lane.name]:
            taken = min(cost, train.left)
            if taken:
                ready_at = max(ready_at, train.moment(train.used + taken - 1))
            cost -= taken
            if cost <= 0:
                return ready_at
        return math.inf

    def _expire(self, lane: Lane, cost: int, now: float) -> None:
        trains = self._trains[lane.name]
        for train in trains:
            train.expire(now, cost)
        while trains and not trains[0].left:
            trains.popleft()

    # -- asking --------------------------------------------------------------------------------

    def refused(self, *, until: float) -> None:
        """Note a refusal, with the lock that stands: the others are to learn of it at once."""
        self._refusals += 1
        self._locked_until = max(self._locked_until, until)

    def asks_at(self, costs: Mapping[str, int], *, waiting: int, now: float) -> float:
        """Return when to ask the ledger; infinite while nothing is wanted."""
        if self._locked_until > now and not self.unshared:
            return now
        demand = self._demand(waiting, now)
        if not demand:
            return now if self._counted and not self.unshared else math.inf
        if self.unshared:
            return self._asked_at + NEWS_SECONDS
        polls_at = self._heard_at + POLL_SECONDS
        if any(self._is_low(lane, costs, demand, now) for lane in self._lanes):
            polls_at = min(polls_at, max(self._retry_at, self._next_turn_at))
        return max(polls_at, self._asked_at + ASK_GAP_SECONDS)

    def ask(self, costs: Mapping[str, int], *, waiting: int, daemons: int, now: float) -> Ask:
        """Return what to say to the ledger, now."""
        self._asked_at = now
        self._locked_told = self._locked_until
        demand = self._demand(waiting, now)
        wants = []
        for lane in self._lanes if demand and now >= self._next_turn_at else ():
            cost = self._cost(lane, costs)
            held = self._held(lane, cost, now)
            lacking = max(cost - held, 0)  # of the next request
            if (more := max(demand * cost - held, lacking)) > 0:
                wants.append(Want(lane, more, max(lacking, 1), 0 if lacking else held))
        return Ask(
            self.key,
            self.asker,
            tuple(wants),
            lock_seconds=max(self._locked_until - now, 0.0),
            refusals=self._refusals,
            daemons=daemons,
            empty=self._empty,
            leaves=not demand,
        )

    def leaving(self) -> Ask | None:
        """Return what to say at the end of the process, where the ledger knows of it."""
        return Ask(self.key, self.asker, leaves=True) if self._counted else None

    def granted(self, ask: Ask, grant: Grant, *, asked_at: float, came_at: float) -> float | None:
        """Take what the ledger answered; return since when others were refused, if they were."""
        self._bearing.note(grant.at, asked_at=asked_at, came_at=came_at)
        floor_at = self._bearing.ours(grant.at)
        self._retry_at = -math.inf
        for lane in self._lanes:
            block = grant.blocks.get(lane.name)
            if block is None:
                continue
            begins_at = self._bearing.ours(block.begins_at)
            if not block.count:
                self._retry_at = max(self._retry_at, begins_at - HORIZON_SECONDS)
                continue
            slack_seconds = lane.slack_seconds - self._bearing.width_seconds
            train = Train(begins_at, block.interval_seconds, block.count, floor_at, slack_seconds)
            self._trains[lane.name].append(train)
            self._turn_at = begins_at
            self._turn_seconds = block.count * block.interval_seconds
            self._turn_among = grant.sharers
        if self._locked_until == self._locked_told:
            self._locked_until = -math.inf
        self._refusals -= ask.refusals
        # What others met while we wanted nothing says nothing of how it is now.
        has_news = grant.refusals - ask.refusals > self._refusals_known
        heard_at = self._heard_at if has_news else -math.inf
        self._refusals_known = grant.refusals
        self._heard_at, self._counted, self.sharers = asked_at, not ask.leaves, grant.sharers
        if self._is_near:
            self.unshared = False
            self._empty = self._empty and not any(self._trains.values())
        else:
            self.cut_off(daemons=ask.daemons, now=came_at)
            for trains in self._trains.values():
                trains.clear()
        return heard_at if heard_at > asked_at - ACTIVE_SECONDS else None

    def cut_off(self, *, daemons: int, now: float) -> None:
        """Go by the fraction from now on: the ledger does not answer."""
        self._daemons = max(daemons, self.sharers)
        if self.unshared:
            return
        self.unshared = self._empty = True
        # By then the others know that we are silent, and have used what they had reserved before.
        left_to_us_at = self._heard_at + ACTIVE_SECONDS + HORIZON_SECONDS
        for lane in self._lanes:
            self._trains[lane.name].clear()
            self._next_at[lane.name] = max(now + self._fraction_seconds(lane), left_to_us_at)

    @property
    def _next_turn_at(self) -> float:
        """Return when to ask anew, such that the others have as much before us as we had.

        Where the horizon has room for all it is in the past.
        """
        others = min(self.sharers, self._turn_among) - 1
        return self._turn_at + self._turn_seconds * others - HORIZON_SECONDS

    @property
    def _is_near(self) -> bool:
        """Say whether the ledger answers fast enough for its tokens to be of use."""
        width_seconds = self._bearing.width_seconds
        return all(width_seconds < lane.slack_seconds for lane in self._lanes)

    def _fraction_seconds(self, lane: Lane) -> float:
        return lane.interval_seconds * self._daemons / FRACTION

    def _demand(self, waiting: int, now: float) -> int:
        """Return how many requests are to be expected within the horizon."""
        left = self._left
        while left and left[0] <= now - HORIZON_SECONDS:
            left.popleft()
        return max(waiting, len(left))

    def _held(self, lane: Lane, cost: int, now: float) -> int:
        self._expire(lane, cost, now)
        return sum(train.left for train in self._trains[lane.name])

    def _is_low(self, lane: Lane, costs: Mapping[str, int], demand: int, now: float) -> bool:
        cost = self._cost(lane, costs)
        part = math.floor(HORIZON_SECONDS / lane.interval_seconds / self.sharers)
        return self._held(lane, cost, now) < max(cost, min(demand * cost, part))
