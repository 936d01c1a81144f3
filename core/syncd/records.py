"""From pages to rows: decoding and the synchronous transforms, for a whole batch in one thread.

Three steps, so that an unchanged record costs as little as its stream allows: `sight` a batch's
records (their hashes, of streams whose bytes are compared), `make` rows of those that the table
does not know, and leave out of these again, by their values, what it does know.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeAlias

import attrs
import msgspec

from syncd import bulk
from syncd.drift import Shape
from syncd.effects import unwrapped
from syncd.errors import PluginError, RecordError, Rejected
from syncd.model import Effect, Record, Stream, Transform
from syncd.nodes import Walked
from syncd.redaction import Redaction

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


@attrs.frozen
class RecordMaker:
    """Makes a stream's rows of its records."""

    stream: Stream
    transforms: tuple[Transform, ...]
    decode: Callable[[msgspec.Raw], Any]
    table: bulk.Table
    hasher: bulk.Hasher | None  # none where nothing is compared by hashes
    keys: bulk.KeyReader | None  # where records are compared by their bytes
    presence: bulk.KeyReader | None  # where it is told what is gone
    redaction: Redaction
    shape: Shape | None

    @classmethod
    def of(
        cls, stream: Stream, transforms: Sequence[Transform], table: bulk.Table, fingerprint: str
    ) -> RecordMaker:
        """Make the maker of a stream whose rows have this row fingerprint.

        Raises: `ConfigError` where the stream's shortcut is not to be had.
        """
        return cls(
            stream=stream,
            transforms=tuple(transforms),
            # What no transform looks at is seen by the bulk writer alone.
            decode=msgspec.json.Decoder(
                stream.record if transforms else bulk.stand_in(stream.record)
            ).decode,
            table=table,
            hasher=bulk.Hasher.of(table, fingerprint) if table.hashed else None,
            keys=bulk.key_reader(stream, table),
            presence=bulk.presence_reader(stream, table),
            redaction=Redaction.of(stream.redact),
            shape=Shape.of(stream.record),
        )

    def sight(self, pages: Sequence[Walked]) -> Sighted:
        """Take this stream's records off a batch's pages; hash their bytes if these count."""
        name = self.stream.name
        items = [(page, item) for page in pages for item in page.page.records.get(name, ())]
        hashes: Sequence[bytes | None] = ()
        if self.keys is not None and self.hasher is not None:
            hashes = self.hasher.of_records(item for _, item in items)
        if self.presence is None:
            return Sighted(items, hashes)
        keys = self.presence.read_all([item for _, item in items])
        return Sighted(items, hashes, keys, frozenset(filter(bulk.is_whole, keys)))

    def known_by_bytes(self, sighted: Sighted) -> bulk.Candidates | None:
        """Return how to ask which of these records are known; `None` where bytes do not count."""
        reader, items, keys = self.keys, sighted.items, sighted.keys
        if reader is None:
            return None

        def keys_at(places: Sequence[int]) -> Sequence[bulk.Key | None]:
            if keys:  # they were read already
                return [key if bulk.is_whole(key := keys[i]) else None for i in places]
            return reader.read([items[i][1] for i in places])

        return bulk.Candidates(self.table, sighted.hashes, keys_at)

    def known_by_values(self, made: StreamRows) -> bulk.Candidates | None:
        """Return how to ask which of these rows are known; `None` where values do not count."""
        if self.keys is not None or self.hasher is None:
            return None
        table, rows = self.table, made.rows

        def keys_at(places: Sequence[int]) -> Sequence[bulk.Key]:
            keys = [table.key_of(table.values(rows[place])) for place in places]
            return keys if len(table.key) > 1 else [(key,) for key in keys]

        return bulk.Candidates(table, made.hashes, keys_at)

    def make(self, sighted: Sighted) -> StreamRows:
        """Decode and transform records.

        What cannot be decoded or transformed is rejected by itself; the others go on.
        """
        made = StreamRows(unchanged=sighted.unchanged, fresh=sighted.fresh)
        made.present.update(sighted.present)
        page, cursor, hashes, telling = None, "", sighted.hashes, bool(self.effects)
        for place, (walked, item) in enumerate(sighted.items):
            if walked is not page:
                page, cursor = walked, str(walked.node)
                made.unknown |= self._unknown(item)
            raw = parent = None
            if isinstance(item, Record):
                raw, parent = item.raw, item.parent
            try:
                rows = self._rows(item)
            except RecordError as error:
                made.rejected.append(self._rejected(error, item, walked.sent_at, cursor))
                made.blind += bool(sighted.keys) and not bulk.is_whole(sighted.keys[place])
                continue
            # Dropped, it may still be what a row was made of.
            made.blind += bool(sighted.keys) and not rows and sighted.keys[place] is None
            for row, effects in rows:
                made.rows.append(row)
                if telling:
                    made.effects.append(effects)
                made.sent_at.append(walked.sent_at)
                made.raws.append(raw)
                made.cursors.append(cursor)
                made.parents.append(parent)
                # Of several rows of one record, none says by itself that the others are there.
                made.hashes.append(hashes[place] if hashes and len(rows) == 1 else None)
        if self.hasher is not None and self.keys is None:
            made.hashes = self._hashes_of(made.rows)
        if self.presence is not None:
            self._note_rows(made)
        return made

    def _unknown(self, item: Any) -> frozenset[str]:
        if self.shape is None or not isinstance(item, Record):
            return frozenset()
        return self.shape.unknown(item.raw)

    def _note_rows(self, made: StreamRows) -> None:
        """Add the keys of the rows, which a transform may have made other than they came."""
        single = len(self.table.key) == 1
        for row in made.rows:
            try:
                key = self.table.key_of(self.table.values(row))
            except AttributeError:  # no row at all: it is set aside later
                made.blind += 1
                continue
            if bulk.is_whole(whole := (key,) if single else key):
                made.present.add(whole)

    def _hashes_of(self, rows: Sequence[Any]) -> list[bytes | None]:
        assert self.hasher is not None
        of, values = self.hasher.of_values, self.table.values
        try:
            return [of(values(row)) for row in rows]
        except AttributeError:  # a transform made something that is no row: it is set aside later
            return [None] * len(rows)

    def _rejected(self, error: RecordError, item: Any, sent_at: datetime, cursor: str) -> Rejected:
        known = isinstance(item, Record)
        return Rejected(
            stream=self.stream.name,
            reason="decode" if error.where == "decode" else "transform",
            message=error.what,
            raw=bytes(item.raw) if known else None,
            key=None,
            cursor=cursor,
            parent=item.parent if known else None,
            sent_at=sent_at,
        )

    @property
    def effects(self) -> frozenset[str]:
        """Return the kinds of effects that its rows may have."""
        return frozenset(kind for transform in self.transforms for kind in transform.effects)

    def _rows(self, item: Any) -> list[tuple[Any, Payloads]]:
        record = self._decoded(item) if isinstance(item, Record) else item
        if not self.transforms:
            return [(record, ())]
        return [(row, _encoded(effects)) for row, effects in self._transformed(record)]

    def _decoded(self, item: Record) -> Any:
        try:
            record = self.decode(item.raw)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise RecordError("decode", str(error)) from error
        except Exception as error:  # the record's class is a plugin's, and may check what it likes
            raise RecordError("decode", f"{type(error).__name__}: {error}") from error
        for name, value in item.parent.items():
            bulk.set_field(record, name, value)
        return record

    def _transformed(self, record: Any) -> list[tuple[Any, Sequence[Effect]]]:
        records: list[tuple[Any, Sequence[Effect]]] = [(record, ())]
        for transform in self.transforms:
            after: list[tuple[Any, Sequence[Effect]]] = []
            for each, carried in records:
                try:
                    result = transform.function(each)
                except (Exception, SystemExit, KeyboardInterrupt, GeneratorExit) as error:
                    # A plugin's function may raise anything: in a thread, none of these is ours.
                    what = f"{transform.name}: {type(error).__name__}"
                    if not self.stream.redact:  # it may quote half of a value
                        what = f"{what}: {error}"
                    raise RecordError("transform", what) from error
                after += unwrapped(result, carried, transform.effects, transform.name)
            records = after
        return records


def _encoded(effects: Sequence[Effect]) -> Payloads:
    """Encode payloads.

    Raises: `RecordError` for one that JSON or the database cannot hold.
    """
    if not effects:
        return ()
    try:
        encoded = bulk.documents([effect.payload for effect in effects])
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise RecordError("transform", f"the payload of an effect: {error}") from error
    return [(e, "null" if d is None else d.decode()) for e, d in zip(effects, encoded, strict=True)]


Makers = Mapping[str, RecordMaker]  # by stream, in declared order


def sight_all(makers: Makers, pages: Sequence[Walked]) -> dict[str, Sighted]:
    """Sight the records of a batch, stream by stream. Runs in a thread: pure Python on bytes."""
    return {name: maker.sight(pages) for name, maker in makers.items()}


def make_all(makers: Makers, sighted: Mapping[str, Sighted]) -> dict[str, StreamRows]:
    """Make the rows of a batch, stream by stream. Runs in a thread, as `sight_all`."""
    return {name: maker.make(sighted[name]) for name, maker in makers.items()}


def refuse_unknown(where: str, records: Mapping[str, Sequence[Any]], known: frozenset[str]) -> None:
    """Refuse a page with records of streams that its feed does not have.

    Raises: `PluginError`; records would vanish without a word otherwise.
    """
    if unknown := sorted(set(records) - known):
        raise PluginError(where, f"a page holds records of unknown streams {unknown}")
