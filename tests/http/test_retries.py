"""What may pass is tried again: three times at most, and for a tenth of the traffic (P20)."""

from __future__ import annotations

from socket import SO_LINGER, SOL_SOCKET
from struct import pack
from typing import TYPE_CHECKING

import pytest
import trio

from syncd.errors import Unavailable
from syncd.events import RequestRetried
from syncd.model import Quota

if TYPE_CHECKING:
    from tests.http.conftest import Bench, Received, Script, Scripted


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504, 524])
async def test_a_server_error_is_tried_three_times(
    upstream: Scripted, bench: Bench, status: int
) -> None:
    upstream.plays(upstream.says(status, b"<h1>upset</h1>", content_type="text/html"))
    client = await bench.client(upstream.url)

    with pytest.raises(Unavailable, match=f"answered {status}: '<h1>upset</h1>' .3 attempts"):
        await client.for_fetch().get("cars")

    assert len(upstream.received) == 3


async def test_an_answer_after_an_error_is_an_answer(upstream: Scripted, bench: Bench) -> None:
    upstream.plays(upstream.says(503), upstream.raw(b""), upstream.says(body=b"[1]"))
    client = await bench.client(upstream.url)
    http = client.for_fetch()

    response = await http.get("cars", params={"page": 3})

    assert response.content == b"[1]"
    assert (http.requests, http.retries) == (3, 2)
    statistics = client.statistics
    assert (statistics.requests, statistics.retries, statistics.in_flight) == (3, 2, 0)
    assert statistics.latency_seconds is not None
    assert 0 < statistics.latency_seconds < 1
    first, second = bench.emitted(RequestRetried)
    assert (first.upstream, first.path, first.attempt) == ("cars", "/v1/cars", 2)
    assert (first.reason, first.status) == ("unavailable", 503)
    assert (second.reason, second.status, second.attempt) == ("unavailable", None, 3)


@pytest.mark.parametrize(
    "pieces", [(), (b"HTTP/1.1 2",), (b"220 smtp.example ESMTP\r\n",), (b"\x15\x03\x01\x00\x02",)]
)
async def test_no_answer_is_unavailable(
    upstream: Scripted, bench: Bench, pieces: tuple[bytes, ...]
) -> None:
    upstream.plays(upstream.raw(*pieces))
    client = await bench.client(upstream.url)

    with pytest.raises(Unavailable, match="3 attempts"):
        await client.for_fetch().get("cars")

    assert len(upstream.received) == 3


async def test_a_connection_that_nobody_takes_is_unavailable(bench: Bench) -> None:
    with trio.socket.socket() as free:
        await free.bind(("127.0.0.1", 0))  # bound, not listening: refused
        client = await bench.client(f"http://127.0.0.1:{free.getsockname()[1]}")

        with pytest.raises(Unavailable, match=r"no connection: .*refused.*3 attempts"):
            await client.for_fetch().get("cars")

    assert client.statistics.requests == 3


async def test_a_reset_connection_is_named(upstream: Scripted, bench: Bench) -> None:
    async def reset(stream: trio.SocketStream) -> bool:
        stream.setsockopt(SOL_SOCKET, SO_LINGER, pack("ii", 1, 0))  # socket(7): close with RST
        return False

    upstream.plays(reset)
    client = await bench.client(upstream.url)

    with pytest.raises(Unavailable, match=r"the connection broke: .*reset by peer"):
        await client.for_fetch().get("cars")


async def test_between_attempts_there_is_a_wait(upstream: Scripted, bench: Bench) -> None:
    upstream.plays(upstream.says(500))
    client = await bench.client(upstream.url, chance=0.2)

    with pytest.raises(Unavailable):
        await client.for_fetch().get("cars")

    first, second, third = (each.at for each in upstream.received)
    assert second - first >= 0.2 * 0.5
    assert third - second >= 0.2 * 1.0


async def test_an_outage_is_not_made_worse(upstream: Scripted, bench: Bench) -> None:
    """One request in ten is answered: too often for the breaker, and retries stay a tenth."""

    def judge(_request: Received) -> Script:
        return upstream.says() if len(upstream.received) % 10 == 0 else upstream.says(503)

    upstream.judge = judge
    client = await bench.client(upstream.url, quotas=(Quota("app", concurrency=4),))
    spent = []

    async def ask() -> None:
        for _ in range(50):
            said = ""
            try:
                await client.for_fetch().get("cars")
            except Unavailable as error:
                said = str(error)
            spent.append("retry budget is spent" in said)

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(ask)

    assert len(spent) == 200
    assert len(upstream.received) <= 200 * 1.1 + 10
    assert spent.count(True) > 150
