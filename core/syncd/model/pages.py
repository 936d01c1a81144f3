"""Passes, cursors and pages: what is walked, and what it holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, TypeAlias

import attrs
import msgspec

JSON: TypeAlias = "bool | int | float | str | Sequence[JSON] | Mapping[str, JSON] | None"

Mode = Literal["full", "incremental", "backfill"]
CursorKind = Literal["chain", "item"]


@attrs.frozen
class Cursor:
    """Where one page is. `value` is JSON, at most 8 KiB; the core stores it and never looks inside.

    `number` is the page number of a numbered feed; the pages of one pass share their `value`.
    `kind` is ``"item"`` for what may fail alone (a conversation), ``"chain"`` for what leads on.
    A higher `version` re-opens an item that was closed at a lower one.
    """

    value: JSON
    number: int | None = None
    kind: CursorKind = "chain"
    version: int | None = None


@attrs.frozen
class Request:
    """What a pass is asked for: everything, or what changed since `since` and before `until`.

    `expected`: how many records the partition's last pass of this mode held, of all streams; `None`
    where there was none. It may tell how many pages to ask for at once.
    """

    mode: Mode
    since: datetime | None
    until: datetime
    expected: int | None = None


@attrs.frozen
class Pass:
    """A plugin's answer to a `Request`: the first cursors. `mode` may be widened to full."""

    mode: Mode
    cursors: tuple[Cursor, ...]


class Record(msgspec.Struct, frozen=True, gc=False):
    """One item of a page as it came: its bytes, and the values its surroundings give.

    Records of another stream are best cut out of `raw` (a car's lots): it says by itself whether
    the record changed. `key` is the row's, where it is at hand. A Struct: made ten times as fast.
    """

    raw: msgspec.Raw
    parent: Mapping[str, Any] = {}
    key: tuple[Any, ...] | None = None


@attrs.frozen
class Page:
    """One answer.

    `records` by stream name: `Record`s, or finished objects of the stream's record class. `opens`:
    the cursors this page names. `end`: the upstream's own marker that nothing follows.
    `date`: the upstream's clock, where it tells it.
    """

    records: Mapping[str, Sequence[Any]]
    opens: tuple[Cursor, ...] = ()
    end: bool = False
    date: datetime | None = None
    total: int | None = None

    @property
    def counts(self) -> Mapping[str, int]:
        """Return how many records there are, by stream."""
        return {stream: len(records) for stream, records in self.records.items()}

    @property
    def empty(self) -> bool:
        return not any(self.counts.values())

    def total_records(self, first: str) -> int | None:
        """Estimate the pass's records of all streams, as if every page were like this one.

        `None` for a total that is none: below zero, or more than a database counts.
        """
        counted = self.counts.get(first, 0)
        if self.total is None or not 0 <= self.total < 2**53 or not counted:
            return None
        return round(self.total * sum(self.counts.values()) / counted)


@attrs.frozen
class Response:
    """An upstream's answer that is data: a complete body of an expected status and media type.

    `sent_at` is the moment the answered request left, by the database's clock.
    """

    status: int
    headers: Mapping[str, str]  # names in lower case
    content: bytes
    sent_at: datetime
    date: datetime | None
    url: str  # without query and credentials

    def seconds_until(self, moment: datetime) -> float:
        """Return how far off a moment is that the answer names, by the upstream's own clock."""
        return max((moment - (self.date or self.sent_at)).total_seconds(), 0.0)
