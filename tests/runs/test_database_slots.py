"""What we take of the server: connections as far as it has some, and no transaction for long."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from uuid import uuid4

import database_facts as facts
import psycopg
import pytest
import trio
from own_server import OwnServer, own_server
from processes import DEADLINE_SECONDS, Programs, run_here, seen
from test_hops import hops_on
from upstream import Shape, serving, true_rows

from syncd.daemon import POOL_SHARE, pool_size
from syncd.errors import StoreUnavailable
from syncd.events import ConnectionRefused, DbPool, Event
from syncd.store import registry
from syncd.store.hops import Timeouts, connection_options
from syncd_cars.simulator import Fault, FaultKind

SHAPE = Shape(cars=600, per_page=50)
SLOTS = 12
OPEN_SECONDS = 2.0  # of a transaction, at most: the promise (P14)


@pytest.fixture(scope="module")
def tiny() -> Iterator[OwnServer]:
    settings = {"fsync": "off", "max_connections": f"{SLOTS}"}
    settings["superuser_reserved_connections"] = "0"
    with own_server(settings) as server:
        yield server


@contextmanager
def all_but(free: int, dsn: str, *, others: int = 0) -> Iterator[None]:
    """Hold all connections but so many, once of others there are only so many.

    Who closes a connection does not wait for its backend, which keeps its slot until it has ended.
    """
    clients = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
    deadline = time.monotonic() + DEADLINE_SECONDS
    with ExitStack() as held:
        first = held.enter_context(psycopg.connect(dsn, autocommit=True))
        while (found := first.execute(clients).fetchone()) != (1 + others,):
            assert time.monotonic() < deadline, f"{found} connections"
            time.sleep(0.01)
        for _ in range(SLOTS - free - 1):
            held.enter_context(psycopg.connect(dsn))
        yield


@pytest.mark.own_server
async def test_a_pool_that_cannot_grow_says_so_and_serves_one_after_the_other(
    tiny: OwnServer,
) -> None:
    dsn = tiny.database()
    events: list[Event] = []
    with ExitStack() as held:
        async with hops_on(dsn, events, size=3) as hops:
            held.enter_context(all_but(1, dsn, others=1))  # the one that the pool has
            async with trio.open_nursery() as nursery:
                for _ in range(3):
                    nursery.start_soon(hops.run, lambda c: c.execute("SELECT pg_sleep(0.7)"))

    (refused,) = (event for event in events if isinstance(event, ConnectionRefused))
    assert "too many clients" in refused.error
    assert refused.pool_max == 3


@pytest.mark.own_server
async def test_a_run_ends_well_with_a_single_connection(tiny: OwnServer, tmp_path: Path) -> None:
    dsn = tiny.database()
    async with serving(SHAPE) as upstream:
        config = upstream.configuration(tmp_path, dsn, connector="cars", lease="60s")
        with all_but(2, dsn):  # the other one is the lease keeper's
            result = await run_here(config, listener=lambda _: None)

        assert result.verdict == "complete", result.message
        assert facts.stored_rows(dsn) == true_rows(upstream.simulator.inventory)


@pytest.mark.own_server
async def test_a_server_without_a_free_connection_is_unavailable_and_says_why(
    tiny: OwnServer, tmp_path: Path
) -> None:
    dsn = tiny.database()
    async with serving(SHAPE) as upstream:
        config = upstream.configuration(tmp_path, dsn, connector="cars", lease="60s")
        with all_but(0, dsn), pytest.raises(StoreUnavailable, match="too many clients"):
            await run_here(config, listener=lambda _: None)

    assert not upstream.asked()


@pytest.mark.own_server
async def test_the_pool_is_capped_by_what_the_server_has_for_us(
    tiny: OwnServer, tmp_path: Path
) -> None:
    dsn = tiny.database()
    events: list[Event] = []
    async with serving(SHAPE) as upstream:
        config = upstream.configuration(
            tmp_path, dsn, connector="cars", lease="60s", pool_max=SLOTS * 2
        )
        await run_here(config, listener=events.append)

    pools = [event for event in events if isinstance(event, DbPool)]
    assert pools[0].pool_max == int(SLOTS * POOL_SHARE)
    assert pools[0].capped_from == SLOTS * 2


def test_connections_that_are_reserved_for_others_are_not_counted_on(dsn: str) -> None:
    process = registry.Process(uuid4(), "here", 1, "1")
    with psycopg.connect(dsn, **connection_options(Timeouts(), "test")) as connection:
        life = registry.beat(connection, process)
        row = connection.execute(
            "SELECT current_setting('max_connections')::int AS most,"
            " current_setting('superuser_reserved_connections')::int AS kept"
        ).fetchone()

    assert row is not None
    assert life.max_connections == row["most"] - row["kept"]
    assert pool_size(1000, life) == int(life.max_connections * POOL_SHARE)


@pytest.mark.slow
async def test_no_transaction_is_open_while_an_upstream_stalls(
    dsn: str, programs: Programs, tmp_path: Path
) -> None:
    """P14. Looked at for five seconds: a transaction that stays open would be older than two."""
    query = (
        "SELECT coalesce(extract(epoch FROM max(clock_timestamp() - xact_start)), 0)::float8"
        " AS age, count(*) AS connections FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name = 'syncd'"
    )
    async with serving(SHAPE) as upstream:
        config = upstream.configuration(tmp_path, dsn, connector="cars", lease="6s")
        stall = upstream.simulator.arm(Fault(kind=FaultKind.STALL, page=4, times=None))
        program = programs.start(config)
        await seen("a request that stalls", lambda: stall.fired, told=program.said)
        ages, connections = [], []
        for _ in range(50):
            (found,) = await trio.to_thread.run_sync(facts.rows, dsn, query)
            ages.append(found["age"])
            connections.append(found["connections"])
            await trio.sleep(0.1)

    assert program.code is None, program.said()
    assert min(connections) >= 1
    assert max(ages) < OPEN_SECONDS
