"""What many small commits leave behind in PostgreSQL's catalog: nothing, or dead rows of tables.

    python tests/bench/store_catalog.py --commits 10000

Small batches go along with their statement, as arrays; only large ones are copied into a temporary
table, whose rows in pg_class, pg_attribute and pg_type die with it. Both are measured.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import attrs
from store_bench import begun, connect, database, options, tell

from syncd import bulk
from syncd.bulk.batch import COPY_FROM_ROWS, Batch
from syncd.commit import Committer, Target
from syncd.model import Cursor, Page, Stream
from syncd.nodes import Node, Walked
from syncd.rows import StreamRows
from syncd.store.hops import Connection

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ROWS = 20  # a commit: a small page
CATALOGS = ("pg_class", "pg_attribute", "pg_type")


@attrs.frozen
class Row:
    """A row of the table that is written."""

    id: int
    value: str
    seen: datetime


ROWS_OF = Stream("rows", Row, key=("id",))


def committer(connection: Connection, table: bulk.Table) -> Committer:
    """Begin a pass, and return what writes its batches."""
    lease, active = begun(connection)
    bulk.apply(connection, [table], lock_timeout_seconds=5)
    connection.commit()
    return Committer(
        hops=None,  # type: ignore[arg-type]  # `write` is called without a hop
        emit=lambda _: None,
        lease=lease,
        pass_id=active.id,
        target=Target({}, {"rows": table}, {}, {}),
        guarded=True,
        safety_lag_seconds=0.0,
    )


def rows(number: int) -> list[Row]:
    first = number * ROWS
    return [Row(n, f"row {n}", NOW + timedelta(seconds=n)) for n in range(first, first + ROWS)]


def chained(number: int) -> Node:
    return Node.of(Cursor({"page": number}), depth=number, ordinal=0)


def commit_small(connection: Connection, writer: Committer, number: int) -> None:
    """Commit one page of a chain: rows, its cursor closed, the next one opened, the counters."""
    opens = (chained(number + 1),)
    page = Walked(chained(number), Page({"rows": [None] * ROWS}), NOW, opens)
    made = {"rows": StreamRows(rows=rows(number), sent_at=[NOW] * ROWS)}
    writer.write(connection, [page], made, openings=opens, ends_at=None)
    connection.commit()


def commit_copied(connection: Connection, table: bulk.Table, number: int) -> None:
    """The same rows through a temporary table: what small commits are spared."""
    batch = Batch(rows=rows(number), sent_at=[NOW] * ROWS, copy_from_rows=1)
    bulk.write(connection, table, batch)
    connection.commit()


def catalog(connection: Connection) -> dict[str, tuple[int, int]]:
    """Return bytes and dead rows of the catalog's tables."""
    connection.execute("SELECT pg_stat_force_next_flush()")
    connection.commit()
    found: list[dict[str, Any]] = connection.execute(
        "SELECT relname, pg_total_relation_size(relid) AS bytes, n_dead_tup AS dead"
        " FROM pg_stat_sys_tables WHERE schemaname = 'pg_catalog' AND relname = ANY (%s)",
        [list(CATALOGS)],
    ).fetchall()
    connection.commit()
    return {row["relname"]: (row["bytes"], row["dead"]) for row in found}


def told(moment: str, found: dict[str, tuple[int, int]]) -> dict[str, object]:
    return {
        f"{name} {moment}": f"{found[name][0]:,} bytes, {found[name][1]:,} dead rows"
        for name in CATALOGS
    }


def measure(folder: Path | None, *, commits: int, copies: int) -> dict[str, object]:
    """Commit, look at the catalog, and answer with the figures."""
    if ROWS >= COPY_FROM_ROWS:
        raise AssertionError("the commits of this bench are to be small")
    with database(folder) as dsn, connect(dsn) as connection:
        table = bulk.table_of("bench", ROWS_OF)
        writer = committer(connection, table)
        figures: dict[str, object] = {"commits": commits, "rows a commit": ROWS}
        before = catalog(connection)
        figures |= told("at first", before)
        began = time.monotonic()
        for number in range(commits):
            commit_small(connection, writer, number)
            if number + 1 == commits // 2:
                figures |= told("half-way", catalog(connection))
        seconds = time.monotonic() - began
        after = catalog(connection)
        figures |= told("at last", after)
        for number in range(copies):
            commit_copied(connection, table, number)
        figures |= told(f"after {copies} copies", catalog(connection))
        grown = sum(after[name][0] - before[name][0] for name in CATALOGS)
        return figures | {"commits/s": round(commits / seconds), "grown by bytes": grown}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = options("Look at the catalog before and after many small commits.")
    parser.add_argument("--commits", type=int, default=10_000)
    parser.add_argument("--copies", type=int, default=1_000, help="commits with COPY, to compare")
    given = parser.parse_args(arguments)
    figures = measure(given.data, commits=given.commits, copies=given.copies)
    tell(figures, as_json=given.json)
    return 1 if figures["grown by bytes"] else 0


if __name__ == "__main__":
    sys.exit(main())
