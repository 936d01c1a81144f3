"""An answer is data only if it says so and is complete (P18)."""

from __future__ import annotations

import gzip
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
import trio

from syncd.errors import ConfigError, Unauthorized, Unintelligible
from syncd.http import wire

if TYPE_CHECKING:
    from tests.http.conftest import Bench, Scripted

JSON_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


async def test_a_complete_json_answer_is_data(upstream: Scripted, bench: Bench) -> None:
    upstream.plays(
        upstream.says(body=b'{"id": 1}', Date="Sun, 01 Nov 2026 12:00:00 GMT", X_Total="7")
    )
    client = await bench.client(upstream.url)
    http = client.for_fetch()

    response = await http.get("cars", params={"page": 1, "q": "a b"})

    assert response.status == 200
    assert http.received_bytes == 9
    assert http.now() >= response.sent_at
    assert response.content == b'{"id": 1}'
    assert response.headers["x-total"] == "7"
    assert response.date == datetime(2026, 11, 1, 12, tzinfo=UTC)
    assert response.url == f"{upstream.url}/cars"
    assert upstream.paths == ["/v1/cars?page=1&q=a%20b"]


async def test_a_request_carries_no_more_than_is_needed(upstream: Scripted, bench: Bench) -> None:
    upstream.plays(upstream.says(Set_Cookie="session=1; Path=/"))
    client = await bench.client(upstream.url, headers={"X-Api-Key": "k"})

    await client.for_fetch().get("cars")
    await client.for_fetch().get("cars")

    for each in upstream.received:
        host = upstream.url.removeprefix("http://").removesuffix("/v1")
        assert each.headers == {
            "host": host,
            "accept": "application/json",
            "accept-encoding": "gzip",
            "user-agent": "syncd/1",
            "x-api-key": "k",
        }


@pytest.mark.parametrize("media", ["application/json; charset=UTF-8", "application/hal+json"])
async def test_json_by_any_of_its_names_is_data(
    upstream: Scripted, bench: Bench, media: str
) -> None:
    upstream.plays(upstream.says(Content_Type=media, content_type=None))
    client = await bench.client(upstream.url)

    response = await client.for_fetch().get("cars")

    assert response.content == b'{"data": []}'


async def test_what_was_asked_for_in_accept_is_data(upstream: Scripted, bench: Bench) -> None:
    upstream.plays(upstream.says(body=b"id,name\n", content_type="text/csv"))
    client = await bench.client(upstream.url)

    response = await client.for_fetch().get("cars.csv", accept="text/csv")

    assert response.content == b"id,name\n"


@pytest.mark.parametrize(
    ("fields", "body", "named"),
    [
        ({"content_type": "text/html"}, b"<h1>log in</h1>", "text/html"),
        ({"content_type": "application/x-ndjson"}, b"{}\n{}\n", "application/x-ndjson"),
        ({"content_type": None}, b"{}", "no media type"),
        ({"content_type": "application/json; charset=latin-1"}, b"{}", "latin-1"),
        ({"content_encoding": "br"}, b"\x8b\x02", "'br'"),
        ({"status": 204, "content_length": None}, b"", "204"),
        ({"status": 206}, b"[1,2", "206"),
    ],
)
async def test_an_answer_that_is_no_data_by_its_head_is_refused_at_once(
    upstream: Scripted, bench: Bench, fields: dict[str, str], body: bytes, named: str
) -> None:
    upstream.plays(upstream.says(body=body, **fields))  # type: ignore[arg-type]
    client = await bench.client(upstream.url)

    with pytest.raises(Unintelligible, match=named) as caught:
        await client.for_fetch().get("cars", params={"page": 2})

    assert caught.value.where == "cars GET /v1/cars"
    assert len(upstream.received) == 1


@pytest.mark.parametrize(
    "pieces",
    [
        (JSON_HEAD + b"Content-Length: 20\r\n\r\n", b'{"data": ['),
        (JSON_HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b'a\r\n{"data": [\r\n'),
        (JSON_HEAD + b"Connection: close\r\n\r\n", b'{"data": ['),
        (JSON_HEAD + b"Content-Length: 0\r\n\r\n",),
        (JSON_HEAD + b"Connection: close\r\n\r\n", b" \n"),
        (JSON_HEAD + b"Content-Encoding: gzip\r\n\r\n", gzip.compress(b"[1, 2]")[:-3]),
        (JSON_HEAD + b"Content-Encoding: gzip\r\n\r\n", b"\x1f\x8b no gzip at all"),
        (JSON_HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"zz\r\n"),
    ],
)
async def test_a_body_that_came_broken_is_asked_for_three_times_and_never_data(
    upstream: Scripted, bench: Bench, pieces: tuple[bytes, ...]
) -> None:
    upstream.plays(upstream.raw(*pieces))
    client = await bench.client(upstream.url)

    with pytest.raises(Unintelligible, match="3 attempts"):
        await client.for_fetch().get("cars")

    assert len(upstream.received) == 3


async def test_a_body_that_came_broken_once_is_data_the_second_time(
    upstream: Scripted, bench: Bench
) -> None:
    upstream.plays(
        upstream.raw(JSON_HEAD + b"Content-Length: 9\r\n\r\n["), upstream.says(body=b"[1]")
    )
    client = await bench.client(upstream.url)

    response = await client.for_fetch().get("cars")

    assert response.content == b"[1]"


async def test_a_compressed_body_is_data_decoded(upstream: Scripted, bench: Bench) -> None:
    body = gzip.compress(b'{"data": ') + gzip.compress(b"[1]}")  # a series of members
    upstream.plays(upstream.says(body=body, content_encoding="gzip"))
    client = await bench.client(upstream.url)

    response = await client.for_fetch().get("cars")

    assert response.content == b'{"data": [1]}'


async def test_a_status_in_also_is_data(upstream: Scripted, bench: Bench) -> None:
    upstream.plays(
        upstream.says(404, b'{"error": "gone"}'),
        upstream.says(304, b"", content_type=None, content_length=None),
    )
    client = await bench.client(upstream.url)
    http = client.for_fetch()

    gone = await http.get("cars/1", also=frozenset({404}))
    unchanged = await http.get("cars", also=frozenset({304}))

    assert (gone.status, gone.content) == (404, b'{"error": "gone"}')
    assert (unchanged.status, unchanged.content) == (304, b"")


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_credential_is_tried_once(
    upstream: Scripted, bench: Bench, status: int
) -> None:
    upstream.plays(upstream.says(status, b'{"error": "expired"}'))
    client = await bench.client(upstream.url)

    with pytest.raises(Unauthorized, match=f"refused .{status}.*expired.*renew the credential"):
        await client.for_fetch().get("cars")

    assert len(upstream.received) == 1


@pytest.mark.parametrize("status", [302, 400, 404, 410, 422])
async def test_any_other_refusal_is_final_and_quotes_the_body(
    upstream: Scripted, bench: Bench, status: int
) -> None:
    upstream.plays(upstream.says(status, b"no\x00 such\n\x1b[31m car " + b"x" * 5000))
    client = await bench.client(upstream.url)

    with pytest.raises(Unintelligible, match=f"answered {status}: 'no such") as caught:
        await client.for_fetch().get("cars")

    assert caught.value.what.isprintable()
    assert len(caught.value.what) < 250
    assert caught.value.details["status"] == status
    assert len(upstream.received) == 1


async def test_a_connection_is_used_again_after_data_and_after_a_refusal(
    upstream: Scripted, bench: Bench
) -> None:
    upstream.plays(upstream.says(), upstream.says(404), upstream.says())
    client = await bench.client(upstream.url)
    http = client.for_fetch()

    await http.get("cars")
    with pytest.raises(Unintelligible):
        await http.get("nothing")
    await http.get("cars")

    assert {each.connection for each in upstream.received} == {1}


async def test_a_connection_that_the_upstream_closed_is_replaced_without_a_retry(
    upstream: Scripted, bench: Bench
) -> None:
    body = JSON_HEAD + b"Content-Length: 2\r\n\r\n{}"
    upstream.plays(upstream.raw(body))  # closes after each answer, without saying so
    client = await bench.client(upstream.url)
    http = client.for_fetch()

    for _ in range(3):
        await http.get("cars")
        await upstream.until_open(0)

    assert (http.requests, http.retries) == (3, 0)


async def test_sent_at_is_when_the_answered_request_left_the_earliest_of_a_fetch(
    upstream: Scripted, bench: Bench
) -> None:
    upstream.plays(upstream.says(500), upstream.says())
    client = await bench.client(upstream.url)
    http = client.for_fetch()
    assert http.sent_at is None

    first = await http.get("cars")
    second = await http.get("cars")

    assert http.sent_at == first.sent_at < second.sent_at
    failed, came, came_next = (bench.clock(each.at) for each in upstream.received)
    assert failed < first.sent_at <= came < second.sent_at <= came_next


async def test_a_connection_idle_for_long_is_closed(
    upstream: Scripted, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "IDLE_SECONDS", 0.3)
    client = await bench.client(upstream.url)

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(client.for_fetch().get, "cars")
    assert upstream.open_connections == 3
    await trio.sleep(0.4)
    await client.for_fetch().get("cars")

    await upstream.until_open(1)
    assert upstream.connections == 4  # an expired one is not used again


async def test_leaving_the_client_closes_its_connections(upstream: Scripted, bench: Bench) -> None:
    client = await bench.client(upstream.url)
    await client.for_fetch().get("cars")

    await bench.stack.aclose()

    await upstream.until_open(0)
    assert upstream.connections == 1


async def test_an_upstream_without_a_quota_is_a_configuration_error(bench: Bench) -> None:
    with pytest.raises(ConfigError, match="declares no quota"):
        await bench.client("https://api.example", quotas=())


async def test_an_unknown_quota_or_accept_is_the_plugins_bug(
    upstream: Scripted, bench: Bench
) -> None:
    client = await bench.client(upstream.url)

    with pytest.raises(ValueError, match="no quota 'other', only app"):
        await client.for_fetch().get("cars", quota="other")
    with pytest.raises(ValueError, match="cannot be sent"):
        await client.for_fetch().get("cars", accept="a\r\nb: c")

    assert upstream.received == []
