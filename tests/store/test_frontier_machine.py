"""The frontier as a state machine: Hypothesis chooses who does what next, against the real SQL.

Two daemons with two writers each share one partition. A commit runs in a thread of its own and
stops inside its transaction until the machine lets it go on, or kills its connection; meanwhile
others claim, renew, fetch, commit and end the pass. Time is the machine's: leases run out when it
says so. Memory holds one cursor and a look sees one, so that even these small feeds are read in
many steps, and whatever stands open must be in memory, unread, or known to wait, at any time.
"""

from __future__ import annotations

import math
import threading
import unittest
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, ClassVar
from uuid import uuid4

import attrs
import psycopg
import pytest
from database import connect
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from syncd import faults, frontier
from syncd.commit import Committed, Committer, Target
from syncd.errors import FrontierMoved, LeaseLost, StoreError, Unintelligible
from syncd.frontier import Frontier, Numbered
from syncd.model import Cursor, Page, Pass, Writer, Written
from syncd.nodes import AHEAD_MIN, Node, Walked, children, roots
from syncd.progress import Anew, Resume, Wanted, choose_pass
from syncd.rows import StreamRows
from syncd.store import leases, passes
from syncd.store.hops import Connection
from syncd.store.leases import Lease
from syncd.unread import Unread

LEASE_SECONDS = 30.0
WAIT_SECONDS = 10.0  # of a cursor that failed
MEMORY = 1  # cursors
RENEWAL_MAX_SECONDS = 2.0  # far above its milliseconds, far below waiting for a stopped commit
WANTED = Wanted("full", "r", {}, "1", 1e9)
START = datetime(2026, 1, 1, tzinfo=UTC)

Links = dict[int, tuple[int, ...]]


@st.composite
def feeds(draw: st.DrawFn) -> tuple[Links, int]:
    """Draw a finite feed: links between pages (cycles and double mentions too), or numbers."""
    size = draw(st.integers(1, 12))
    if draw(st.booleans()):
        return {}, size
    targets = st.lists(st.integers(0, size - 1), max_size=6).map(tuple)
    return {page: draw(targets) for page in range(size)}, 0


class Gate:
    """Where a commit stops inside its transaction until it is told how to go on."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.opened = threading.Event()


_gates = threading.local()


def _at_point(name: str) -> None:
    gate = getattr(_gates, "gate", None)
    if name == "frontier_written" and gate is not None:
        gate.reached.set()
        gate.opened.wait(20)


@attrs.define(eq=False)
class Open:
    """A commit on its way."""

    daemon: Daemon
    batch: Sequence[Walked]
    openings: Sequence[Node]
    connection: Connection
    gate: Gate
    thread: threading.Thread | None = None
    result: Committed | None = None
    error: Exception | None = None


@attrs.define(eq=False)
class Daemon:
    """What one process has in mind; `lease` may have run out without its knowing."""

    id: Any = attrs.field(factory=uuid4)
    lease: Lease | None = None
    active: passes.ActivePass | None = None
    frontier: Frontier | None = None
    pending: list[Walked] = attrs.field(factory=list)
    commits: list[Open] = attrs.field(factory=list)

    def forget(self) -> None:
        self.lease = self.active = self.frontier = None
        self.pending = []


class FrontierMachine(RuleBasedStateMachine):
    """See the module's docstring."""

    dsn: ClassVar[str]
    numbers: ClassVar[Iterator[int]] = count(1)

    @initialize(feed=feeds(), lies=st.sets(st.integers(1, 8)), items=st.sets(st.integers(1, 8)))
    def begin(self, feed: tuple[Links, int], lies: set[int], items: set[int]) -> None:
        self.links, self.size = feed
        self.items = items  # pages that may fail alone
        # Two false empty pages side by side at the end could end a numbered pass with `ahead` 2.
        self.lies = {page for page in lies if page - 1 not in lies and page < self.size}
        self.now = START
        self.daemons = [Daemon(), Daemon()]
        self.ended = False
        self.superseded: list[tuple[int, int]] = []
        self.name = f"i{next(self.numbers)}"
        self.connection = connect(self.dsn)
        self.connection.execute(
            "INSERT INTO syncd.instance VALUES (%s, 'p', '1', syncd.clock())", (self.name,)
        )
        self.connection.execute("INSERT INTO syncd.account VALUES (%s, 'default')", (self.name,))
        row = self.connection.execute(
            "INSERT INTO syncd.partition (instance, account, feed, due_at, claim_at)"
            " VALUES (%s, 'default', 'f', %s, %s) RETURNING id",
            (self.name, START, START),
        ).fetchone()
        assert row is not None
        self.partition = int(row["id"])
        self.connection.execute(
            "CREATE TABLE IF NOT EXISTS audit"
            " (seq bigserial, partition bigint, page int, epoch bigint, owner uuid)"
        )
        self.connection.commit()
        faults.arm(_at_point)

    # -- what daemons do -------------------------------------------------------------------------

    def _pick(self, which: int, able: Callable[[Daemon], bool]) -> Daemon | None:
        """Return a daemon that can do what a rule wants, the drawn one if possible."""
        both = (self.daemons[which], self.daemons[1 - which])
        return next((daemon for daemon in both if able(daemon)), None)

    @precondition(lambda self: not self.ended)
    @rule(which=st.integers(0, 1), late=st.booleans())
    def claim(self, which: int, *, late: bool) -> None:
        """Claim; `late`: after the other's lease has run out without its knowing."""
        daemon = self._pick(which, lambda each: each.lease is None)
        if daemon is None:
            return
        if late:
            self.now += timedelta(seconds=2 * LEASE_SECONDS)
        found = leases.claim(
            self.connection,
            owner=daemon.id,
            token=uuid4(),
            job="j",
            lease_seconds=LEASE_SECONDS,
            free=1,
            ids=[self.partition],
            early=True,
            now=self.now,
        )
        self.connection.commit()
        if found:
            self._take_up(daemon, found[0])

    def _take_up(self, daemon: Daemon, lease: Lease) -> None:
        known = passes.open_pass(self.connection, lease)
        decided = choose_pass(known, WANTED, watermark=None, covered={}, now=self.now)
        first = Cursor({}, number=1) if self.size else self._cursor(0)
        if isinstance(decided, Resume):
            active = passes.resume(self.connection, lease, decided.open_pass)
        else:
            assert isinstance(decided, Anew)
            active = passes.begin(
                self.connection,
                lease,
                decided,
                answered=Pass("full", (first,)),
                wanted=WANTED,
                nodes=roots([first]),
                until=self.now,
                now=self.now,
            )
        self.connection.commit()
        numbered = Numbered(first, active.high, active.opened, AHEAD_MIN) if self.size else None
        daemon.lease, daemon.active = lease, active
        daemon.frontier = Frontier((), more=True, numbered=numbered)
        daemon.pending = []

    def _cursor(self, page: int) -> Cursor:
        return Cursor({"page": page}, kind="item" if page in self.items else "chain")

    def _seconds(self) -> float:
        return (self.now - START).total_seconds()

    @rule()
    def wait(self) -> None:
        self.now += timedelta(seconds=WAIT_SECONDS / 2)

    @rule(which=st.integers(0, 1), pages=st.integers(1, 4))
    def fetch(self, which: int, pages: int) -> None:
        daemon = self._pick(which, lambda each: each.frontier is not None)
        if daemon is None or daemon.frontier is None or daemon.active is None:
            return
        for _ in range(pages):
            node = self._next(daemon.frontier, daemon.active)
            if node is not None:
                self._fetched(daemon, daemon.frontier, node)

    def _next(self, frontier: Frontier, active: passes.ActivePass) -> Node | None:
        frontier.unread.wake(self._seconds())
        node = frontier.take()
        while node is None and frontier.more:
            where = frontier.unread.take()
            look = passes.look(self.connection, active.id, where, most=MEMORY, now=self.now)
            self.connection.commit()
            frontier.refilled(look, now=self._seconds())
            node = frontier.take()
        return node

    @rule(which=st.integers(0, 1))
    def fetch_in_vain(self, which: int) -> None:
        daemon = self._pick(which, lambda each: each.frontier is not None)
        if daemon is None or daemon.frontier is None or daemon.active is None:
            return
        node = self._next(daemon.frontier, daemon.active)
        if node is not None and daemon.frontier.durable(node):
            self._failed(daemon, node)
        elif node is not None:
            daemon.frontier.failed(node)

    def _failed(self, daemon: Daemon, node: Node) -> None:
        """Note a failure, as a walk does."""
        assert daemon.lease is not None
        assert daemon.active is not None
        assert daemon.frontier is not None
        try:
            noted = passes.fail_cursor(
                self.connection,
                daemon.lease,
                daemon.active.id,
                node,
                wait_seconds=WAIT_SECONDS,
                give_up=False,
                error="e",
                now=self.now,
            )
            self.connection.commit()
        except LeaseLost:
            self.connection.rollback()
            daemon.forget()
            return
        until = self._seconds() + WAIT_SECONDS
        daemon.frontier.failed(node, until=until if noted else None)

    def _fetched(self, daemon: Daemon, frontier: Frontier, node: Node) -> None:
        page = self._answer(node)
        opens = children(node, page, "machine")
        try:
            frontier.fetched(node, page, opens)
        except Unintelligible:
            frontier.failed(node, until=self._seconds())  # and the table still holds it open
            return
        daemon.pending.append(Walked(node, page, START, opens))

    def _answer(self, node: Node) -> Page:
        number = node.cursor.number
        if number is not None:
            lying = number in self.lies
            self.lies.discard(number)
            return Page({"pages": [number] if number <= self.size and not lying else []})
        page = int(node.cursor.value["page"])  # type: ignore[index,call-overload,arg-type]
        opens = tuple(self._cursor(each) for each in self.links[page])
        return Page({"pages": [page]}, opens=opens)

    @rule(which=st.integers(0, 1))
    def begin_commit(self, which: int) -> None:
        daemon = self._pick(which, lambda each: bool(each.pending) and len(each.commits) < 2)
        if daemon is None or daemon.frontier is None:
            return
        batch, daemon.pending = daemon.frontier.admit(daemon.pending)
        if not batch:
            return
        openings = daemon.frontier.openings(batch)
        commit = Open(daemon, batch, openings, connect(self.dsn), Gate())
        commit.thread = threading.Thread(
            target=self._commit, args=(commit, self._committer(daemon))
        )
        daemon.commits.append(commit)
        commit.thread.start()
        commit.gate.reached.wait(0.1)  # it may wait for another's lock instead

    def _committer(self, daemon: Daemon) -> Committer:
        lease, active = daemon.lease, daemon.active
        assert lease is not None
        assert active is not None

        def note(connection: Connection, rows: Sequence[int]) -> Written:
            for page in rows:
                connection.execute(
                    "INSERT INTO audit (partition, page, epoch, owner) VALUES (%s, %s, %s, %s)",
                    (self.partition, page, lease.epoch, daemon.id),
                )
            return Written(inserted=len(rows))

        return Committer(
            hops=None,  # type: ignore[arg-type]  # `write` is called without a hop
            emit=lambda _: None,
            lease=lease,
            pass_id=active.id,
            target=Target({}, {}, {"pages": Writer(note)}, {}),
            guarded=True,
            safety_lag_seconds=0.0,
        )

    def _commit(self, commit: Open, committer: Committer) -> None:
        _gates.gate = commit.gate
        rows = [page for walked in commit.batch for page in walked.page.records["pages"]]
        ends_at = None
        try:
            with commit.connection:
                commit.result, _ = committer.write(
                    commit.connection,
                    commit.batch,
                    {"pages": StreamRows(rows=rows)},
                    openings=commit.openings,
                    ends_at=ends_at,
                )
                self._note_superseded(commit, committer.lease)
        except (StoreError, psycopg.Error) as error:
            commit.error = error
        finally:
            commit.gate.reached.set()

    def _note_superseded(self, commit: Open, lease: Lease) -> None:
        """Look, last thing before COMMIT, whether somebody has taken the lease meanwhile."""
        row = commit.connection.execute(
            "SELECT epoch FROM syncd.partition WHERE id = %s", (self.partition,)
        ).fetchone()
        assert row is not None
        if row["epoch"] != lease.epoch:
            self.superseded.append((lease.epoch, row["epoch"]))

    @rule(which=st.integers(0, 1), first=st.booleans())
    def finish_commit(self, which: int, *, first: bool) -> None:
        daemon = self._pick(which, lambda each: bool(each.commits))
        if daemon is not None:
            self._finish(daemon.commits.pop(0 if first else -1))

    def _finish(self, commit: Open) -> None:
        """Let a commit go on. One that waits for another's lock needs that one to go on first."""
        commit.gate.opened.set()
        others = [each for daemon in self.daemons for each in daemon.commits]
        assert commit.thread is not None
        commit.thread.join(0.2)
        for other in others:
            if not commit.thread.is_alive():
                break
            other.gate.opened.set()
            commit.thread.join(1)
        commit.thread.join(20)
        assert not commit.thread.is_alive(), "a commit hangs"
        self._settle(commit)

    def _settle(self, commit: Open) -> None:
        daemon = commit.daemon
        same_memory = daemon.frontier is not None and all(
            page.node.key in daemon.frontier._entries for page in commit.batch
        )
        if isinstance(commit.error, LeaseLost):
            daemon.forget()
        elif isinstance(commit.error, FrontierMoved) and daemon.frontier and daemon.active:
            keys = [page.node.key for page in commit.batch]
            left = passes.still_open(self.connection, daemon.active.id, keys)
            self.connection.commit()
            daemon.frontier.reconciled(keys, left)
            if same_memory:
                daemon.pending += [page for page in commit.batch if page.node.key in left]
        elif commit.error is not None:
            daemon.forget()  # a deadlock or a lost connection: begins anew
        elif commit.result is not None and daemon.frontier is not None:
            daemon.frontier.committed(commit.batch, commit.openings, commit.result.opened)

    @rule(which=st.integers(0, 1))
    def crash(self, which: int) -> None:
        """Kill the backends of a daemon's commits, and all it has in mind."""
        daemon = self.daemons[which]
        for commit in daemon.commits:
            with suppress(psycopg.Error):
                self.connection.execute(
                    "SELECT pg_terminate_backend(%s, 5000)",
                    (commit.connection.info.backend_pid,),
                )
            self.connection.commit()
        daemon.forget()
        while daemon.commits:
            self._finish(daemon.commits.pop())

    @rule(which=st.integers(0, 1))
    def renew(self, which: int) -> None:
        """Renew: it must not wait for the commits that stand open."""
        daemon = self.daemons[which]
        if daemon.lease is None:
            return
        timeout = f"{RENEWAL_MAX_SECONDS:.0f}s"
        with connect(self.dsn) as connection:
            connection.execute("SELECT set_config('lock_timeout', %s, true)", (timeout,))
            leases.renew(connection, [daemon.lease], lease_seconds=LEASE_SECONDS, now=self.now)

    @precondition(lambda self: not self.ended)
    @rule(which=st.integers(0, 1))
    def complete(self, which: int) -> None:
        daemon = self.daemons[which]
        frontier = daemon.frontier
        if frontier is None or frontier.more or len(frontier) or daemon.pending or daemon.commits:
            return
        if frontier.unread.waiting.until < math.inf:
            return  # it waits for them
        if any(each.commits for each in self.daemons):
            return  # a loser's open commit holds the row's lock; nobody waits for it in this test
        self._complete(daemon)

    def _complete(self, daemon: Daemon) -> None:
        assert daemon.lease is not None
        assert daemon.active is not None
        assert daemon.frontier is not None
        try:
            ending = passes.complete(
                self.connection, daemon.lease, daemon.active.id, WANTED, now=self.now
            )
            self.connection.commit()
        except LeaseLost:
            self.connection.rollback()
            daemon.forget()
            return
        if ending is None:
            daemon.frontier.unread.everything()
        else:
            self.ended = True
            daemon.forget()

    # -- the laws ----------------------------------------------------------------------------------

    @invariant()
    def no_cursor_is_walked_twice_and_epochs_never_fall(self) -> None:
        if not hasattr(self, "partition"):
            return
        rows = self.connection.execute(
            "SELECT page, epoch, owner FROM audit WHERE partition = %s ORDER BY seq",
            (self.partition,),
        ).fetchall()
        self.connection.commit()
        pages = [row["page"] for row in rows]
        assert self.superseded == [], "a commit under a superseded lease"
        assert len(pages) == len(set(pages)), "a cursor was walked twice"
        assert len({(row["epoch"], row["owner"]) for row in rows}) == len(
            {row["epoch"] for row in rows}
        ), "two daemons committed under one epoch"

    @invariant()
    def every_open_cursor_is_in_mind(self) -> None:
        for daemon in self.daemons if hasattr(self, "partition") else ():
            if daemon.frontier is None or daemon.commits or not self._holds_the_lease(daemon):
                continue
            forgotten = [
                node.place
                for node in self._open(daemon)
                if node.key not in daemon.frontier._entries
                and node.place not in daemon.frontier.unread.ranges
                and node.key not in daemon.frontier.unread.waiting
            ]
            assert forgotten == [], "an open cursor is forgotten"

    def _holds_the_lease(self, daemon: Daemon) -> bool:
        row = self.connection.execute(
            "SELECT token FROM syncd.partition WHERE id = %s", (self.partition,)
        ).fetchone()
        self.connection.commit()
        assert row is not None
        return daemon.lease is not None and row["token"] == daemon.lease.token

    def _open(self, daemon: Daemon) -> list[Node]:
        assert daemon.active is not None
        look = passes.look(self.connection, daemon.active.id, most=1000, now=self.now)
        self.connection.commit()
        return [*look.nodes, *(node for node, _ in look.waiting)]

    def teardown(self) -> None:
        """Heal: whatever stands open is let go, and one daemon walks the pass to its end.

        Most of the walking happens here, so the laws are looked at here, too.
        """
        if not hasattr(self, "partition"):
            return
        try:
            for daemon in self.daemons:
                while daemon.commits:
                    self._finish(daemon.commits.pop(0))
                daemon.forget()
            self.now += timedelta(seconds=2 * LEASE_SECONDS)
            healer = self.daemons[0]
            for turn in range(200):
                if self.ended:
                    break
                if healer.lease is None:
                    self.claim(0, late=True)
                if turn % 3 == 0 and turn < 30:
                    self.fetch_in_vain(0)
                self.fetch(0, 4)
                self.begin_commit(0)
                while healer.commits:
                    self.finish_commit(0, first=True)
                self.wait()
                self.every_open_cursor_is_in_mind()
                self.complete(0)
            self._check()
        finally:
            faults.arm(None)
            self.connection.close()

    def _check(self) -> None:
        assert self.ended, "the pass of a finite feed does not end"
        rows = self.connection.execute(
            "SELECT page, epoch FROM audit WHERE partition = %s ORDER BY seq", (self.partition,)
        ).fetchall()
        assert {row["page"] for row in rows} == self._reachable(), "a page was lost"
        self.no_cursor_is_walked_twice_and_epochs_never_fall()

    def _reachable(self) -> set[int]:
        if self.size:
            return set(range(1, self.size + 1))
        found, todo = {0}, [0]
        while todo:
            for page in self.links[todo.pop()]:
                if page not in found:
                    found.add(page)
                    todo.append(page)
        return found


def walked(dsn: str, *, examples: int) -> list[str]:
    """Run the machine; answer with what it found."""
    machine = type("Machine", (FrontierMachine,), {"dsn": dsn})
    case = machine.TestCase  # type: ignore[attr-defined]  # Hypothesis adds it
    case.settings = settings(
        max_examples=examples,
        stateful_step_count=30,
        database=None,
        phases=(Phase.explicit, Phase.generate),  # shrinking takes minutes
        suppress_health_check=list(HealthCheck),
    )
    result = unittest.TestResult()
    case("runTest").run(result)
    assert result.testsRun == 1
    return [trace for _, trace in result.errors + result.failures]


def test_no_interleaving_loses_repeats_or_forgets_a_page(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frontier, "IN_MEMORY_MAX", MEMORY)

    assert walked(dsn, examples=40) == []


@pytest.mark.parametrize("forgets", ["opened", "wake"])
def test_mutant_that_forgets_cursors_beyond_memory_is_caught(
    dsn: str, monkeypatch: pytest.MonkeyPatch, forgets: str
) -> None:
    monkeypatch.setattr(frontier, "IN_MEMORY_MAX", MEMORY)
    if forgets == "opened":
        monkeypatch.setattr(Unread, "opened", lambda *_: None)
    else:
        monkeypatch.setattr(Unread, "wake", lambda self, now: self.waiting.due(now))

    (found,) = walked(dsn, examples=40)

    assert "an open cursor is forgotten" in found
