"""Small pages are committed together: 3,800 pages of 50 rows do not cost 3,800 commits."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import trio

from syncd.nodes import Walked

BATCH_ROWS = 5_000  # past it a bigger batch writes no faster
BATCH_BYTES = 16 * 2**20
LINGER_SECONDS = 0.05  # how long a small page waits for company


async def gather(
    fetched: trio.MemoryReceiveChannel[Walked],
    pending: list[Walked],
    *,
    expecting: Callable[[], bool],
) -> bool:
    """Receive pages until the batch is full or nobody came for a while; say whether it is over.

    `expecting`: whether another page may come. Where none can, nobody is waited for.
    """
    deadline = trio.current_time() + LINGER_SECONDS if pending else math.inf
    while not full(pending):
        with trio.move_on_at(deadline) as late:
            try:
                pending.append(await fetched.receive())
            except trio.EndOfChannel:
                return True
        if late.cancelled_caught:
            return False
        if not (fetched.statistics().tasks_waiting_send or expecting()):
            return False
        deadline = min(deadline, trio.current_time() + LINGER_SECONDS)
    return False


def full(pages: Sequence[Walked]) -> bool:
    """Return whether a batch is large enough to be written."""
    if sum(page.records for page in pages if not page.unchanged) >= BATCH_ROWS:
        return True
    return sum(page.size_bytes for page in pages) >= BATCH_BYTES
