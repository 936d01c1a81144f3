"""The frontier in memory: which cursors a pass still has to walk, and what an answer does to them.

Every paging style is one thing: a page closes its own cursor and opens others. PostgreSQL holds
the frontier (`schemas/syncd_schemas/queries/frontier.sql`); what is here decides, without waiting,
which cursor is next, which pages may stand together in a batch, and what is forgotten when.

A cursor is *durable* when it is open in the database, and *ahead* when the page that names it has
been fetched but not committed: it may be fetched already, so that nobody waits for a commit.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Iterable, Sequence

import attrs

from syncd.errors import Unintelligible
from syncd.model import Cursor, Page
from syncd.nodes import Look, Node, Walked
from syncd.repeats import Repeats
from syncd.unread import ALL, Place, Unread, Waiter

IN_MEMORY_MAX = 1_000
LOOK_MAX = 250  # cursors of one look at the table: 4 ms of one core, most of it in Python
REMEMBERED = 10_000  # closed cursors of a run: so that short cycles cost no request


@attrs.define
class Numbered:
    """Page numbers without a total: pages stand open up to `high + ahead`.

    The end is the upstream's marker on a page with records, or an empty page above every page with
    records; `ahead` >= 2 makes sure that a single empty page is never that end by itself.
    """

    value: Cursor  # the first page's: its value is every page's
    high: int  # highest page that held records, of those fetched
    opened: int  # pages 1..opened stand in the frontier table
    ahead: int
    ends_at: int | None = None  # the page with the end marker

    def node(self, number: int) -> Node:
        return Node.of(attrs.evolve(self.value, number=number), depth=0, ordinal=number)

    def last(self, high: int) -> int:
        """Return up to which page number pages are wanted when `high` held records."""
        if self.ends_at is not None:
            return min(self.ends_at, high + self.ahead)
        return high + self.ahead


@attrs.define
class _Entry:
    node: Node
    durable: bool
    taken: bool = False


class Frontier:
    """The cursors one run has in mind: at most `IN_MEMORY_MAX` that wait, and those it works on."""

    def __init__(self, nodes: Iterable[Node], *, more: bool, numbered: Numbered | None) -> None:
        self.numbered = numbered
        self.unread = Unread([ALL] if more else [])
        self._entries: dict[bytes, _Entry] = {}
        self._ready: list[tuple[int, int, bytes]] = []
        self._closed: OrderedDict[bytes, None] = OrderedDict()
        self._numbered_next = numbered.opened + 1 if numbered else 0
        self._repeats = Repeats()
        for node in nodes:
            self._add(node, durable=True)

    # -- questions ----------------------------------------------------------------------------

    def __len__(self) -> int:
        """Return how many cursors are here: ready, being fetched, or not committed yet."""
        return len(self._entries)

    @property
    def ready(self) -> bool:
        """Return whether there is something here to hand out."""
        return any(not entry.taken for entry in self._entries.values())

    @property
    def more(self) -> bool:
        """Return whether the table may hold open cursors that are due and not here."""
        return bool(self.unread)

    @property
    def exhausted(self) -> bool:
        """Return whether nothing is left to fetch or commit, as far as is known here."""
        return not self._entries and not self.more

    @property
    def ends_at(self) -> int | None:
        """Return the number of the page with the end marker, in a numbered feed."""
        return self.numbered.ends_at if self.numbered else None

    @property
    def orphaned(self) -> bool:
        """Return whether all that is here waits for openers that are gone."""
        return bool(self._entries) and not any(e.durable for e in self._entries.values())

    def forget_orphans(self) -> None:
        """Forget the cursors whose openers are gone; the table says which are open after all."""
        self._entries.clear()
        self.unread.everything()

    def upcoming(self, most: int) -> list[Node]:
        """Return what `take` will hand out next, as far as is known here, and page numbers on."""
        waiting = (self._entries.get(key) for _, _, key in heapq.nsmallest(most, self._ready))
        nodes = [entry.node for entry in waiting if entry is not None and not entry.taken]
        if self.numbered is not None and not nodes:
            following = range(self._numbered_next, self._numbered_next + most)
            nodes = [self.numbered.node(number) for number in following]
        return nodes

    def admit(self, pages: Sequence[Walked]) -> tuple[list[Walked], list[Walked]]:
        """Divide fetched pages into those that may stand in one batch, and those that must wait.

        A page may stand in a batch when its cursor is open in the database, or its opener stands
        in the same batch. Pages that nobody waits for any more are in neither list; of a page that
        was fetched twice, because its first opener was gone, the later one counts: a batch closes
        each cursor once.
        """
        latest = {page.node.key: page for page in pages}
        waiting = [page for key, page in latest.items() if key in self._entries]
        batch: list[Walked] = []
        opened: set[bytes] = set()
        high = 0
        progress = True
        while progress:
            progress = False
            held: list[Walked] = []
            for page in waiting:
                if (
                    self._entries[page.node.key].durable
                    or page.node.key in opened
                    or (
                        self.numbered is not None
                        and page.number is not None
                        and page.number <= high + self.numbered.ahead
                    )
                ):
                    batch.append(page)
                    opened.update(child.key for child in page.opens)
                    if page.number is not None and not page.page.empty:
                        high = max(high, page.number)
                    progress = True
                else:
                    held.append(page)
            waiting = held
        return batch, waiting

    def openings(self, batch: Sequence[Walked]) -> list[Node]:
        """Return the cursors that a batch opens, each once."""
        nodes = {child.key: child for page in batch for child in page.opens}
        numbers = [p.number for p in batch if p.number is not None and not p.page.empty]
        if self.numbered is not None and numbers:
            last = self.numbered.last(max(numbers))
            for number in range(self.numbered.opened + 1, last + 1):
                node = self.numbered.node(number)
                nodes[node.key] = node
        return list(nodes.values())

    # -- what happens --------------------------------------------------------------------------

    def take(self) -> Node | None:
        """Hand out the next cursor to fetch: deepest first, then in order."""
        while self._ready:
            _, _, key = heapq.heappop(self._ready)
            entry = self._entries.get(key)
            if entry is not None and not entry.taken:
                entry.taken = True
                return entry.node
        return self._take_number()

    def _take_number(self) -> Node | None:
        """Hand out a page number that no committed page has opened yet."""
        if self.numbered is None:
            return None
        while self._numbered_next <= self.numbered.last(self.numbered.high):
            node = self.numbered.node(self._numbered_next)
            self._numbered_next += 1
            if node.key not in self._entries and node.key not in self._closed:
                self._entries[node.key] = _Entry(node, durable=False, taken=True)
                return node
        return None

    def fetched(self, node: Node, page: Page, opens: tuple[Node, ...]) -> None:
        """Take note of an answer.

        Raises: `Unintelligible` for an empty page below one that held records; `PagingLoop`.
        """
        if self.numbered is not None and node.cursor.number is not None:
            self._fetched_number(node.cursor.number, page)
        self._repeats.fetched(node, page, opens)
        for child in opens:
            if len(self._entries) >= IN_MEMORY_MAX:
                break  # the commit opens it in the table, and says so
            if child.key not in self._entries and child.key not in self._closed:
                self._add(child, durable=False)

    def _fetched_number(self, number: int, page: Page) -> None:
        assert self.numbered is not None
        if page.empty:
            if number < self.numbered.high and not page.opens:
                raise Unintelligible(
                    f"page {number}",
                    f"no records, though page {self.numbered.high} holds some",
                    "it is asked for again",
                )
            return
        self.numbered.high = max(self.numbered.high, number)
        if page.end and number >= self.numbered.high:
            self.numbered.ends_at = number
            self._forget_above(number)

    def _forget_above(self, number: int) -> None:
        """Drop the page numbers above the end; answers to those in flight find nobody waiting."""
        for key, entry in list(self._entries.items()):
            if entry.node.cursor.number is not None and entry.node.cursor.number > number:
                del self._entries[key]
        self.unread.waiting.forget_above(number)

    def committed(
        self, batch: Sequence[Walked], openings: Sequence[Node], opened: Iterable[bytes]
    ) -> None:
        """Take note of a commit: of its `openings`, `opened` are the rows it really opened."""
        closed = {page.node.key for page in batch}
        for key in closed:
            self._entries.pop(key, None)
            self._remember(key)
        fresh = set(opened) - closed  # opened and closed by one transaction
        beyond: list[Place] = []
        for node in openings:
            entry = self._entries.get(node.key)
            if node.key in fresh:
                self.unread.waiting.forget(node.key)  # a higher version re-opened it
                self._closed.pop(node.key, None)
                if not self._opened(node, entry):
                    beyond.append(node.place)
            elif entry is not None and not entry.durable:
                # Named before, by another page or run: closed, or `unread` knows of it. If it is
                # being fetched, its close will find out.
                entry.durable = True
                if not entry.taken:
                    del self._entries[node.key]
            if self.numbered is not None and node.cursor.number is not None:
                self.numbered.opened = max(self.numbered.opened, node.cursor.number)
        self.unread.opened(beyond)

    def durable(self, node: Node) -> bool:
        """Return whether a cursor is open in the table, so that a failure can be noted there."""
        entry = self._entries.get(node.key)
        return entry is not None and entry.durable

    def _opened(self, node: Node, entry: _Entry | None) -> bool:
        """Take in a cursor that a commit opened, or answer that there is no room for it."""
        if entry is not None:
            entry.durable = True
        elif len(self._entries) >= IN_MEMORY_MAX:
            return False
        elif not self._above_end(node):
            self._add(node, durable=True)
        return True

    def _above_end(self, node: Node) -> bool:
        return self.ends_at is not None and (node.cursor.number or 0) > self.ends_at

    def refilled(self, look: Look, *, now: float) -> None:
        """Take in what a look saw; `now` is the caller's clock, in seconds."""
        if look.rest is not None:
            self.unread.ranges.add(look.rest)
        for node in look.nodes:
            entry = self._entries.get(node.key)
            if entry is None:
                self._add(node, durable=True)
            else:
                entry.durable = True
        for node, seconds in look.waiting:
            self.unread.waiting.add(Waiter(now + seconds, node.place, node.cursor.number))

    def failed(self, node: Node, *, until: float | None = None) -> None:
        """Forget a cursor that failed; where it still stands open in the table it waits `until`."""
        self._entries.pop(node.key, None)
        if until is not None:
            self.unread.waiting.add(Waiter(until, node.place, node.cursor.number))

    def reconciled(self, asked: Iterable[bytes], still_open: Iterable[bytes]) -> None:
        """Drop, of the cursors asked about, those that the table no longer holds open."""
        remaining = set(still_open)
        for key in asked:
            entry = self._entries.get(key)
            if key in remaining and entry is not None:
                entry.durable = True
            elif key not in remaining:
                self._entries.pop(key, None)
                self._remember(key)
        self.unread.everything()

    def _add(self, node: Node, *, durable: bool) -> None:
        self._entries[node.key] = _Entry(node, durable=durable)
        heapq.heappush(self._ready, (-node.depth, node.ordinal, node.key))

    def _remember(self, key: bytes) -> None:
        self._closed[key] = None
        self.unread.waiting.forget(key)
        if len(self._closed) > REMEMBERED:
            self._closed.popitem(last=False)
