"""What a walk has yet to read of the frontier table: ranges of places, and cursors that wait. Pure.

A walk reads its table forward and never looks at a place twice without a reason: closed cursors
leave dead entries in the index, which an old snapshot elsewhere keeps from being removed, and a
walk that began at the front each time would step over all of them each time. The reasons to look
again are kept here: a cursor was opened that memory had no room for, or one that waited is due.
"""

from __future__ import annotations

import heapq
import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from typing import TypeAlias

import attrs

# What leads on (False < True: items go first), minus the depth, ordinal, cursor key: the order in
# which the table is read, and that of its index `frontier_next`.
Place: TypeAlias = tuple[bool, int, int, bytes]

RANGES_MAX = 64  # more are joined: to read over what is between them costs less than many looks
WAITING_MAX = 10_000  # cursors that wait, in memory; beyond them everything is read again


def after(place: Place) -> Place:
    """Return the next place there can be: bytes are compared from the left, the shorter first."""
    leads_on, depth, ordinal, key = place
    return leads_on, depth, ordinal, key + b"\0"


@attrs.frozen(order=True)
class Range:
    """The places from `first` on, up to and without `end`."""

    first: Place
    end: Place


ALL = Range((False, -(2**31) + 1, -(2**63), b""), (True, 1, 0, b""))


class Ranges:
    """Ranges of places: disjoint, in reading order."""

    def __init__(self, ranges: Iterable[Range] = ()) -> None:
        self._ranges: list[Range] = []
        for each in ranges:
            self.add(each)

    def __bool__(self) -> bool:
        return bool(self._ranges)

    def __contains__(self, place: Place) -> bool:
        return any(each.first <= place < each.end for each in self._ranges)

    def take(self) -> Range:
        """Remove the first range."""
        return self._ranges.pop(0)

    def add(self, new: Range) -> None:
        """Add a range, joined with those it touches."""
        low = bisect_left(self._ranges, new.first, key=lambda each: each.end)
        high = bisect_right(self._ranges, new.end, key=lambda each: each.first)
        touched = [new, *self._ranges[low:high]]
        first, end = min(each.first for each in touched), max(each.end for each in touched)
        self._ranges[low:high] = [Range(first, end)]
        if len(self._ranges) > RANGES_MAX:
            *_, before, last = self._ranges
            self._ranges[-2:] = [Range(before.first, last.end)]

    def add_places(self, places: Iterable[Place]) -> None:
        """Add single places; those of one depth, which a page opens side by side, as one range."""
        spans: dict[tuple[bool, int], tuple[Place, Place]] = {}
        for place in places:
            low, high = spans.get(place[:2], (place, place))
            spans[place[:2]] = min(low, place), max(high, place)
        for low, high in spans.values():
            self.add(Range(low, after(high)))


@attrs.frozen
class Waiter:
    """A cursor that must wait, and until when by the caller's clock."""

    until: float
    place: Place
    number: int | None

    @property
    def key(self) -> bytes:
        return self.place[3]


class Waiting:
    """The open cursors that must wait, as far as this walk has met them."""

    def __init__(self) -> None:
        self._waiters: dict[bytes, Waiter] = {}
        self._heap: list[tuple[float, bytes]] = []
        self._beyond = math.inf  # until when the first of those must wait that found no room

    def __contains__(self, key: bytes) -> bool:
        return key in self._waiters or self._beyond < math.inf

    def add(self, waiter: Waiter) -> None:
        """Keep a cursor in mind, at the latest moment that is known."""
        if waiter.key not in self._waiters and len(self._waiters) >= WAITING_MAX:
            self._beyond = min(self._beyond, waiter.until)
            return
        self._waiters[waiter.key] = waiter
        heapq.heappush(self._heap, (waiter.until, waiter.key))

    def forget(self, key: bytes) -> None:
        self._waiters.pop(key, None)

    def forget_above(self, number: int) -> None:
        """Forget the page numbers above the end."""
        for key, waiter in list(self._waiters.items()):
            if waiter.number is not None and waiter.number > number:
                del self._waiters[key]

    @property
    def first(self) -> Waiter | None:
        """Return who is due first, of those that found room."""
        while self._heap:
            until, key = self._heap[0]
            waiter = self._waiters.get(key)
            if waiter is not None and waiter.until == until:
                return waiter
            heapq.heappop(self._heap)
        return None

    @property
    def until(self) -> float:
        """Return when the first is due; infinity where nobody waits."""
        first = self.first
        return min(self._beyond, first.until if first else math.inf)

    def due(self, now: float) -> tuple[list[Place], bool]:
        """Let go who need not wait any more; answer with them, and whether to read all again."""
        places: list[Place] = []
        while (first := self.first) is not None and first.until <= now:
            places.append(first.place)
            del self._waiters[first.key]
        everything = self._beyond <= now
        if everything:
            self._beyond = math.inf
        return places, everything


class Unread:
    """What may stand open in the table and is not in memory.

    Every open cursor of the pass is in memory, in a range that is unread, or waits. Where that
    should ever not be so the end of the pass finds out, and everything is read again.
    """

    def __init__(self, ranges: Iterable[Range] = ()) -> None:
        self.ranges = Ranges(ranges)
        self.waiting = Waiting()

    def __bool__(self) -> bool:
        """Return whether there is something to look at now."""
        return bool(self.ranges)

    def take(self) -> Range:
        """Hand out the next range to look at.

        It counts as read from here on, so that what is opened during the look is not taken for
        seen; what the look does not come to is to be added again.
        """
        return self.ranges.take()

    def opened(self, places: Iterable[Place]) -> None:
        """Take note of cursors that were opened and found no room in memory."""
        self.ranges.add_places(places)

    def everything(self) -> None:
        """Read from the front: the table holds open cursors that were not met."""
        self.ranges.add(ALL)

    def wake(self, now: float) -> None:
        """Look again at the cursors whose wait is over; `now` in seconds, by the caller's clock."""
        places, everything = self.waiting.due(now)
        self.ranges.add_places(places)
        if everything:
            self.everything()
