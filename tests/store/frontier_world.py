"""A world of daemons that walk one pass against the real SQL, and the checker of what they did.

Several daemons with several writer threads each claim, fetch, commit, crash, stall and lose leases
of tens of milliseconds on one partition. Every commit notes in its own transaction which page it
closed under which epoch, so that afterwards the history can be checked against the feed.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from random import Random
from typing import Any
from uuid import uuid4

import attrs
import psycopg

from syncd import faults
from syncd.commit import Committer, Target
from syncd.errors import FrontierMoved, LeaseLost, StoreError, Unintelligible
from syncd.frontier import Frontier, Numbered
from syncd.model import Cursor, Page, Pass, Writer, Written
from syncd.nodes import AHEAD_MIN, Node, Walked, children, roots
from syncd.progress import Anew, Next, Resume, Wanted, choose_pass
from syncd.rows import StreamRows
from syncd.store import leases, passes
from syncd.store.hops import Connection, Timeouts, connection_options
from syncd.store.leases import Effort, Lease

LEASE_SECONDS = 0.04
STALL_SECONDS = 2.5 * LEASE_SECONDS  # at most, at a point
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


class Crash(Exception):
    """A daemon dies here: its memory is gone, its transaction is never finished."""


@attrs.frozen
class Feed:
    """A finite feed: which pages a page names. Page 0 is the first; `numbered` has no links."""

    links: dict[int, tuple[int, ...]]
    items: frozenset[int] = frozenset()
    numbered: int = 0  # pages 1..numbered hold records
    false_empty: frozenset[int] = frozenset()  # are empty the first time they are asked for

    def reachable(self) -> set[int]:
        if self.numbered:
            return set(range(1, self.numbered + 1))
        found, todo = {0}, [0]
        while todo:
            for page in self.links.get(todo.pop(), ()):
                if page not in found:
                    found.add(page)
                    todo.append(page)
        return found

    def cursor(self, page: int) -> Cursor:
        if self.numbered:
            return Cursor({}, number=page)
        return Cursor({"page": page}, kind="item" if page in self.items else "chain")


def random_feed(random: Random) -> Feed:
    """Draw a feed: a chain, a fan-out, numbered pages, or a tangle with cycles."""
    size = random.randint(2, 25)
    shape = random.choice(["chain", "fan", "numbered", "tangle"])
    if shape == "numbered":
        empty = {page for page in range(2, size, 3) if random.random() < 0.4}
        return Feed({}, numbered=size, false_empty=frozenset(empty))
    if shape == "chain":
        return Feed({page: (page + 1,) for page in range(size)})
    if shape == "fan":
        return Feed({0: tuple(range(1, size))}, items=frozenset(range(1, size)))
    links = {
        page: tuple(random.randrange(size) for _ in range(random.randint(0, 3)))
        for page in range(size)
    }
    return Feed(links, items=frozenset(page for page in range(1, size) if not links[page]))


class World:
    """One partition, one pass, several daemons."""

    def __init__(
        self, dsn: str, feed: Feed, seed: int, *, daemons: int = 3, writers: int = 3
    ) -> None:
        self.dsn = dsn
        self.feed = feed
        self.random = Random(seed)
        self.asked: dict[int, int] = {}
        self.fetches = 0
        self.crash_share = 0.02
        self.stall_share = 0.05
        # Mutants of the engine that the checker must catch:
        self.completes_in_a_writer = False
        self.takes_an_empty_page_for_the_end = False
        self.done = threading.Event()
        self.failures: list[BaseException] = []
        self.daemons = [Daemon(self, writers, Random(seed * 31 + n)) for n in range(daemons)]
        self._lock = threading.Lock()
        with self.connect() as connection:
            self.partition = register(connection)

    def connect(self) -> Connection:
        # Short timeouts: a mutant that locks too much must not hang the test.
        timeouts = Timeouts(statement_seconds=10, lock_seconds=10)
        return psycopg.connect(self.dsn, **connection_options(timeouts, "world"))

    def fetch(self, node: Node) -> Page:
        """Answer as the upstream does; a page in `false_empty` lies the first time."""
        number = node.cursor.number
        page = number or int(node.cursor.value["page"])  # type: ignore[index,call-overload,arg-type]
        with self._lock:
            self.fetches += 1
            self.asked[page] = self.asked.get(page, 0) + 1
            first = self.asked[page] == 1
        if number is not None:
            lying = first and number in self.feed.false_empty
            filled = number <= self.feed.numbered and not lying
            return Page({"pages": [number] if filled else []})
        opens = tuple(self.feed.cursor(each) for each in self.feed.links.get(page, ()))
        return Page({"pages": [page]}, opens=opens)

    def run(self, seconds: float) -> None:
        """Let the daemons work until the pass has ended, or the time is over."""
        with crashing(self):
            threads = [threading.Thread(target=each.run, daemon=True) for each in self.daemons]
            for thread in threads:
                thread.start()
            ended = self.done.wait(seconds)
            self.done.set()
            for thread in threads:
                thread.join(15)
        if self.failures:
            raise self.failures[0]
        assert ended, f"the pass of a finite feed did not end in {seconds} s: {self.left()}"

    def left(self) -> list[dict[str, Any]]:
        with self.connect() as connection:
            return connection.execute(
                "SELECT cursor, number, state, empty, attempts FROM syncd.frontier"
                " WHERE state <> 'closed'"
            ).fetchall()

    def check(self) -> None:
        """Compare what was committed with the feed."""
        with self.connect() as connection:
            walked = connection.execute(
                "SELECT page, epoch, owner FROM audit ORDER BY seq"
            ).fetchall()
            passes_ = connection.execute("SELECT id, state FROM syncd.pass").fetchall()
        pages = [row["page"] for row in walked]
        epochs = {row["epoch"] for row in walked}
        owners = {(row["epoch"], row["owner"]) for row in walked}

        assert set(pages) == self.feed.reachable(), "a page was lost"
        assert len(pages) == len(set(pages)), "a cursor was walked twice in one pass"
        assert len(owners) == len(epochs), "two daemons committed under one epoch"
        ordered = [row["epoch"] for row in walked]
        assert ordered == sorted(ordered), "a commit came under a superseded lease"
        assert [row["state"] for row in passes_] == ["complete"]


def register(connection: Connection) -> int:
    """Make one partition known, and the table in which commits leave their trace."""
    connection.execute("INSERT INTO syncd.instance VALUES ('i', 'p', '1', syncd.clock())")
    connection.execute("INSERT INTO syncd.account VALUES ('i', 'default')")
    row = connection.execute(
        "INSERT INTO syncd.partition (instance, account, feed, due_at, claim_at)"
        " VALUES ('i', 'default', 'f', syncd.clock(), syncd.clock()) RETURNING id"
    ).fetchone()
    assert row is not None
    connection.execute("CREATE TABLE audit (seq bigserial, page int, epoch bigint, owner uuid)")
    connection.commit()
    return int(row["id"])


@contextmanager
def crashing(world: World) -> Iterator[None]:
    """Let daemons die and stall at the named points, in their own threads."""
    random = Random(world.random.random())

    def reached(point: str) -> None:
        drawn = random.random()
        if drawn < world.crash_share:
            raise Crash
        if drawn < world.crash_share + world.stall_share:
            time.sleep(random.random() * STALL_SECONDS)

    faults.arm(reached)
    try:
        yield
    finally:
        faults.arm(None)


WANTED = Wanted("full", "r", {}, "1", 3600.0)


class Daemon:
    """A process with several writer threads, and one thread that renews its lease."""

    def __init__(self, world: World, writers: int, random: Random) -> None:
        self.world = world
        self.id = uuid4()
        self.writers = writers
        self.random = random
        self.connect = world.connect
        self.dies_after = 0  # commits under one lease; 0: it does not

    def run(self) -> None:
        while not self.world.done.is_set():
            try:
                self.live()
            except (Crash, StoreError):
                continue  # begins anew, with nothing in memory
            except psycopg.Error:
                continue
            except (AssertionError, LookupError, TypeError, ValueError) as error:
                self.world.failures.append(error)
                self.world.done.set()

    def live(self) -> None:
        with self.connect() as connection:
            lease = self.claim(connection)
            if lease is None:
                time.sleep(LEASE_SECONDS / 8)
                return
            known = passes.open_pass(connection, lease)
            now = lease.claimed_at
            decided = choose_pass(known, WANTED, watermark=None, covered={}, now=now)
            if isinstance(decided, Resume):
                active = passes.resume(connection, lease, decided.open_pass)
            else:
                assert isinstance(decided, Anew)
                if self._ended(connection):
                    self.world.done.set()
                    return
                first = (
                    Cursor({}, number=1) if self.world.feed.numbered else self.world.feed.cursor(0)
                )
                active = passes.begin(
                    connection,
                    lease,
                    decided,
                    answered=Pass("full", (first,)),
                    wanted=WANTED,
                    nodes=roots([first]),
                    until=now,
                )
            connection.commit()
        Walk(self, lease, active).go()

    def _ended(self, connection: Connection) -> bool:
        row = connection.execute("SELECT count(*) AS n FROM syncd.pass WHERE state = 'complete'")
        return bool(row.fetchone()["n"])  # type: ignore[index]

    def claim(
        self, connection: Connection, *, lease_seconds: float = LEASE_SECONDS
    ) -> Lease | None:
        found = leases.claim(
            connection,
            owner=self.id,
            token=uuid4(),
            job="j",
            lease_seconds=lease_seconds,
            free=1,
            early=True,
        )
        connection.commit()
        faults.point("claimed")
        return found[0] if found else None


class Walk:
    """What one daemon does under one lease: `syncd.walk` without waiting, in plain threads."""

    def __init__(self, daemon: Daemon, lease: Lease, active: passes.ActivePass) -> None:
        self.world = daemon.world
        self.daemon = daemon
        self.lease = lease
        self.active = active
        numbered = None
        if self.world.feed.numbered:
            numbered = Numbered(Cursor({}, number=1), active.high, active.opened, AHEAD_MIN)
        self.frontier = Frontier((), more=True, numbered=numbered)
        self.lock = threading.Lock()
        self.over = threading.Event()
        self.pending: list[Walked] = []
        self.busy = 0
        self.errors: list[BaseException] = []
        self.commits = 0
        self.committer = Committer(
            hops=None,  # type: ignore[arg-type]  # `write` is called without a hop
            emit=lambda _: None,
            lease=lease,
            pass_id=active.id,
            target=Target({}, {}, {"pages": Writer(self._audit)}, {}),
            guarded=True,
            safety_lag_seconds=0.0,
        )

    def _audit(self, connection: Connection, rows: Sequence[int]) -> Written:
        for page in sorted(rows):
            connection.execute(
                "INSERT INTO audit (page, epoch, owner) VALUES (%s, %s, %s)",
                (page, self.lease.epoch, self.daemon.id),
            )
        return Written(inserted=len(rows))

    def go(self) -> None:
        threads = [threading.Thread(target=self._write) for _ in range(self.daemon.writers)]
        threads.append(threading.Thread(target=self._renew))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self.errors:
            raise self.errors[0]

    def _renew(self) -> None:
        with self.daemon.connect() as connection:
            while not self.over.wait(LEASE_SECONDS / 4):
                if self.daemon.random.random() < 0.02:
                    time.sleep(3 * LEASE_SECONDS)  # a renewal that comes late
                alive = leases.renew(connection, [self.lease], lease_seconds=LEASE_SECONDS)
                connection.commit()
                if not alive:
                    return  # the writers find out at the fence: that is what is tested

    def _write(self) -> None:
        try:
            with self.daemon.connect() as connection:
                while not self.over.is_set() and not self.world.done.is_set():
                    if not self._step(connection):
                        time.sleep(0.001)
        except Exception as error:  # noqa: BLE001  # `go` raises it, where it is told
            self.errors.append(error)
        finally:
            self.over.set()

    def _step(self, connection: Connection) -> bool:
        """Fetch one page, or write what is there, or look whether it is over."""
        with self.lock:
            if self.over.is_set():
                return True
            self.frontier.unread.wake(time.monotonic())
            node = self.frontier.take()
            if node is None and self.frontier.more and not self.frontier.ready:
                where = self.frontier.unread.take()
                look = passes.look(connection, self.active.id, where, most=3)
                connection.commit()
                self.frontier.refilled(look, now=time.monotonic())
                return True
            if node is None and not self.pending and not self.busy and self.frontier.exhausted:
                if self.frontier.unread.waiting.until < math.inf:
                    return False
                return self._complete(connection)
            self.busy += node is not None
        if node is not None:
            self._fetch(node)
        with self.lock:
            self.busy -= node is not None
            batch: list[Walked] = []
            if len(self.pending) >= self.daemon.random.randint(1, 3) or node is None:
                batch, self.pending = self.frontier.admit(self.pending)
                openings = self.frontier.openings(batch)
            if not batch:
                return node is not None
            self.busy += 1
        try:
            self._commit(connection, batch, openings)
        finally:
            with self.lock:
                self.busy -= 1
        return True

    def _fetch(self, node: Node) -> None:
        page = self.world.fetch(node)
        opens = children(node, page, "world")
        with self.lock:
            try:
                self.frontier.fetched(node, page, opens)
            except Unintelligible:
                # And the table still holds it open.
                self.frontier.failed(node, until=time.monotonic() + 0.001)
                return
            if self.world.takes_an_empty_page_for_the_end and page.empty:
                assert self.frontier.numbered is not None
                self.frontier.numbered.ends_at = node.cursor.number
            self.pending.append(Walked(node, page, LONG_AGO, opens))

    def _commit(
        self, connection: Connection, batch: Sequence[Walked], openings: Sequence[Node]
    ) -> None:
        rows = [page for walked in batch for page in walked.page.records["pages"]]
        made = {"pages": StreamRows(rows)}
        try:
            done, _ = self.committer.write(
                connection, batch, made, openings=openings, ends_at=self.frontier.ends_at
            )
            if self.world.completes_in_a_writer:
                self._complete_here(connection)
            faults.point("before_commit")
            connection.commit()
        except FrontierMoved:
            connection.rollback()
            keys = [walked.node.key for walked in batch]
            left = set(passes.still_open(connection, self.active.id, keys))
            connection.commit()
            with self.lock:
                self.frontier.reconciled(keys, left)
                self.pending += [walked for walked in batch if walked.node.key in left]
            return
        with self.lock:
            self.frontier.committed(batch, openings, done.opened)
            self.commits += 1
            if self.commits == self.daemon.dies_after:
                raise Crash

    def _complete_here(self, connection: Connection) -> None:
        """End the pass in a writer's own transaction: what a careless engine would do."""
        left = connection.execute(
            "SELECT count(*) AS n FROM syncd.frontier WHERE pass_id = %s AND state = 'open'",
            (self.active.id,),
        ).fetchone()
        if left is not None and left["n"] == 0:
            connection.execute(
                "UPDATE syncd.pass SET state = 'complete', ended_at = syncd.clock() WHERE id = %s",
                (self.active.id,),
            )

    def _complete(self, connection: Connection) -> bool:
        if self.world.completes_in_a_writer:
            connection.rollback()
            return False
        ending = passes.complete(connection, self.lease, self.active.id, WANTED)
        connection.commit()
        if ending is None:
            self.frontier.unread.everything()
            return True
        self.over.set()
        self.world.done.set()
        return True


def release(world: World, lease: Lease) -> Callable[[Connection], None]:
    """Return what gives a lease back, for tests that need a partition free."""

    def work(connection: Connection) -> None:
        decided = Next("complete", 0.0, 0, "")
        leases.release(
            connection,
            lease,
            decided,
            job="j",
            committed=True,
            effort=Effort(),
            error_class=None,
        )

    return work


__all__ = ["Feed", "LeaseLost", "World", "random_feed", "release"]
