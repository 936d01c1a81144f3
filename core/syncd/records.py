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
from syncd.awaited import (
    AnyTransform,
    Awaited,
    ContentReader,
    Steps,
    as_it_came,
    pieces_of,
    refuse_unfit,
    refused_for_good,
)
from syncd.drift import Shape
from syncd.effects import unwrapped
from syncd.errors import RecordError, Rejected
from syncd.model import Effect, Record, Stream, Transform
from syncd.nodes import Walked
from syncd.redaction import Redaction
from syncd.rows import Payloads, Sighted, StreamRows

Carried: TypeAlias = tuple[Any, Sequence[Effect]]  # what a record has become, so far
Made: TypeAlias = tuple[Any, Payloads]
Failed: TypeAlias = tuple[int, RecordError]  # of which piece


@attrs.frozen
class RecordMaker:
    """Makes a stream's rows of its records."""

    stream: Stream
    steps: Steps
    contents: ContentReader | None  # where records are known by what another API answered for
    decode: Callable[[msgspec.Raw], Any]
    table: bulk.Table
    hasher: bulk.Hasher | None  # none where nothing is compared by hashes
    keys: bulk.KeyReader | None  # where records are compared by their bytes
    presence: bulk.KeyReader | None  # where it is told what is gone
    redaction: Redaction
    shape: Shape | None

    @classmethod
    def of(
        cls, stream: Stream, transforms: Sequence[AnyTransform], table: bulk.Table, fingerprint: str
    ) -> RecordMaker:
        """Make the maker of a stream whose rows have this row fingerprint.

        Raises: `ConfigError` where what the stream declares is not to be had.
        """
        steps = Steps.of(transforms)
        awaiting = steps.awaiting
        refuse_unfit(str(table), stream, steps)
        return cls(
            stream=stream,
            steps=steps,
            contents=ContentReader.of(stream, awaiting, fingerprint) if awaiting else None,
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
        keys = self.presence.read_all([as_it_came(item) for _, item in items])
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
                made.unknown |= self._unknown(as_it_came(item))
            came = as_it_came(item)
            raw = parent = None
            if isinstance(came, Record):
                raw, parent = came.raw, came.parent
            parts: list[list[Made]] = []
            aside: list[Failed] = []
            try:
                rows = self._rows(item, parts, aside)
            except RecordError as error:
                made.rejected.append(self._rejected(error, item, walked.sent_at, cursor))
                made.note(item, (), walked.sent_at, lasting=refused_for_good(item))
                made.blind += bool(sighted.keys) and not bulk.is_whole(sighted.keys[place])
                continue
            # Dropped, it may still be what a row was made of.
            made.blind += bool(sighted.keys) and not rows and sighted.keys[place] is None
            for _, failed in aside:
                made.rejected.append(self._rejected(failed, item, walked.sent_at, cursor))
            if isinstance(item, Awaited):
                own = self._own(item, [row for row, _ in rows])
                made.note(item, parts, walked.sent_at, lasting=own, failed={p for p, _ in aside})
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
        came = as_it_came(item)
        known = isinstance(came, Record)
        key = self.contents.key_of(item) if self.contents is not None else None
        return Rejected(
            stream=self.stream.name,
            reason="decode" if error.where == "decode" else "transform",
            message=error.what,
            raw=bytes(came.raw) if known else None,
            key=None if key is None else bulk.key_text(key),
            cursor=cursor,
            parent=came.parent if known else None,
            sent_at=sent_at,
        )

    @property
    def effects(self) -> frozenset[str]:
        """Return the kinds of effects that its rows may have."""
        return frozenset(kind for each in self.steps.all for kind in each.effects)

    def _rows(self, item: Any, parts: list[list[Made]], aside: list[Failed]) -> list[Made]:
        """Return a record's rows; of one that was asked about also by piece, and what failed."""
        if isinstance(item, Awaited):
            parts += self._answered(item, aside)
            return [row for part in parts for row in part]
        if (awaiting := self.steps.awaiting) is not None:
            raise RecordError("transform", f"{awaiting.name}: nobody has asked about it")
        record = self._decoded(item) if isinstance(item, Record) else item
        if not self.steps.after:
            return [(record, ())]
        return self._made([(record, ())])

    def _made(self, values: list[Carried]) -> list[Made]:
        made = self._transformed(values, self.steps.after)
        return [(row, encoded(effects)) for row, effects in made]

    def handed_over(self, item: Any) -> Awaited:
        """Return what is handed to the transform that awaits, of a record or finished object.

        Raises: `AttributeError` where it lacks a field that it is to be known by.
        """
        try:
            record = self._decoded(item) if isinstance(item, Record) else item
            values = self._transformed([(record, ())], self.steps.before)
        except RecordError as error:
            return Awaited(item, error=error)
        return Awaited(item, pieces_of(self.contents, values))

    def _answered(self, awaited: Awaited, aside: list[Failed]) -> list[list[Made]]:
        """Return the rows of each piece; of several that were answered for one, each goes alone."""
        transform = self.steps.awaiting
        assert transform is not None, "somebody answered"
        parts: list[list[Made]] = []
        for piece, value in zip(awaited.pieces, awaited.values(transform.name), strict=True):
            parts.append([])
            for one in unwrapped(value, piece.effects, transform.effects, transform.name):
                try:
                    parts[-1] += self._made([one])
                except RecordError as error:
                    aside.append((len(parts) - 1, error))
        return parts

    def _own(self, item: Any, rows: Sequence[Any]) -> bool:
        """Return whether rows bear their record's key, where absence is judged by it.

        Those that do not are present only as long as they are made.
        """
        if self.presence is None:
            return True
        (key,) = self.presence.read_all([as_it_came(item)])
        try:
            keys = [self.table.key_of(self.table.values(row)) for row in rows]
        except AttributeError:
            return False
        return all((each if len(self.table.key) > 1 else (each,)) == key for each in keys)

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

    def _transformed(
        self, records: list[Carried], transforms: Sequence[Transform]
    ) -> list[Carried]:
        for transform in transforms:
            after: list[Carried] = []
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


def encoded(effects: Sequence[Effect]) -> Payloads:
    """Encode payloads.

    Raises: `RecordError` for one that JSON or the database cannot hold.
    """
    if not effects:
        return ()
    try:
        found = bulk.documents([_plain(effect.payload) for effect in effects])
    except (msgspec.MsgspecError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise RecordError("transform", f"the payload of an effect: {error}") from error
    return [(e, "null" if d is None else d.decode()) for e, d in zip(effects, found, strict=True)]


def _plain(payload: Any) -> Any:
    """Return a payload that is JSON already as what it says: somebody else may have written it."""
    return msgspec.json.decode(payload) if isinstance(payload, msgspec.Raw) else payload


Makers = Mapping[str, RecordMaker]  # by stream, in declared order


def sight_all(makers: Makers, pages: Sequence[Walked]) -> dict[str, Sighted]:
    """Sight the records of a batch, stream by stream. Runs in a thread: pure Python on bytes."""
    return {name: maker.sight(pages) for name, maker in makers.items()}


def make_all(makers: Makers, sighted: Mapping[str, Sighted]) -> dict[str, StreamRows]:
    """Make the rows of a batch, stream by stream. Runs in a thread, as `sight_all`."""
    return {name: maker.make(sighted[name]) for name, maker in makers.items()}
