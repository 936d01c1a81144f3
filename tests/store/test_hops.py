"""The door to PostgreSQL: one transaction each, retried whole, ended at its deadline."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import psycopg
import pytest
import trio
from database import connect

from syncd.errors import LeaseLost, StatementTimeout, StoreRefused, StoreUnavailable
from syncd.events import Event, StoreRetried
from syncd.model import Secret
from syncd.store.hops import Connection, Hops, Timeouts


@asynccontextmanager
async def hops_on(
    dsn: str,
    events: list[Event] | None = None,
    *,
    size: int = 2,
    statement_seconds: float = 30.0,
    patience_seconds: float = 30.0,
) -> AsyncIterator[Hops]:
    """Open a pool with its watchdog."""
    hops = Hops(
        Secret(dsn),
        pool_min=1,
        pool_max=size,
        timeouts=Timeouts(
            statement_seconds=statement_seconds,
            lock_seconds=10.0,
            connect_seconds=5.0,
            patience_seconds=patience_seconds,
        ),
        emit=(events if events is not None else []).append,
        random=Random(1),
    )
    await hops.open()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hops.watch)
        try:
            yield hops
        finally:
            await hops.aclose()
            nursery.cancel_scope.cancel()


def make_table(connection: Connection) -> None:
    connection.execute("CREATE TABLE t (k int PRIMARY KEY, v int)")
    connection.execute("INSERT INTO t VALUES (1, 0), (2, 0)")


def count(connection: Connection) -> int:
    row = connection.execute("SELECT count(*) AS n FROM t").fetchone()
    assert row is not None
    return int(row["n"])


async def test_a_hop_commits_what_it_did(dsn: str) -> None:
    async with hops_on(dsn) as hops:
        await hops.run(make_table)

    with connect(dsn) as connection:
        assert count(connection) == 2


async def test_what_raises_is_rolled_back_and_the_connection_is_fit_again(dsn: str) -> None:
    def insert_and_lose(connection: Connection) -> None:
        connection.execute("INSERT INTO t VALUES (3, 0)")
        raise LeaseLost("here", "gone")

    async with hops_on(dsn, size=1) as hops:
        await hops.run(make_table)
        with pytest.raises(LeaseLost):
            await hops.run(insert_and_lose)

        assert await hops.run(count) == 2


async def test_a_deadlock_tries_the_whole_transaction_again(dsn: str) -> None:
    events: list[Event] = []
    both = threading.Barrier(2, timeout=10)
    runs: list[tuple[int, int]] = []

    def cross(connection: Connection, first: int, second: int) -> None:
        runs.append((first, second))
        connection.execute("UPDATE t SET v = v + 1 WHERE k = %s", (first,))
        if len(runs) <= 2:
            both.wait()  # each holds one row and wants the other's
        connection.execute("UPDATE t SET v = v + 1 WHERE k = %s", (second,))

    async with hops_on(dsn, events) as hops:
        await hops.run(make_table)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hops.run, cross, 1, 2)
            nursery.start_soon(hops.run, cross, 2, 1)

    with connect(dsn) as connection:
        values = connection.execute("SELECT v FROM t ORDER BY k").fetchall()
    assert [row["v"] for row in values] == [2, 2]
    assert [e.sqlstate for e in events if isinstance(e, StoreRetried)] == ["40P01"]


async def test_a_hop_that_outlives_its_deadline_is_ended(dsn: str) -> None:
    def sleep(connection: Connection) -> None:
        connection.execute("SELECT pg_sleep(60)")

    async with hops_on(dsn, statement_seconds=0.3) as hops:
        with trio.fail_after(20), pytest.raises(StatementTimeout, match="57014"):
            await hops.run(sleep)
        assert await hops.run(lambda c: c.execute("SELECT 1 AS one").fetchone()) == {"one": 1}


async def test_a_hop_on_a_server_that_does_not_answer_is_cut_by_the_watchdog(dsn: str) -> None:
    def unbounded(connection: Connection) -> None:
        connection.execute("SELECT set_config('statement_timeout', '0', true)")
        connection.execute("SELECT pg_sleep(60)")

    async with hops_on(dsn, statement_seconds=0.1) as hops:
        with trio.fail_after(20), pytest.raises(StatementTimeout, match="57014"):
            await hops.run(unbounded)


async def test_a_mistake_in_the_database_is_refused_not_retried(dsn: str) -> None:
    async with hops_on(dsn) as hops:
        with pytest.raises(StoreRefused, match="42P01"):
            await hops.run(lambda c: c.execute("SELECT * FROM nowhere"))


def kill_own_backend(dsn: str, connection: Connection) -> None:
    with psycopg.connect(dsn, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", (connection.info.backend_pid,))


@pytest.mark.direct
async def test_a_transaction_whose_backend_is_killed_is_done_over_another_one(dsn: str) -> None:
    events: list[Event] = []
    pids: list[int] = []

    def die_once(connection: Connection) -> None:
        connection.execute("INSERT INTO t VALUES (3, 0)")
        pids.append(connection.info.backend_pid)
        if len(pids) == 1:
            kill_own_backend(dsn, connection)
        connection.execute("INSERT INTO t VALUES (4, 0)")

    async with hops_on(dsn, events, size=1) as hops:
        await hops.run(make_table)
        with trio.fail_after(30):
            await hops.run(die_once)
            assert await hops.run(count) == 4

    assert len(set(pids)) == 2
    assert [e.sqlstate for e in events if isinstance(e, StoreRetried)] == ["57P01"]


@pytest.mark.direct
async def test_backends_that_are_killed_each_time_are_unavailable_in_the_end(dsn: str) -> None:
    def die(connection: Connection) -> Any:
        kill_own_backend(dsn, connection)
        return connection.execute("SELECT 1")

    async with hops_on(dsn, size=1, patience_seconds=1.0) as hops:
        with trio.fail_after(60), pytest.raises(StoreUnavailable, match="57P01"):
            await hops.run(die)
        with trio.fail_after(30):
            await hops.run(make_table)


async def test_a_mistake_in_how_we_ask_is_no_lost_connection(dsn: str) -> None:
    asked: list[Connection] = []

    def ask(connection: Connection) -> None:
        asked.append(connection)
        connection.execute("SELECT %s, %s", (1,))

    async with hops_on(dsn) as hops:
        with pytest.raises(StoreRefused, match="2 placeholders"):
            await hops.run(ask)

    assert len(asked) == 1


async def test_an_unreachable_database_says_so_at_once() -> None:
    dsn = "host=127.0.0.1 port=1 user=nobody dbname=nothing"
    hops = Hops(
        Secret(dsn),
        pool_min=1,
        pool_max=1,
        timeouts=Timeouts(connect_seconds=2),
        emit=lambda _: None,
        random=Random(1),
    )

    with trio.fail_after(10), pytest.raises(StoreUnavailable, match="refused"):
        await hops.open()


async def test_no_session_setting_outlives_a_transaction(dsn: str) -> None:
    def shown(connection: Connection) -> str:
        row = connection.execute("SHOW statement_timeout").fetchone()
        assert row is not None
        return str(row["statement_timeout"])

    async with hops_on(dsn, size=1) as hops:
        assert await hops.run(shown) == "30s"
        connection = hops._pool.getconn()
        try:
            assert shown(connection) == "0"
            connection.rollback()
        finally:
            hops._pool.putconn(connection)


@pytest.mark.direct
async def test_nothing_is_prepared_that_a_pooler_would_hand_to_somebody_else(dsn: str) -> None:
    def prepared(connection: Connection) -> int:
        row = connection.execute("SELECT count(*) AS n FROM pg_prepared_statements").fetchone()
        assert row is not None
        return int(row["n"])

    async with hops_on(dsn, size=1) as hops:
        found = {await hops.run(prepared) for _ in range(10)}

    assert found == {0}
