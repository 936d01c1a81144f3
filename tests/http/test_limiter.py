"""The gate waits by the policy, in the order of arrival, and loses nothing when cancelled."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from itertools import pairwise
from random import Random

import pytest
import trio
from trio.testing import MockClock

from syncd.errors import Throttled
from syncd.events import LimitAdjusted
from syncd.http import Limiter, Limiters
from syncd.http.limiter import Sender
from syncd.http.patience import Patience
from syncd.limits.breaker import FAILURES_MAX
from syncd.model import Adaptive, Quota, SlidingWindow, TokenBucket, Window


def limiter(
    rate: Window | None = None, *, concurrency: int = 8, chance: Random | None = None
) -> Limiter:
    return Limiter("app", Quota("app", rate, concurrency), random=chance or Random(1))


def patience(seconds: float = 120.0) -> Patience:
    return Patience("cars GET /cars", seconds)


async def leave(
    gate: Limiter, count: int, *, takes_seconds: float = 0.0
) -> list[tuple[int, float]]:
    """Let `count` tasks pass; return who left when, in order of leaving."""
    began_at, left = trio.current_time(), []

    async def one(number: int) -> None:
        async with gate.admitted(patience()):
            left.append((number, round(trio.current_time() - began_at, 6)))
            await trio.sleep(takes_seconds)

    async with trio.open_nursery() as nursery:
        for number in range(count):
            nursery.start_soon(one, number)
            await trio.testing.wait_all_tasks_blocked()
    return left


async def test_requests_leave_at_the_pace_in_the_order_they_came(autojump_clock: MockClock) -> None:
    left = await leave(limiter(TokenBucket(2, 1.0, burst=2)), 5)

    assert left == [(0, 0), (1, 0), (2, 0.5), (3, 1), (4, 1.5)]


async def test_no_more_are_in_flight_than_the_concurrency(autojump_clock: MockClock) -> None:
    left = await leave(limiter(concurrency=2), 5, takes_seconds=10)

    assert [at for _, at in left] == [0, 0, 10, 10, 20]


async def test_those_who_waited_for_a_slot_still_keep_the_pace(autojump_clock: MockClock) -> None:
    """The pace stands after the slot: three slots that open together do not open the gate.

    While no answer has come, a request may be received up to a tenth of the pace late.
    """
    left = await leave(limiter(TokenBucket(1, 1.0), concurrency=3), 6, takes_seconds=30)

    times = [at for _, at in left]
    assert times[:3] == [0, 1.1, 2.2]
    assert all(later - earlier >= 1 for earlier, later in pairwise(times))


async def test_only_the_first_in_line_holds_a_slot_while_it_waits(
    autojump_clock: MockClock,
) -> None:
    gate = limiter(TokenBucket(1, 60.0), concurrency=5)

    async def one() -> None:
        async with gate.admitted(patience()):
            pass

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(one)
        await trio.sleep(1)  # the first has left; three wait
        assert gate._slots.borrowed_tokens == 1
        nursery.cancel_scope.cancel()
    assert gate._slots.borrowed_tokens == 0


async def test_a_waiter_that_gives_up_has_used_nothing(autojump_clock: MockClock) -> None:
    gate = limiter(TokenBucket(1, 10.0), concurrency=1)
    began_at = trio.current_time()
    await leave(gate, 1)

    with trio.move_on_after(4):
        async with gate.admitted(patience()):
            raise AssertionError("too early")
    await leave(gate, 1)

    assert trio.current_time() - began_at == pytest.approx(10)
    assert gate._slots.borrowed_tokens == 0


async def test_after_a_lock_waiters_come_back_one_by_one_never_before_its_end(
    autojump_clock: MockClock,
) -> None:
    gate = limiter()
    gate.throttled(left_at=trio.current_time(), asked_seconds=30)

    left = await leave(gate, 20)

    times = [at for _, at in left]
    assert min(times) >= 30
    assert max(times) - min(times) > 1
    assert max(times) <= 33
    assert len(set(times)) == 20


async def test_a_lock_that_comes_while_waiting_for_the_pace_is_kept(
    autojump_clock: MockClock,
) -> None:
    gate = limiter(TokenBucket(1, 10.0))
    began_at = trio.current_time()
    left = []

    async def one() -> None:
        async with gate.admitted(patience()):
            left.append(trio.current_time() - began_at)

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(one)
        await trio.sleep(5)
        gate.throttled(left_at=trio.current_time(), asked_seconds=50)

    assert left[0] == 0
    assert all(at >= 55 for at in left[1:])
    assert left[2] - left[1] >= 10


async def test_a_lock_that_comes_while_waiting_for_the_pace_is_waited_for_with_patience(
    autojump_clock: MockClock,
) -> None:
    gate = limiter(TokenBucket(1, 10.0))
    async with gate.admitted(patience()):
        pass
    began_at = trio.current_time()

    async def lock() -> None:
        await trio.sleep(5)
        gate.throttled(left_at=trio.current_time(), asked_seconds=50)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(lock)
        with pytest.raises(Throttled):
            async with gate.admitted(patience(20)):
                raise AssertionError("too early")

    assert trio.current_time() - began_at < 11
    assert gate._slots.borrowed_tokens == 0


async def test_patience_is_spent_by_locks_alone_and_ends_in_throttled(
    autojump_clock: MockClock,
) -> None:
    gate, patient = limiter(TokenBucket(1, 100.0)), patience(60)
    async with gate.admitted(patient):
        pass
    async with gate.admitted(patient):  # 100 s for the pace
        pass
    assert patient.spent_seconds == 0

    gate.throttled(left_at=trio.current_time(), asked_seconds=40)
    async with gate.admitted(patient):
        pass
    assert 40 <= patient.spent_seconds <= 44

    gate.throttled(left_at=trio.current_time(), asked_seconds=40)
    began_at = trio.current_time()
    with pytest.raises(Throttled) as caught:
        async with gate.admitted(patient):
            raise AssertionError("too early")
    assert caught.value.retry_after_seconds == pytest.approx(40)
    assert trio.current_time() == began_at


async def test_a_wait_that_just_fits_is_waited_for(autojump_clock: MockClock) -> None:
    gate, patient = limiter(), patience(60)
    gate.throttled(left_at=trio.current_time(), asked_seconds=60)

    async with gate.admitted(patient):
        assert patient.spent_seconds == pytest.approx(60)


async def test_one_key_is_one_limiter_and_the_last_declaration_counts(
    autojump_clock: MockClock,
) -> None:
    limiters = Limiters(random=Random(1))
    first = limiters.limiter("app", Quota("app", concurrency=1))
    second = limiters.limiter("app", Quota("app", TokenBucket(1, 5.0), concurrency=3))
    other = limiters.limiter("else", Quota("app"))

    assert first is second
    assert other is not first
    left = await leave(first, 3, takes_seconds=7)
    assert [at for _, at in left] == [0, 5.5, 11]  # unanswered, each may be a tenth late


async def test_cancelling_at_any_moment_leaves_no_slot_behind(autojump_clock: MockClock) -> None:
    gate = limiter(TokenBucket(1, 1.0, burst=2), concurrency=2)
    chance = Random(7)

    async def one(lives_seconds: float) -> None:
        with trio.move_on_after(lives_seconds):
            async with gate.admitted(patience()):
                await trio.sleep(chance.random())

    async with trio.open_nursery() as nursery:
        for number in range(200):
            nursery.start_soon(one, chance.random() * 20)
            if number % 50 == 0:
                gate.throttled(left_at=trio.current_time(), asked_seconds=2)
            await trio.sleep(chance.random() / 5)

    assert gate._slots.borrowed_tokens == 0
    with trio.fail_after(5):
        async with gate.admitted(patience()):
            assert gate._slots.borrowed_tokens == 1


async def test_who_left_before_it_broke_does_not_let_a_second_one_try(
    autojump_clock: MockClock,
) -> None:
    gate, origin = limiter(), Sender(origin="https://a")
    old_leaves, tries = trio.Event(), []

    async def fifty_seconds() -> None:
        await trio.sleep(50)

    async def one(lasts: Callable[[], Awaitable[None]] = fifty_seconds) -> None:
        async with gate.admitted(patience(3600), origin) as ticket:
            tries.append(trio.current_time())
            await lasts()
        gate.answered(left_at=ticket.left_at, origin=origin.origin)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(one, old_leaves.wait)
        await trio.sleep(1)
        for _ in range(FAILURES_MAX):
            gate.failed(left_at=trio.current_time(), origin=origin.origin, status=500)
        broke_at = trio.current_time()
        for _ in range(3):
            nursery.start_soon(one)
        await trio.sleep(20)  # one tries by now
        old_leaves.set()
        await trio.sleep(20)
        assert len(tries) == 2

    first_try, *others = tries[1:]
    assert 2.5 <= first_try - broke_at <= 5
    assert len(others) == 2
    assert all(at >= first_try + 50 for at in others)


async def test_what_has_grown_again_is_told(autojump_clock: MockClock) -> None:
    quota = Quota("app", TokenBucket(1000, 1.0, burst=1000), concurrency=8, adaptive=Adaptive())
    gate = Limiter("app", quota, random=Random(1))
    events = gate.throttled(left_at=trio.current_time(), asked_seconds=1.0)
    assert [each.in_flight_max for each in events if isinstance(each, LimitAdjusted)] == [4]

    told: list[LimitAdjusted] = []

    async def one() -> None:
        async with gate.admitted(patience()) as ticket:
            await trio.sleep(1)
            said = gate.answered(left_at=ticket.left_at)
            told.extend(each for each in said if isinstance(each, LimitAdjusted))

    async with trio.open_nursery() as nursery:
        for _ in range(80):
            nursery.start_soon(one)

    assert [each.in_flight_max for each in told] == [6]
    assert gate.usage().ceiling == 8


async def test_how_it_stands_can_be_read(autojump_clock: MockClock) -> None:
    gate = limiter(SlidingWindow(3, 60.0))
    async with gate.admitted(patience()):
        gate.throttled(left_at=trio.current_time(), asked_seconds=30)
        usage = gate.usage()

    (window,) = usage.windows
    assert (window.form, window.most, window.used) == ("sliding", 3, 1)
    assert (usage.in_flight, usage.sent, usage.ceiling) == (1, 1, 8)
    assert usage.locked_until == pytest.approx(trio.current_time() + 30)
