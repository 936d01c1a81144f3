"""The lease: the right to work on a partition until a time, `(epoch, token)`.

The epoch orders leases, the token identifies one. Every function is one transaction's work.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import attrs

from syncd import faults
from syncd.errors import LeaseLost
from syncd.model import Partition, Slice
from syncd.progress import Fingerprints, Next, Standing
from syncd.sqlstates import repeatable
from syncd.store.hops import Connection
from syncd.store.parking import trial_seconds
from syncd.store.statements import load

_SQL = load("lease")
_ROUND = load("round")

NEVER_SECONDS = 366 * 86400.0  # until its job's next round makes a partition due
_VERDICTS = {"complete", "partial", "waiting", "failed"}  # what ends a turn: a drained run has not


@attrs.frozen
class Lease:
    """What a claim gives: the partition as it stands, and the right to work on it."""

    partition_id: int
    epoch: int
    token: UUID
    run_id: int
    partition: Partition
    watermark: datetime | None
    covered: Fingerprints  # row fingerprints of the last complete full pass
    standing: Standing
    claimed_at: datetime  # by the database's clock

    def named(self) -> dict[str, Any]:
        """Return the parameters that name this lease in a statement."""
        return {"id": self.partition_id, "epoch": self.epoch, "token": self.token}

    def lost(self) -> LeaseLost:
        return LeaseLost(
            str(self.partition),
            f"the lease of epoch {self.epoch} is no longer ours",
            "nothing was written; whoever holds it goes on",
        )


@attrs.frozen
class Effort:
    """What a run cost, beside what it wrote."""

    requests: int = 0
    retries: int = 0
    throttled_seconds: float = 0.0


def claim(
    connection: Connection,
    *,
    owner: UUID,
    token: UUID,
    job: str,
    lease_seconds: float,
    free: int,
    ids: Sequence[int] | None = None,
    early: bool = False,
    wanted: bool = False,
    busy: Sequence[str] = (),
    flooded: Sequence[str] = (),
    courtesy_seconds: float = 0.0,
    round_id: int | None = None,
    now: datetime | None = None,
) -> list[Lease]:
    """Take the lease on up to `free` partitions, most urgent first.

    `ids` narrows the choice, and `wanted` to what this job waits for; `busy` are accounts that have
    no free slot, `flooded` kinds of effects of which too many are open. `early` takes partitions
    before they are due, `courtesy_seconds` only what has been due for so long, or was under a lease
    that has run out. `round_id`: what the runs are part of, where that is no round that daemons
    share.
    """
    if ids is None:
        connection.execute(_SQL["read_in_order"])
    rows = connection.execute(
        _SQL["claim"],
        {
            "owner": owner,
            "token": token,
            "job": job,
            "lease_seconds": lease_seconds,
            "free": free,
            "ids": None if ids is None else list(ids),
            "early": early,
            "wanted_by": job if wanted else None,
            "busy": list(busy),
            "flooded": list(flooded),
            "courtesy_seconds": courtesy_seconds,
            "round": round_id,
            "now": now,
        },
    ).fetchall()
    return [_lease(row) for row in rows]


def _lease(row: dict[str, Any]) -> Lease:
    where = Slice(row["slice"], row["slice_settings"], row["priority"])
    if row["covers"] is not None:
        where = attrs.evolve(where, covers=row["covers"])
    return Lease(
        partition_id=row["id"],
        epoch=row["epoch"],
        token=row["token"],
        run_id=row["run_id"],
        partition=Partition(row["instance"], row["account"], row["feed"], where),
        watermark=row["watermark"],
        covered=row["row_fingerprints"],
        standing=Standing(row["failures"], row["failing_since"]),
        claimed_at=row["clock"],
    )


@repeatable
def renew(
    connection: Connection,
    leases: Sequence[Lease],
    *,
    lease_seconds: float,
    now: datetime | None = None,
) -> dict[tuple[int, int], datetime]:
    """Lengthen leases; answer with the database's clock by (partition id, epoch).

    What is missing in the answer is lost.
    """
    rows = connection.execute(
        _SQL["renew"],
        {
            "ids": [lease.partition_id for lease in leases],
            "epochs": [lease.epoch for lease in leases],
            "tokens": [lease.token for lease in leases],
            "lease_seconds": lease_seconds,
            "now": now,
        },
    )
    return {(row["id"], row["epoch"]): row["clock"] for row in rows}


@repeatable
def expire(connection: Connection, lease: Lease, *, now: datetime | None = None) -> None:
    """Let our own lease run out at once, without saying how the run ended.

    For a run whose commit may or may not have happened: the next claim waits for the old backend.
    """
    connection.execute(_SQL["expire"], {**lease.named(), "now": now})


@repeatable
def forgo(connection: Connection, token: UUID, *, now: datetime | None = None) -> None:
    """Let the leases of one claim run out at once, if it has happened.

    For a claim whose COMMIT was lost. While it still hangs its rows are locked, and this waits.
    """
    connection.execute(_SQL["forgo"], {"token": token, "now": now})


def fence(connection: Connection, lease: Lease) -> None:
    """Begin a commit: raise `LeaseLost` unless the lease is ours, and keep it ours to the end."""
    if connection.execute(_SQL["fence"], lease.named()).fetchone() is None:
        raise lease.lost()


def fence_alone(connection: Connection, lease: Lease) -> int:
    """Like `fence`, and wait for every commit under this lease; answer with `failed_passes`."""
    row = connection.execute(_SQL["fence_alone"], lease.named()).fetchone()
    if row is None:
        raise lease.lost()
    return int(row["failed_passes"])


def release(
    connection: Connection,
    lease: Lease,
    decided: Next,
    *,
    job: str,
    committed: bool,
    effort: Effort,
    error_class: str | None,
    now: datetime | None = None,
) -> None:
    """Give the lease back, write where the partition goes from here, and close the run's row.

    Raises: `LeaseLost` where there was nothing left to give back.
    """
    if decided.status in _VERDICTS:
        told = {"id": lease.partition_id, "job": job, "verdict": decided.status}
        connection.execute(_ROUND["settle"], told)
    wait = decided.wait_seconds
    released = connection.execute(
        _SQL["release"],
        {
            **lease.named(),
            "wait_seconds": NEVER_SECONDS if wait is None else wait,
            "stays": wait is not None and decided.status in _VERDICTS,
            "failures": decided.failures,
            "reset": committed,
            "message": decided.message,
            "park": decided.park_partition,
            "now": now,
        },
    )
    if released.rowcount != 1:
        raise lease.lost()
    if decided.park_account is not None:
        where = lease.partition
        park_account(connection, where.instance, where.account, decided.park_account, now=now)
    connection.execute(
        _SQL["finish_run"],
        {
            "run": lease.run_id,
            "status": decided.status,
            "message": decided.message,
            "error_class": error_class,
            "now": now,
            **attrs.asdict(effort),
        },
    )
    faults.point("released")


def let_go(connection: Connection, lease: Lease, decided: Next, *, job: str) -> None:
    """Give the lease back on a partition that its job has no use for any more.

    Raises: `LeaseLost` where there was nothing left to give back.
    """
    connection.execute(_ROUND["forgo_turn"], {"id": lease.partition_id, "job": job})
    release(connection, lease, decided, job=job, committed=False, effort=Effort(), error_class=None)


@repeatable
def park_account(
    connection: Connection, instance: str, account: str, reason: str, *, now: datetime | None = None
) -> None:
    """Set an account aside whose credential was refused: none of its partitions is claimed.

    Until an operator resumes it, or a second try is let in.
    """
    connection.execute(
        _SQL["park_account"],
        {
            "instance": instance,
            "account": account,
            "reason": reason,
            "try_again_seconds": trial_seconds(instance, account),
            "now": now,
        },
    )


@attrs.frozen
class Obstacle:
    """Why a partition cannot be claimed right now."""

    partition_id: int
    parked: str | None  # the reason, of the partition or its account
    held: bool
    holder: str  # host and pid of who holds the lease, as far as is known
    lease_seconds: float
    due_in_seconds: float


@repeatable
def obstacles(
    connection: Connection, ids: Sequence[int], *, now: datetime | None = None
) -> list[Obstacle]:
    """Return how partitions stand in the way of a claim, most urgent first."""
    rows = connection.execute(_SQL["standing"], {"ids": list(ids), "now": now})
    return [
        Obstacle(
            partition_id=row["id"],
            parked=row["parked_reason"] or row["account_reason"],
            held=bool(row["held"]),
            holder=f"process {row['pid']} on {row['host']}" if row["pid"] else str(row["owner"]),
            lease_seconds=row["lease_seconds"] or 0.0,
            due_in_seconds=row["due_in_seconds"],
        )
        for row in rows
    ]
