"""How each process keeps to its quotas can be read by any other, as long as it lives."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from random import Random
from uuid import uuid4

import attrs
import trio
from test_hops import hops_on

from syncd.cli import limiting
from syncd.http import Limiters
from syncd.http.patience import Patience
from syncd.limits.usage import Spent, Usage
from syncd.model import Quota, SlidingWindow
from syncd.noting import note_usage
from syncd.store import registry, usage
from syncd.store.hops import Connection, Hops
from syncd.store.registry import Process

NOW = datetime(2026, 3, 1, tzinfo=UTC)
ONE = Process(uuid4(), "host", 1, "1.0")
OTHER = Process(uuid4(), "host", 2, "1.0")
USAGE = Usage(
    "shop:orders",
    windows=(Spent("sliding", 600, 60.0, "requests", 412.0),),
    in_flight=3,
    ceiling=8,
    adaptive=True,
    rate=None,
    locked_until=130.0,
    waiting=5,
    broken_origins=("https://b",),
    sent=200,
    refused=2,
)


def test_a_noted_usage_is_read_by_all_until_its_process_leaves(connection: Connection) -> None:
    for process in (ONE, OTHER):
        registry.beat(connection, process, now=NOW)
        usage.note(connection, process.id, [USAGE], monotonic=100.0, now=NOW)

    rows = usage.listed(connection, now=NOW + timedelta(seconds=10))

    assert [(row["key"], row["pid"]) for row in rows] == [("shop:orders", 1), ("shop:orders", 2)]
    assert rows[0]["windows"] == [attrs.asdict(USAGE.windows[0])]
    assert rows[0]["locked_until"] == NOW + timedelta(seconds=30)
    assert rows[0]["refused_share"] == 0.01
    assert not rows[0]["stale"]
    registry.leave(connection, ONE, now=NOW)
    assert [row["pid"] for row in usage.listed(connection, now=NOW)] == [2]


def test_a_later_note_replaces_an_earlier_one_and_a_past_lock_is_none(
    connection: Connection,
) -> None:
    registry.beat(connection, ONE, now=NOW)
    usage.note(connection, ONE.id, [USAGE], monotonic=100.0, now=NOW)
    free = attrs.evolve(USAGE, in_flight=0, broken_origins=())
    usage.note(connection, ONE.id, [free], monotonic=140.0, now=NOW)

    (row,) = usage.listed(connection, now=NOW)

    assert (row["in_flight"], row["broken_origins"], row["locked_until"]) == (0, [], None)


def test_a_process_that_no_longer_beats_is_marked(connection: Connection) -> None:
    registry.beat(connection, ONE, now=NOW)
    usage.note(connection, ONE.id, [USAGE], monotonic=100.0, now=NOW)

    (row,) = usage.listed(connection, now=NOW + timedelta(seconds=61))

    assert row["stale"]
    assert "stale" in limiting.as_table([row], width=None)


def test_a_process_that_is_not_registered_notes_nothing(connection: Connection) -> None:
    usage.note(connection, uuid4(), [USAGE], monotonic=100.0, now=NOW)

    assert usage.listed(connection, now=NOW) == []


def test_it_is_told_in_words(connection: Connection) -> None:
    registry.beat(connection, ONE, now=NOW)
    usage.note(connection, ONE.id, [USAGE], monotonic=100.0, now=NOW)

    text = limiting.as_table(usage.listed(connection, now=NOW), width=None)

    for words in ("shop:orders", "host:1", "600 requests in any 1m00s", "412", "1.0%", "https://b"):
        assert words in text


async def test_a_process_notes_what_its_limiters_do(dsn: str) -> None:
    limiters = Limiters(random=Random(1))
    limiter = limiters.limiter("shop:orders", Quota("orders", SlidingWindow(600, 60.0)))
    async with hops_on(dsn) as hops:
        await hops.run(registry.beat, ONE)
        async with trio.open_nursery() as nursery:
            noting = partial(note_usage, limiters, hops, ONE.id, every_seconds=0.01)
            nursery.start_soon(noting)
            async with limiter.admitted(Patience("GET /orders", 60.0)):
                await _until_in_flight(hops, 1)
            await _until_in_flight(hops, 0)
            nursery.cancel_scope.cancel()


async def _until_in_flight(hops: Hops, count: int) -> None:
    with trio.fail_after(30):
        while [row["in_flight"] for row in await hops.run(usage.listed)] != [count]:  # noqa: ASYNC110  # another process may have noted it
            await trio.sleep(0.01)
