"""Noting how this process keeps to its quotas, so that `syncd limits` can tell in any other."""

from __future__ import annotations

from uuid import UUID

import trio

from syncd.errors import StoreError
from syncd.http import Limiters
from syncd.limits.usage import Usage
from syncd.store import usage
from syncd.store.hops import Hops

# Often enough to watch a limit move, seldom enough to cost nothing: one statement, if at all.
NOTE_SECONDS = 3.0


async def note_usage(
    limiters: Limiters, hops: Hops, daemon: UUID, *, every_seconds: float = NOTE_SECONDS
) -> None:
    """Note every few seconds what has changed; where the database is away, the next time."""
    noted: dict[str, Usage] = {}
    while True:
        await trio.sleep(every_seconds)
        changed = [each for each in limiters.usages() if noted.get(each.key) != each]
        if not changed:
            continue
        try:
            await hops.run(usage.note, daemon, changed, monotonic=trio.current_time())
        except StoreError:
            continue  # who watches the database says so
        noted |= {each.key: each for each in changed}
