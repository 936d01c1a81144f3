"""How long a look at the next cursors takes in a large pass, with an old snapshot open elsewhere.

    python tests/bench/store_frontier.py --cursors 1000000

A chain of pages opens item cursors, up to 100,000 a page, through the store's functions; then a
`Frontier` reads them as a walk does, and batches of pages close them. Another connection holds a
snapshot from before the first, so that no dead row or index entry can be removed.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import psycopg
from store_bench import begun, connect, database, options, tell

from syncd.contract import OPENS_MAX
from syncd.frontier import LOOK_MAX, Frontier
from syncd.model import Cursor, Page
from syncd.nodes import Node, Walked
from syncd.store import passes
from syncd.store.cursors import close_cursors
from syncd.store.hops import Connection
from syncd.store.passes import ActivePass

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@contextmanager
def old_snapshot(dsn: str) -> Iterator[None]:
    """Hold a snapshot, as a long query or a stuck replica does."""
    with connect(dsn) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.execute("SELECT count(*) FROM syncd.frontier")
        yield
        connection.rollback()


def open_all(connection: Connection, active: ActivePass, cursors: int) -> float:
    """Open item cursors page by page, as a chain of pages names them; answer with the seconds."""
    began = time.monotonic()
    for page, first in enumerate(range(0, cursors, OPENS_MAX)):
        numbers = range(first, min(first + OPENS_MAX, cursors))
        nodes = [
            Node.of(Cursor({"item": n}, kind="item"), depth=page + 1, ordinal=n - first)
            for n in numbers
        ]
        passes.open_cursors(connection, active.id, nodes)
        connection.commit()
    return time.monotonic() - began


def close(connection: Connection, active: ActivePass, nodes: Sequence[Node]) -> float:
    """Close cursors as a commit does; answer with the milliseconds."""
    at = time.perf_counter()
    close_cursors(connection, active.id, [Walked(n, Page({}), NOW, ()) for n in nodes], None)
    connection.commit()
    return (time.perf_counter() - at) * 1000


def walk(connection: Connection, active: ActivePass) -> tuple[list[float], list[float], int]:
    """Look and close until nothing is open; answer with the milliseconds of each, and how many."""
    looks: list[float] = []
    closes: list[float] = []
    closed = 0
    frontier = Frontier((), more=True, numbered=None)
    while frontier.more:
        where = frontier.unread.take()
        at = time.perf_counter()
        look = passes.look(connection, active.id, where, most=LOOK_MAX)
        connection.commit()
        looks.append((time.perf_counter() - at) * 1000)
        frontier.refilled(look, now=0.0)
        batch = [node for node in iter(frontier.take, None) if node is not None]
        if batch:
            closes.append(close(connection, active, batch))
            frontier.committed([Walked(n, Page({}), NOW, ()) for n in batch], [], [])
            closed += len(batch)
    return looks, closes, closed


def measure(folder: Path | None, *, cursors: int) -> dict[str, object]:
    """Open cursors, walk them all, and answer with the figures."""
    with database(folder) as dsn, connect(dsn) as connection:
        began = time.monotonic()
        _, active = begun(connection)
        with old_snapshot(dsn):
            opened = open_all(connection, active, cursors)
            looks, closes, closed = walk(connection, active)
            at = time.perf_counter()
            left = passes.look(connection, active.id, most=LOOK_MAX)
            again = (time.perf_counter() - at) * 1000
        ordered = sorted(looks)
        return {
            "cursors": cursors,
            "opened in s": round(opened, 2),
            "walked": closed,
            "left open": len(left.nodes),
            "looks": len(looks),
            "look p50 ms": round(statistics.median(looks), 2),
            "look p99 ms": round(ordered[int(len(looks) * 0.99)], 2),
            "look max ms": round(ordered[-1], 2),
            "a look from the front, all closed, ms": round(again, 2),
            "close p50 ms": round(statistics.median(closes), 2),
            "in all s": round(time.monotonic() - began, 2),
        }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = options("Look at the next cursors of a large pass, with an old snapshot open.")
    parser.add_argument("--cursors", type=int, default=1_000_000)
    given = parser.parse_args(arguments)
    figures = measure(given.data, cursors=given.cursors)
    tell(figures, as_json=given.json)
    return 0 if figures["walked"] == given.cursors + 1 and not figures["left open"] else 1


if __name__ == "__main__":
    sys.exit(main())
