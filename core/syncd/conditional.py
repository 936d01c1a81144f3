"""Conditional requests: validators are read ahead of the fetches, and kept with the pages.

frontier --cursor--> validator known? --condition--> upstream --304--> the page it stands for
                     (read 200 ahead)                         --200--> a page with a new one
"""

from __future__ import annotations

from typing import Any

import attrs
import trio

from syncd.asking import asked
from syncd.errors import SyncdError
from syncd.frontier import Frontier
from syncd.http import Client, FetchHttp, NotModified
from syncd.limits.fair import Traffic
from syncd.model import Context, Feed, Page
from syncd.nodes import Node
from syncd.plugins import Pipeline
from syncd.store import validators as store
from syncd.store.hops import Hops
from syncd.store.validators import Under
from syncd.validators import Unchanged, Validator, kept

READ_AHEAD = 200  # cursors whose validators are read at once: 8 ms instead of 200 times 0.35
READ_MAX = 2_000  # cursors in mind: those of pages that have changed may never be asked for


@attrs.frozen
class Asking:
    """One page that is about to be asked for: its client, and what is known of it."""

    node: Node
    feed: Feed
    http: FetchHttp
    stored: Validator | None = None

    async def page(self, pipeline: Pipeline, context: Context[Any, Any]) -> Page:
        """Call the plugin's fetch; a 304 brings the page that the stored validator stands for.

        The client's word counts, whatever the plugin made of what passed through it.

        Raises: as `asking.asked`.
        """
        try:
            page = await asked(pipeline, context, self.node)
        except (NotModified, SyncdError):
            if self.stored is None or not self.http.not_modified:
                raise
        else:
            if self.stored is None or not self.http.not_modified:
                return page
        return self.stored.page(self.http.date)

    def validator(self, page: Page) -> Validator | None:
        """Return the validator to write with the page that came."""
        told = self.http.told
        if isinstance(page, Unchanged) and self.stored is not None:
            return attrs.evolve(self.stored, condition=self.stored.condition.renewed(told))
        first = self.node.depth == 0
        return kept(self.feed, self.node.cursor, page, first=first, condition=told)


@attrs.define
class Conditional:
    """What one pass knows of the pages that were committed before.

    Without `under` it knows nothing and keeps nothing; without `asks` it only keeps.
    """

    client: Client
    feed: Feed
    hops: Hops
    under: Under | None
    asks: bool
    traffic: Traffic = "sync"
    _read: dict[bytes, Validator | None] = attrs.field(factory=dict, init=False)
    _reading: trio.Lock = attrs.field(factory=trio.Lock, init=False)

    async def asking(self, node: Node, frontier: Frontier) -> Asking:
        """Return what a page is asked for with.

        Raises: `StoreError`.
        """
        if self.under is None:
            http = self.client.for_fetch(traffic=self.traffic)
            return Asking(node, self.feed, http)
        stored = await self._stored(self.under, node, frontier) if self.asks else None
        http = self.client.for_fetch(
            conditional=True,
            condition=stored.condition if stored else None,
            traffic=self.traffic,
        )
        return Asking(node, self.feed, http, stored)

    async def _stored(self, under: Under, node: Node, frontier: Frontier) -> Validator | None:
        """Return the validator of a cursor's page; those of the next ones are read with it."""
        async with self._reading:
            if node.key not in self._read:
                if len(self._read) >= READ_MAX:
                    self._read.clear()
                ahead = [each.key for each in frontier.upcoming(READ_AHEAD)]
                keys = [node.key, *(key for key in ahead if key not in self._read)]
                self._read |= await self.hops.run(store.stored, under, keys, most=READ_AHEAD)
        return self._read.pop(node.key, None)
