"""Passes and their frontiers: beginning, walking on, ending. Each function is one transaction."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

import attrs
import msgspec
from psycopg.types.json import Jsonb

from syncd import faults
from syncd.events import PassFinished
from syncd.model import JSON, Cursor, Mode, Pass
from syncd.nodes import Look, Node
from syncd.progress import Anew, OpenPass, PassEnded, Wanted, ended_pass, failed_pass
from syncd.sqlstates import repeatable
from syncd.store import absences
from syncd.store.hops import Connection
from syncd.store.leases import Lease, fence, fence_alone
from syncd.store.statements import load
from syncd.unread import ALL, Range, after

_SQL = load("pass")
_FRONTIER = load("frontier")

FORGET_AT_ONCE = 20_000  # rows one transaction deletes: about 0.1 s, so that nobody waits for it


@attrs.frozen
class ActivePass:
    """The pass a run walks, as it stood when the run took it up."""

    id: int
    number: int
    mode: Mode
    since: datetime | None
    until: datetime
    resumed: bool
    high: int
    opened: int  # page numbers 1..opened stand in the frontier
    ends_at: int | None  # the numbered page that bore the end marker
    value: JSON  # what the cursors of a numbered feed share
    pages: int
    records: int
    expected: int | None  # records of the last pass of this mode that ended: a guess at the total


@repeatable
def open_pass(connection: Connection, lease: Lease) -> OpenPass | None:
    """Return the partition's open pass."""
    row = connection.execute(_SQL["open_pass"], {"partition": lease.partition_id}).fetchone()
    return OpenPass(**row) if row else None


@repeatable
def resume(connection: Connection, lease: Lease, known: OpenPass) -> ActivePass:
    """Go on with the open pass."""
    fence(connection, lease)
    connection.execute(_SQL["set_run_pass"], {"run": lease.run_id, "pass": known.id})
    row = connection.execute(_FRONTIER["highest_number"], {"pass": known.id}).fetchone()
    return ActivePass(
        id=known.id,
        number=known.number,
        mode=known.mode,
        since=known.since,
        until=known.until,
        resumed=True,
        high=known.high,
        opened=row["number"] if row else 0,
        ends_at=known.ends_at,
        value=row["cursor"] if row else None,
        pages=known.pages,
        records=known.records,
        expected=expected(connection, lease, known.mode),
    )


def begin(
    connection: Connection,
    lease: Lease,
    anew: Anew,
    *,
    answered: Pass,
    wanted: Wanted,
    nodes: Sequence[Node],
    until: datetime,
    collecting: Collection[str] = (),
    now: datetime | None = None,
) -> ActivePass:
    """Begin a pass: set an open one aside, open the first cursors, take over debt that is due.

    `collecting` names the streams of which it notes the keys of all that it is handed.
    """
    fence(connection, lease)
    since = None if answered.mode == "full" else anew.since
    connection.execute(_SQL["supersede"], {"partition": lease.partition_id, "now": now})
    row = connection.execute(
        _SQL["begin"],
        {
            "partition": lease.partition_id,
            "mode": answered.mode,
            "since": since,
            "until": until,
            "request_fingerprint": wanted.request_fingerprint,
            "row_fingerprints": Jsonb(wanted.row_fingerprints),
            "connector_version": wanted.connector_version,
            "now": now,
        },
    ).fetchone()
    assert row is not None
    open_cursors(connection, row["id"], nodes)
    absences.begin(connection, lease.partition_id, row["id"], collecting)
    debt = {"partition": lease.partition_id, "pass": row["id"], "now": now}
    connection.execute(_SQL["take_debt"], debt)
    connection.execute(_SQL["set_run_pass"], {"run": lease.run_id, "pass": row["id"]})
    return ActivePass(
        id=row["id"],
        number=row["number"],
        mode=answered.mode,
        since=since,
        until=until,
        resumed=False,
        high=0,
        opened=max((node.cursor.number or 0 for node in nodes), default=0),
        ends_at=None,
        value=nodes[0].cursor.value if nodes else None,
        pages=0,
        records=0,
        expected=expected(connection, lease, answered.mode),
    )


@repeatable
def expected(connection: Connection, lease: Lease, mode: str) -> int | None:
    """Return how many records the partition's last pass of this mode had."""
    row = connection.execute(
        _SQL["expected"], {"partition": lease.partition_id, "mode": mode}
    ).fetchone()
    return row["records"] if row else None


def open_cursors(connection: Connection, pass_id: int, nodes: Sequence[Node]) -> list[bytes]:
    """Open cursors in key order; answer with the keys of the rows that were really opened."""
    if not nodes:
        return []
    rows = connection.execute(
        _FRONTIER["open_cursors"],
        {
            "pass": pass_id,
            "keys": [node.key for node in nodes],
            "values": [msgspec.json.encode(node.cursor.value).decode() for node in nodes],
            "numbers": [node.cursor.number for node in nodes],
            "kinds": [node.cursor.kind for node in nodes],
            "depths": [node.depth for node in nodes],
            "ordinals": [node.ordinal for node in nodes],
            "versions": [node.cursor.version for node in nodes],
        },
    )
    opened = [row["cursor_key"] for row in rows]
    versioned = [node for node in nodes if node.cursor.version is not None]
    if versioned:
        risen = connection.execute(
            _FRONTIER["raise_versions"],
            {
                "pass": pass_id,
                "keys": [node.key for node in versioned],
                "versions": [node.cursor.version for node in versioned],
                "depths": [node.depth for node in versioned],
                "ordinals": [node.ordinal for node in versioned],
            },
        )
        opened += [row["cursor_key"] for row in risen]
    return opened


@repeatable
def look(
    connection: Connection,
    pass_id: int,
    where: Range = ALL,
    *,
    most: int,
    now: datetime | None = None,
) -> Look:
    """Look at the next `most` open cursors of a range, in reading order."""
    leads_on, depth, ordinal, key = where.first
    end_leads_on, end_depth, end_ordinal, end_key = where.end
    rows = connection.execute(
        _FRONTIER["next_cursors"],
        {
            "pass": pass_id,
            "leads_on": leads_on,
            "depth": depth,
            "ordinal": ordinal,
            "key": key,
            "end_leads_on": end_leads_on,
            "end_depth": end_depth,
            "end_ordinal": end_ordinal,
            "end_key": end_key,
            "most": most,
            "now": now,
        },
    ).fetchall()
    nodes = [(_node(row), row["wait_seconds"]) for row in rows]
    return Look(
        nodes=tuple(node for node, seconds in nodes if seconds is None),
        waiting=tuple((node, seconds) for node, seconds in nodes if seconds is not None),
        rest=Range(after(nodes[-1][0].place), where.end) if len(nodes) == most else None,
    )


def _node(row: dict[str, Any]) -> Node:
    return Node(
        key=row["cursor_key"],
        cursor=Cursor(row["cursor"], row["number"], row["kind"], row["version"]),
        depth=row["depth"],
        ordinal=row["ordinal"],
        attempts=row["attempts"],
        failing_since=row["failing_since"],
    )


@repeatable
def last_error(connection: Connection, pass_id: int, key: bytes) -> str:
    """Return what the last failure of a cursor said, nothing where there was none."""
    row = connection.execute(_FRONTIER["last_error"], {"pass": pass_id, "key": key}).fetchone()
    return (row["last_error"] if row else None) or ""


@repeatable
def still_open(connection: Connection, pass_id: int, keys: Sequence[bytes]) -> list[bytes]:
    """Return which of these cursors the table holds open."""
    rows = connection.execute(_FRONTIER["still_open"], {"pass": pass_id, "keys": list(keys)})
    return [row["cursor_key"] for row in rows]


def fail_cursor(
    connection: Connection,
    lease: Lease,
    pass_id: int,
    node: Node,
    *,
    wait_seconds: float,
    give_up: bool,
    error: str,
    outage: bool = False,
    now: datetime | None = None,
) -> int:
    """Note a cursor's failure; answer with its attempts, 0 where it was not open any more.

    `outage`: it could not be reached, or another API could not, which is not held against the
    partition.
    """
    fence(connection, lease)
    row = connection.execute(
        _FRONTIER["fail_cursor"],
        {
            "pass": pass_id,
            "key": node.key,
            "wait_seconds": wait_seconds,
            "give_up": give_up,
            "error": error[:2000],
            "outage": outage,
            "now": now,
        },
    ).fetchone()
    return int(row["attempts"]) if row else 0


@attrs.frozen
class Ending:
    """How a pass ended."""

    ended: PassEnded
    number: int
    mode: str
    pages: int
    records: int
    watermark: datetime | None

    def event(self, partition: str) -> PassFinished:
        return PassFinished(
            partition=partition,
            pass_number=self.number,
            mode=self.mode,
            status=self.ended.status,
            pages=self.pages,
            records=self.records,
            watermark=self.watermark.isoformat() if self.watermark else None,
        )


def supersede(connection: Connection, lease: Lease, *, now: datetime | None = None) -> None:
    """Set the open pass aside: its cursors lead nowhere any more."""
    fence_alone(connection, lease)
    connection.execute(_SQL["supersede"], {"partition": lease.partition_id, "now": now})


def complete(
    connection: Connection,
    lease: Lease,
    pass_id: int,
    wanted: Wanted,
    *,
    now: datetime | None = None,
) -> Ending | None:
    """End a pass whose frontier is empty, or answer `None`: cursors are open (again).

    A transaction of its own, with the partition row locked: of two writers that close the last two
    cursors, each would see one left.
    """
    fence_alone(connection, lease)
    connection.execute(_SQL["reopen_empty"], {"pass": pass_id})
    left = connection.execute(_SQL["remaining"], {"pass": pass_id}).fetchone()
    assert left is not None
    if left["open"]:
        return None
    excused = None
    if left["failed"]:  # by an index of those alone, and seldom
        excused = connection.execute(_SQL["excused"], {"pass": pass_id}).fetchone()
    ended = ended_pass(
        failed_items=left["failed"],
        excused_items=excused["items"] if excused else 0,
        items=left["items"],
        failed_items_max=wanted.failed_items_max,
    )
    ending = _end(connection, pass_id, ended, now)
    connection.execute(
        _SQL["advance"],
        {
            "partition": lease.partition_id,
            "mode": ending.mode,
            "status": ended.status,
            "until": ending.watermark,
            "row_fingerprints": Jsonb(wanted.row_fingerprints),
        },
    )
    faults.point("pass_completed")
    return ending


def fail(
    connection: Connection,
    lease: Lease,
    pass_id: int,
    message: str,
    *,
    outage: bool = False,
    now: datetime | None = None,
) -> Ending:
    """End a pass whose chain broke: the watermark stays, the next run begins anew from it.

    `outage`: because the upstream could not be reached, which is not held against the partition.
    """
    failed_passes = fence_alone(connection, lease)
    if not outage:
        connection.execute(_SQL["note_failed_pass"], {"partition": lease.partition_id})
        failed_passes += 1
    ended = failed_pass(failed_passes=failed_passes, message=message, outage=outage)
    return _end(connection, pass_id, ended, now)


def _end(connection: Connection, pass_id: int, ended: PassEnded, now: datetime | None) -> Ending:
    row = connection.execute(
        _SQL["end"], {"pass": pass_id, "status": ended.status, "now": now}
    ).fetchone()
    assert row is not None, "a pass ends once, under its lease"
    watermark = None if ended.status == "failed" else row["until"]
    return Ending(ended, row["number"], row["mode"], row["pages"], row["records"], watermark)


@repeatable
def forget(connection: Connection, lease: Lease) -> int:
    """Delete closed cursors of ended passes, at most `FORGET_AT_ONCE`; answer with how many."""
    return connection.execute(
        _SQL["forget"], {"partition": lease.partition_id, "most": FORGET_AT_ONCE}
    ).rowcount
