"""Pages that bring nothing new, one after the other: a feed that turns in circles. Pure.

A cursor is walked once, so an upstream that names an old one is seen through. One that names a new
cursor each time, or answers every page number above its last, is known by what its pages hold.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import attrs
import msgspec

from syncd.errors import PagingLoop
from syncd.model import Page, Record
from syncd.nodes import Node
from syncd.validators import Unchanged

# Pages in a row that hold what others held. One may: records move from page to page while these are
# read. Ten in a row would have to move by whole pages each time.
REPEATS_MAX = 10
SEEN_MAX = 1_000  # pages in mind, of a chain and of the numbers: a longer circle ends by its budget
TRAILS_MAX = 1_000  # cursors in mind that are not fetched yet


def content_of(page: Page) -> int | None:
    """Return a hash of all records of a page; `None` of one that holds none, or was not sent.

    Python's own hash: 64 bits, keyed by the process; 4 ms for 6 MB, where blake2b takes 16.
    """
    if page.empty or isinstance(page, Unchanged):
        return None
    return hash(
        tuple((name, *map(_hash_of, records)) for name, records in sorted(page.records.items()))
    )


def _hash_of(item: Any) -> int:
    if not isinstance(item, Record):
        return hash(_plain(item))
    raw = hash(bytes(item.raw))
    return hash((raw, _plain(dict(item.parent)))) if item.parent else raw


def _plain(value: Any) -> bytes:
    for describe in (_packed, _described):
        try:
            return describe(value)
        except Exception:  # noqa: BLE001, S112 - a plugin's object may not even say what it is
            continue
    return type(value).__name__.encode()


def _packed(value: Any) -> bytes:
    return msgspec.msgpack.encode(value, enc_hook=repr)


def _described(value: Any) -> bytes:
    return repr(value).encode(errors="replace")


@attrs.define
class _Trail:
    """A chain up to some cursor: what its pages held, and how many of the last ones repeat them."""

    seen: OrderedDict[int, None] = attrs.field(factory=OrderedDict)
    repeats: int = 0

    def after(self, content: int | None) -> _Trail:
        """Go on by one page; one that is empty tells nothing."""
        if content is None:
            return self
        repeats = self.repeats + 1 if content in self.seen else 0
        self.seen[content] = None
        if len(self.seen) > SEEN_MAX:
            self.seen.popitem(last=False)
        return _Trail(self.seen, repeats)


class Repeats:
    """What the pages of one run held. A run that goes on with a pass begins to count anew."""

    def __init__(self) -> None:
        self._trails: OrderedDict[bytes, _Trail] = OrderedDict()
        self._lowest: OrderedDict[int, int] = OrderedDict()  # by content: the first page with it
        self._repeating: OrderedDict[int, None] = OrderedDict()  # numbers of pages

    def fetched(self, node: Node, page: Page, opens: Sequence[Node]) -> None:
        """Take note of an answer.

        Raises: `PagingLoop`.
        """
        content = content_of(page)
        if (number := node.cursor.number) is not None:
            self._numbered(number, content)
            return
        trail = self._trails.pop(node.key, None) or _Trail()
        trail = trail.after(content)
        if trail.repeats >= REPEATS_MAX:
            raise _loop(str(node), trail.repeats)
        following = [child for child in opens if child.cursor.kind == node.cursor.kind]
        if len(following) != 1:
            return  # several begin anew: two lists of an upstream may hold the same
        self._trails[following[0].key] = trail
        if len(self._trails) > TRAILS_MAX:
            self._trails.popitem(last=False)

    def _numbered(self, number: int, content: int | None) -> None:
        """Note what a page number brought: they come in any order."""
        if content is None:
            return
        lowest = min(number, self._lowest.get(content, number))
        repeating = max(number, self._lowest.get(content, number))
        self._lowest[content] = lowest
        if len(self._lowest) > SEEN_MAX:
            self._lowest.popitem(last=False)
        if repeating == lowest:
            return
        self._repeating[repeating] = None
        if len(self._repeating) > SEEN_MAX:
            self._repeating.popitem(last=False)
        first = last = repeating
        while first - 1 in self._repeating:
            first -= 1
        while last + 1 in self._repeating:
            last += 1
        if last - first + 1 >= REPEATS_MAX:
            raise _loop(f"page {last}", last - first + 1)


def _loop(where: str, pages: int) -> PagingLoop:
    return PagingLoop(
        where,
        f"{pages} pages in a row hold nothing but what other pages held",
        "look at the upstream's paging",
    )
