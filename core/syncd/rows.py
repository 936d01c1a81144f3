"""A stream's part of a batch: its records before they are decoded, and the rows made of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeAlias

import attrs
import msgspec

from syncd import bulk
from syncd.awaited import Awaited, Note, notes_of, remembered
from syncd.errors import Rejected
from syncd.model import Effect
from syncd.nodes import Walked

Payloads: TypeAlias = Sequence[tuple[Effect, str]]  # a row's effects, with their payloads as JSON


@attrs.define
class StreamRows:
    """One stream's part of a batch: rows, when their request left, what they were made of."""

    rows: list[Any] = attrs.field(factory=list)
    sent_at: list[datetime] = attrs.field(factory=list)
    hashes: list[bytes | None] = attrs.field(factory=list)
    raws: list[msgspec.Raw | None] = attrs.field(factory=list)
    cursors: list[str] = attrs.field(factory=list)
    parents: list[Mapping[str, Any] | None] = attrs.field(factory=list)
    rejected: list[Rejected] = attrs.field(factory=list)
    unchanged: int = 0  # records that the table knew already, by their hashes
    fresh: bool = False  # as far as was looked, the table has none of their rows
    present: set[bulk.Key] = attrs.field(factory=set)  # of a stream that says what is gone ...
    blind: int = 0  # ... and records of it that could be any row's
    unknown: set[str] = attrs.field(factory=set)  # fields that the record class does not know
    effects: list[Payloads] = attrs.field(factory=list)  # of streams that may have any
    caused: Payloads = ()  # what a plugin that wrote the rows itself said follows from them
    notes: list[Note] = attrs.field(factory=list)  # of what another API was asked about ...
    noted: list[range] = attrs.field(factory=list)  # ... and which of them each row is of, if any
    versions_max: list[int | None] = attrs.field(factory=list)  # of what is replayed

    def note(
        self,
        item: Any,
        parts: Sequence[Sequence[Any]],
        sent_at: datetime,
        *,
        lasting: bool,
        failed: Collection[int] = (),
    ) -> None:
        """Note what a record was when it was answered for, and of which notes its rows are."""
        if not isinstance(item, Awaited):
            return
        counts = [len(part) for part in parts]
        notes = notes_of(item, counts, sent_at, lasting=lasting, failed=failed)
        first = len(self.notes)
        self.notes += notes
        self.noted += [range(first, len(self.notes))] * sum(map(len, parts))
        self.unchanged += item.known_rows

    def batch(self, account: str, **how: Any) -> bulk.Batch:
        """Return the rows as the bulk writer takes them; `how` is what else it is to know."""
        return bulk.Batch(
            rows=self.rows,
            sent_at=self.sent_at,
            hashes=self.hashes,
            raws=self.raws,
            cursors=self.cursors,
            parents=self.parents,
            versions_max=self.versions_max,
            account=account,
            telling=bool(self.effects),
            **how,
        )

    def without(self, known: bulk.Known) -> StreamRows:
        """Return the same but for the rows that are known, which are unchanged."""
        if not known.places:
            return attrs.evolve(self, fresh=known.fresh)
        left = [place for place in range(len(self.rows)) if place not in known.places]
        return StreamRows(
            rows=[self.rows[i] for i in left],
            sent_at=[self.sent_at[i] for i in left],
            hashes=[self.hashes[i] for i in left],
            raws=[self.raws[i] for i in left],
            cursors=[self.cursors[i] for i in left],
            parents=[self.parents[i] for i in left],
            rejected=self.rejected,
            unchanged=self.unchanged + len(known.places),
            present=self.present,
            blind=self.blind,
            unknown=self.unknown,
            effects=[self.effects[i] for i in left] if self.effects else [],
            notes=self.notes,
            noted=[self.noted[i] for i in left] if self.noted else [],
        )


@attrs.frozen
class Sighted:
    """One stream's records of a batch, not decoded yet, with what their bytes say of them.

    `present` are the keys of all records that the batch was handed, those left out included.
    """

    items: Sequence[tuple[Walked, Any]]
    hashes: Sequence[bytes | None] = ()
    keys: Sequence[bulk.Key | None] = ()
    present: frozenset[bulk.Key] = frozenset()
    unchanged: int = 0
    fresh: bool = False

    def without(self, known: bulk.Known) -> Sighted:
        """Return the same but for the records that are known, which are unchanged."""
        if not known.places:
            return attrs.evolve(self, fresh=known.fresh)
        left = [place for place in range(len(self.items)) if place not in known.places]
        return attrs.evolve(
            self,
            items=[self.items[i] for i in left],
            hashes=[self.hashes[i] for i in left],
            keys=[self.keys[i] for i in left] if self.keys else (),
            unchanged=self.unchanged + len(known.places),
        )


def answered(made: Mapping[str, StreamRows], rejected: Sequence[Rejected]) -> dict[str, list[Note]]:
    """Return what to note of records that another API was asked about, by stream."""
    return {
        name: remembered(rows.notes, rows.noted, [r for r in rejected if r.stream == name])
        for name, rows in made.items()
        if rows.notes
    }
