"""Being told to wait is no failure: everybody waits, and then it is sent again (P19)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from syncd.errors import SourceError, Throttled, Unavailable
from syncd.events import LimitLocked, RequestRetried
from syncd.model import Quota, Response, TokenBucket

if TYPE_CHECKING:
    from tests.http.conftest import Bench, Received, Script, Scripted


async def test_a_429_waits_as_long_as_it_was_asked_and_is_no_failure(
    upstream: Scripted, bench: Bench
) -> None:
    upstream.plays(upstream.says(429, Retry_After="1"), upstream.says(body=b"[1]"))
    client = await bench.client(upstream.url)
    http = client.for_fetch()

    response = await http.get("cars")

    assert response.content == b"[1]"
    first, second = (each.at for each in upstream.received)
    assert 1.0 <= second - first < 5
    assert (http.requests, http.retries) == (2, 1)
    assert 1.0 <= http.throttled_seconds < 5
    assert client.statistics.throttled_seconds == http.throttled_seconds
    assert bench.emitted(LimitLocked) == [LimitLocked("cars:app", 1.0, announced=True)]
    (retried,) = bench.emitted(RequestRetried)
    assert (retried.reason, retried.status, retried.attempt) == ("throttled", 429, 2)
    assert retried.wait_seconds >= 1.0


async def test_while_a_quota_is_locked_nobody_of_it_leaves_and_others_do(
    upstream: Scripted, bench: Bench
) -> None:
    def judge(request: Received) -> Script:
        first = len(upstream.received) == 1
        return upstream.says(429, Retry_After="2") if first else upstream.says()

    upstream.judge = judge
    client = await bench.client(upstream.url, quotas=(Quota("app"), Quota("search")), scope="app1")
    other = await bench.client(upstream.url, scope="app1")  # another account of the same app

    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.for_fetch().get, "cars")
        with trio.fail_after(10):
            await bench.until_emitted(LimitLocked)
        nursery.start_soon(other.for_fetch().get, "cars/other")
        await client.for_fetch().get("search", quota="search")

    began_at = upstream.received[0].at
    after = {each.target: each.at - began_at for each in upstream.received}
    assert after["/v1/search"] < after["/v1/cars"]
    assert after["/v1/cars"] >= 2.0
    assert after["/v1/cars/other"] >= 2.0


async def test_a_date_is_measured_by_the_upstreams_own_clock(
    upstream: Scripted, bench: Bench
) -> None:
    wrong_by_years = {
        "Date": "Thu, 01 Jan 1998 00:00:00 GMT",
        "Retry_After": "Thu, 01 Jan 1998 00:00:01 GMT",
    }
    upstream.plays(upstream.says(503, b"", **wrong_by_years), upstream.says())
    client = await bench.client(upstream.url)

    await client.for_fetch().get("cars")

    first, second = (each.at for each in upstream.received)
    assert 1.0 <= second - first < 5


async def test_a_lock_is_no_longer_than_the_quota_has_it_whatever_an_answer_asks_for(
    upstream: Scripted, bench: Bench
) -> None:
    def told(_: Response) -> SourceError | None:
        return Throttled("items", "locked", retry_after_seconds=2000.0)

    upstream.plays(upstream.says(429, Retry_After="30000"))
    for quota, seconds in ((Quota("app", lock_max_seconds=2.0), 2.0), (Quota("other"), 3600.0)):
        client = await bench.client(upstream.url, quotas=(quota,), patience_seconds=0.5)
        with pytest.raises(Throttled) as caught:
            await client.for_fetch().get("items")
        assert caught.value.retry_after_seconds is not None
        assert seconds - 1 < caught.value.retry_after_seconds <= seconds
        assert bench.emitted(LimitLocked)[-1].seconds == seconds

    quota = Quota("judged", lock_max_seconds=3.0)
    client = await bench.client(upstream.url, quotas=(quota,), patience_seconds=0.5, judge=told)
    with pytest.raises(Throttled):
        await client.for_fetch().get("items")
    assert bench.emitted(LimitLocked)[-1].seconds == 3.0


@pytest.mark.parametrize("junk", [None, "soon", "-1", "0", "1.5", "Mon, 99 Foo 2026 00:00:00 GMT"])
async def test_without_a_usable_retry_after_the_wait_is_our_own_backoff(
    upstream: Scripted, bench: Bench, junk: str | None
) -> None:
    upstream.plays(upstream.says(429, Retry_After=junk), upstream.says())
    client = await bench.client(upstream.url)

    await client.for_fetch().get("cars")

    (lock,) = bench.emitted(LimitLocked)
    assert not lock.announced
    assert 0 < lock.seconds <= 1.0


async def test_however_often_it_is_told_to_wait_a_request_does_not_fail(
    upstream: Scripted, bench: Bench
) -> None:
    upstream.plays(*[upstream.says(429)] * 4, upstream.says(503), upstream.says(body=b"[1]"))
    client = await bench.client(upstream.url)

    response = await client.for_fetch().get("cars")

    assert response.content == b"[1]"
    assert [lock.seconds for lock in bench.emitted(LimitLocked)] == [0.05, 0.1, 0.2, 0.4]


async def test_a_wait_beyond_patience_is_handed_on_at_once(
    upstream: Scripted, bench: Bench
) -> None:
    upstream.plays(upstream.says(429, Retry_After="99999999"))
    client = await bench.client(upstream.url)
    began_at = trio.current_time()

    for path in ("cars", "bikes"):  # the second one is not even sent
        with pytest.raises(Throttled, match=f"cars GET /v1/{path}: throttled for 3600 s") as caught:
            await client.for_fetch().get(path)
        assert 3599 < caught.value.retry_after_seconds <= 3600

    assert trio.current_time() - began_at < 1
    assert upstream.paths == ["/v1/cars"]


async def test_answers_that_come_together_lock_once(upstream: Scripted, bench: Bench) -> None:
    all_asked = trio.Event()

    async def refused_together(stream: trio.SocketStream) -> bool:
        await all_asked.wait()
        return await upstream.says(429)(stream)

    def judge(_request: Received) -> Script:
        if len(upstream.received) == 5:
            all_asked.set()
        return upstream.says() if len(upstream.received) > 5 else refused_together

    upstream.judge = judge
    client = await bench.client(upstream.url, quotas=(Quota("app", concurrency=5),))

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(client.for_fetch().get, "cars")

    assert len(upstream.received) == 10
    assert [lock.seconds for lock in bench.emitted(LimitLocked)] == [0.05]


async def test_an_answer_ends_the_growth_of_our_own_backoff(
    upstream: Scripted, bench: Bench
) -> None:
    upstream.plays(
        upstream.says(429), upstream.says(429), upstream.says(), upstream.says(429), upstream.says()
    )
    client = await bench.client(upstream.url)

    for _ in range(2):
        await client.for_fetch().get("cars")

    assert [lock.seconds for lock in bench.emitted(LimitLocked)] == [0.05, 0.1, 0.05]


async def test_waits_add_up_against_patience(upstream: Scripted, bench: Bench) -> None:
    upstream.plays(upstream.says(429, Retry_After="1"))
    client = await bench.client(upstream.url, patience_seconds=1.5)
    http = client.for_fetch()

    with pytest.raises(Throttled) as caught:
        await http.get("cars")

    assert 0 < caught.value.retry_after_seconds <= 1.0
    assert 1.0 <= http.throttled_seconds < 5
    assert len(upstream.received) == 2


async def test_a_429_locks_before_its_body_has_come(upstream: Scripted, bench: Bench) -> None:
    upstream.plays(
        upstream.stalls(b"HTTP/1.1 429 No\r\nRetry-After: 999\r\nContent-Length: 9\r\n\r\n")
    )
    client = await bench.client(upstream.url)
    began_at = trio.current_time()

    with pytest.raises(Throttled):
        await client.for_fetch().get("cars")

    assert trio.current_time() - began_at < 10  # a request may take 60 s


async def test_a_503_that_names_no_time_is_a_failure(upstream: Scripted, bench: Bench) -> None:
    upstream.plays(upstream.says(503))
    client = await bench.client(upstream.url)

    with pytest.raises(Unavailable):
        await client.for_fetch().get("cars")

    assert bench.emitted(LimitLocked) == []


async def test_the_pace_holds_for_everybody_together(upstream: Scripted, bench: Bench) -> None:
    """20 requests in any 0.5 s, wherever that window begins, from two clients at once."""
    quota = Quota("app", TokenBucket(20, 0.5), concurrency=8)
    clients = [await bench.client(upstream.url, quotas=(quota,), scope="app") for _ in range(2)]
    fetches = [client.for_fetch() for client in clients for _ in range(30)]

    async with trio.open_nursery() as nursery:
        for fetch in fetches:
            nursery.start_soon(fetch.get, "cars")

    left_at = sorted(fetch.sent_at for fetch in fetches if fetch.sent_at)
    windows = [
        (later - earlier).total_seconds()
        for earlier, later in zip(left_at, left_at[20:], strict=False)
    ]
    assert len(windows) == 40
    assert min(windows) >= 0.4  # a busy machine holds a sender up between the gate and its clock
    assert sum(windows) / len(windows) < 2.0
