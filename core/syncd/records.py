"""From pages to rows: decoding and the synchronous transforms, for a whole batch in one thread."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import attrs
import msgspec

from syncd.errors import PluginError, RecordError, Rejected
from syncd.frontier import Walked
from syncd.model import Record, Stream, Transform


@attrs.define
class StreamRows:
    """One stream's part of a batch: rows, when their request left, what they were made of."""

    rows: list[Any] = attrs.field(factory=list)
    sent_at: list[datetime] = attrs.field(factory=list)
    raws: list[msgspec.Raw | None] = attrs.field(factory=list)
    cursors: list[str] = attrs.field(factory=list)
    rejected: list[Rejected] = attrs.field(factory=list)


@attrs.frozen
class RecordMaker:
    """Makes a stream's rows of its records."""

    stream: Stream
    transforms: tuple[Transform, ...]
    decode: Callable[[msgspec.Raw], Any]

    @classmethod
    def of(cls, stream: Stream, transforms: Sequence[Transform]) -> RecordMaker:
        decoder = msgspec.json.Decoder(stream.record)
        return cls(stream, tuple(transforms), decoder.decode)

    def make(self, pages: Sequence[Walked]) -> StreamRows:
        """Decode and transform what a batch's pages hold of this stream.

        What cannot be decoded or transformed is rejected by itself; the others go on.
        """
        made = StreamRows()
        for walked in pages:
            cursor = str(walked.node)
            for item in walked.page.records.get(self.stream.name, ()):
                raw = item.raw if isinstance(item, Record) else None
                try:
                    rows = self._rows(item)
                except RecordError as error:
                    made.rejected.append(self._rejected(error, raw, cursor))
                    continue
                for row in rows:
                    made.rows.append(row)
                    made.sent_at.append(walked.sent_at)
                    made.raws.append(raw)
                    made.cursors.append(cursor)
        return made

    def _rejected(self, error: RecordError, raw: msgspec.Raw | None, cursor: str) -> Rejected:
        return Rejected(
            stream=self.stream.name,
            reason="decode" if error.where == "decode" else "transform",
            message=error.what,
            raw=None if raw is None else bytes(raw),
            key=None,
            cursor=cursor,
        )

    def _rows(self, item: Any) -> list[Any]:
        record = self._decoded(item) if isinstance(item, Record) else item
        if not self.transforms:
            return [record]
        return self._transformed(record)

    def _decoded(self, item: Record) -> Any:
        try:
            record = self.decode(item.raw)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise RecordError("decode", str(error)) from error
        for name, value in item.parent.items():
            # Around a frozen class too: the record is new, nobody else has seen it yet.
            object.__setattr__(record, name, value)
        return record

    def _transformed(self, record: Any) -> list[Any]:
        records = [record]
        for transform in self.transforms:
            after: list[Any] = []
            for each in records:
                try:
                    result = transform.function(each)
                except Exception as error:  # a plugin's function may raise anything
                    what = f"{transform.name}: {type(error).__name__}: {error}"
                    raise RecordError("transform", what) from error
                if isinstance(result, list):
                    after.extend(result)
                elif result is not None:
                    after.append(result)
            records = after
        return records


def make_all(makers: Mapping[str, RecordMaker], pages: Sequence[Walked]) -> dict[str, StreamRows]:
    """Make the rows of a batch, stream by stream. Runs in a thread: pure Python on bytes."""
    return {name: maker.make(pages) for name, maker in makers.items()}


def refuse_unknown(where: str, records: Mapping[str, Sequence[Any]], known: frozenset[str]) -> None:
    """Refuse a page with records of streams that its feed does not have.

    Raises: `PluginError`; records would vanish without a word otherwise.
    """
    if unknown := sorted(set(records) - known):
        raise PluginError(where, f"a page holds records of unknown streams {unknown}")
