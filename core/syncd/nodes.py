"""Cursors of a pass as its frontier knows them, and pages that were fetched. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from hashlib import blake2b

import attrs
import msgspec

from syncd.errors import PagingLoop, Rejected
from syncd.model import Cursor, Page
from syncd.unread import Place, Range
from syncd.validators import Unchanged, Validator

DEPTH_MAX = 100_000  # pages that lead to one: a feed that always invents new cursors ends here
PAGES_MAX = 1_000_000  # pages of one pass, for the same reason
SAID_CHARS = 200  # of a cursor, in messages
AHEAD_MIN = 2  # with less, one false empty page at the end of what is known would end the pass


def canonical(cursor: Cursor) -> bytes:
    """Return the bytes that make a cursor the same cursor: its value and number, keys sorted."""
    return msgspec.json.encode([cursor.value, cursor.number], order="sorted")


def cursor_key(cursor: Cursor) -> bytes:
    """Return the 16 bytes under which a cursor stands in the frontier."""
    return blake2b(canonical(cursor), digest_size=16).digest()


@attrs.frozen
class Node:
    """One cursor of a pass, as the frontier table knows it."""

    key: bytes
    cursor: Cursor
    depth: int
    ordinal: int
    attempts: int = 0
    failing_since: datetime | None = None

    @classmethod
    def of(cls, cursor: Cursor, *, depth: int, ordinal: int) -> Node:
        return cls(cursor_key(cursor), cursor, depth, ordinal)

    @property
    def place(self) -> Place:
        """Return where it stands in the order in which the table is read."""
        return self.cursor.kind != "item", -self.depth, self.ordinal, self.key

    def __str__(self) -> str:
        if self.cursor.number is not None:
            return f"page {self.cursor.number}"
        said = canonical(self.cursor).decode()
        # One name for one cursor: records are counted by the page that is named with them.
        return said if len(said) <= SAID_CHARS else f"{said[:SAID_CHARS]}... {self.key.hex()}"


@attrs.frozen
class Walked:
    """A page that was fetched, with what its commit needs. `sent_at`: when its request left."""

    node: Node
    page: Page
    sent_at: datetime
    opens: tuple[Node, ...]
    size_bytes: int = 0  # as received
    validator: Validator | None = None  # to be kept with it

    @property
    def number(self) -> int | None:
        return self.node.cursor.number

    @property
    def records(self) -> int:
        return sum(self.page.counts.values())

    @property
    def unchanged(self) -> bool:
        """Return whether it was not sent: its records are counted, and none is handed over."""
        return isinstance(self.page, Unchanged)


def known_rows(batch: Sequence[Walked], streams: Collection[str]) -> int:
    """Return how many records, of these streams, stand in the tables by a 304's word."""
    same = [page.page.counts for page in batch if page.unchanged]
    return sum(counts.get(name, 0) for counts in same for name in streams)


def doubted(batch: Sequence[Walked], rejected: Sequence[Rejected], *, stale: int) -> set[bytes]:
    """Return the cursors of pages whose rows may not all stand in the tables as they came.

    A record that was set aside may be mended. A row that was older than the one in the table does
    not say whose page it was on.
    """
    aside = {each.cursor for each in rejected}
    all_of_them = bool(stale) or None in aside
    sent = [page.node for page in batch if not page.unchanged]
    return {node.key for node in sent if all_of_them or str(node) in aside}


def lowered(batch: Sequence[Walked], safety_lag_seconds: float) -> datetime | None:
    """Return the upstream's clock at the batch's first page, less a lag for late arrivals."""
    dates = [page.page.date for page in batch if page.page.date is not None]
    return min(dates) - timedelta(seconds=safety_lag_seconds) if dates else None


def roots(cursors: Sequence[Cursor]) -> tuple[Node, ...]:
    """Return the nodes of a pass's first cursors; a numbered one stands at its number.

    With a first page number stand open those that a single false empty page would need beside it:
    it opens nothing itself, and if the next one failed meanwhile nobody would ask for that again.
    """
    opened = list(cursors)
    for cursor in cursors:
        if cursor.number is not None:
            following = range(cursor.number + 1, cursor.number + AHEAD_MIN)
            opened += [attrs.evolve(cursor, number=number) for number in following]
    nodes = (
        Node.of(cursor, depth=0, ordinal=index if cursor.number is None else cursor.number)
        for index, cursor in enumerate(opened)
    )
    return tuple({node.key: node for node in nodes}.values())


def children(node: Node, page: Page, where: str) -> tuple[Node, ...]:
    """Return the nodes of the cursors a page names.

    Raises: `PagingLoop` for a feed that never ends.
    """
    if node.depth >= DEPTH_MAX and page.opens:
        raise PagingLoop(
            where,
            f"{node.depth} pages follow one another and each names a next one",
            "look at the upstream's paging",
        )
    return tuple(
        Node.of(cursor, depth=node.depth + 1, ordinal=index)
        for index, cursor in enumerate(page.opens)
    )


@attrs.frozen
class Look:
    """What a look at a range of the frontier table saw: its first open cursors."""

    nodes: tuple[Node, ...]  # that may be fetched now
    waiting: tuple[tuple[Node, float], ...] = ()  # that must wait, and for how many seconds
    rest: Range | None = None  # of the range, that it did not come to
