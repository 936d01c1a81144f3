"""The network between us and PostgreSQL misbehaves: nothing is lost, and we are back soon (P10).

Time limits here are the promise itself: after at most 30 s work goes on.
"""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path

import attrs
import database_facts as facts
import psycopg
import pytest
import trio
from fault_proxy import FaultProxy, faulty
from processes import Programs, run_here, seen
from traps import Step, Trap
from upstream import Shape, Upstream, serving, true_rows

from syncd import faults
from syncd.events import BatchCommitted, DbRecovered, DbUnavailable, Event
from syncd.store.hops import Timeouts, connection_options
from syncd.verdicts import Result

SHAPE = Shape(cars=600, per_page=50, requests_per_second=15)
BACK_SECONDS = 30.0
# What the server keeps to when it can be reached; past it and 7 s more we cut the connection.
BRISK = 'statement_timeout = "6s"\nconnect_timeout = "2s"'


@attrs.define
class Walk:
    """A job that runs here over a faulty network, and what happens at its n-th commit."""

    proxy: FaultProxy
    upstream: Upstream
    do: Callable[[], None]
    at: int = 2
    committed_at: list[float] = attrs.field(factory=list)
    did_at: float = 0.0
    events: list[Event] = attrs.field(factory=list)
    result: Result | None = None

    def listen(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, BatchCommitted):
            self.committed_at.append(trio.current_time())
            if len(self.committed_at) == self.at:
                self.did_at = trio.current_time()
                self.do()

    async def go(self, folder: Path, *, connector: str = "cars", database: str = BRISK) -> None:
        config = self.upstream.configuration(
            folder, self.proxy.dsn, connector=connector, lease="60s", database=database
        )
        self.result = await run_here(config, listener=self.listen, deadline_seconds=120)

    def went_on_within(self, since: float) -> float:
        """Return how long after a moment the next commit was."""
        return next(at for at in self.committed_at if at > since) - since

    def said(self, kind: type[Event]) -> int:
        return sum(isinstance(event, kind) for event in self.events)


def nothing() -> None:
    pass


async def test_a_slow_network_that_delivers_in_slices_costs_nothing_but_time(
    dsn: str, tmp_path: Path
) -> None:
    async with faulty(dsn) as proxy, serving(SHAPE) as upstream:
        proxy.latency_seconds, proxy.slice_bytes = 0.002, 1000
        walk = Walk(proxy, upstream, nothing)
        await walk.go(tmp_path)

        assert walk.result is not None
        assert walk.result.verdict == "complete"
        assert proxy.accepted >= 2
        assert facts.stored_rows(dsn) == true_rows(upstream.simulator.inventory)


@pytest.mark.slow
async def test_connections_that_fall_silent_are_replaced_in_time(dsn: str, tmp_path: Path) -> None:
    """Half-open, as after a failover: no side hears from the other, new connections are fine."""
    async with faulty(dsn) as proxy, serving(SHAPE) as upstream:
        walk = Walk(proxy, upstream, proxy.forget)
        await walk.go(tmp_path)

        assert walk.result is not None
        assert walk.result.verdict == "complete", walk.result.message
        assert proxy.held_bytes, "nobody spoke into the void"
        assert walk.went_on_within(walk.did_at) < BACK_SECONDS
        assert facts.stored_rows(dsn) == true_rows(upstream.simulator.inventory)


@pytest.mark.slow
async def test_work_goes_on_when_a_silent_network_is_back(dsn: str, tmp_path: Path) -> None:
    """A cancellation takes a second connection, which nobody answers either."""
    async with faulty(dsn) as proxy, serving(SHAPE) as upstream:
        walk = Walk(proxy, upstream, partial(proxy.silence, "up", "down"))
        healed_at = 0.0
        async with trio.open_nursery() as nursery:
            nursery.start_soon(walk.go, tmp_path)
            # Told again after 10 s: by then the transactions at work have been cut off.
            await seen("the outage is told", lambda: walk.said(DbUnavailable) > 1)
            proxy.heal()
            healed_at = trio.current_time()

        assert walk.result is not None
        assert walk.result.verdict == "complete", walk.result.message
        assert walk.went_on_within(healed_at) < BACK_SECONDS
        assert walk.said(DbRecovered)
        assert facts.stored_rows(dsn) == true_rows(upstream.simulator.inventory)


async def test_a_server_that_refuses_for_a_while_is_waited_for(dsn: str, tmp_path: Path) -> None:
    async with faulty(dsn) as proxy, serving(SHAPE) as upstream:

        def fail() -> None:
            proxy.refuse()
            proxy.reset()

        walk = Walk(proxy, upstream, fail)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(walk.go, tmp_path)
            await seen("the outage is told", lambda: walk.said(DbUnavailable))
            proxy.heal()

        assert walk.result is not None
        assert walk.result.verdict == "complete", walk.result.message
        assert walk.said(DbRecovered)
        assert facts.stored_rows(dsn) == true_rows(upstream.simulator.inventory)


async def test_connections_that_are_closed_by_half_are_replaced(dsn: str, tmp_path: Path) -> None:
    async with faulty(dsn) as proxy, serving(SHAPE) as upstream:
        walk = Walk(proxy, upstream, proxy.half_close)
        await walk.go(tmp_path)

        assert walk.result is not None
        assert walk.result.verdict == "complete", walk.result.message
        assert proxy.accepted > proxy.links
        assert facts.stored_rows(dsn) == true_rows(upstream.simulator.inventory)


@pytest.mark.parametrize("point", ["before_commit", "after_commit"])
async def test_a_reset_around_a_commit_neither_loses_nor_doubles(
    dsn: str, tmp_path: Path, point: str
) -> None:
    async with faulty(dsn) as proxy, serving(SHAPE) as upstream:
        walk = Walk(proxy, upstream, nothing)
        step = Step(point, of="frontier_written", nth=2)
        trap = Trap(step, lambda: trio.from_thread.run_sync(proxy.reset))
        faults.arm(trap)
        try:
            await walk.go(tmp_path, connector="sightings")
        finally:
            faults.arm(None)

        assert trap.sprung.is_set()
        assert walk.result is not None
        assert walk.result.verdict == "complete", walk.result.message
        assert facts.sighted(dsn) == upstream.ids


@pytest.mark.slow
async def test_a_process_ends_although_its_database_is_silent(
    dsn: str, programs: Programs, tmp_path: Path
) -> None:
    """No thread that waits for an answer may hold it: nobody else would ever end the wait."""
    async with faulty(dsn) as proxy, serving(SHAPE) as upstream:
        config = upstream.configuration(
            tmp_path, proxy.dsn, connector="cars", lease="60s", database=BRISK
        )
        program = programs.start(config)
        await program.event("batch.committed")
        proxy.silence("up", "down")
        await seen("somebody speaks into the void", lambda: proxy.held_bytes, told=program.said)
        program.send(signal.SIGTERM)
        await program.event("drain.started")
        program.send(signal.SIGTERM)

        assert await program.ended(deadline_seconds=60) == 75, program.said()


async def test_who_is_cut_off_asks_for_nothing_once_the_lease_may_be_anothers(
    dsn: str, tmp_path: Path
) -> None:
    """It could not store the answers anyway (P45). The pace leaves it enough to ask for."""
    lease_seconds = 2.0
    shape = Shape(cars=600, per_page=20, requests_per_second=2.0)
    async with faulty(dsn) as proxy, serving(shape) as upstream, trio.open_nursery() as nursery:
        config = upstream.configuration(
            tmp_path, proxy.dsn, connector="cars", lease=f"{lease_seconds:g}s", database=BRISK
        )
        events: list[Event] = []
        nursery.start_soon(partial(run_here, config, listener=events.append))
        await seen("two commits", lambda: sum(isinstance(e, BatchCommitted) for e in events) > 1)
        proxy.silence("up", "down")
        silent_at, asked = trio.current_time(), sum(upstream.asked().values())
        await trio.sleep_until(silent_at + lease_seconds)
        at_the_end = sum(upstream.asked().values())
        await trio.sleep_until(silent_at + 3 * lease_seconds)

        assert sum(upstream.asked().values()) == at_the_end >= asked
        proxy.heal()
        nursery.cancel_scope.cancel()


async def test_the_system_ends_half_open_connections_within_the_promise(dsn: str) -> None:
    """While the server works nothing is sent: then the keepalives, which a proxy would answer."""
    async with faulty(dsn) as proxy:

        def options() -> dict[str, int]:
            with psycopg.connect(proxy.dsn, **connection_options(Timeouts(), "test")) as connection:
                sock = socket.socket(fileno=connection.fileno())
                names = ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT")
                found = {n: sock.getsockopt(socket.IPPROTO_TCP, getattr(socket, n)) for n in names}
                found["SO_KEEPALIVE"] = sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
                sock.detach()
                return found

        found = await trio.to_thread.run_sync(options)

    assert found["SO_KEEPALIVE"]
    idle, every, times = (found[f"TCP_KEEP{name}"] for name in ("IDLE", "INTVL", "CNT"))
    assert idle + every * times < BACK_SECONDS
    assert 0 < found["TCP_USER_TIMEOUT"] < BACK_SECONDS * 1000
