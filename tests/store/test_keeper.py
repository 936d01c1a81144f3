"""The lease keeper: what it renews, whose run it ends, when requests may leave."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from random import Random
from uuid import uuid4

import attrs
import pytest
import trio
import trio.testing
from database import connect

from syncd.clock import DatabaseClock
from syncd.events import Event, LeaseLost
from syncd.model import Secret
from syncd.store import leases
from syncd.store.hops import Hops, Timeouts
from syncd.store.keeper import LeaseKeeper, Tenure
from syncd.store.leases import Lease

LEASE_SECONDS = 0.6


def leased(dsn: str) -> Lease:
    with connect(dsn) as connection:
        connection.execute("INSERT INTO syncd.instance VALUES ('i', 'p', '1', syncd.clock())")
        connection.execute("INSERT INTO syncd.account VALUES ('i', 'default')")
        connection.execute(
            "INSERT INTO syncd.partition (instance, account, feed, due_at, claim_at)"
            " VALUES ('i', 'default', 'f', syncd.clock(), syncd.clock())"
        )
        (lease,) = leases.claim(
            connection, owner=uuid4(), token=uuid4(), job="j", lease_seconds=LEASE_SECONDS, free=1
        )
        return lease


@asynccontextmanager
async def keeping(dsn: str, events: list[Event]) -> AsyncIterator[LeaseKeeper]:
    hops = Hops(
        Secret(dsn),
        pool_min=1,
        pool_max=1,
        timeouts=Timeouts(),
        emit=events.append,
        random=Random(1),
    )
    await hops.open()
    keeper = LeaseKeeper(
        hops, lease_seconds=LEASE_SECONDS, clock=DatabaseClock(), emit=events.append
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keeper.run)
        try:
            yield keeper
        finally:
            nursery.cancel_scope.cancel()
            await hops.aclose()


def claimed(dsn: str) -> Sequence[object]:
    with connect(dsn) as connection:
        return leases.claim(
            connection, owner=uuid4(), token=uuid4(), job="j", lease_seconds=1, free=1
        )


async def test_a_held_lease_outlives_its_length(dsn: str) -> None:
    lease = leased(dsn)
    async with keeping(dsn, []) as keeper:
        with trio.fail_after(20), keeper.holding(lease, trio.current_time()) as tenure:
            await trio.sleep(3 * LEASE_SECONDS)  # leases are a matter of real time
            # In a thread: the keeper goes on while a new backend takes its time.
            taken = await trio.to_thread.run_sync(claimed, dsn)

    assert taken == []
    assert not tenure.lost.is_set()


async def test_a_lost_lease_ends_its_run_and_says_so(dsn: str) -> None:
    lease = leased(dsn)
    events: list[Event] = []
    with connect(dsn) as connection:
        connection.execute("UPDATE syncd.partition SET epoch = epoch + 1")
    reached_the_end = False
    async with keeping(dsn, events) as keeper:
        with trio.fail_after(20):
            with keeper.holding(lease, trio.current_time()) as tenure:
                await trio.sleep_forever()
                reached_the_end = True

    assert tenure.lost.is_set()
    assert not reached_the_end
    assert events == [LeaseLost("i.f", 1)]


async def test_a_run_whose_partition_its_own_process_claims_anew_is_cut(dsn: str) -> None:
    """Nobody would renew it any more, nor tell it."""
    lease = leased(dsn)
    events: list[Event] = []
    async with keeping(dsn, events) as keeper:
        with trio.fail_after(20), keeper.holding(lease, trio.current_time()) as first:
            again = attrs.evolve(lease, epoch=lease.epoch + 1, token=uuid4())
            with keeper.holding(again, trio.current_time()) as second:
                assert first.lost.is_set()
                assert first.scope.cancel_called
                assert not second.lost.is_set()
            await trio.sleep_forever()

    assert events == [LeaseLost("i.f", 1)]


async def test_past_two_thirds_of_a_lease_no_request_leaves_until_a_renewal(
    dsn: str, autojump_clock: trio.testing.MockClock
) -> None:
    tenure = Tenure(leased(dsn), lease_seconds=30.0, sent_at=trio.current_time())
    await trio.sleep(20.0)
    with trio.fail_after(0.1):
        await tenure.may_send()
    await trio.sleep(0.1)

    with pytest.raises(trio.TooSlowError), trio.fail_after(1000):
        await tenure.may_send()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tenure.may_send)
        await trio.testing.wait_all_tasks_blocked()
        tenure.renewed(trio.current_time())


async def test_renewal_failures_hold_requests_back_but_do_not_end_the_run(dsn: str) -> None:
    lease = leased(dsn)
    events: list[Event] = []
    async with keeping(dsn, events) as keeper:
        with trio.fail_after(20), keeper.holding(lease, trio.current_time()) as tenure:
            with connect(dsn) as connection:
                connection.execute("ALTER TABLE syncd.partition RENAME TO hidden")
            connection.close()
            while not events:  # noqa: ASYNC110  # the keeper's own pace is what is waited for
                await trio.sleep(0.02)

    assert not tenure.lost.is_set()
    assert [type(event).__name__ for event in events][:1] == ["DbUnavailable"]
