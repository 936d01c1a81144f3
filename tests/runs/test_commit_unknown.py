"""A connection that is lost in COMMIT: whether it happened is read back, never guessed (P3).

Rows are only appended here, so that a page written twice would show as doubled sightings, and one
that was passed over as missing ones.

The server waits for a standby that does not exist, whenever a transaction asks for that: its COMMIT
is then flushed, and hangs before anybody can see it (PostgreSQL documentation, 26.2.8).
"""

from __future__ import annotations

import signal
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import attrs
import database_facts as facts
import psycopg
import pytest
import sightings
import trio
from processes import Programs, run_here, seen
from psycopg.conninfo import make_conninfo
from traps import Step, Trap
from upstream import Shape, Upstream, serving

from syncd import bulk, faults
from syncd.embedded import throwaway
from syncd.embedded.server import THROWAWAY
from syncd.events import CommitLost, Event, RunFinished, RunStarted
from syncd.store import leases
from syncd.store.migrations import migrate
from syncd.verdicts import Result

SHAPE = Shape(cars=400, per_page=50, requests_per_second=20)
THE_BATCH = 2  # the one whose COMMIT is lost: pages stand before it, and pages follow

HANGS = f"""
    CREATE SEQUENCE public.batches;
    CREATE FUNCTION public.hang() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF nextval('public.batches') = {THE_BATCH} THEN
            PERFORM set_config('synchronous_commit', 'remote_apply', true);
        END IF;
        RETURN NULL;
    END $$;
    CREATE TRIGGER hang AFTER INSERT ON sightings.sightings EXECUTE FUNCTION public.hang();
"""
CLAIM_HANGS = """
    CREATE SEQUENCE public.claims;
    CREATE FUNCTION public.hang() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF nextval('public.claims') = 1 THEN
            PERFORM set_config('synchronous_commit', 'remote_apply', true);
        END IF;
        RETURN NULL;
    END $$;
    CREATE TRIGGER hang AFTER INSERT ON syncd.run EXECUTE FUNCTION public.hang();
"""
HANGING = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'"


@pytest.fixture(scope="module")
def lonely() -> Iterator[str]:
    """A server that waits for a standby: of its own, for every transaction could be asked to."""
    with throwaway(settings={**THROWAWAY, "synchronous_standby_names": "nobody"}) as server:
        yield server.conninfo


@pytest.fixture
def dsn(lonely: str) -> Iterator[str]:
    """A database there, with control tables and the table of sightings."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(lonely, autocommit=True) as admin:
        admin.execute(f'CREATE DATABASE "{name}"')
        made = make_conninfo(lonely, dbname=name)
        with facts.connect(made) as connection, connection.transaction():
            migrate(connection)
            table = bulk.table_of("sightings", sightings.SIGHTINGS)
            bulk.apply(connection, [table], lock_timeout_seconds=5.0)
        yield made
        admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@attrs.define
class Walk:
    """A job that runs in this process, and what it said."""

    events: list[Event] = attrs.field(factory=list)
    result: Result | None = None

    async def go(self, config: Path) -> None:
        self.result = await run_here(config, listener=self.events.append)

    def said(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


async def test_a_commit_that_happened_is_neither_repeated_nor_passed_over(
    dsn: str, tmp_path: Path
) -> None:
    walk = Walk()
    facts.execute(dsn, HANGS)
    async with serving(SHAPE) as upstream, trio.open_nursery() as nursery:
        config = upstream.configuration(tmp_path, dsn, connector="sightings", lease="3s")
        seen_again: list[Again] = []
        trap = Trap(Step("claimed", nth=2), lambda: seen_again.append(Again.of(dsn, upstream)))
        with watched(trap):
            nursery.start_soon(walk.go, config)
            with hanging_commit_lost(dsn):
                await seen("a COMMIT that hangs", lambda: facts.rows(dsn, HANGING))
                until = facts.partition(dsn)["lease_until"]
                before = facts.closed_pages(dsn)
                assert claimed_in_an_hour(dsn) == []  # passed over: the transaction is not over
                await seen("a renewal", lambda: facts.partition(dsn)["lease_until"] > until)
            await seen("the end of the job", lambda: walk.result)

    assert walk.result is not None
    assert walk.result.verdict == "complete"
    assert len(walk.said(CommitLost)) == 1
    (again,) = seen_again
    assert again.closed > before, "it happened, and the next run can see it"
    asked = upstream.asked()
    assert {page: asked[page] for page in again.closed} == dict.fromkeys(again.closed, 1)
    assert facts.sighted(dsn) == upstream.ids
    assert the_job_went_on(walk, dsn)


@pytest.mark.parametrize(
    ("during", "last_statement"),
    [("frontier_written", "UPDATE syncd.run%"), ("pass_completed", "UPDATE syncd.partition%")],
)
async def test_a_commit_that_did_not_happen_is_made_good(
    during: str, last_statement: str, dsn: str, tmp_path: Path
) -> None:
    walk = Walk()
    nth = THE_BATCH if during == "frontier_written" else 1
    async with serving(SHAPE) as upstream:
        config = upstream.configuration(tmp_path, dsn, connector="sightings", lease="1h")
        seen_again: list[Again] = []
        first = Trap(Step("before_commit", of=during, nth=nth), partial(cut, dsn, last_statement))
        second = Trap(Step("claimed", nth=2), lambda: seen_again.append(Again.of(dsn, upstream)))
        with watched(first, second):
            await walk.go(config)

    assert first.sprung.is_set()
    assert walk.result is not None
    assert walk.result.verdict == "complete"
    assert len(walk.said(CommitLost)) == 1
    (again,) = seen_again
    asked = upstream.asked()
    assert {page: asked[page] for page in again.closed} == dict.fromkeys(again.closed, 1)
    lost = set(again.asked) - again.closed
    assert bool(lost) == (during == "frontier_written")
    assert {page: asked[page] for page in lost} == dict.fromkeys(lost, 2)
    assert facts.sighted(dsn) == upstream.ids
    assert the_job_went_on(walk, dsn)


async def test_a_commit_in_doubt_keeps_others_out_until_the_server_has_decided(
    dsn: str, programs: Programs, tmp_path: Path
) -> None:
    """Its process is dead and its lease has run out: only the server knows what it will become."""
    facts.execute(dsn, HANGS)
    async with serving(SHAPE) as before, serving(SHAPE) as after:
        config = before.configuration(tmp_path, dsn, connector="sightings", lease="1s")
        killed = programs.start(config)
        with hanging_commit_lost(dsn):
            await seen("a COMMIT that hangs", lambda: facts.rows(dsn, HANGING), told=killed.said)
            killed.send(signal.SIGKILL)
            assert await killed.ended() == -signal.SIGKILL
            await seen("the end of its lease", lambda: not facts.partition(dsn)["held"])
            closed = facts.closed_pages(dsn)
            kept_out = programs.start(config, wait_seconds=0)
            assert await kept_out.ended() == 75, kept_out.said()

        assert kept_out.result()["verdict"] == "held"
        assert not kept_out.events("run.started")
        await facts.left_alone(dsn)
        assert facts.closed_pages(dsn) > closed
        closed = facts.closed_pages(dsn)

        config = after.configuration(tmp_path, dsn, connector="sightings", lease="1h")
        following = programs.start(config)

        assert await following.ended() == 0, following.said()
        assert not closed & set(after.asked())
        assert facts.sighted(dsn) == after.ids


async def test_a_claim_that_happened_and_was_not_heard_of_is_forgone(
    dsn: str, tmp_path: Path
) -> None:
    """Its lease is an hour long: nobody waits for the end of that."""
    walk = Walk()
    facts.execute(dsn, CLAIM_HANGS)
    async with serving(SHAPE) as upstream, trio.open_nursery() as nursery:
        config = upstream.configuration(tmp_path, dsn, connector="sightings", lease="1h")
        nursery.start_soon(walk.go, config)
        with hanging_commit_lost(dsn):
            await seen("a claim that hangs", lambda: facts.rows(dsn, HANGING))
        await seen("the end of the job", lambda: walk.result)

    assert walk.result is not None
    assert walk.result.verdict == "complete"
    assert len(walk.said(CommitLost)) == 1
    assert [(run.epoch, run.status) for run in facts.runs(dsn)] == [(1, "lost"), (2, "complete")]
    assert facts.sighted(dsn) == upstream.ids


async def test_a_claim_that_did_not_happen_is_made_again(dsn: str, tmp_path: Path) -> None:
    walk = Walk()
    claiming = (
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
        " AND state = 'idle in transaction' AND starts_with(query, 'WITH moment')"
    )
    cuts: list[int] = []

    def reached(point: str) -> None:
        backends = [row["pid"] for row in facts.rows(dsn, claiming)]
        if point == "before_commit" and backends and not cuts:
            cuts.extend(backends)
            facts.rows(dsn, "SELECT pg_terminate_backend(%s, 10000)", backends[0])

    async with serving(SHAPE) as upstream:
        config = upstream.configuration(tmp_path, dsn, connector="sightings", lease="1h")
        faults.arm(reached)
        try:
            await walk.go(config)
        finally:
            faults.arm(None)

    assert len(cuts) == 1
    assert walk.result is not None
    assert walk.result.verdict == "complete"
    assert len(walk.said(CommitLost)) == 1
    assert [(run.epoch, run.status) for run in facts.runs(dsn)] == [(1, "complete")]
    assert facts.sighted(dsn) == upstream.ids


@attrs.frozen
class Again:
    """What the run sees that claims after a COMMIT was lost."""

    closed: set[int]  # pages that are committed
    asked: set[int]  # pages that were fetched, committed or not

    @classmethod
    def of(cls, dsn: str, upstream: Upstream) -> Again:
        return cls(facts.closed_pages(dsn), set(upstream.asked()))


def the_job_went_on(walk: Walk, dsn: str) -> bool:
    """Return whether a second run, under its own epoch, went on with the pass of the first."""
    started = [(event.epoch, event.resumed) for event in walk.said(RunStarted)]
    finished = [event.status for event in walk.said(RunFinished)]
    runs = [(run.epoch, run.status) for run in facts.runs(dsn)]
    return (started, finished, runs) == (
        [(1, False), (2, True)],
        ["lost", "complete"],
        [(1, "lost"), (2, "complete")],
    )


def claimed_in_an_hour(dsn: str) -> list[leases.Lease]:
    """Try to take the partition at a moment when its lease has long run out."""
    with facts.connect(dsn) as connection:
        row = connection.execute("SELECT syncd.clock() + %s AS now", (timedelta(hours=1),))
        now = row.fetchone()
        assert now is not None
        return leases.claim(
            connection, owner=uuid4(), token=uuid4(), job="j", lease_seconds=1.0, free=1, **now
        )


def cut(dsn: str, last_statement: str) -> None:
    """Let the server end the one connection that has come to this statement and no further."""
    query = (
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
        " AND state = 'idle in transaction' AND query LIKE %s"
    )
    (backend,) = facts.rows(dsn, query, last_statement)
    facts.rows(dsn, "SELECT pg_terminate_backend(%s, 10000)", backend["pid"])


@contextmanager
def hanging_commit_lost(dsn: str) -> Iterator[None]:
    """End, in the end, the connection whose COMMIT hangs: it happened, and nobody is told."""
    try:
        yield
    finally:
        facts.rows(dsn, f"SELECT pg_terminate_backend(pid) FROM ({HANGING}) AS hanging")


@contextmanager
def watched(*traps: Trap) -> Iterator[None]:
    """Let traps watch the engine in this process."""

    def reached(point: str) -> None:
        for trap in traps:
            trap(point)

    faults.arm(reached)
    try:
        yield
    finally:
        faults.arm(None)
