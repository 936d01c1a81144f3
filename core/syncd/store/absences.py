"""Which passes can tell what is gone, by the keys they were handed. Each is one transaction.

A pass is *whole* for a stream while its sentinel stands in `syncd.seen`: that is written when the
pass begins, deleted where a key could not be read, and gone after a crash of PostgreSQL.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

import attrs

from syncd.store.hops import Connection
from syncd.store.leases import Lease, fence
from syncd.store.statements import load

_SQL = load("absence")

FORGET_AT_ONCE = 20_000  # rows one transaction deletes: about 0.1 s, so that nobody waits for it


@attrs.frozen
class Evidence:
    """The passes by which rows of a stream may be judged, those that were written before `before`.

    `last` is the full pass that ended last; `passes` are it and, of a feed that shifts, the full
    pass before it and what came between; none where they tell nothing (yet). Not `whole`: keys of
    the last one are missing. Once it is judged, passes below `useless_below` tell nothing any more.
    """

    passes: tuple[int, ...]
    last: int
    before: datetime
    whole: bool
    useless_below: int


def begin(
    connection: Connection, partition_id: int, pass_id: int, streams: Collection[str]
) -> None:
    """Say of a pass that begins that no key of these streams is missing."""
    if streams:
        asked = {"partition": partition_id, "pass": pass_id, "streams": sorted(streams)}
        connection.execute(_SQL["begin"], asked)


def blind(
    connection: Connection, partition_id: int, pass_id: int, streams: Collection[str]
) -> None:
    """Say of a pass that it cannot tell what is gone of these streams."""
    if streams:
        asked = {"partition": partition_id, "pass": pass_id, "streams": sorted(streams)}
        connection.execute(_SQL["blind"], asked)


def evidence(connection: Connection, lease: Lease, stream: str, *, shifts: bool) -> Evidence | None:
    """Return by what rows of a stream may be judged now; `None` where no full pass has ended.

    A feed that shifts may pass over a record once: only two complete full passes in a row tell.
    """
    asked = {"partition": lease.partition_id, "stream": stream}
    ended = connection.execute(_SQL["ended_full"], asked).fetchall()
    if not ended:
        return None
    needed = 2 if shifts else 1
    last, first = ended[0], ended[:needed][-1]
    complete = [row["state"] == "complete" for row in ended[:needed]]
    passes: list[int] = []
    whole = False
    if len(complete) == needed and all(complete):
        span = {"first": first["number"], "last": last["number"]}
        rows = connection.execute(_SQL["between"], asked | span).fetchall()
        whole = bool(rows[-1]["whole"])
        if not whole or all(row["whole"] for row in rows):
            passes = [row["id"] for row in rows]
    # Of a feed that shifts, the last one is the first of the next two.
    kept = shifts and complete[0]
    below = last["id"] if kept else last["id"] + 1
    return Evidence(tuple(passes), last["id"], first["started_at"], whole, below)


def settle(connection: Connection, lease: Lease, stream: str, known: Evidence) -> None:
    """Take note that a stream was judged by this evidence."""
    fence(connection, lease)
    asked = {"partition": lease.partition_id, "stream": stream, "below": known.useless_below}
    connection.execute(_SQL["settled"], asked)


def forget(connection: Connection, lease: Lease, streams: Collection[str]) -> int:
    """Delete keys that tell nothing any more, at most `FORGET_AT_ONCE`; answer with how many.

    `streams` are those that are judged still.
    """
    fence(connection, lease)
    asked = {"partition": lease.partition_id, "streams": sorted(streams), "most": FORGET_AT_ONCE}
    connection.execute(_SQL["unwanted"], asked)
    return connection.execute(_SQL["forget"], asked).rowcount
