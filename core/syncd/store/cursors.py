"""Closing the cursors of a batch: the step by which a commit notices that others were faster."""

from __future__ import annotations

from collections.abc import Sequence

from syncd.errors import FrontierMoved
from syncd.nodes import Walked
from syncd.store.hops import Connection
from syncd.store.statements import load

_FRONTIER = load("frontier")


def close_cursors(
    connection: Connection, pass_id: int, batch: Sequence[Walked], end: int | None
) -> None:
    """Close a batch's cursors, and the page numbers above the one that bears the end marker.

    Raises: `FrontierMoved` unless exactly as many open rows were touched as the batch has pages.
    """
    rows = connection.execute(
        _FRONTIER["close_cursors"],
        {
            "pass": pass_id,
            "keys": [page.node.key for page in batch],
            "versions": [page.node.cursor.version for page in batch],
            "empties": [page.page.empty and page.number is not None for page in batch],
            "end": end,
        },
    )
    touched = sum(1 for row in rows if row["fetched"])
    if touched != len(batch):
        raise FrontierMoved(
            f"pass {pass_id}",
            f"{len(batch) - touched} of {len(batch)} cursors were no longer open",
            "the batch is rolled back, and those pages are dropped",
        )
