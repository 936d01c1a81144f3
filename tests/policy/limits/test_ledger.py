"""What daemons send by a ledger's tokens breaches nothing, however late they use it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from random import Random

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syncd.limits.ledger import (
    FORGET_SECONDS,
    FRACTION,
    HORIZON_SECONDS,
    LATE_SHARE,
    Ask,
    Book,
    Grant,
    Want,
    lane_of,
    reserve,
)
from syncd.limits.share import Share
from syncd.model import Adaptive, FixedWindow, Quota, SlidingWindow, TokenBucket, Window

ONE = {"requests": 1}
STEP = 0.005


@attrs.define
class Daemon:
    """One of several, with a clock of its own and an upstream that is now near, now far."""

    share: Share
    clock: float  # ahead of the ledger's
    waiting: int
    last_left: float = -math.inf
    pending: tuple[float, Ask, Grant, float] | None = None  # an answer on its way


@attrs.define
class World:
    """Daemons, their ledger, and what arrives upstream; moments are the ledger's."""

    quota: Quota
    chance: Random
    daemons: list[Daemon] = attrs.field(factory=list)
    book: Book = attrs.field(factory=Book)
    now: float = 1_790_000_000.0
    asks: int = 0
    lost: bool = False
    arrived: list[float] = attrs.field(factory=list)
    left: list[float] = attrs.field(factory=list)

    def join(self, *, waiting: int) -> Daemon:
        share = Share("app", self.quota, asker=f"daemon {len(self.daemons)}")
        self.daemons.append(Daemon(share, self.chance.uniform(-1e6, 1e6), waiting))
        return self.daemons[-1]

    def play(self, seconds: float, *, eager: float = 1.0) -> None:
        """Let time pass; `eager` is how often whoever may send does."""
        ends_at = self.now + seconds
        while self.now < ends_at:
            for daemon in self.daemons:
                self._ask(daemon)
                while daemon.waiting and self.chance.random() < eager and self._leave(daemon):
                    pass
            self.now += STEP

    def _ask(self, daemon: Daemon) -> None:
        local = self.now + daemon.clock
        if daemon.pending is not None:
            comes_at, ask, grant, asked_at = daemon.pending
            if comes_at <= self.now:
                daemon.pending = None
                daemon.share.granted(ask, grant, asked_at=asked_at, came_at=local)
        elif daemon.share.asks_at(ONE, waiting=daemon.waiting, now=local) <= local:
            ask = daemon.share.ask(
                ONE, waiting=daemon.waiting, daemons=len(self.daemons), now=local
            )
            self.asks += 1
            if self.lost:
                daemon.share.cut_off(daemons=len(self.daemons), now=local)
                return
            takes = self.chance.uniform(0.0, 0.01)
            self.book, grant = reserve(self.book, ask, now=self.now + takes * self.chance.random())
            daemon.pending = (self.now + takes, ask, grant, local)

    def _leave(self, daemon: Daemon) -> bool:
        local = self.now + daemon.clock
        if daemon.share.opens_at(ONE, now=local) > local:
            return False
        buckets = [w for w in self.quota.windows if isinstance(w, TokenBucket) and w.burst == 1]
        # A bucket without burst is kept inside one daemon by its own gate.
        if any(self.now < daemon.last_left + w.per_seconds / w.most for w in buckets):
            return False
        daemon.share.leave(ONE, now=local)
        daemon.waiting -= 1
        daemon.last_left = self.now
        late_seconds = max(lane_of(w).slack_seconds for w in self.quota.windows)
        late_seconds *= LATE_SHARE / (1 - LATE_SHARE)
        self.left.append(self.now)
        # On the way: as late as the lane foresees; of a bucket without burst the gate foresees it.
        self.arrived.append(self.now + (0 if buckets else self.chance.choice([0.0, late_seconds])))
        return True

    def most_in(self, seconds: float) -> int:
        """Count what the strictest window of that length received."""
        arrived, most, first = sorted(self.arrived), 0, 0
        for last, at in enumerate(arrived):
            while arrived[first] <= at - seconds:
                first += 1
            most = max(most, last - first + 1)
        return most


def world(*windows: Window, seed: int = 1, daemons: int = 8, waiting: int = 10**6) -> World:
    made = World(Quota("app", windows), Random(seed))
    for _ in range(daemons):
        made.join(waiting=waiting)
    return made


@settings(max_examples=15)
@given(
    seed=st.integers(0, 10**6),
    daemons=st.integers(1, 8),
    eager=st.sampled_from([1.0, 0.3, 0.02]),
    window=st.sampled_from(
        [SlidingWindow(40, 4.0), SlidingWindow(1, 1.0), SlidingWindow(3, 2.0), FixedWindow(90, 3.0)]
    ),
)
def test_no_window_is_breached_by_any_interleaving_of_daemons(
    seed: int, daemons: int, eager: float, window: SlidingWindow | FixedWindow
) -> None:
    """Nor by any use of what was granted, its requests late by what the lane foresees."""
    shared = world(window, seed=seed, daemons=daemons)

    for _ in range(3):
        shared.play(2.5, eager=eager)
        for daemon in shared.daemons:
            daemon.waiting = shared.chance.choice([0, 5, 10**6])

    assert shared.most_in(window.per_seconds) <= window.most


@settings(max_examples=10)
@given(seed=st.integers(0, 10**6), daemons=st.integers(1, 6), burst=st.sampled_from([1, 4]))
def test_no_bucket_is_breached_by_any_interleaving_of_daemons(
    seed: int, daemons: int, burst: int
) -> None:
    bucket = TokenBucket(5, 1.0, burst=burst)
    shared = world(bucket, seed=seed, daemons=daemons)

    shared.play(8, eager=shared.chance.choice([1.0, 0.05]))

    assert_conforms(shared.arrived, bucket)


def assert_conforms(arrived: list[float], bucket: TokenBucket) -> None:
    interval, due_at = bucket.per_seconds / bucket.most, -math.inf
    for at in sorted(arrived):
        assert at >= due_at - (bucket.burst - 1) * interval - 1e-6
        due_at = max(due_at, at) + interval


@pytest.mark.parametrize("daemons", [1, 2, 8])
def test_what_is_allowed_is_used_by_however_many(daemons: int) -> None:
    shared = world(SlidingWindow(600, 60.0), daemons=daemons)
    shared.play(3)
    before = len(shared.arrived)

    shared.play(20)

    assert (len(shared.arrived) - before) / 200 >= 0.95


def test_daemons_share_alike_and_one_that_is_alone_gets_nearly_all() -> None:
    shared = world(SlidingWindow(200, 10.0), daemons=8)
    shared.play(2)
    for daemon in shared.daemons:
        daemon.waiting = 10**6
    shared.play(12)
    shares = [10**6 - daemon.waiting for daemon in shared.daemons]
    assert min(shares) > 0.7 * max(shares), shares

    for daemon in shared.daemons[1:]:
        daemon.waiting = 0
    shared.play(3)
    before = len(shared.arrived)
    shared.play(5)

    assert len(shared.arrived) - before >= 0.9 * 100


def test_where_there_is_not_a_token_a_second_for_each_they_take_turns() -> None:
    shared = world(TokenBucket(1, 1.0), daemons=8)

    shared.play(60)

    shares = [10**6 - daemon.waiting for daemon in shared.daemons]
    assert min(shares) >= 5, shares
    assert sum(shares) >= 0.9 * 60


def test_an_asker_costs_two_questions_a_second_at_most() -> None:
    shared = world(SlidingWindow(600, 60.0), daemons=8)

    shared.play(10)

    assert shared.asks <= 8 * (2 * 10 + 1)


def test_tokens_that_nobody_used_come_back() -> None:
    """A daemon that reserves and dies costs what it held, and its part until it is forgotten."""
    lane = lane_of(SlidingWindow(600, 60.0))
    book, now = Book(), 1000.0
    book, grant = reserve(book, Ask("k", "dead", (Want(lane, 50, 1),)), now=now)
    assert grant.blocks[lane.name].count >= 9

    book, late = reserve(book, Ask("k", "new", (Want(lane, 50, 1),), daemons=2), now=now + 2.5)
    later = now + 2.5 + FORGET_SECONDS
    book, last = reserve(book, Ask("k", "new", (Want(lane, 50, 1),)), now=later)

    assert late.blocks[lane.name].begins_at <= now + 2.5
    assert late.blocks[lane.name].interval_seconds == pytest.approx(
        lane.interval_seconds / (1 - FRACTION / 2)
    )
    assert last.blocks[lane.name].interval_seconds == lane.interval_seconds
    assert last.sharers == 1


def test_nobody_reserves_beyond_the_horizon() -> None:
    lane = lane_of(SlidingWindow(600, 60.0))
    book, now = Book(), 1000.0
    for number in range(30):
        asked = Ask("k", f"d{number % 3}", (Want(lane, 50, 1),), daemons=3)
        book, grant = reserve(book, asked, now=now)
        block = grant.blocks[lane.name]
        last = block.begins_at + (block.count - 1) * block.interval_seconds
        assert block.count == 0 or last <= now + HORIZON_SECONDS

    assert block.count == 0
    assert block.begins_at > now + HORIZON_SECONDS


def test_a_lock_that_one_is_told_stops_all_with_their_next_block() -> None:
    shared = world(SlidingWindow(600, 60.0), daemons=8)
    shared.play(2)
    told = shared.daemons[3]
    told.share.refused(until=shared.now + told.clock + 5.0)
    locked_at = shared.now

    shared.play(8)

    during = [at for at in shared.left if locked_at + HORIZON_SECONDS < at < locked_at + 5.0]
    assert during == []
    assert [at for at in shared.left if at >= locked_at + 5.0]


def test_a_wait_for_many_tokens_lets_the_requests_come_with_them() -> None:
    """Of two windows neither runs out while a dear request waits for the other."""
    quota = Quota("llm", (SlidingWindow(60, 60.0), SlidingWindow(60_000, 60.0, unit="tokens")))
    costs = {"requests": 1, "tokens": 5000}
    share, book, now, left = Share("llm", quota, asker="a"), Book(), 1000.0, []
    while now < 1060.0:
        if share.asks_at(costs, waiting=9, now=now) <= now:
            ask = share.ask(costs, waiting=9, daemons=1, now=now)
            book, grant = reserve(book, ask, now=now)
            share.granted(ask, grant, asked_at=now, came_at=now)
        if share.opens_at(costs, now=now) <= now:
            share.leave(costs, now=now)
            left.append(now)
        now += 0.01

    assert 10 <= len(left) <= 12
    assert max(later - earlier for earlier, later in pairwise(left)) <= 7


@pytest.mark.parametrize("seed", range(4))
def test_without_the_ledger_all_together_stay_below_the_limit_and_come_back(seed: int) -> None:
    window = SlidingWindow(100, 5.0)
    shared = world(window, seed=seed, daemons=4)
    shared.play(8)
    shared.lost, lost_at = True, shared.now
    shared.play(8)
    shared.lost, back_at = False, shared.now
    shared.play(12)

    without = [at for at in shared.left if lost_at + 2 < at < back_at]
    assert 0.6 * FRACTION <= len(without) / (back_at - lost_at - 2) / 20 <= FRACTION
    assert [at for at in shared.left if at > back_at + 2]
    assert not any(daemon.share.unshared for daemon in shared.daemons)
    assert shared.most_in(window.per_seconds) <= window.most


def test_one_that_loses_the_ledger_alone_is_left_its_fraction() -> None:
    window = SlidingWindow(200, 5.0)
    shared = world(window, daemons=4)
    shared.play(6)
    alone = shared.daemons.pop()
    mine = World(shared.quota, Random(2), [alone], now=shared.now, lost=True)
    for _ in range(4):
        alone.share.cut_off(daemons=4, now=mine.now + alone.clock)
        mine.play(3)
        shared.play(3)
    shared.arrived += mine.arrived

    assert len(mine.arrived) > 40
    assert shared.most_in(window.per_seconds) <= window.most


def test_a_quota_without_windows_is_asked_about_before_it_is_used_and_every_second() -> None:
    share, book, now = Share("k", Quota("k", adaptive=Adaptive()), asker="a"), Book(), 1000.0
    assert share.opens_at(ONE, now=now) == math.inf
    for ask in heard(share, now):
        book, grant = reserve(book, ask, now=now)
        share.granted(ask, grant, asked_at=now, came_at=now)

    assert share.opens_at(ONE, now=now) <= now
    assert share.opens_at(ONE, now=now + 1.1) == math.inf
    assert share.asks_at(ONE, waiting=1, now=now + 0.1) <= now + 1.0


def heard(share: Share, now: float) -> Iterator[Ask]:
    if share.asks_at(ONE, waiting=1, now=now) <= now:
        yield share.ask(ONE, waiting=1, daemons=1, now=now)


def test_whoever_wants_nothing_says_so_once_and_is_silent() -> None:
    shared = world(SlidingWindow(600, 60.0), daemons=1, waiting=3)

    shared.play(5)

    assert len(shared.left) == 3
    assert shared.book.askers == {}
    before = shared.asks
    shared.play(5)
    assert shared.asks == before


def test_a_ledger_that_answers_later_than_tokens_last_is_as_good_as_none() -> None:
    """A bucket's tokens last 30 ms: by answers that take longer nobody knows when they are due."""
    share, book, now = Share("k", Quota("k", TokenBucket(5, 1.0)), asker="a"), Book(), 1000.0
    for seconds, unshared in ((0.2, True), (0.2, True), (0.002, False)):
        ask = share.ask(ONE, waiting=3, daemons=2, now=now)
        book, grant = reserve(book, ask, now=now + seconds / 2)
        share.granted(ask, grant, asked_at=now, came_at=now + seconds)

        assert ask.empty
        assert share.unshared == unshared
        assert share.opens_at(ONE, now=now + seconds) < math.inf
        now += 2.0
    assert not share.ask(ONE, waiting=3, daemons=2, now=now).empty


def test_what_a_request_cost_beyond_its_word_is_paid_by_the_next() -> None:
    quota = Quota("llm", SlidingWindow(6000, 60.0, unit="tokens"))
    costs, share, book, now, left = {"tokens": 10}, Share("llm", quota, asker="a"), Book(), 0.0, []
    while now < 30.0:
        if share.asks_at(costs, waiting=5, now=now) <= now:
            ask = share.ask(costs, waiting=5, daemons=1, now=now)
            book, grant = reserve(book, ask, now=1000 + now)
            share.granted(ask, grant, asked_at=now, came_at=now)
        if share.opens_at(costs, now=now) <= now:
            share.leave(costs, now=now)
            share.cost({"tokens": 90})
            left.append(now)
        now += 0.01

    assert 25 <= len(left) <= 31  # 100 of 100 tokens a second each, not 10
