"""What is slow, large or hostile is cut: by the deadline, and by budgets of bytes (P17)."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from syncd.errors import Unauthorized, Unavailable, Unintelligible
from syncd.http import answer
from syncd.http.body import Body, BodyBroken, BodyOversize
from syncd.model import Quota

if TYPE_CHECKING:
    from tests.http.conftest import Bench, Scripted

JSON_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
MIB = 2**20
BOMB = gzip.compress(bytes(200 * MIB), 9)  # 204 kB


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(JSON_HEAD + b"Content-Length: 99999\r\n\r\n", id="body"),
        pytest.param(JSON_HEAD + b"X-Slow:", id="head"),
        pytest.param(b"HTTP/1.1 200 O", id="status line"),
    ],
)
async def test_a_byte_now_and_then_does_not_outlive_the_deadline(
    upstream: Scripted, bench: Bench, head: bytes
) -> None:
    upstream.plays(upstream.drips(head))
    client = await bench.client(upstream.url, timeout_seconds=0.2)
    began_at = trio.current_time()

    with pytest.raises(Unavailable, match=r"within 0\.2 s.*3 attempts"):
        await client.for_fetch().get("cars")

    assert 0.6 <= trio.current_time() - began_at < 5.0
    assert 1 <= len(upstream.received) <= 3  # on a busy machine one may not have connected in time


@pytest.mark.parametrize("pieces", [(), (JSON_HEAD + b"Content-Length: 20\r\n\r\n{",)])
async def test_silence_does_not_outlive_the_deadline(
    upstream: Scripted, bench: Bench, pieces: tuple[bytes, ...]
) -> None:
    upstream.plays(upstream.stalls(*pieces))
    client = await bench.client(upstream.url, timeout_seconds=0.1)
    began_at = trio.current_time()

    with pytest.raises(Unavailable, match=r"within 0\.1 s"):
        await client.for_fetch().get("cars")

    assert trio.current_time() - began_at < 10


async def test_a_refusal_is_known_by_its_head_though_its_body_never_ends(
    upstream: Scripted, bench: Bench
) -> None:
    upstream.plays(upstream.stalls(b"HTTP/1.1 401 No\r\nContent-Length: 99\r\n\r\nexpired key"))
    client = await bench.client(upstream.url, timeout_seconds=0.3)

    with pytest.raises(Unauthorized, match="expired key"):
        await client.for_fetch().get("cars")

    assert len(upstream.received) == 1


async def test_data_may_take_longer_than_a_refusal(
    upstream: Scripted, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answer, "EXCERPT_SECONDS", 0.05)
    upstream.plays(
        upstream.drips(JSON_HEAD + b"Content-Length: 12\r\n\r\n[1]"),  # 9 blanks in 0.18 s
    )
    client = await bench.client(upstream.url, timeout_seconds=5)

    response = await client.for_fetch().get("cars")

    assert response.content == b"[1]" + b" " * 9


async def test_a_request_that_is_cut_leaves_the_client_as_it_was(
    upstream: Scripted, bench: Bench
) -> None:
    client = await bench.client(upstream.url, quotas=(Quota("app", concurrency=1),))
    body = JSON_HEAD + b"Content-Length: 9\r\n\r\n"
    upstream.judge = lambda _: upstream.drips(body, every_seconds=0.001)

    for after_seconds in (0.0, 0.0001, 0.001, 0.003, 0.01, 0.02) * 5:
        with trio.move_on_after(after_seconds):
            await client.for_fetch().get("cars")

    upstream.judge = lambda _: upstream.says(body=b"[1]")
    with trio.fail_after(2):
        response = await client.for_fetch().get("cars")
    assert response.content == b"[1]"
    assert client.statistics.in_flight == 0


async def test_a_gzip_bomb_is_cut_before_it_fills_memory(
    upstream: Scripted, bench: Bench, peak_bytes: Callable[[], int]
) -> None:
    upstream.plays(upstream.says(body=BOMB, content_encoding="gzip"))
    client = await bench.client(upstream.url)

    with pytest.raises(Unintelligible, match="more than 200:1"):
        await client.for_fetch().get("cars")

    assert peak_bytes() < 24 * MIB
    assert len(upstream.received) == 1


async def test_a_body_announced_as_too_large_is_not_read_at_all(
    upstream: Scripted, bench: Bench, peak_bytes: Callable[[], int]
) -> None:
    head = JSON_HEAD + b"Content-Length: %d\r\n\r\n" % (2 * 2**30)
    upstream.plays(upstream.floods(head, bytes(MIB), 2048))
    client = await bench.client(upstream.url)

    with pytest.raises(Unintelligible, match=r"announced a body of 2147483648 bytes, over the"):
        await client.for_fetch().get("cars")

    assert peak_bytes() < 8 * MIB
    assert len(upstream.received) == 1


async def test_two_gigabytes_without_a_length_are_cut_at_the_budget(
    upstream: Scripted, bench: Bench, peak_bytes: Callable[[], int]
) -> None:
    chunk = b"100000\r\n" + bytes(MIB) + b"\r\n"
    upstream.plays(upstream.floods(JSON_HEAD + b"Transfer-Encoding: chunked\r\n\r\n", chunk, 2048))
    client = await bench.client(upstream.url)

    with pytest.raises(Unintelligible, match=f"over {32 * MIB} bytes on the wire"):
        await client.for_fetch().get("cars")

    assert peak_bytes() < 64 * MIB  # P17
    assert len(upstream.received) == 1


async def test_a_body_over_its_decoded_budget_is_cut(upstream: Scripted, bench: Bench) -> None:
    body = gzip.compress(b'"' + b"ab" * 600 + b'"')
    upstream.plays(upstream.says(body=body, content_encoding="gzip"))
    client = await bench.client(upstream.url, body_max_bytes=1000)

    with pytest.raises(Unintelligible, match="over 1000 bytes, decoded"):
        await client.for_fetch().get("cars")

    assert len(upstream.received) == 1


@settings(max_examples=60)
@given(body=st.binary(max_size=3000), cut=st.integers(1, 700), members=st.integers(1, 3))
def test_a_body_is_the_same_in_whatever_pieces_it_comes(
    body: bytes, cut: int, members: int
) -> None:
    sent = b"".join(gzip.compress(body) for _ in range(members))
    reader = Body("gzip", wire_max_bytes=len(sent), body_max_bytes=len(body) * members)

    for start in range(0, len(sent), cut):
        reader.feed(sent[start : start + cut])

    assert reader.finish() == body * members


@settings(max_examples=60)
@given(size=st.integers(0, 100_000), budget=st.integers(0, 50_000), cut=st.integers(1, 300))
def test_a_body_never_holds_more_than_its_budget(size: int, budget: int, cut: int) -> None:
    sent = gzip.compress(b"a" * size)
    reader = Body("gzip", wire_max_bytes=len(sent), body_max_bytes=budget)

    try:
        for start in range(0, len(sent), cut):
            reader.feed(sent[start : start + cut])
    except BodyOversize:
        assert size > budget
    else:
        assert size <= budget
    assert len(reader.so_far()) <= budget


@settings(max_examples=100)
@given(junk=st.binary(min_size=1, max_size=200), raw_at=st.integers(0, 60))
def test_damaged_data_are_never_taken_for_whole(junk: bytes, raw_at: int) -> None:
    sent = bytearray(gzip.compress(bytes(range(256)) * 4))
    sent[raw_at : raw_at + len(junk)] = junk
    reader = Body("gzip", wire_max_bytes=MIB, body_max_bytes=MIB)

    try:
        reader.feed(bytes(sent))
        whole = reader.finish()
    except BodyBroken:
        whole = None
    assert whole in (None, bytes(range(256)) * 4)  # its checksum is right, or it is no data
