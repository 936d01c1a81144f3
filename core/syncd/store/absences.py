"""Which passes can tell what is gone, by the keys they were handed. Each is one transaction.

A pass is *whole* for a stream while its sentinel stands in `syncd.seen`: that is written when the
pass begins, deleted where a key could not be read, and gone after a crash of PostgreSQL.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any

import attrs

from syncd.store.hops import Connection
from syncd.store.leases import Lease, fence
from syncd.store.statements import load

_SQL = load("absence")

FORGET_AT_ONCE = 20_000  # rows one transaction deletes: about 0.1 s, so that nobody waits for it


@attrs.frozen
class Evidence:
    """The passes by which rows of a stream may be judged, those that were written before `before`.

    `lasts` are the full passes that ended last, one of each of the `partitions`; `passes` are these
    and, of a feed that shifts or of shares, the full passes before them and what came between; none
    where they tell nothing (yet). Not `whole`: keys of the last one are missing. Once it is judged,
    passes of the leased partition below `useless_below` tell nothing any more.
    """

    partitions: tuple[int, ...]
    passes: tuple[int, ...]
    lasts: tuple[int, ...]
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
    return Evidence(
        partitions=(lease.partition_id,),
        passes=tuple(passes),
        lasts=(last["id"],),
        before=first["started_at"],
        whole=whole,
        useless_below=below,
    )


def evidence_of_shares(connection: Connection, lease: Lease, stream: str) -> Evidence | None:
    """Return by what rows may be judged that all shares of a feed cover together.

    A record may move to a share that was walked just before, from one that is walked just after:
    two rounds tell, in which each share has a complete full pass, all of the first round ended
    before any of the second began. Whatever else was walked since then speaks for what it saw. (A
    record that moves twice in that time, each time so, is missed: its row is there again after the
    next pass.)
    """
    asked = {"partition": lease.partition_id, "stream": stream}
    shares: dict[int, list[dict[str, Any]]] = {}
    for row in connection.execute(_SQL["ended_full_of_shares"], asked):
        shares.setdefault(row["partition_id"], []).append(row)
    mine = [row for row in shares.get(lease.partition_id, ()) if row["id"] is not None]
    if not mine:
        return None
    kept = mine[-1] if mine[-1]["state"] == "complete" else mine[0]
    nothing = Evidence(
        partitions=tuple(shares),
        passes=(),
        lasts=(mine[0]["id"],),
        before=mine[-1]["started_at"],
        whole=True,
        useless_below=kept["id"],
    )
    if mine[0]["state"] == "complete" and not mine[0]["whole"]:
        return attrs.evolve(nothing, passes=nothing.lasts, whole=False)
    rounds = list(shares.values())
    if any(len(each) < 2 or not all(map(_tells, each)) for each in rounds):
        return nothing
    if max(first["ended_at"] for _, first in rounds) > min(
        last["started_at"] for last, _ in rounds
    ):
        return nothing
    before = min(first["started_at"] for _, first in rounds)
    spoke = connection.execute(_SQL["spoke"], asked | {"before": before}).fetchall()
    return Evidence(
        partitions=tuple({row["partition_id"] for row in spoke}),
        passes=tuple(row["id"] for row in spoke),
        lasts=tuple(last["id"] for last, _ in rounds),
        before=before,
        whole=True,
        useless_below=mine[0]["id"],
    )


def _tells(row: dict[str, Any]) -> bool:
    return bool(row["state"] == "complete" and row["whole"])


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
