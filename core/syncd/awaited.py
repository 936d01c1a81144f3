"""Records that another API was asked about, and by what an answered one is known again. Pure.

    record --transforms before--> pieces --one call a page--> answers --transforms after--> rows
                                    |  known by their content: not handed over, their rows stand

A piece is known by its key, and its content by a hash over the stream's row fingerprint and all of
the piece as it is handed over. So what changes how rows are made (a transform's version or name, be
it a later one; a setting that the asking one names; a column) asks again, and nothing else does:
that there was an answer is kept, and not the answer, of which rows could be made anew.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime
from hashlib import blake2b
from operator import attrgetter
from typing import Any

import attrs
import msgspec

from syncd.errors import ConfigError, RecordError, Rejected
from syncd.model import AsyncTransform, Done, Effect, Instance, Quarantined, Stream, Transform

AnyTransform = Transform | AsyncTransform


@attrs.frozen
class Steps:
    """A stream's transforms around the one that awaits; without one, all are `after`."""

    after: tuple[Transform, ...]
    before: tuple[Transform, ...] = ()
    awaiting: AsyncTransform | None = None

    @property
    def all(self) -> tuple[AnyTransform, ...]:
        return (*self.before, *((self.awaiting,) if self.awaiting else ()), *self.after)

    @classmethod
    def of(cls, transforms: Sequence[AnyTransform]) -> Steps:
        """Divide transforms, which stand in their order; of those that await the first counts."""
        plain = [each for each in transforms if isinstance(each, Transform)]
        awaiting = next((t for t in transforms if isinstance(t, AsyncTransform)), None)
        if awaiting is None:
            return cls(tuple(plain))
        return cls(
            before=tuple(each for each in plain if each.order < awaiting.order),
            awaiting=awaiting,
            after=tuple(each for each in plain if each.order >= awaiting.order),
        )


def refuse_unfit(where: str, stream: Stream, steps: Steps) -> None:
    """Refuse what cannot be had of a stream whose records another API is asked about.

    Raises: `ConfigError`.
    """
    if steps.awaiting is None:
        return
    if stream.shortcut == "raw":
        said = "bytes do not tell what another API answers"
        raise ConfigError(f"{where}: shortcut 'raw'", said, "say 'values'")
    if stream.on_absent == "delete":
        # Back again and unchanged, it would be known, and its row would not be made.
        said = "a deleted row is not made again while its record stays as it was answered for"
        raise ConfigError(f"{where}: on_absent", said, "say 'mark'")


def settings_read(
    where: str, instance: Instance[Any], transforms: Sequence[AnyTransform]
) -> dict[str, dict[str, Any]]:
    """Return the settings that the answers of a transform depend on, for the row fingerprint.

    Raises: `ConfigError` for one that there is none of.
    """
    awaiting = Steps.of(transforms).awaiting
    if awaiting is None:
        return {}
    settings = instance.settings
    if missing := [name for name in awaiting.settings if not hasattr(settings, name)]:
        said = f"transform {awaiting.name} reads settings that there are none of: {missing}"
        raise ConfigError(where, said, "mend the plugin")
    return {"awaits": {name: getattr(settings, name) for name in awaiting.settings}}


@attrs.frozen(eq=False)
class Piece:
    """What is handed over of a record, and what was answered.

    Without a `key` it is never known again. `answer` is `None` for what is known, of which `rows`
    rows stand in the table.
    """

    value: Any
    key: bytes | None = None
    content: bytes | None = None
    answer: Done | Quarantined | None = None
    rows: int = 0
    effects: Sequence[Effect] = ()  # that transforms before asked for

    def known_by(self, found: tuple[bytes, int] | None) -> Piece | None:
        """Return the piece as one that is known, `None` where it is not."""
        if found is None or self.content is None or found[0] != self.content:
            return None
        return attrs.evolve(self, rows=found[1])


@attrs.frozen(eq=False)
class Awaited:
    """A record of a page (`item`), what was handed over of it, or why nothing could be."""

    item: Any
    pieces: tuple[Piece, ...] = ()
    error: RecordError | None = None

    @property
    def refusal(self) -> Quarantined | None:
        """Return the answer that sends it to quarantine, if one does."""
        answers = (piece.answer for piece in self.pieces)
        return next((each for each in answers if isinstance(each, Quarantined)), None)

    @property
    def known_rows(self) -> int:
        """Return how many rows stand in the table of what was not asked about."""
        return sum(piece.rows for piece in self.pieces if piece.answer is None)

    def values(self, transform: str) -> list[Any]:
        """Return what a transform answered for each piece, `None` for one that is known.

        Raises: `RecordError` where nothing was asked, or the record is refused.
        """
        if self.error is not None:
            raise self.error
        if (refusal := self.refusal) is not None:
            raise RecordError("transform", f"{transform}: {refusal.reason}")
        answers = [piece.answer for piece in self.pieces]
        return [each.value if isinstance(each, Done) else None for each in answers]


def as_it_came(item: Any) -> Any:
    """Return a record as its page held it."""
    return item.item if isinstance(item, Awaited) else item


def refused_for_good(item: Any) -> bool:
    """Return whether a record is set aside by an answer, which stays the same.

    A transform that fails may be mended, and what it failed with was paid for in vain.
    """
    return isinstance(item, Awaited) and item.refusal is not None


@attrs.frozen
class Note:
    """What is to be remembered of a piece; without `content` it is to be forgotten."""

    key: bytes
    content: bytes | None
    rows: int
    sent_at: datetime


def notes_of(
    awaited: Awaited,
    counts: Sequence[int],
    sent_at: datetime,
    *,
    lasting: bool,
    failed: Collection[int] = (),
) -> list[Note]:
    """Return what to remember of a record that was answered for, and `counts` rows made of.

    Without `counts`: it was set aside. What is not `lasting`, and the pieces of which a part
    `failed`, are to be asked about again.
    """
    pieces = zip(awaited.pieces, counts or [0] * len(awaited.pieces), strict=True)
    return [
        Note(piece.key, piece.content if lasting and place not in failed else None, rows, sent_at)
        for place, (piece, rows) in enumerate(pieces)
        if piece.answer is not None and piece.key is not None
    ]


def remembered(
    notes: Sequence[Note], noted: Sequence[range], refused: Iterable[Rejected]
) -> list[Note]:
    """Return what to note once all rows but the refused ones are in the table.

    `noted` says of each row which notes it is of.
    """
    places = [each.place for each in refused if each.place is not None]
    doubtful = {number for place in places if noted for number in noted[place]}
    return [
        attrs.evolve(each, content=None) if number in doubtful else each
        for number, each in enumerate(notes)
    ]


def settled(notes: Iterable[Note]) -> dict[bytes, Note]:
    """Return one note for each key: the newest; none says what two that differ at once would be."""
    kept: dict[bytes, Note] = {}
    for each in notes:
        known = kept.setdefault(each.key, each)
        if each.sent_at > known.sent_at:
            kept[each.key] = each
        elif each.sent_at == known.sent_at and each.content != known.content:
            kept[each.key] = attrs.evolve(known, content=None)
    return kept


@attrs.frozen
class ContentReader:
    """Reads keys and contents off what is handed over."""

    names: tuple[str, ...]  # the fields of the key
    take: Callable[[Any], Any]
    begun: blake2b  # with the row fingerprint in it, to be copied
    volatile: frozenset[str]

    @classmethod
    def of(cls, stream: Stream, awaiting: AsyncTransform, fingerprint: str) -> ContentReader | None:
        """Make the reader; `None` for a stream of snapshots, whose rows are made each time."""
        names = awaiting.key or stream.key
        if stream.mode == "append" or not names:
            return None
        salt = bytes.fromhex(fingerprint)
        begun = blake2b(digest_size=16, salt=salt, person=b"awaited")
        volatile = frozenset((*stream.volatile, *awaiting.volatile))
        return cls(names, attrgetter(*names), begun, volatile)

    def piece(self, value: Any) -> Piece:
        """Return what a value is known by.

        What cannot be encoded has no content of its own: it is handed over each time.

        Raises: `AttributeError` where it lacks a field of the key.
        """
        named = self.take(value)
        try:
            key = blake2b(_encoded(named), digest_size=16).digest()
            content = self.begun.copy()
            content.update(_encoded(self._told(value)))
        except _NOT_ENCODED:
            return Piece(value)
        return Piece(value, key, content.digest())

    def key_of(self, item: Any) -> dict[str, Any] | None:
        """Return the key of a record of which one piece was handed over; `None` for any other."""
        if not isinstance(item, Awaited) or len(item.pieces) != 1:
            return None
        value = item.pieces[0].value
        return {name: getattr(value, name) for name in self.names}

    def _told(self, value: Any) -> Any:
        """Leave out what differs at every look, and what answers do not depend on."""
        if not self.volatile:
            return value
        fields = msgspec.to_builtins(value, builtin_types=(bytes, datetime))
        if not isinstance(fields, dict):
            return value
        return {name: each for name, each in fields.items() if name not in self.volatile}


_NOT_ENCODED = (msgspec.MsgspecError, TypeError, ValueError, OverflowError, RecursionError)
_encoded = msgspec.msgpack.Encoder(order="deterministic").encode


def pieces_of(
    reader: ContentReader | None, values: Sequence[tuple[Any, Sequence[Effect]]]
) -> tuple[Piece, ...]:
    """Return what is handed over of a record's values, which bear effects."""
    pieces = [reader.piece(value) if reader else Piece(value) for value, _ in values]
    return tuple(
        attrs.evolve(piece, effects=effects) if effects else piece
        for piece, (_, effects) in zip(pieces, values, strict=True)
    )
