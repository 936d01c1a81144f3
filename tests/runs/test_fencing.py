"""The fence, function by function: what a lease that is no longer ours can still do (P38, P39).

Nothing, and it finds out in the first statement of its transaction. No process is needed to show
it: every step is one transaction of its own, and two connections are two daemons.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from random import Random
from typing import Any
from uuid import uuid4

import attrs
import database_facts as facts
import pytest
import sightings
import trio
from processes import seen

from syncd import bulk
from syncd.commit import Committer, Target
from syncd.errors import FrontierMoved, LeaseLost
from syncd.events import Event
from syncd.model import Account, Cursor, Instance, Page, Partition, Pass, Secret
from syncd.nodes import Node, Walked, children, roots
from syncd.plugins import Plugins
from syncd.progress import Anew, Next, Wanted
from syncd.store import leases, passes, registry
from syncd.store.hops import Connection, Hops, Timeouts
from syncd.store.leases import Effort, Lease

LEASE_SECONDS = 30.0
AN_HOUR = timedelta(hours=1)
FIRST = Cursor({"page": 1, "minutes": None})
DONE = Next("complete", None, 0, "")
THREADS = 8

INSTANCE = Instance(
    "sightings",
    sightings.CONNECTOR,
    sightings.Settings(Secret("of no value"), "http://127.0.0.1:1"),
    (Account("default", None),),
)
PIPELINE = Plugins({"sightings": sightings}).pipeline(INSTANCE, sightings.FEED)
TARGET = Target.of(INSTANCE, PIPELINE, frozenset({"sightings"}))
WANTED = Wanted("full", "fingerprint", TARGET.row_fingerprints, "1.0.0", 3600.0)


@attrs.define
class Store:
    """One partition, and the engine's way to the database."""

    dsn: str
    hops: Hops
    events: list[Event]

    async def claim(self, *, after: timedelta = timedelta()) -> Lease | None:
        """Claim the partition as a process of its own, `after` some time has gone by."""
        found = await self.hops.run(_claim, after)
        return found[0] if found else None

    async def held(self, *, after: timedelta = timedelta()) -> Lease:
        lease = await self.claim(after=after)
        assert lease is not None
        return lease

    async def begun(self, lease: Lease) -> passes.ActivePass:
        return await self.hops.run(
            passes.begin,
            lease,
            Anew("full", None, None, "asked for"),
            answered=Pass("full", (FIRST,)),
            wanted=WANTED,
            nodes=roots([FIRST]),
            until=lease.claimed_at,
        )

    async def commit(self, lease: Lease, pass_id: int, batch: list[Walked]) -> None:
        committer = Committer(
            hops=self.hops,
            emit=self.events.append,
            lease=lease,
            pass_id=pass_id,
            target=TARGET,
            guarded=True,
            safety_lag_seconds=0.0,
        )
        opens = [node for walked in batch for node in walked.opens]
        await committer.commit(batch, opens, None)


def _claim(connection: Connection, after: timedelta) -> list[Lease]:
    row = connection.execute("SELECT syncd.clock() + %s AS now", (after,)).fetchone()
    assert row is not None
    return leases.claim(
        connection,
        owner=uuid4(),
        token=uuid4(),
        job="sightings",
        lease_seconds=LEASE_SECONDS,
        free=1,
        now=row["now"],
    )


def register_partition(connection: Connection) -> None:
    registry.register_instance(connection, INSTANCE)
    registry.register_partitions(connection, [Partition("sightings", "default", "sightings")])


def first_page(lease: Lease) -> Walked:
    """Return the first page as it was fetched: three cars, and a next page."""
    following = Cursor({"page": 2, "minutes": None})
    page = Page({"sightings": [sightings.Sighting(n) for n in range(3)]}, opens=(following,))
    node = Node.of(FIRST, depth=0, ordinal=0)
    return Walked(node, page, lease.claimed_at, children(node, page, "sightings"))


@pytest.fixture
async def store(dsn: str) -> AsyncIterator[Store]:
    """A database with one partition that is due."""
    events: list[Event] = []
    hops = Hops(
        Secret(dsn),
        pool_min=1,
        pool_max=THREADS,
        timeouts=Timeouts(),
        emit=events.append,
        random=Random(1),
    )
    await hops.open()
    await hops.run(register_partition)
    await hops.run(bulk.apply, list(TARGET.tables.values()), lock_timeout_seconds=5.0)
    yield Store(dsn, hops, events)
    await hops.aclose()


@pytest.fixture
def rival(dsn: str) -> Iterator[Connection]:
    """A connection whose transaction stays open until the test ends it."""
    with facts.connect(dsn) as connection:
        connection.autocommit = False
        yield connection


async def test_a_commit_under_a_superseded_lease_writes_nothing(store: Store) -> None:
    late = await store.held()
    active = await store.begun(late)
    holder = await store.held(after=AN_HOUR)
    before = facts.walked(store.dsn)

    with pytest.raises(LeaseLost, match=f"epoch {late.epoch} is no longer ours"):
        await store.commit(late, active.id, [first_page(late)])

    assert facts.sighted(store.dsn) == []
    assert facts.walked(store.dsn) == before
    await store.commit(holder, active.id, [first_page(holder)])
    assert facts.sighted(store.dsn) == [0, 1, 2]


async def test_a_page_whose_cursor_is_closed_writes_nothing(store: Store) -> None:
    lease = await store.held()
    active = await store.begun(lease)
    await store.commit(lease, active.id, [first_page(lease)])
    before = facts.walked(store.dsn)

    with pytest.raises(FrontierMoved):
        await store.commit(lease, active.id, [first_page(lease)])

    assert facts.sighted(store.dsn) == [0, 1, 2]
    assert facts.walked(store.dsn) == before


async def test_a_superseded_lease_begins_and_ends_and_gives_back_nothing(store: Store) -> None:
    late = await store.held()
    active = await store.begun(late)
    await store.held(after=AN_HOUR)
    before = (facts.partition(store.dsn), facts.walked(store.dsn), facts.runs(store.dsn))
    given_back: dict[str, Any] = {"job": "j", "committed": True, "error_class": None}
    noted: dict[str, Any] = {"wait_seconds": 0.0, "give_up": False, "error": "too late"}
    node = roots([FIRST])[0]
    attempts: tuple[Callable[[Connection], object], ...] = (
        lambda c: leases.release(c, late, DONE, effort=Effort(), **given_back),
        lambda c: passes.complete(c, late, active.id, WANTED),
        lambda c: passes.fail(c, late, active.id, "too late"),
        lambda c: passes.supersede(c, late),
        lambda c: passes.fail_cursor(c, late, active.id, node, **noted),
    )

    for attempt in attempts:
        with pytest.raises(LeaseLost):
            await store.hops.run(attempt)
    with pytest.raises(LeaseLost):
        await store.begun(late)
    renewed = await store.hops.run(leases.renew, [late], lease_seconds=LEASE_SECONDS)
    await store.hops.run(leases.expire, late)

    assert renewed == {}
    assert (facts.partition(store.dsn), facts.walked(store.dsn), facts.runs(store.dsn)) == before


async def test_a_commit_in_progress_holds_off_claims_and_not_renewals(
    store: Store, rival: Connection
) -> None:
    lease = await store.held()
    until = facts.partition(store.dsn)["lease_until"]
    leases.fence(rival, lease)

    renewed = await store.hops.run(leases.renew, [lease], lease_seconds=2 * LEASE_SECONDS)
    assert await store.claim(after=AN_HOUR) is None

    assert set(renewed) == {(lease.partition_id, lease.epoch)}
    assert facts.partition(store.dsn)["lease_until"] > until
    assert not store.events, "somebody had to try again"
    rival.commit()
    assert (await store.held(after=AN_HOUR)).epoch == lease.epoch + 1


async def test_a_claim_in_progress_keeps_a_commit_waiting_until_it_is_lost(
    store: Store, rival: Connection
) -> None:
    late = await store.held()
    active = await store.begun(late)
    assert _claim(rival, AN_HOUR)
    lost: list[LeaseLost] = []

    async def commit() -> None:
        with pytest.raises(LeaseLost) as caught:
            await store.commit(late, active.id, [first_page(late)])
        lost.append(caught.value)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(commit)
        await seen("the commit waits", lambda: facts.waiting(store.dsn) == 1)
        rival.commit()

    assert lost
    assert facts.sighted(store.dsn) == []


async def test_the_end_of_a_pass_waits_for_commits_in_progress(
    store: Store, rival: Connection
) -> None:
    lease = await store.held()
    active = await store.begun(lease)
    leases.fence(rival, lease)
    rival.execute("UPDATE syncd.frontier SET state = 'closed'")
    endings: list[passes.Ending | None] = []

    async def end() -> None:
        endings.append(await store.hops.run(passes.complete, lease, active.id, WANTED))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(end)
        await seen("the end waits", lambda: facts.waiting(store.dsn) == 1)
        assert endings == []
        rival.commit()

    (ending,) = endings
    assert ending is not None
    assert ending.ended.status == "complete"


def test_of_many_that_claim_at_once_one_has_the_lease(dsn: str, connection: Connection) -> None:
    register_partition(connection)
    connection.commit()
    start = threading.Barrier(THREADS)
    won: list[Lease] = []

    def race() -> None:
        with facts.connect(dsn) as mine:
            start.wait(10)
            won.extend(_claim(mine, timedelta()))

    threads = [threading.Thread(target=race) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)

    (lease,) = won
    (run,) = facts.runs(dsn)
    assert (lease.epoch, run.epoch, run.status) == (1, 1, "running")
