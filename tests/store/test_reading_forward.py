"""The store reads what it asks for, whatever else stands in its tables or is dead there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from database import connect
from test_passes import NOW, begun, held, item, known

from syncd.effects import Turn
from syncd.model import EffectKind, Partition, Slice
from syncd.nodes import Node, roots
from syncd.store import cursors, effects, leases, passes, registry
from syncd.store.hops import Connection
from syncd.unread import ALL, Range

CLOSED, OPEN = 12_000, 2_000
MOST = 100
# A look touches one page of the table for each of its rows, at most, and a few of the index.
PER_ROW, BESIDE = 2, 40


@pytest.fixture
def old_snapshot(dsn: str) -> Iterator[None]:
    """A snapshot from before anything: no dead row can be removed while it is held."""
    with connect(dsn) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.execute("SELECT count(*) FROM syncd.frontier")
        yield
        connection.rollback()


def filled(connection: Connection, *, analyzed: bool) -> tuple[int, list[Node]]:
    """Make a pass of which most cursors were closed; answer with its id and its nodes, in order."""
    known(connection)
    active = begun(connection, held(connection), *())
    nodes = list(roots([item(str(n)) for n in range(CLOSED + OPEN)]))
    passes.open_cursors(connection, active.id, nodes)
    connection.commit()
    connection.execute(
        "UPDATE syncd.frontier SET state = 'closed' WHERE pass_id = %s AND ordinal < %s",
        (active.id, CLOSED),
    )
    connection.commit()
    if analyzed:
        connection.execute("ANALYZE syncd.frontier")
        connection.commit()
    return active.id, nodes


class Counted:
    """A connection that explains what it executes, and counts the pages that were touched."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.touched = 0
        self.indexes: set[str] = set()

    def execute(self, query: str, parameters: Any = None) -> Any:
        explained = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {query}"
        self._connection.execute("SAVEPOINT counted")
        row = self._connection.execute(explained, parameters).fetchone()
        assert row is not None
        plan = row["QUERY PLAN"]
        plan = (json.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"]
        self.touched += plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
        self.indexes |= set(_indexes(plan))
        self._connection.execute("ROLLBACK TO counted")  # it is done for good below
        return self._connection.execute(query, parameters)


def _indexes(plan: dict[str, Any]) -> Iterator[str]:
    if "Index Name" in plan:
        yield plan["Index Name"]
    for part in plan.get("Plans", ()):
        yield from _indexes(part)


@pytest.mark.parametrize("analyzed", [False, True])
def test_a_look_reads_what_it_answers_and_not_what_was_closed(
    connection: Connection, old_snapshot: None, *, analyzed: bool
) -> None:
    pass_id, nodes = filled(connection, analyzed=analyzed)
    counted = Counted(connection)
    where = Range(nodes[CLOSED].place, ALL.end)

    look = passes.look(counted, pass_id, where, most=MOST, now=NOW)  # type: ignore[arg-type]

    assert [node.key for node in look.nodes] == [n.key for n in nodes[CLOSED : CLOSED + MOST]]
    assert counted.touched <= PER_ROW * MOST + BESIDE


@pytest.mark.parametrize("analyzed", [False, True])
def test_a_commit_reads_the_cursors_it_closes_and_not_what_was_closed(
    connection: Connection, old_snapshot: None, *, analyzed: bool
) -> None:
    pass_id, nodes = filled(connection, analyzed=analyzed)
    batch = nodes[-MOST:]
    given = {
        "pass": pass_id,
        "keys": [node.key for node in batch],
        "versions": [None] * MOST,
        "empties": [False] * MOST,
        "end": None,
    }
    counted = Counted(connection)

    closed = counted.execute(cursors._FRONTIER["close_cursors"], given).fetchall()
    left = passes.still_open(counted, pass_id, [n.key for n in batch])  # type: ignore[arg-type]

    assert (len(closed), left) == (MOST, [])
    assert counted.indexes == {"frontier_pkey"}  # the other one would be read from its front
    # Found, locked and written, with an entry in the primary key's index each; then looked up.
    assert counted.touched <= 30 * MOST + BESIDE


@pytest.mark.parametrize("analyzed", [False, True])
def test_a_claim_reads_what_it_takes_and_not_what_others_have_taken(
    connection: Connection, *, analyzed: bool
) -> None:
    known(connection)
    parts = [Partition("i", "default", "g", Slice(f"{n:05}")) for n in range(5_000)]
    registry.register_partitions(connection, parts, now=NOW)
    for _ in range(8):
        claimed(connection, free=500)
    connection.commit()
    if analyzed:
        connection.execute("ANALYZE syncd.partition")
    counted = Counted(connection)

    taken = claimed(counted, free=25)  # type: ignore[arg-type]

    assert len(taken) == 25
    # Of the 4,000 that are taken it may meet dead entries in the front of the index, no more.
    assert counted.touched <= 60 * 25 + BESIDE


@pytest.mark.parametrize("analyzed", [False, True])
def test_a_claim_of_effects_reads_nothing_of_other_accounts(
    connection: Connection, *, analyzed: bool
) -> None:
    """However much another one has: a look for what the others have costs next to nothing."""
    connection.execute(
        "INSERT INTO syncd.effect (instance, account, kind, key, payload, source, sequence, due_at,"
        " enqueued_at) SELECT 'i', CASE WHEN n < 5000 THEN 'busy' ELSE 'single' END, 'i.letter', n,"
        " '1', 'i.s', n, %(now)s, %(now)s FROM generate_series(1, 5000) AS n",
        {"now": NOW},
    )
    if analyzed:
        connection.execute("ANALYZE syncd.effect")
    turns = [Turn("busy", slots=1), *(Turn(name) for name in ("single", "none", "nor this"))]
    found, touched = [], []
    for _ in range(2):
        counting = Counted(connection)
        found += effects.claim(
            counting,  # type: ignore[arg-type]
            EffectKind("i.letter", "all", bulk_max=5),
            instance="i",
            turns=turns,
            owner=uuid4(),
            token=uuid4(),
            claim_seconds=90.0,
            now=NOW,
        )
        touched.append(counting.touched)

    assert [each.account for each in found] == ["single", *["busy"] * 5]
    assert max(touched) <= 100, touched


@pytest.mark.parametrize("analyzed", [False, True])
def test_a_claim_of_effects_reads_what_it_takes_and_not_all_that_wait_for_their_turn(
    connection: Connection, *, analyzed: bool
) -> None:
    """Thousands wait behind one that is under way, or is dead: a look does not pass by them all."""

    def counted() -> tuple[int, int]:
        counting = Counted(connection)
        found = effects.claim(
            counting,  # type: ignore[arg-type]
            EffectKind("i.letter", "all", bulk_max=5, ordered=True),
            instance="i",
            turns=[Turn("default")],
            owner=uuid4(),
            token=uuid4(),
            claim_seconds=90.0,
            now=NOW,
        )
        return len(found), counting.touched

    connection.execute(
        "INSERT INTO syncd.effect (instance, account, kind, key, payload, source, ordering_key,"
        " sequence, due_at, enqueued_at)"
        " SELECT 'i', 'default', 'i.letter', n, '1', 'i.s',"
        " CASE WHEN n <= 5000 THEN 'k' ELSE n::text END, n, %(now)s, %(now)s"
        " FROM generate_series(1, 5002) AS n",
        {"now": NOW},
    )
    if analyzed:
        connection.execute("ANALYZE syncd.effect")

    # A hundred are looked at, and what is before each; then one of each ordering key.
    most = 10 * 100
    taken, touched = counted()
    assert (taken, touched <= most) == (1, True), touched
    taken, touched = counted()
    assert (taken, touched <= most) == (2, True), touched  # of the other keys, behind them all
    taken, touched = counted()
    assert (taken, touched <= most) == (0, True), touched
    connection.execute(
        "UPDATE syncd.effect SET state = 'dead', due_at = NULL, claim_token = NULL,"
        " claim_owner = NULL, ended_at = %(now)s, last_error = 'e' WHERE state = 'delivering'",
        {"now": NOW},
    )
    taken, touched = counted()
    assert (taken, touched <= most) == (0, True), touched


def claimed(connection: Connection, *, free: int) -> list[leases.Lease]:
    return leases.claim(
        connection,
        owner=uuid4(),
        token=uuid4(),
        job="j",
        lease_seconds=600.0,
        free=free,
        now=NOW,
    )
