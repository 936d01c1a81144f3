"""Preview: what a stream's records would become, without a database.

The client, its limits, the plugin's functions and the making of rows are those of a run. There is
no lease and nothing is written; what only PostgreSQL can refuse is not foreseen.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import attrs

from syncd import bulk
from syncd.asking import asked, opened
from syncd.awaiting import Awaiting
from syncd.bulk.batch import candidates
from syncd.commit import Target
from syncd.errors import Rejected
from syncd.http import Client, FetchHttp
from syncd.model import Context, Page, Partition, Request
from syncd.nodes import Node, Walked
from syncd.plugins import Pipeline
from syncd.records import RecordMaker
from syncd.threads import Threads
from syncd.unread import Place


@attrs.frozen
class Preview:
    """Rows by column, and the records of which none could be made."""

    table: str
    columns: Sequence[str]
    rows: Sequence[Mapping[str, Any]]
    rejected: Sequence[Rejected]
    pages: int
    requests: int
    whole: bool  # nothing was left to fetch, and nothing left out


@attrs.define
class Previewer:
    """Walks a feed from its beginning, page by page, as far as the wanted records go.

    `context` makes what the plugin's fetch is given. `now`: by the clock of whoever previews.
    """

    pipeline: Pipeline
    stream: str
    client: Client
    context: Callable[[FetchHttp], Context[Any, Any]]
    now: Callable[[], datetime]
    _waiting: list[tuple[Place, Node]] = attrs.field(factory=list, init=False)
    _seen: set[bytes] = attrs.field(factory=set, init=False)
    _requests: int = attrs.field(default=0, init=False)

    async def preview(
        self, partition: Partition, request: Request, *, records_max: int, pages_max: int
    ) -> Preview:
        """Make the rows of the first records of the stream.

        Raises: `SourceError`, `PluginError` as the walk of a run meets them; `ConfigError`.
        """
        pipeline = self.pipeline
        target = Target.of(pipeline.instance, pipeline, frozenset({self.stream}))
        maker, table = target.makers[self.stream], target.tables[self.stream]
        self._open(
            Node.of(cursor, depth=0, ordinal=cursor.number or index)
            for index, cursor in enumerate(pipeline.begin(partition, request, self.now()).cursors)
        )
        rows: list[Mapping[str, Any]] = []
        rejected: list[Rejected] = []
        pages, left = 0, records_max
        while self._waiting and left and pages < pages_max:
            walked = await self._fetched(heapq.heappop(self._waiting)[1], str(partition))
            pages += 1
            some = await self._answered(_first(walked, self.stream, left), target)
            more, aside = made(maker, table, some)
            rows, rejected, left = rows + more, rejected + aside, left - some.records
        return Preview(
            table=str(table),
            columns=[column.name for column in table.columns],
            rows=rows,
            rejected=rejected,
            pages=pages,
            requests=self._requests,
            whole=not self._waiting and left > 0,
        )

    def _open(self, nodes: Any) -> None:
        for node in nodes:
            if node.key not in self._seen:
                self._seen.add(node.key)
                heapq.heappush(self._waiting, (node.place, node))

    async def _fetched(self, node: Node, where: str) -> Walked:
        """Fetch a page, and open what it leads to."""
        http = self.client.for_fetch()
        try:
            page = await asked(self.pipeline, self.context(http), node)
        finally:
            self._requests += http.requests
        opens = opened(self.pipeline, node, page, where)
        self._open(opens)
        number = node.cursor.number
        if number is not None and not page.end and not page.empty:
            following = attrs.evolve(node.cursor, number=number + 1)
            self._open([Node.of(following, depth=0, ordinal=number + 1)])
        return Walked(node, page, http.sent_at or self.now(), opens)

    async def _answered(self, walked: Walked, target: Target) -> Walked:
        """Have another API asked about the records that are shown, whatever it was asked before."""
        http = self.client.for_fetch()
        try:
            return await Awaiting(target, Threads()).answered(walked, self.context(http))
        finally:
            self._requests += http.requests


def _first(walked: Walked, stream: str, most: int) -> Walked:
    """Return a page with only the first records of one stream."""
    records = walked.page.records.get(stream, ())[:most]
    return attrs.evolve(walked, page=Page({stream: records}))


def made(
    maker: RecordMaker, table: bulk.Table, walked: Walked
) -> tuple[list[Mapping[str, Any]], list[Rejected]]:
    """Make a page's rows as a run does, and take them apart into columns."""
    rows = maker.make(maker.sight([walked]))
    batch = bulk.Batch(rows.rows, rows.sent_at, raws=rows.raws, cursors=rows.cursors)
    found, rejected = candidates(table, batch)
    names = [column.name for column in table.columns]
    return (
        [dict(zip(names, row.values, strict=True)) for row in found],
        [*rows.rejected, *rejected],
    )
