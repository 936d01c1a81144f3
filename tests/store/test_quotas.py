"""The ledger in PostgreSQL keeps the law that `limits.ledger.reserve` states, under contention."""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from random import Random

import attrs
import pytest
import valkey_server
from database import connect
from valkey_server import Valkey

from syncd import valkey
from syncd.limits.ledger import Ask, Book, Grant, Want, lane_of, reserve
from syncd.model import Secret, SlidingWindow, TokenBucket, Window
from syncd.store import quotas
from syncd.store.hops import Connection

WINDOWS: tuple[tuple[Window, ...], ...] = (
    (SlidingWindow(600, 60.0),),
    (TokenBucket(10, 1.0),),
    (TokenBucket(100, 1.0, burst=50),),
    (SlidingWindow(500, 60.0), SlidingWindow(200_000, 60.0, unit="tokens")),
    (),
)


Answers = Callable[[Ask, datetime], Awaitable[Grant]]


@pytest.fixture(scope="session")
def redis() -> Iterator[Valkey]:
    if valkey_server.program() is None:
        pytest.skip(valkey_server.MISSING)
    with valkey_server.serving() as server:
        yield server


@pytest.fixture(params=["postgres", "redis"])
async def answers(request: pytest.FixtureRequest) -> AsyncIterator[Answers]:
    """One ledger after the other, empty."""
    if request.param == "postgres":
        connection: Connection = request.getfixturevalue("connection")

        async def ask_postgres(ask: Ask, now: datetime) -> Grant:
            return quotas.reserve(connection, [ask], now=now)[0]

        yield ask_postgres
        connection.rollback()
        return
    server: Valkey = request.getfixturevalue("redis")
    server.forget()
    async with valkey.opened(Secret(server.url)) as reserve_there:

        async def ask_redis(ask: Ask, now: datetime) -> Grant:
            return (await reserve_there([ask], now=now.timestamp()))[0]

        yield ask_redis


def any_ask(chance: Random, windows: tuple[Window, ...]) -> Ask:
    """Draw an ask as a daemon may put it."""
    costs = {"requests": 1, "tokens": chance.randint(1, 5000)}
    wants = tuple(
        Want(lane, costs[lane.unit] * chance.randint(1, 40), costs[lane.unit], chance.randint(0, 9))
        for lane in map(lane_of, windows)
    )
    return Ask(
        "cars:app",
        f"daemon {chance.randint(1, 8)}",
        wants,
        lock_seconds=chance.choice([0.0] * 9 + [chance.random() * 3]),
        refusals=chance.choice([0, 0, 1]),
        daemons=chance.randint(1, 8),
        empty=chance.random() < 0.2,
        leaves=not wants or chance.random() < 0.1,
    )


@pytest.mark.parametrize("windows", WINDOWS)
async def test_every_ledger_answers_as_the_law_does(
    answers: Answers, windows: tuple[Window, ...]
) -> None:
    chance = Random(11)
    book, now = Book(), datetime(2026, 11, 1, 12, tzinfo=UTC)
    for number in range(80):
        now += timedelta(seconds=round(chance.choice([0.01, 0.3, 1.0, 3.0, 70.0]), 3))
        ask = any_ask(chance, windows)
        book, said = reserve(book, ask, now=now.timestamp())

        assert_same(await answers(ask, now), said, number)


def assert_same(answered: Grant, said: Grant, number: int) -> None:
    assert answered.at == pytest.approx(said.at, abs=1e-5), number
    assert answered.locked_seconds == pytest.approx(said.locked_seconds, abs=1e-4), number
    assert (answered.refusals, answered.sharers) == (said.refusals, said.sharers), number
    assert answered.blocks.keys() == said.blocks.keys(), number
    for name, block in said.blocks.items():
        theirs = answered.blocks[name]
        assert theirs.count == block.count, (number, name, theirs, block)
        assert theirs.begins_at == pytest.approx(block.begins_at, abs=1e-4), number
        assert theirs.interval_seconds == pytest.approx(block.interval_seconds), number


def test_reservers_who_contend_for_rows_never_get_the_same_moment(dsn: str) -> None:
    """Eight threads, three keys: of each the tokens are one train, an interval apart."""
    lane, keys = lane_of(SlidingWindow(600, 60.0)), ("a", "b", "c")
    moments: dict[str, list[float]] = {key: [] for key in keys}
    counts: list[int] = []
    ends_at = time.monotonic() + 2.0

    def hammer(name: str) -> None:
        chance = Random(name)
        with connect(dsn) as opened:
            while time.monotonic() < ends_at:
                some = chance.sample(keys, chance.randint(1, 3))  # in any order
                asks = [Ask(key, name, (Want(lane, 5, 1),), daemons=8) for key in some]
                grants = quotas.reserve(opened, asks)
                opened.commit()
                counts.append(len(grants))
                for key, grant in zip(some, grants, strict=True):
                    first, count, interval = attrs.astuple(grant.blocks[lane.name])
                    moments[key] += [first + number * interval for number in range(count)]

    threads = [threading.Thread(target=hammer, args=(f"d{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert len(counts) > 50
    for tokens in moments.values():
        tokens.sort()
        assert len(tokens) >= 10
        gaps = [later - earlier for earlier, later in pairwise(tokens)]
        assert min(gaps) >= lane.interval_seconds - 1e-4


def test_the_answers_stand_in_the_order_of_the_questions(connection: Connection) -> None:
    lane = lane_of(SlidingWindow(600, 60.0))
    asks = [Ask(key, "d", (Want(lane, want, 1),)) for key, want in (("z", 3), ("a", 1), ("m", 2))]

    first = quotas.reserve(connection, asks)
    again = quotas.reserve(connection, [*asks, Ask("new", "d", lock_seconds=9.0)])
    connection.rollback()

    assert [grant.blocks[lane.name].count for grant in first] == [3, 1, 2]
    assert [grant.locked_seconds > 8 for grant in again] == [False, False, False, True]
