"""The gate in front of an upstream: waits by the policy of `syncd.limits`.

One limiter per quota key, shared by everything that spends that quota: feeds, accounts, effects.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from random import Random

import attrs
import trio

from syncd.events import BreakerClosed, BreakerOpened, Event, LimitAdjusted, LimitLocked
from syncd.http.patience import Patience
from syncd.limits import ONE_REQUEST, Gate, Ticket, breaker, ceiling
from syncd.limits.announced import Announced
from syncd.limits.breaker import Breaker
from syncd.limits.ceiling import Ceiling
from syncd.limits.fair import FairQueue, Traffic
from syncd.limits.ledger import Ask, Grant
from syncd.limits.lock import lengthened, returns_at
from syncd.limits.share import Share
from syncd.limits.usage import Usage, usage_of
from syncd.model import Quota

# What may mean that too many ask at once: no answer (a timeout), 503, 504.
_CROWDED = frozenset({None, 503, 504})

# What adapts grows in small steps; only so much is news.
_NEWS_FACTOR = 1.5

_CLOSED = Breaker()

# While one request tries a broken origin nobody knows for how long; this is when to ask again.
_PROBE_SECONDS = breaker.OPEN_BASE_SECONDS


@attrs.frozen
class Sender:
    """On whose behalf a request is sent, where to, and what it costs."""

    account: str = ""
    traffic: Traffic = "sync"
    origin: str = ""
    costs: Mapping[str, int] = ONE_REQUEST
    weight: float = 1.0  # of the account, where others of its class wait


_ANYBODY = Sender()


class Limiter:
    """What keeps to one quota: its gate, a number of requests in flight, whose turn it is."""

    def __init__(
        self,
        key: str,
        quota: Quota,
        *,
        random: Random,
        share: Share | None = None,
        wants: Callable[[float], None] = lambda _: None,
    ) -> None:
        """Keep to a quota; with a `share` of what daemons share, say when it `wants` to ask."""
        self.key = key
        self.share = share
        self._wants = wants
        self._costs = ONE_REQUEST  # of whoever was first in line last
        self._random = random
        self._gate = Gate(quota)
        self._slots = trio.CapacityLimiter(quota.concurrency)
        self._ceiling = Ceiling(float(quota.concurrency))
        self._breakers: dict[str, Breaker] = {}
        self._accounts: set[str] = set()  # that have asked for a turn
        self._waiting: FairQueue[trio.Event] = FairQueue()
        self._turn_taken = False
        self._nearer = trio.Event()  # the first in line may be nearer to leaving than it thought
        self._lifted = trio.Event()  # a breaker is not what it was
        self._sent = 0
        self._refused = 0
        self._told = LimitAdjusted(key, quota.concurrency, self._gate.rate)

    @property
    def quota(self) -> Quota:
        return self._gate.quota

    def declare(self, quota: Quota) -> None:
        """Take a new declaration of the same quota, from now on; what was spent stays spent."""
        if quota == self._gate.quota:
            return
        if quota.concurrency != self._gate.quota.concurrency or quota.adaptive is None:
            self._set_ceiling(Ceiling(float(quota.concurrency)))
        self._gate.declare(quota)
        if self.share is not None:
            self.share.declare(quota)
        self._nearer.set()

    def refuses(self, costs: Mapping[str, int]) -> str | None:
        """Say why a request of such costs could never pass; `None` where it can."""
        return self._gate.refuses(costs)

    @asynccontextmanager
    async def admitted(
        self, patience: Patience, sender: Sender = _ANYBODY
    ) -> AsyncIterator[Ticket]:
        """Hold the right to have one request in flight; it may leave at once.

        Only the first in line takes a slot, and then waits for the gate: it is the next to leave,
        so nobody is kept from leaving by the slot it holds; and nothing stands between the gate and
        the sending, so that requests which the gate let pass one by one cannot pile up before a
        slot and leave together. Who is first is decided anew whenever one has left.

        Raises: `Throttled` where the upstream asked for a longer wait than `patience` has left, or
        its origin is left alone for longer.
        """
        self._accounts.add(sender.account)
        while (ticket := await self._pass(patience, sender)) is None:
            pass
        try:
            yield ticket
        finally:
            self._slots.release()
            self._gate.ended(ticket, now=trio.current_time())
            if ticket.tries:  # a broken origin; nobody else does before this one is back
                self._set_breaker(sender.origin, breaker.given_up(self._breaker(sender.origin)))
            self._nearer.set()

    # -- what became of requests ---------------------------------------------------------------

    def arrived(
        self, ticket: Ticket, said: Iterable[Announced] = (), *, refused: bool = False
    ) -> None:
        """Note that the head of an answer is here, and what it says of limits."""
        now = trio.current_time()
        self._gate.arrived(ticket, now=now, refused=refused)
        if said:
            self._gate.announced(ticket, said, now=now)
        self._nearer.set()

    def cost(self, ticket: Ticket, costs: Mapping[str, int]) -> Mapping[str, int]:
        """Note what a request has really cost, and return it; `ValueError` for what is no cost."""
        self._gate.cost(ticket, costs)
        if self.share is not None:
            self.share.cost({u: costs[u] - ticket.costs[u] for u in costs if u in ticket.costs})
        self._nearer.set()
        return costs

    def throttled(self, *, left_at: float, asked_seconds: float | None) -> list[Event]:
        """Lock the gate for everybody: a request that left at `left_at` was told to wait."""
        now = trio.current_time()
        seconds = self._gate.throttled(
            left_at=left_at, now=now, asked_seconds=asked_seconds, chance=self._random.random()
        )
        self._nearer.set()
        events: list[Event] = []
        if seconds is not None:
            events.append(LimitLocked(self.key, seconds, announced=bool(asked_seconds)))
        rate_cut = self._gate.refused(left_at=left_at, now=now)
        if self._cut(left_at, now) or rate_cut:
            events.append(self._adjusted())
        if self.share is not None:
            self.share.refused(until=self._gate.lock.until)
            self._wants(now)
        return events

    def answered(self, *, left_at: float, origin: str = "") -> list[Event]:
        """Note that a request that left at `left_at` was answered, not told to wait."""
        self._gate.answered(left_at=left_at)
        events = self.reached(left_at=left_at, origin=origin)
        if self.quota.adaptive is not None:
            most = self.quota.concurrency
            in_flight = self._gate.in_flight
            self._set_ceiling(ceiling.answered(self._ceiling, most=most, in_flight=in_flight))
            if self._has_grown():
                events.append(self._adjusted())
        return events

    def reached(self, *, left_at: float, origin: str, refused: bool = False) -> list[Event]:
        """Note that an origin answers, whatever it says."""
        self._refused += refused
        now_known, closed = breaker.answered(self._breaker(origin), left_at=left_at)
        self._set_breaker(origin, now_known)
        return [BreakerClosed(self.key, origin)] if closed else []

    def failed(
        self, *, left_at: float, origin: str, status: int | None, account: str = ""
    ) -> list[Event]:
        """Note that a request was not answered (no status), or with a server error."""
        now = trio.current_time()
        events: list[Event] = []
        if status in _CROWDED and self._cut(left_at, now):
            events.append(self._adjusted())
        now_known, seconds = breaker.failed(
            self._breaker(origin),
            left_at=left_at,
            now=now,
            chance=self._random.random(),
            account=account,
            accounts=len(self._accounts),
        )
        self._set_breaker(origin, now_known)
        if seconds is not None:
            events.append(BreakerOpened(self.key, origin, now_known.failures, seconds))
        return events

    def usage(self) -> Usage:
        """Return how it stands."""
        return usage_of(
            self.key,
            self._gate,
            now=trio.current_time(),
            ceiling=int(self._slots.total_tokens),
            waiting=self._in_line,
            broken=tuple(sorted(o for o, each in self._breakers.items() if each.opened)),
            sent=self._sent,
            refused=self._refused,
        )

    # -- what is shared with other daemons -----------------------------------------------------

    def asks_at(self, now: float) -> float:
        """Return when to ask the ledger for this key; infinite where nothing is wanted."""
        if self.share is None:
            return math.inf
        return self.share.asks_at(self._costs, waiting=self._in_line, now=now)

    def ask(self, *, daemons: int) -> Ask:
        """Return what to ask the ledger, now."""
        assert self.share is not None  # it was said when to ask
        now = trio.current_time()
        return self.share.ask(self._costs, waiting=self._in_line, daemons=daemons, now=now)

    def granted(self, ask: Ask, grant: Grant, *, asked_at: float) -> list[Event]:
        """Take what the ledger answered: tokens, and what the upstream has told other daemons."""
        assert self.share is not None
        now, events = trio.current_time(), list[Event]()
        refused_since = self.share.granted(ask, grant, asked_at=asked_at, came_at=now)
        self._set_ceiling(self._ceiling)
        if grant.locked_seconds > 0:
            seconds = grant.locked_seconds
            self._gate.lock, news = lengthened(self._gate.lock, now=now, seconds=seconds)
            if news is not None:
                events.append(LimitLocked(self.key, seconds, announced=True))
        if refused_since is not None:
            rate_cut = self._gate.refused(left_at=refused_since, now=now)
            if self._cut(refused_since, now) or rate_cut:
                events.append(self._adjusted())
        self._nearer.set()
        return events

    def cut_off(self, *, daemons: int) -> None:
        """Go by a fraction: the ledger cannot be asked."""
        if self.share is not None:
            self.share.cut_off(daemons=daemons, now=trio.current_time())
            self._nearer.set()

    # -- passing -------------------------------------------------------------------------------

    @property
    def _in_line(self) -> int:
        return len(self._waiting) + self._turn_taken

    async def _pass(self, patience: Patience, sender: Sender) -> Ticket | None:
        """Wait for the lock's end, the turn, a slot and the gate; none if a lock came between."""
        await self._sit_out(patience, sender.origin)
        await self._take_turn(sender)
        try:
            await self._slots.acquire()
            ticket = None
            try:
                ticket = await self._keep_pace(patience, sender)
            finally:
                if ticket is None:
                    self._slots.release()
        finally:
            self._hand_on()
        return ticket

    async def _sit_out(self, patience: Patience, origin: str) -> None:
        # Outside the line, each waiter for itself: they come back one by one, and each learns for
        # itself when its patience is at an end.
        while not self._is_free(origin):
            now, lock, broken = trio.current_time(), self._gate.lock, self._breaker(origin)
            if (asked_seconds := lock.until - now) > 0:
                left_seconds = patience.require(asked_seconds)
                back_at = returns_at(lock, chance=self._random.random())
                with patience.spending():
                    await trio.sleep_until(min(back_at, now + left_seconds))
            else:
                seconds = _PROBE_SECONDS if broken.probing else broken.closed_until - now
                patience.require(seconds, why=f"left alone after {broken.failures} failures")
                with patience.spending(), trio.move_on_after(seconds):
                    await self._lifted.wait()

    def _is_free(self, origin: str) -> bool:
        """Say whether neither a lock nor a breaker keeps everybody from asking an origin."""
        now = trio.current_time()
        return self._gate.lock.until <= now and breaker.opens_at(self._breaker(origin)) <= now

    async def _take_turn(self, sender: Sender) -> None:
        if not self._turn_taken:
            self._turn_taken = True
            return
        mine = trio.Event()
        traffic, account = sender.traffic, sender.account
        charge = self._gate.charge(sender.costs)
        weight = sender.weight
        self._waiting.push(mine, traffic=traffic, account=account, charge=charge, weight=weight)
        has_turn = False
        try:
            await mine.wait()
            has_turn = True
        finally:
            if not has_turn and mine.is_set():
                self._hand_on()
            elif not has_turn:
                self._waiting.remove(mine, traffic=traffic, account=account)

    def _hand_on(self) -> None:
        if self._waiting:
            self._waiting.pop().set()
        else:
            self._turn_taken = False

    async def _keep_pace(self, patience: Patience, sender: Sender) -> Ticket | None:
        """Wait until the gate opens; none where a lock or a breaker stands in the way by then."""
        while self._is_free(sender.origin):
            now = trio.current_time()
            opens_at = self._gate.opens_at(sender.costs, now=now)
            if self.share is not None:
                self._costs = sender.costs
                opens_at = max(opens_at, self.share.opens_at(sender.costs, now=now))
                self._wants(self.asks_at(now))
            if opens_at <= now:
                return self._leave(sender, now)
            self._nearer = trio.Event()
            asked_seconds = self._gate.allows_at(sender.costs) - now
            if asked_seconds > 0:
                patience.require(asked_seconds)
            with patience.spending(counts=asked_seconds > 0), trio.move_on_at(opens_at):
                await self._nearer.wait()
        return None

    def _leave(self, sender: Sender, now: float) -> Ticket:
        broken = self._breaker(sender.origin)
        self._set_breaker(sender.origin, breaker.leave(broken))
        self._sent += 1
        if self.share is not None:
            self.share.leave(sender.costs, now=now)
        ticket = self._gate.leave(sender.costs, now=now)
        ticket.tries = broken.opened > 0
        return ticket

    # -- what adapts ---------------------------------------------------------------------------

    def _cut(self, left_at: float, now: float) -> bool:
        """Halve the requests that may be in flight, where that may adapt; say whether it did."""
        adaptive = self.quota.adaptive
        if adaptive is None:
            return False
        before = self._ceiling
        least = adaptive.concurrency_least
        self._set_ceiling(ceiling.refused(before, least=least, left_at=left_at, now=now))
        return self._ceiling.whole != before.whole

    def _set_ceiling(self, now_is: Ceiling) -> None:
        """Let so many be in flight; with other daemons, an even part, and one at least."""
        self._ceiling = now_is
        sharers = 1 if self.share is None else self.share.sharers
        slots = max(now_is.whole // sharers, 1)
        if slots != self._slots.total_tokens:
            self._slots.total_tokens = slots

    def _has_grown(self) -> bool:
        """Say whether enough has changed for the better since it was last said."""
        told = self._told
        if self._ceiling.whole >= told.in_flight_max * _NEWS_FACTOR:
            return True
        rate, before = self._gate.rate, told.requests_per_second
        return rate is not None and before is not None and rate >= before * _NEWS_FACTOR

    def _adjusted(self) -> LimitAdjusted:
        self._told = LimitAdjusted(self.key, self._ceiling.whole, self._gate.rate)
        return self._told

    def _breaker(self, origin: str) -> Breaker:
        return self._breakers.get(origin, _CLOSED)

    def _set_breaker(self, origin: str, now_is: Breaker) -> None:
        if now_is is self._breaker(origin):
            return
        self._breakers[origin] = now_is
        self._lifted.set()
        self._lifted = trio.Event()
