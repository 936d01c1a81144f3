"""A batch on its way into PostgreSQL: pages that cannot go with the others are parted from them.

batch --commit--> written
  |-- a cursor is no longer open --------> without that page, again
  |-- too much of a page is set aside ---> without that page, which is refused
  `-- too many rows of it are refused ---> page by page
"""

from __future__ import annotations

from collections import deque

import attrs

from syncd.bulk import TooManyRefused
from syncd.commit import Committer
from syncd.errors import FrontierMoved, Unintelligible
from syncd.frontier import Frontier
from syncd.nodes import Node, Walked
from syncd.overflow import PagesOverflow
from syncd.store import passes
from syncd.store.hops import Hops
from syncd.tally import Tally

MOVED_MAX = 5  # commits of one batch, each without the pages that others closed meanwhile


@attrs.frozen
class Writer:
    """Writes batches of one pass."""

    hops: Hops
    pass_id: int
    frontier: Frontier
    committer: Committer
    tally: Tally

    async def write(self, batch: list[Walked]) -> list[tuple[Node, Unintelligible]]:
        """Write a batch; answer with the pages that were refused, and why.

        Pages are dropped whose cursors others closed meanwhile, or whose openers were refused.

        Raises: `StoreError`.
        """
        refused: list[tuple[Node, Unintelligible]] = []
        parts = deque([(batch, 0)])
        while parts:
            part, moved = parts.popleft()
            if not part:
                continue
            try:
                await self._commit(part)
            except FrontierMoved:
                parts.appendleft((await self._still_open(part, moved), moved + 1))
            except TooManyRefused:
                parts.extendleft(([page], 0) for page in reversed(part))
            except PagesOverflow as over:
                refused += [
                    (p.node, over.pages[p.node.key]) for p in part if p.node.key in over.pages
                ]
                # Nobody waits for what they opened: the commit of the others finds that out.
                parts.appendleft(([p for p in part if p.node.key not in over.pages], moved))
        return refused

    async def _commit(self, part: list[Walked]) -> None:
        openings = self.frontier.openings(part)
        committed = await self.committer.commit(part, openings, self.frontier.ends_at)
        self.frontier.committed(part, openings, committed.opened)
        committed.add_to(self.tally)

    async def _still_open(self, part: list[Walked], moved: int) -> list[Walked]:
        """Return the pages that somebody waits for, as the table says."""
        keys = [page.node.key for page in part]
        if moved + 1 >= MOVED_MAX:  # what moves each time is fetched again, as the table then says
            self.frontier.reconciled(keys, ())
            return []
        left = set(await self.hops.run(passes.still_open, self.pass_id, keys))
        self.frontier.reconciled(keys, left)
        return [page for page in part if page.node.key in left]
