"""Reading by POST keeps to everything that reading by GET keeps to; and bodies may lock."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import trio

from syncd.errors import (
    CursorExpired,
    SourceError,
    Throttled,
    Unauthorized,
    Unavailable,
    Unintelligible,
)
from syncd.events import LimitLocked, RequestRetried
from syncd.model import Quota, Response, Secret, SlidingWindow

if TYPE_CHECKING:
    from tests.http.conftest import Bench, Received, Script, Scripted

DATE = "Sun, 01 Nov 2026 12:00:00 GMT"
UNIX = int(datetime(2026, 11, 1, 12, tzinfo=UTC).timestamp())


def judge(response: Response) -> SourceError | None:
    """Read errors out of bodies, as a connector does whose upstream answers 200 to everything."""
    try:
        said: Any = json.loads(response.content)
    except ValueError:
        return None
    match said.get("error") if isinstance(said, dict) else None:
        case {"unlockedAt": moment}:
            seconds = response.seconds_until(datetime.fromtimestamp(moment, UTC))
            return Throttled("items", "locked", retry_after_seconds=seconds)
        case "token":
            return Unauthorized("items", "the token is refused")
        case "cursor":
            return CursorExpired("items", "the cursor is too old")
        case "busy":
            return Unavailable("items", "it is busy")
        case str(text):
            return Unintelligible("items", text)
        case _:
            return None


def locked(upstream: Scripted, seconds: int, *, status: int = 200) -> Script:
    body = json.dumps({"error": {"unlockedAt": UNIX + seconds}}).encode()
    return upstream.says(status, body, Date=DATE)


async def test_a_question_goes_out_as_json_and_is_retried(upstream: Scripted, bench: Bench) -> None:
    upstream.plays(upstream.says(503), upstream.says(body=b"[1]"))
    client = await bench.client(upstream.url)

    response = await client.for_fetch().post("items", json={"size": 100}, params={"fields": "id"})

    assert response.content == b"[1]"
    first, second = upstream.received
    assert (first.method, first.target, first.body) == (
        "POST",
        "/v1/items?fields=id",
        b'{"size":100}',
    )
    assert first.headers["content-type"] == "application/json"
    assert (second.method, second.body) == (first.method, first.body)
    assert len(bench.emitted(RequestRetried)) == 1


async def test_posts_and_gets_share_a_connection_and_a_quota(
    upstream: Scripted, bench: Bench
) -> None:
    quota = Quota("app", SlidingWindow(2, 1.0))
    client = await bench.client(upstream.url, quotas=(quota,))
    http = client.for_fetch()

    await http.get("a")
    await http.post("b", json=[])
    await http.get("c")

    assert {each.connection for each in upstream.received} == {1}
    # They leave a second apart; the first may have arrived late.
    assert upstream.received[2].at - upstream.received[0].at >= 0.5


async def test_a_secret_in_a_question_is_in_no_message(upstream: Scripted, bench: Bench) -> None:
    upstream.plays(upstream.says(400, b'{"said": "no access for hunter2hunter2"}'))
    client = await bench.client(upstream.url)

    with pytest.raises(Unintelligible, match=r"cars POST /v1/items") as caught:
        await client.for_fetch().post("items", json={"accessToken": "hunter2hunter2"})

    assert "hunter2" not in str(caught.value)
    assert "***" in str(caught.value)


async def test_a_redirect_is_followed_only_where_it_keeps_the_method(
    upstream: Scripted, bench: Bench
) -> None:
    upstream.plays(
        upstream.says(307, b"", Location="/v1/there"), upstream.says(body=b"[1]"),
        upstream.says(303, b"", Location="/v1/there"),
    )  # fmt: skip
    client = await bench.client(upstream.url)

    await client.for_fetch().post("items", json={"a": 1})
    with pytest.raises(Unintelligible, match="redirected with 303"):
        await client.for_fetch().post("items", json={})

    assert [each.method for each in upstream.received] == ["POST"] * 3
    assert upstream.received[1].body == b'{"a":1}'


async def test_a_form_goes_out_encoded_and_its_secrets_are_masked(
    upstream: Scripted, bench: Bench
) -> None:
    upstream.plays(upstream.says(400, b'{"said": "hunter2&hunter2, tok-1, refresh"}'))
    client = await bench.client(upstream.url)
    form: dict[str, str | Secret] = {"grant_type": "refresh", "refresh_token": "tok-1"}
    form["code"] = Secret("hunter2&hunter2")

    with pytest.raises(Unintelligible, match=r"\*\*\*, \*\*\*, refresh") as caught:
        await client.for_fetch().post("token", form=form)

    (got,) = upstream.received
    assert got.body == b"grant_type=refresh&refresh_token=tok-1&code=hunter2%26hunter2"
    assert got.headers["content-type"] == "application/x-www-form-urlencoded"
    assert "hunter2" not in str(caught.value)


async def test_a_form_is_sent_again_only_where_it_was_surely_not_carried_out(
    upstream: Scripted, bench: Bench
) -> None:
    refused = upstream.says(429, b"", Retry_After="0")
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n"
    cut = upstream.raw(head + b"{")
    for lost in (upstream.raw(b""), upstream.says(502), cut):
        upstream.plays(refused, lost)
        client = await bench.client(upstream.url)
        with pytest.raises(SourceError, match="not sent again, it may have been carried out"):
            await client.for_fetch().post("token", form={"a": "b"})
    assert len(upstream.received) == 6

    nobody = await bench.client("http://127.0.0.1:9")  # discard: nobody listens
    with pytest.raises(Unavailable, match=r"no connection.* \(3 attempts\)"):
        await nobody.for_fetch().post("token", form={"a": "b"})


async def test_a_question_that_costs_each_time_is_sent_again_only_where_it_was_not_taken_up(
    upstream: Scripted, bench: Bench
) -> None:
    refused = (
        upstream.says(429, b"", Retry_After="0"),
        upstream.says(503, b"", Retry_After="1"),
    )
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n"
    lost = (upstream.raw(b""), upstream.says(503), upstream.says(502), upstream.raw(head))
    for scripts in [(*refused, lost[0]), *((each,) for each in lost[1:])]:
        upstream.received.clear()
        upstream.plays(*scripts)
        http = (await bench.client(upstream.url)).for_fetch()
        with pytest.raises(SourceError, match="not sent again, it may have been carried out"):
            await http.post("ask", json={}, idempotent=False)
        assert len(upstream.received) == len(scripts)
        assert http.paid == {"lost": 1}

    http = (await bench.client("http://127.0.0.1:9")).for_fetch()  # discard: nobody listens
    with pytest.raises(Unavailable, match=r"no connection.* \(3 attempts\)"):
        await http.post("ask", json={}, idempotent=False)
    assert http.paid == {}


@pytest.mark.parametrize(
    ("status", "media", "paid"),
    [(200, "application/json", {}), (400, "application/json", {}), (200, "text/html", {"lost": 1})],
)
async def test_an_answer_that_was_read_is_not_lost_and_one_that_is_no_data_is(
    upstream: Scripted, bench: Bench, status: int, media: str, paid: dict[str, int]
) -> None:
    upstream.plays(upstream.says(status, b"[]", content_type=media))
    http = (await bench.client(upstream.url)).for_fetch()

    with suppress(Unintelligible):
        await http.post("ask", json={}, idempotent=False)

    assert http.paid == paid
    assert len(upstream.received) == 1


async def test_a_question_that_is_cut_off_while_it_is_answered_is_lost(
    upstream: Scripted, bench: Bench
) -> None:
    upstream.plays(upstream.stalls())
    http = (await bench.client(upstream.url)).for_fetch()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(http.post, "ask", json={}, idempotent=False))
        with trio.fail_after(20):
            while not upstream.received:  # noqa: ASYNC110  # what a server saw wakes nobody
                await trio.sleep(0.005)
        nursery.cancel_scope.cancel()

    assert http.paid == {"lost": 1}


async def test_a_request_may_have_a_timeout_of_its_own(upstream: Scripted, bench: Bench) -> None:
    async def late(stream: trio.SocketStream) -> bool:
        await trio.sleep(0.5)
        return await upstream.says(body=b"[1]")(stream)

    upstream.plays(late)
    http = (await bench.client(upstream.url, timeout_seconds=0.1)).for_fetch()

    response = await http.post("ask", json={}, timeout_seconds=30.0)

    assert response.content == b"[1]"
    upstream.plays(upstream.stalls())
    with pytest.raises(Unavailable, match=r"no complete answer within 0\.2 s"):
        await http.post("ask", json={}, timeout_seconds=0.2, idempotent=False)
    assert len(upstream.received) <= 2  # one, where it was late before it was read


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan")])
async def test_a_timeout_that_is_no_time_is_refused_before_anything_is_sent(
    upstream: Scripted, bench: Bench, seconds: float
) -> None:
    client = await bench.client(upstream.url)

    with pytest.raises(ValueError, match="timeout_seconds"):
        await client.for_fetch().post("ask", json={}, timeout_seconds=seconds)

    assert not upstream.received


async def test_a_request_has_one_body(upstream: Scripted, bench: Bench) -> None:
    client = await bench.client(upstream.url)

    with pytest.raises(ValueError, match="two bodies"):
        await client.for_fetch().post("token", json={"a": 1}, form={})


@pytest.mark.parametrize("status", [200, 400, 429])
async def test_a_lock_in_a_body_holds_for_everybody_and_is_no_failure(
    upstream: Scripted, bench: Bench, status: int
) -> None:
    def script(_request: Received) -> Script:
        first = len(upstream.received) == 1
        return locked(upstream, 2, status=status) if first else upstream.says()

    upstream.judge = script
    one = await bench.client(upstream.url, judge=judge, scope="app")
    other = await bench.client(upstream.url, scope="app")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(_post, one)
        with trio.fail_after(20):
            await bench.until_emitted(LimitLocked)
        for _ in range(5):
            nursery.start_soon(_post, other)

    began_at = upstream.received[0].at
    assert len(upstream.received) == 7
    assert all(each.at - began_at >= 2.0 for each in upstream.received[1:])
    assert bench.emitted(LimitLocked)[-1].seconds == 2.0
    assert bench.emitted(LimitLocked)[-1].announced


async def _post(client: Any) -> None:
    await client.for_fetch().post("items", json={})


@pytest.mark.parametrize(
    ("said", "kind", "sendings"),
    [
        ("token", Unauthorized, 1),
        ("cursor", CursorExpired, 1),
        ("strange", Unintelligible, 1),
        ("busy", Unavailable, 3),
    ],
)
async def test_errors_in_bodies_mean_what_they_say(
    upstream: Scripted, bench: Bench, said: str, kind: type[SourceError], sendings: int
) -> None:
    upstream.plays(upstream.says(body=json.dumps({"error": said}).encode()))
    client = await bench.client(upstream.url, judge=judge)

    with pytest.raises(kind):
        await client.for_fetch().post("items", json={})

    assert len(upstream.received) == sendings


async def test_what_the_judge_does_not_know_is_judged_by_its_status(
    upstream: Scripted, bench: Bench
) -> None:
    upstream.plays(
        upstream.says(401, b"who are you", content_type="text/plain"),
        upstream.raw(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                     b'Content-Length: 99\r\n\r\n{"error": "token"}'),
        upstream.says(body=b'{"data": []}'),
    )  # fmt: skip
    client = await bench.client(upstream.url, judge=judge)

    with pytest.raises(Unauthorized, match="credential is refused"):
        await client.for_fetch().get("items")
    response = await client.for_fetch().get("items")  # what was cut short is asked again

    assert response.content == b'{"data": []}'


async def test_a_cost_is_charged_before_and_corrected_by_the_answer(
    upstream: Scripted, bench: Bench
) -> None:
    quota = Quota("model", SlidingWindow(1_000, 3600.0, unit="tokens"))
    client = await bench.client(
        upstream.url, quotas=(quota,), spent=lambda _: {"tokens": 10}, patience_seconds=0.0
    )
    for _ in range(5):  # 900 each, as far as was known before
        await client.for_fetch().post("ask", json={}, cost={"tokens": 900})

    assert len(upstream.received) == 5
    with pytest.raises(ValueError, match="names no cost in tokens"):
        await client.for_fetch().post("ask", json={})
    with pytest.raises(ValueError, match="1001 tokens"):
        await client.for_fetch().post("ask", json={}, cost={"tokens": 1001})
