"""How fast processes claim due partitions, and that none is claimed twice.

    python tests/bench/store_claims.py --partitions 100000 --processes 4

Partitions are registered through the store; then processes claim through `leases.claim`, each with
a transaction per claim as the daemon does, until nothing is due any more.
"""

from __future__ import annotations

import multiprocessing
import statistics
import sys
import time
from collections.abc import Sequence
from multiprocessing.synchronize import Barrier
from pathlib import Path
from queue import Queue
from uuid import uuid4

import attrs
from store_bench import connect, database, options, tell

from syncd.model import Account, Connector, Instance, Partition, Slice, Upstream
from syncd.store import leases, registry
from syncd.store.hops import Connection, Timeouts, set_timeouts

AT_ONCE = 10_000  # slices that are registered by one call
LEASE_SECONDS = 600.0  # longer than the bench, so that nothing becomes due again
READY_SECONDS = 60.0  # until every process has connected


@attrs.frozen
class Share:
    """What one process did."""

    began: float  # by the system's monotonic clock, which all processes share
    ended: float
    claimed: int
    calls_ms: list[float]


def register(connection: Connection, partitions: int) -> None:
    """Make partitions known that are due."""
    connector = Connector("bench", "1", object, (), lambda *_: Upstream("http://127.0.0.1", ()))
    tenants = (Account("default", None),)
    registry.register_instance(connection, Instance("bench", connector, None, tenants))
    for first in range(0, partitions, AT_ONCE):
        numbers = range(first, min(first + AT_ONCE, partitions))
        parts = [Partition("bench", "default", "f", Slice(f"{number:07}")) for number in numbers]
        registry.register_partitions(connection, parts)
        connection.commit()


def claim_all(dsn: str, batch: int, start: Barrier, shares: Queue[Share]) -> None:
    """Claim until nothing is due."""
    owner, claimed = uuid4(), 0
    calls: list[float] = []
    with connect(dsn) as connection:
        start.wait(READY_SECONDS)
        began = time.monotonic()
        found: list[leases.Lease] | None = None
        while found != []:
            at = time.perf_counter()
            set_timeouts(connection, Timeouts())
            found = leases.claim(
                connection,
                owner=owner,
                token=uuid4(),
                job="bench",
                lease_seconds=LEASE_SECONDS,
                free=batch,
            )
            connection.commit()
            calls.append((time.perf_counter() - at) * 1000)
            claimed += len(found)
        shares.put(Share(began, time.monotonic(), claimed, calls))


def raced(dsn: str, *, processes: int, batch: int) -> list[Share]:
    """Let processes claim side by side."""
    context = multiprocessing.get_context("spawn")
    start, shares = context.Barrier(processes), context.Queue()
    workers = [
        context.Process(target=claim_all, args=(dsn, batch, start, shares), daemon=True)
        for _ in range(processes)
    ]
    for worker in workers:
        worker.start()
    try:
        return [shares.get(timeout=LEASE_SECONDS) for _ in workers]
    finally:
        for worker in workers:
            worker.join(10)
            worker.kill()


def wrong(connection: Connection) -> int:
    """Count partitions that were not claimed exactly once, with exactly one run."""
    row = connection.execute(
        "SELECT count(*) FILTER (WHERE p.epoch <> 1 OR r.runs IS DISTINCT FROM 1) AS wrong"
        " FROM syncd.partition p LEFT JOIN (SELECT partition_id, count(*) AS runs FROM syncd.run"
        " WHERE status = 'running' AND epoch = 1 GROUP BY 1) r ON r.partition_id = p.id"
    ).fetchone()
    assert row is not None
    return int(row["wrong"])


def measure(
    folder: Path | None, *, partitions: int, processes: int, batch: int
) -> dict[str, object]:
    """Register partitions, have them claimed, and answer with the figures."""
    with database(folder) as dsn, connect(dsn) as connection:
        began = time.monotonic()
        register(connection, partitions)
        registered = time.monotonic() - began
        shares = raced(dsn, processes=processes, batch=batch)
        seconds = max(s.ended for s in shares) - min(s.began for s in shares)
        calls = sorted(call for share in shares for call in share.calls_ms)
        claimed = sum(share.claimed for share in shares)
        return {
            "partitions": partitions,
            "processes": processes,
            "a claim": batch,
            "registered in s": round(registered, 2),
            "claimed": claimed,
            "claimed in s": round(seconds, 2),
            "partitions/s": round(claimed / seconds),
            "claim p50 ms": round(statistics.median(calls), 2),
            "claim p99 ms": round(calls[int(len(calls) * 0.99)], 2),
            "claim max ms": round(calls[-1], 2),
            "not claimed exactly once": wrong(connection),
        }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = options("Claim due partitions with several processes.")
    parser.add_argument("--partitions", type=int, default=100_000)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--batch", type=int, default=25, help="partitions a claim (default: 25)")
    given = parser.parse_args(arguments)
    figures = measure(
        given.data, partitions=given.partitions, processes=given.processes, batch=given.batch
    )
    tell(figures, as_json=given.json)
    return 1 if figures["not claimed exactly once"] else 0


if __name__ == "__main__":
    sys.exit(main())
