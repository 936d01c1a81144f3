"""Daemons that share a quota are one to its upstream: through PostgreSQL, Redis, or neither."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
)
from random import Random
from typing import TYPE_CHECKING, TypeVar

import attrs
import pytest
import trio
import valkey_server
from database import connect
from trio.testing import MockClock

from syncd import valkey
from syncd.daemon import LEDGER_TIMEOUTS
from syncd.errors import StoreUnavailable
from syncd.events import Event, LimitAdjusted, LimitLocked, LimitShared, LimitUnshared
from syncd.http import Limiters, Sharing
from syncd.http.patience import Patience
from syncd.limits.ledger import FRACTION, Ask, Book, Grant, reserve
from syncd.limits.seeking import CUTS
from syncd.model import Adaptive, Quota, Secret, SlidingWindow
from syncd.sharing import Accountant, Ledger
from syncd.store import quotas
from syncd.store.hops import Hops

if TYPE_CHECKING:
    from tests.http.conftest import Bench, Received, Script, Scripted

    from syncd.http import Client

T = TypeVar("T", bound=Event)


@attrs.define
class Daemon:
    """What one process has of limits."""

    limiters: Limiters
    accountant: Accountant
    events: list[Event]

    def emitted(self, kind: type[T]) -> list[T]:
        return [event for event in self.events if isinstance(event, kind)]


def daemon(name: str, *, among: int) -> Daemon:
    events: list[Event] = []
    limiters = Limiters(random=Random(1), sharing=Sharing(name))
    return Daemon(limiters, Accountant(limiters, emit=events.append, daemons=among), events)


def strictest(arrived: Sequence[float], seconds: float) -> int:
    """Count what the fullest window of that length received."""
    times, most, first = sorted(arrived), 0, 0
    for last, at in enumerate(times):
        while times[first] <= at - seconds:
            first += 1
        most = max(most, last - first + 1)
    return most


# --- In virtual time: the law itself is the ledger ------------------------------------------------


@attrs.define
class Law:
    """A ledger that is the law, behind a network; cut, it answers nobody."""

    books: dict[str, Book] = attrs.field(factory=dict)
    chance: Random = attrs.field(factory=lambda: Random(3))
    is_cut: bool = False
    questions: int = 0

    async def __call__(self, asks: Sequence[Ask]) -> list[Grant]:
        self.questions += 1
        await trio.sleep(self.chance.uniform(0.001, 0.004))
        if self.is_cut:
            raise StoreUnavailable("ledger", "is cut off")
        grants = []
        for ask in asks:
            book = self.books.get(ask.key, Book())
            self.books[ask.key], grant = reserve(book, ask, now=1.79e9 + trio.current_time())
            grants.append(grant)
        await trio.sleep(self.chance.uniform(0.001, 0.004))
        return grants


@attrs.define
class Upstream:
    """Takes requests in virtual time; its answers take what they take."""

    arrived: list[float] = attrs.field(factory=list)
    chance: Random = attrs.field(factory=lambda: Random(5))

    async def fetch(self, limiters: Limiters, quota: Quota, *, workers: int = 6) -> None:
        """Let workers of one daemon ask without end."""
        limiter = limiters.limiter("app", quota)

        async def work() -> None:
            while True:
                async with limiter.admitted(Patience("x", 300.0)) as ticket:
                    await trio.sleep(self.chance.uniform(0.02, 0.06))
                    self.arrived.append(trio.current_time())
                    await trio.sleep(self.chance.uniform(0.05, 0.3))
                    limiter.arrived(ticket)
                    limiter.answered(left_at=ticket.left_at)

        async with trio.open_nursery() as nursery:
            for _ in range(workers):
                nursery.start_soon(work)


@pytest.mark.parametrize("count", [1, 8])
async def test_eight_daemons_share_600_a_minute_as_one(
    autojump_clock: MockClock, nursery: trio.Nursery, count: int
) -> None:
    quota, law, upstream = Quota("app", SlidingWindow(600, 60.0)), Law(), Upstream()
    for number in range(count):
        each = daemon(f"d{number}", among=count)
        nursery.start_soon(each.accountant.run, law)
        nursery.start_soon(upstream.fetch, each.limiters, quota)
    await trio.sleep(180)

    assert strictest(upstream.arrived, 60.0) <= 600
    assert len([at for at in upstream.arrived if at >= 60]) >= 0.93 * 1200
    assert law.questions <= count * (2 * 180 + 2)


async def test_a_lock_that_one_is_told_stops_all_within_a_second(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    quota, law, upstream = Quota("app", SlidingWindow(600, 60.0)), Law(), Upstream()
    daemons = [daemon(f"d{number}", among=4) for number in range(4)]
    for each in daemons:
        nursery.start_soon(each.accountant.run, law)
        nursery.start_soon(upstream.fetch, each.limiters, quota)
    await trio.sleep(10)
    told, told_at = daemons[2].limiters.limiter("app", quota), trio.current_time()
    daemons[2].events += told.throttled(left_at=told_at, asked_seconds=30)
    await trio.sleep(45)

    during = [at for at in upstream.arrived if told_at + 1.1 < at < told_at + 30]
    assert during == []
    assert [at for at in upstream.arrived if at >= told_at + 30]
    assert all(len(each.emitted(LimitLocked)) == 1 for each in daemons)


async def test_without_the_ledger_all_go_by_a_fraction_until_it_is_back(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    window, law, upstream = SlidingWindow(100, 5.0), Law(), Upstream()
    daemons = [daemon(f"d{number}", among=4) for number in range(4)]
    for each in daemons:
        nursery.start_soon(each.accountant.run, law)
        nursery.start_soon(upstream.fetch, each.limiters, Quota("app", window))
    await trio.sleep(20)
    law.is_cut, cut_at = True, trio.current_time()
    await trio.sleep(20)
    law.is_cut, back_at = False, trio.current_time()
    await trio.sleep(20)

    without = len([at for at in upstream.arrived if cut_at + 5 < at < back_at])
    assert 0.7 * FRACTION <= without / 15 / 20 <= FRACTION
    assert strictest(upstream.arrived, 5.0) <= 100
    for each in daemons:
        assert [event.daemons for event in each.emitted(LimitUnshared)] == [4]
        assert len(each.emitted(LimitShared)) == 1


async def test_a_limiter_that_is_made_while_the_ledger_is_away_goes_by_its_fraction(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    law, one, upstream = Law(is_cut=True), daemon("d", among=2), Upstream()
    nursery.start_soon(one.accountant.run, law)
    nursery.start_soon(upstream.fetch, one.limiters, Quota("app", SlidingWindow(100, 5.0)))
    await trio.sleep(10)
    made = one.limiters.limiter("other", Quota("other", SlidingWindow(100, 5.0)))

    assert made.share is not None
    assert made.share.unshared


async def test_a_refusal_that_one_met_slows_all_down(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """Once, however many of them met it: it was one storm."""
    quota, law, upstream = Quota("app", adaptive=Adaptive(rate_start=4.0)), Law(), Upstream()
    daemons = [daemon(f"d{number}", among=2) for number in range(2)]
    for each in daemons:
        nursery.start_soon(each.accountant.run, law)
        nursery.start_soon(upstream.fetch, each.limiters, quota)
    await trio.sleep(5)
    one, other = (each.limiters.limiter("app", quota) for each in daemons)
    before = one.usage().rate, other.usage().rate
    daemons[0].events += one.throttled(left_at=trio.current_time(), asked_seconds=None)
    await trio.sleep(2.0)  # heard within 0.7 s and a question's time; not heard, it grew by 12 %

    for limiter, rate in zip((one, other), before, strict=True):
        assert rate is not None
        assert limiter.usage().rate == pytest.approx(rate * CUTS[0], rel=0.1)
    assert [len(each.emitted(LimitAdjusted)) for each in daemons] == [1, 1]


async def test_a_ledger_whose_client_breaks_leaves_each_its_fraction(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    one, upstream = daemon("d", among=2), Upstream()

    @asynccontextmanager
    async def broken() -> AsyncIterator[Ledger]:
        async def ask(asks: Sequence[Ask]) -> Sequence[Grant]:
            raise RuntimeError("a bug of the client")

        yield ask

    nursery.start_soon(upstream.fetch, one.limiters, Quota("app", SlidingWindow(100, 5.0)))
    with pytest.RaisesGroup(RuntimeError):
        await one.accountant.serve(broken)
    await trio.sleep(10)

    assert one.emitted(LimitUnshared)
    assert 20 <= len(upstream.arrived) <= 10 * 20 / 2 * FRACTION


async def test_requests_in_flight_are_divided_among_those_who_send(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    quota, law, upstream = Quota("app", concurrency=6), Law(), Upstream()
    daemons = [daemon(f"d{number}", among=3) for number in range(3)]
    for each in daemons:
        nursery.start_soon(each.accountant.run, law)
        nursery.start_soon(upstream.fetch, each.limiters, quota)
    await trio.sleep(10)
    slots = [each.limiters.limiter("app", quota).usage().ceiling for each in daemons]

    assert slots == [2, 2, 2]


# --- In real time: real ledgers, real HTTP --------------------------------------------------------


@attrs.frozen
class Real:
    """A ledger that daemons reach, each by a connection of its own, and what can hinder it."""

    opened: Callable[[], AbstractAsyncContextManager[Ledger]]
    hindered: Callable[[], AbstractContextManager[None]]

    async def account(self, each: Daemon) -> None:
        await each.accountant.serve(self.opened)


def in_postgres(dsn: str) -> Real:
    @asynccontextmanager
    async def opened() -> AsyncIterator[Ledger]:
        hops = Hops(
            Secret(dsn),
            pool_min=1,
            pool_max=1,
            timeouts=LEDGER_TIMEOUTS,
            emit=lambda _: None,
            random=Random(1),
        )
        await hops.open()

        async def ask(asks: Sequence[Ask]) -> Sequence[Grant]:
            return await hops.run(quotas.reserve, asks)

        async with trio.open_nursery() as watching:
            watching.start_soon(hops.watch)
            try:
                yield ask
            finally:
                await hops.aclose()
                watching.cancel_scope.cancel()

    @contextmanager
    def hindered() -> Iterator[None]:
        with connect(dsn) as other:
            other.execute("SELECT 1 FROM syncd.quota FOR UPDATE")
            yield

    return Real(opened, hindered)


def in_redis(server: valkey_server.Valkey) -> Real:
    @contextmanager
    def hindered() -> Iterator[None]:
        server.stop()
        try:
            yield
        finally:
            server.go_on()

    return Real(lambda: valkey.opened(Secret(server.url)), hindered)


@pytest.fixture(params=["postgres", "redis"])
def ledger(request: pytest.FixtureRequest) -> Iterator[Real]:
    if request.param == "postgres":
        yield in_postgres(request.getfixturevalue("dsn"))
        return
    if valkey_server.program() is None:
        pytest.skip(valkey_server.MISSING)
    with valkey_server.serving() as server:
        yield in_redis(server)


async def until(happened: Callable[[], bool]) -> None:
    while not happened():  # noqa: ASYNC110  # nobody tells tasks of it
        await trio.sleep(0.05)


async def ask_for_ever(client: Client) -> None:
    for page in itertools.count():
        await client.for_fetch().get(f"p/{page}")


async def test_daemons_share_a_quota_over_http_through_a_real_ledger(
    ledger: Real, upstream: Scripted, bench: Bench, nursery: trio.Nursery
) -> None:
    """Eight of them, 60 requests a second together, and nobody is ever told to wait."""
    window = SlidingWindow(240, 4.0)
    arrived: list[float] = []
    says = upstream.says()

    def judge(request: Received) -> Script:
        arrived.append(request.at)
        return says

    upstream.judge = judge
    for number in range(8):
        each = daemon(f"d{number}", among=8)
        nursery.start_soon(ledger.account, each)
        bench.limiters = each.limiters
        client = await bench.client(upstream.url, quotas=(Quota("app", window),))
        for _ in range(3):
            nursery.start_soon(ask_for_ever, client)
    await trio.sleep(6)
    began_at, ended_at = min(arrived) + 2.0, max(arrived)
    used = len([at for at in arrived if at >= began_at]) / (ended_at - began_at) / 60
    nursery.cancel_scope.cancel()

    print(f"{strictest(arrived, 4.0)} of 240 in the fullest 4 s, {used:.1%} used")
    assert strictest(arrived, 4.0) <= 240
    assert used >= 0.7  # 0.95 on a machine that does nothing else


async def test_a_ledger_that_hangs_leaves_each_its_fraction_and_comes_back(
    ledger: Real, nursery: trio.Nursery
) -> None:
    window, upstream = SlidingWindow(120, 4.0), Upstream()
    daemons = [daemon(f"d{number}", among=2) for number in range(2)]
    for each in daemons:
        nursery.start_soon(ledger.account, each)
        nursery.start_soon(upstream.fetch, each.limiters, Quota("app", window))
    with trio.fail_after(60):
        await until(lambda: len(upstream.arrived) >= 40)
        with ledger.hindered():
            await until(lambda: all(each.emitted(LimitUnshared) for each in daemons))
            cut_at = trio.current_time()
            await trio.sleep(3)
            without = len([at for at in upstream.arrived if at >= cut_at])
            lasted_seconds = trio.current_time() - cut_at
        await until(lambda: all(each.emitted(LimitShared) for each in daemons))
        enough = len(upstream.arrived) + 60
        await until(lambda: len(upstream.arrived) >= enough)
    nursery.cancel_scope.cancel()

    assert 0 < without <= 30 * FRACTION * lasted_seconds + 8  # those on their way
    assert strictest(upstream.arrived, 4.0) <= 120
