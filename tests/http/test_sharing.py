"""Whose turn it is, what upstreams announce, and origins that are left alone."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
import trio

from syncd.errors import Throttled, Unavailable
from syncd.events import BreakerClosed, BreakerOpened, LimitAdjusted
from syncd.limits.breaker import FAILURES_MAX
from syncd.limits.fair import WEIGHTS
from syncd.model import Adaptive, Quota, SlidingWindow

if TYPE_CHECKING:
    from tests.http.conftest import Bench, Received, Script, Scripted

    from syncd.http import Client


async def _get(client: Client, path: str, count: int = 1) -> None:
    http = client.for_fetch()
    for _ in range(count):
        await http.get(path)


async def test_a_huge_account_delays_small_ones_by_a_turn(upstream: Scripted, bench: Bench) -> None:
    all_wait = trio.Event()

    async def held(stream: trio.SocketStream) -> bool:
        await all_wait.wait()
        return await upstream.says()(stream)

    upstream.plays(held, upstream.says())
    quotas = (Quota("app", concurrency=1),)
    names = ["huge", *(f"small-{n}" for n in range(20))]
    clients = {n: await bench.client(upstream.url, name=n, quotas=quotas, scope="s") for n in names}

    async with trio.open_nursery() as nursery:
        for _ in range(200):
            nursery.start_soon(_get, clients["huge"], "huge")
        await trio.testing.wait_all_tasks_blocked(0.05)
        for name in names[1:]:
            nursery.start_soon(_get, clients[name], name)
        await trio.testing.wait_all_tasks_blocked(0.05)
        all_wait.set()

    last_small = max(n for n, path in enumerate(upstream.paths) if "small" in path)
    assert len(upstream.received) == 220
    assert last_small <= 22  # one was on its way, one next in line, one had its turn


async def test_a_quota_per_account_is_spent_by_that_account_alone(
    upstream: Scripted, bench: Bench
) -> None:
    quotas = (Quota("own", SlidingWindow(1, per_seconds=3600), per="account"),)
    names = ("one", "other")
    clients = [await bench.client(upstream.url, name=n, quotas=quotas, scope="s") for n in names]

    for client in clients:
        await _get(client, client.name)
    with trio.move_on_after(0.1) as waits:
        await _get(clients[0], "again")

    assert upstream.paths == ["/v1/one", "/v1/other"]
    assert waits.cancelled_caught


async def test_accounts_share_by_weight_at_the_gate(upstream: Scripted, bench: Bench) -> None:
    quotas = (Quota("app", concurrency=1),)
    weights = {"big": 3.0, "plain": 1.0}

    async with trio.open_nursery() as nursery:
        for name, weight in weights.items():
            client = await bench.client(
                upstream.url, name=name, quotas=quotas, scope="s", weight=weight
            )
            for _ in range(60):
                nursery.start_soon(_get, client, name)

    found = Counter(upstream.paths[2:42])
    assert abs(found["/v1/big"] - 30) <= 3


async def test_classes_share_by_weight_at_the_gate(upstream: Scripted, bench: Bench) -> None:
    client = await bench.client(upstream.url, quotas=(Quota("app", concurrency=1),))

    async with trio.open_nursery() as nursery:
        for traffic in sorted(WEIGHTS):
            for _ in range(60):
                nursery.start_soon(client.for_fetch(traffic=traffic).get, traffic)

    found = Counter(upstream.paths[2:62])
    assert len(upstream.received) == 180
    for traffic, weight in WEIGHTS.items():
        assert abs(found[f"/v1/{traffic}"] - weight * 6) <= 4


async def test_what_the_upstream_says_is_left_is_kept_to(upstream: Scripted, bench: Bench) -> None:
    def judge(_request: Received) -> Script:
        left = max(0, 2 - len(upstream.received))
        return upstream.says(RateLimit_Remaining=str(left), RateLimit_Reset="2")

    upstream.judge = judge
    client = await bench.client(upstream.url)

    await _get(client, "cars", 3)

    first, second, third = (each.at for each in upstream.received)
    assert second - first < third - second
    assert third - second >= 1.9


async def test_a_reset_beyond_patience_is_handed_on(upstream: Scripted, bench: Bench) -> None:
    upstream.plays(upstream.says(X_RateLimit_Remaining="0", X_RateLimit_Reset="900"))
    client = await bench.client(upstream.url)
    await _get(client, "cars")

    with pytest.raises(Throttled) as caught:
        await _get(client, "cars")

    assert 800 < caught.value.retry_after_seconds <= 900
    assert len(upstream.received) == 1


async def test_an_origin_that_fails_again_and_again_is_left_alone_and_no_other(
    upstream: Scripted, bench: Bench
) -> None:
    upstream.plays(upstream.says(500))
    quotas = (Quota("app"), Quota("search"))
    client = await bench.client(upstream.url, quotas=quotas, patience_seconds=0.0)
    for _ in range(FAILURES_MAX - 3):
        with pytest.raises(Unavailable):
            await _get(client, "cars")
        if bench.emitted(BreakerOpened):
            break

    asked = len(upstream.received)
    with pytest.raises(Throttled, match="left alone after 20 failures") as caught:
        await _get(client, "cars")
    assert len(upstream.received) == asked
    assert 0 < caught.value.retry_after_seconds <= 5
    with pytest.raises(Unavailable):
        await client.for_fetch().get("cars", quota="search")
    (opened,) = bench.emitted(BreakerOpened)
    assert (opened.quota, opened.failures) == ("cars:app", FAILURES_MAX)
    assert upstream.url.startswith(opened.origin)


async def test_one_request_tries_a_broken_origin_and_the_others_follow(
    upstream: Scripted, bench: Bench
) -> None:
    tried = trio.Event()

    async def slowly(stream: trio.SocketStream) -> bool:
        await trio.testing.wait_all_tasks_blocked(0.2)
        assert len(upstream.received) == FAILURES_MAX + 1  # the others wait for this one
        tried.set()
        return await upstream.says()(stream)

    def judge(_request: Received) -> Script:
        count = len(upstream.received)
        if count <= FAILURES_MAX:
            return upstream.says(503)
        return slowly if count == FAILURES_MAX + 1 else upstream.says()

    upstream.judge = judge
    client = await bench.client(upstream.url)

    async def ask() -> None:
        answered = False
        with trio.fail_after(60):
            while not answered:
                with suppress(Unavailable):
                    await _get(client, "cars")
                    answered = True

    async with trio.open_nursery() as nursery:
        for _ in range(6):
            nursery.start_soon(ask)

    assert tried.is_set()
    assert len(bench.emitted(BreakerOpened)) == len(bench.emitted(BreakerClosed)) == 1
    assert len(upstream.received) == FAILURES_MAX + 6


async def test_refusals_halve_what_may_be_in_flight_once_and_answers_restore_it(
    upstream: Scripted, bench: Bench
) -> None:
    """Shrinking below what is borrowed is ordinary: nobody is cut off, and nobody new leaves."""
    together = trio.Event()

    async def refused(stream: trio.SocketStream) -> bool:
        await together.wait()
        return await upstream.says(429)(stream)

    def judge(_request: Received) -> Script:
        if len(upstream.received) == 8:
            together.set()
        return refused if len(upstream.received) <= 8 else upstream.says()

    upstream.judge = judge
    adaptive = Adaptive(rate_start=1000.0, rate_most=1000.0)
    quota = Quota("app", concurrency=8, adaptive=adaptive)
    client = await bench.client(upstream.url, quotas=(quota,))

    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(_get, client, "cars")

    first, *rest = bench.emitted(LimitAdjusted)
    assert (first.quota, first.in_flight_max) == ("cars:app", 4)
    assert first.requests_per_second == pytest.approx(950.0)
    assert all(each.in_flight_max >= 4 for each in rest)
    assert len(upstream.received) == 16
