"""Conditions go out with the request that they were told about, and with no other (RFC 9110 13)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from syncd.errors import Unintelligible
from syncd.http import NotModified
from syncd.validators import Condition

if TYPE_CHECKING:
    from tests.http.conftest import Bench, Received, Script, Scripted

    from syncd.http import Client, FetchHttp

MODIFIED = "Sat, 31 Oct 2026 12:00:00 GMT"
DATE = "Sun, 01 Nov 2026 12:00:00 GMT"


def validated(upstream: Scripted) -> Script:
    return upstream.says(ETag='"1"', Last_Modified=MODIFIED, Date=DATE)


async def told(client: Client, path: str = "cars", **asked: Any) -> Condition:
    http = client.for_fetch(conditional=True)
    await http.get(path, **asked)
    assert http.told is not None
    return http.told


def conditions(request: Received) -> dict[str, str]:
    return {name: value for name, value in request.headers.items() if name.startswith("if-")}


async def test_both_validators_go_out_with_the_next_request_of_the_same(
    upstream: Scripted, bench: Bench
) -> None:
    upstream.plays(
        validated(upstream), upstream.raw(b"HTTP/1.1 304 Not Modified\r\n\r\n", keep=True)
    )
    client = await bench.client(upstream.url)
    condition = await told(client, params={"page": 2, "of": "a b"})
    http = client.for_fetch(conditional=True, condition=condition)

    with pytest.raises(NotModified):
        await http.get("cars", params={"of": "a b", "page": 2})

    first, second = upstream.received
    assert conditions(first) == {}
    assert conditions(second) == {"if-none-match": '"1"', "if-modified-since": MODIFIED}
    assert (http.not_modified, http.requests, http.retries) == (True, 1, 0)
    assert http.sent_at is not None
    assert upstream.connections == 1  # a 304 has no body: its connection is kept
    assert client.statistics.latency_seconds is not None


async def test_a_304_may_bring_a_newer_etag(upstream: Scripted, bench: Bench) -> None:
    upstream.plays(
        validated(upstream), upstream.says(304, b"", ETag='W/"2"', Date=DATE, content_length=None)
    )
    client = await bench.client(upstream.url)
    http = client.for_fetch(conditional=True, condition=await told(client))

    with pytest.raises(NotModified):
        await http.get("cars")

    assert http.told is not None
    assert http.told.etag == 'W/"2"'
    assert http.date is not None


async def test_another_request_goes_out_without_a_condition(
    upstream: Scripted, bench: Bench
) -> None:
    upstream.plays(validated(upstream))
    client = await bench.client(upstream.url)
    condition = await told(client)

    for path, asked in (
        ("cars", {"params": {"page": 2}}),
        ("lots", {}),
        ("cars", {"accept": "application/json, text/csv"}),
        ("cars", {"also": frozenset({304})}),  # the connector takes a 304 itself
    ):
        await client.for_fetch(conditional=True, condition=condition).get(path, **asked)

    assert [conditions(each) for each in upstream.received] == [{}] * 5


async def test_only_the_first_request_of_a_fetch_bears_a_condition(
    upstream: Scripted, bench: Bench
) -> None:
    upstream.plays(validated(upstream))
    client = await bench.client(upstream.url)
    http = client.for_fetch(conditional=True, condition=await told(client))

    await http.get("other")
    await http.get("cars")

    assert [conditions(each) for each in upstream.received] == [{}] * 3
    assert http.told is None  # it was made of two answers


async def test_a_repeated_request_bears_its_condition_again(
    upstream: Scripted, bench: Bench
) -> None:
    upstream.plays(validated(upstream), upstream.says(500), validated(upstream))
    client = await bench.client(upstream.url)
    http = client.for_fetch(conditional=True, condition=await told(client))

    await http.get("cars")

    assert [len(conditions(each)) for each in upstream.received] == [0, 2, 2]
    assert http.told is not None


async def test_a_condition_does_not_follow_a_redirect(upstream: Scripted, bench: Bench) -> None:
    moved = upstream.says(302, b"", Location="/v1/elsewhere")
    upstream.plays(validated(upstream), moved, validated(upstream))
    client = await bench.client(upstream.url)
    http = client.for_fetch(conditional=True, condition=await told(client))

    await http.get("cars")

    assert [len(conditions(each)) for each in upstream.received] == [0, 2, 0]
    assert http.told is None


@pytest.mark.parametrize("status", [201, 404])
async def test_only_a_plain_200_is_vouched_for(
    upstream: Scripted, bench: Bench, status: int
) -> None:
    upstream.plays(upstream.says(status, ETag='"1"'))
    client = await bench.client(upstream.url)
    http = client.for_fetch(conditional=True)

    await http.get("cars", also=frozenset({404}))

    assert http.told is None


@pytest.mark.parametrize("conditional", [False, True])
async def test_a_304_to_a_request_without_a_condition_is_not_understood(
    upstream: Scripted, bench: Bench, conditional: bool
) -> None:
    upstream.plays(upstream.says(304, b"", ETag='"1"', content_length=None))
    client = await bench.client(upstream.url)
    http = client.for_fetch(conditional=conditional)

    with pytest.raises(Unintelligible, match="304"):
        await http.get("cars")

    assert not http.not_modified


async def test_what_an_etag_holds_is_said_nowhere(upstream: Scripted, bench: Bench) -> None:
    upstream.plays(upstream.says(ETag='"hush"'), upstream.says(500, b'{"etag": 1}'))
    client = await bench.client(upstream.url)
    http: FetchHttp = client.for_fetch(conditional=True, condition=await told(client))

    with pytest.raises(Exception, match="500") as caught:
        await http.get("cars")

    said = [str(caught.value), repr(http.told), *map(repr, bench.events)]
    assert bench.events
    assert not any("hush" in each for each in said)
