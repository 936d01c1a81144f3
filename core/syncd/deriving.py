"""The walk of a derived pass: one cursor, no request, one statement.

    cursor --one transaction--> rows made of rows, cursor closed, counted --> the pass ends

It stands under the same sentence as every walk: the cursor is closed only in the transaction that
writes the rows, and only under the lease that is still ours. So a crash before its COMMIT leaves
nothing but an open cursor, and the statement is run again; one behind it leaves a closed one, and
it is not. There is no record to set aside: a statement that fails breaks the run, with a wait
where trying again may help, and its cursor stays open for the next one.
"""

from __future__ import annotations

from typing import Any

import trio

from syncd import faults
from syncd.bulk.derived import Derived
from syncd.bulk.derived import derive as make_rows
from syncd.derivations import CURSOR
from syncd.errors import CommitUnknown, StoreError
from syncd.events import BatchCommitted, CommitLost
from syncd.feeding import derived_of
from syncd.model import Page, Written
from syncd.nodes import Node, Walked
from syncd.progress import Drained, Ended, Wanted
from syncd.store import passes
from syncd.store.cursors import close_cursors
from syncd.store.hops import Connection
from syncd.store.keeper import Tenure
from syncd.store.leases import Lease, fence
from syncd.store.passes import ActivePass
from syncd.store.statements import load
from syncd.tally import Tally
from syncd.work import Order, Work

NODE = Node.of(CURSOR, depth=0, ordinal=0)

_PASS = load("pass")


async def derive(
    work: Work, order: Order, tenure: Tenure, active: ActivePass, *, wanted: Wanted, tally: Tally
) -> Ended:
    """Make all rows of a derived stream, and end the pass.

    Raises: `StoreError`.
    """
    if work.draining.is_set():
        return Drained()
    lease, where = tenure.lease, str(tenure.lease.partition)
    derived = derived_of(work.pipeline, order.target)
    assert derived is not None, "only derived feeds are walked so"
    started = trio.current_time()
    try:
        made = await work.hops.run(commit, lease, active.id, derived)
    except CommitUnknown as error:
        work.emit(CommitLost(where, str(error)))
        raise
    if made is not None:
        seconds = round(trio.current_time() - started, 4)
        work.emit(_told(where, *made, seconds=seconds))
        tally.add(1, *made, 0)
    ending = await work.hops.run(passes.complete, lease, active.id, wanted)
    if ending is None:
        raise StoreError(where, "its pass has open cursors beside its own", "report this")
    work.emit(ending.event(where))
    return ending.ended


def commit(
    connection: Connection, lease: Lease, pass_id: int, derived: Derived
) -> tuple[int, Written] | None:
    """Write the rows, close the cursor and count; `None` where a run before this one did.

    Raises: `LeaseLost`; what `bulk.derived.derive` does.
    """
    fence(connection, lease)
    if not passes.still_open(connection, pass_id, [NODE.key]):
        return None
    made, written = make_rows(connection, derived, account=lease.partition.account)
    faults.point("upserted")
    page = Walked(NODE, Page({}), sent_at=lease.claimed_at, opens=())
    close_cursors(connection, pass_id, [page], None)
    faults.point("frontier_written")
    _count(connection, lease, pass_id, made=made, written=written)
    return made, written


def _count(
    connection: Connection, lease: Lease, pass_id: int, *, made: int, written: Written
) -> None:
    """Add the rows to pass and run; a page stands for the statement.

    Raises: `LeaseLost` where the pass is no longer open.
    """
    nothing: dict[str, Any] = {"end": None, "high": 0, "date": None, "quarantined": 0}
    own = {"pass": pass_id, "run": lease.run_id, "pages": 1, "records": made}
    counts = nothing | own | written.counts
    if connection.execute(_PASS["count"], counts).rowcount != 1:
        raise lease.lost()
    connection.execute(_PASS["count_run"], counts)


def _told(where: str, made: int, written: Written, *, seconds: float) -> BatchCommitted:
    return BatchCommitted(
        partition=where,
        pages=1,
        records=made,
        quarantined=0,
        cursors_opened=0,
        duration_seconds=seconds,
        **written.counts,
    )
