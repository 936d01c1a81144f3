"""By what an unchanged record is known, before it is decoded or before it is written. Pure.

A hash says by which row fingerprint and of what content a row was made. It is compared with that of
the row of the same key; where they are equal, the row is what the record would make again. The key
only finds that row: one that is read wrongly finds another row, whose hash differs, or none.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from hashlib import blake2b
from typing import Any, TypeAlias, TypeGuard

import attrs
import msgspec

from syncd.bulk.classes import annotations_of, is_record_class, plain_of
from syncd.bulk.columns import Values, values_at
from syncd.bulk.statements import HASH_MARK_BYTES
from syncd.bulk.tables import Table
from syncd.errors import ConfigError
from syncd.model import Record, Stream

Key: TypeAlias = tuple[Any, ...]  # in the order of the table's key

# Hash and mark are 16 bytes together: by chance, two contents of one row are taken for one another
# once in 2**96 times.
_CONTENT_BYTES = 12


@attrs.frozen
class Hasher:
    """Makes the hashes of one stream's rows."""

    mark: bytes
    of_bytes: blake2b  # begun, each to be copied
    of_columns: blake2b
    volatile: tuple[int, ...]  # places, among a row's values, that are left out

    @classmethod
    def of(cls, table: Table, fingerprint: str) -> Hasher:
        """`fingerprint` is the stream's row fingerprint, 16 bytes in hexadecimal."""
        salt = bytes.fromhex(fingerprint)
        begun = partial(blake2b, digest_size=_CONTENT_BYTES, salt=salt)
        volatile = [i for i, c in enumerate(table.columns) if c.name in table.volatile]
        mark = salt[:HASH_MARK_BYTES]
        return cls(mark, begun(person=b"raw"), begun(person=b"values"), tuple(volatile))

    def of_records(self, records: Iterable[Any]) -> list[bytes | None]:
        """Hash records' bytes, and the values their surroundings give.

        A JSON value and an object behind it cannot be read in two ways. `None` where a finished
        object was handed over: it has no bytes.
        """
        begun, mark = self.of_bytes.copy, self.mark
        hashes: list[bytes | None] = []
        for record in records:
            if not isinstance(record, Record):
                hashes.append(None)
                continue
            digest = begun()
            digest.update(record.raw)
            if record.parent:
                digest.update(_parent(record.parent))
            hashes.append(mark + digest.digest())
        return hashes

    def of_values(self, values: Sequence[Any]) -> bytes | None:
        """Hash a row's values; `None` where one cannot be encoded, so that it is compared."""
        if self.volatile:
            values = [value for i, value in enumerate(values) if i not in self.volatile]
        digest = self.of_columns.copy()
        try:
            digest.update(_values(values))
        except (msgspec.MsgspecError, TypeError, ValueError, OverflowError, RecursionError):
            return None
        return self.mark + digest.digest()


# MessagePack: a float that is not finite is a value of its own there, and it is written faster.
_values = msgspec.msgpack.Encoder().encode
_parent = msgspec.json.Encoder(order="deterministic").encode


@attrs.frozen
class KeyReader:
    """Reads keys off records' bytes, and nothing else.

    `parents` names the key's fields as a record's surroundings may give them.
    """

    decode: Callable[[msgspec.Raw], Any]
    take: Values
    parents: tuple[str, ...]
    texts: tuple[bool, ...]  # which parts stand as text in the table

    def read(self, records: Sequence[Record]) -> list[Key | None]:
        """Return the keys; `None` for one that cannot be read, or lacks a part."""
        return [key if is_whole(key) else None for key in self._each(records)]

    def read_all(self, items: Sequence[Any]) -> list[Key | None]:
        """Return the keys of records and finished objects; `None` for one that cannot be read.

        A part that a record has not is null.
        """
        if all(isinstance(item, Record) for item in items):
            return self._each(items)
        return [
            self._each([item])[0] if isinstance(item, Record) else self._of_object(item)
            for item in items
        ]

    def _of_object(self, item: Any) -> Key | None:
        try:
            parts = zip(self.take(item), self.texts, strict=True)
        except AttributeError:
            return None
        return tuple([str(part) if text and part is not None else part for part, text in parts])

    def _each(self, records: Sequence[Record]) -> list[Key | None]:
        keys: list[Key | None] = [record.key for record in records]
        lacking = [place for place, key in enumerate(keys) if key is None]
        if lacking:
            read = self._read([records[place] for place in lacking])
            for place, key in zip(lacking, read, strict=True):
                keys[place] = key
        return keys

    def _read(self, records: Sequence[Record]) -> list[Key | None]:
        decode, take = self.decode, self.take
        keys: list[Key | None]
        try:
            keys = [take(decode(record.raw)) for record in records]
        except _UNREADABLE:
            keys = [self._taken(record) for record in records]
        if any(self.texts) or any(record.parent for record in records):
            pairs = zip(records, keys, strict=True)
            keys = [key and self._as_in_the_table(record, key) for record, key in pairs]
        return keys

    def _taken(self, record: Record) -> Key | None:
        try:
            return self.take(self.decode(record.raw))
        except _UNREADABLE:
            return None

    def _as_in_the_table(self, record: Record, key: Key) -> Key:
        """A parent's values count; where a transform makes text of a number, it may come as one."""
        given = zip(self.parents, key, self.texts, strict=True)
        parts = ((record.parent.get(name, part), text) for name, part, text in given)
        return tuple([str(part) if text and part is not None else part for part, text in parts])


def is_whole(key: Key | None) -> TypeGuard[Key]:
    """Say whether a key could be read and lacks no part: only such a one can be a row's."""
    return key is not None and None not in key


_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError)


def key_reader(stream: Stream, table: Table) -> KeyReader | None:
    """Make what reads the keys of a stream whose shortcut is ``raw``; `None` for any other.

    Raises: `ConfigError` where the record class lacks a field of the key, or what the stream
    declares is not to be had with this shortcut.
    """
    if stream.shortcut != "raw":
        return None
    where = f"{table}: shortcut 'raw'"
    if not table.hashed:
        raise ConfigError(where, f"rows of mode {stream.mode} are not compared", "leave it out")
    if stream.volatile:
        raise ConfigError(where, "the bytes hold the volatile fields, too", "say 'values'")
    return _reader(where, stream, table, instead="say 'values'")


def presence_reader(stream: Stream, table: Table) -> KeyReader | None:
    """Make what reads the keys of all that a stream is handed, where that says what is gone.

    Raises: `ConfigError` where the record class lacks a field of the key.
    """
    if stream.on_absent == "keep":
        return None
    return _reader(f"{table}: on_absent", stream, table, instead="leave it out")


def _reader(where: str, stream: Stream, table: Table, *, instead: str) -> KeyReader:
    paths = [_path(stream.record, name) for name in table.key]
    if missing := [name for name, path in zip(table.key, paths, strict=True) if not path]:
        said = f"{stream.record.__qualname__} has no field for {', '.join(missing)}"
        raise ConfigError(where, said, f"name the field as the column, or {instead}")
    kinds = {column.name: column.kind.sql for column in table.columns}
    return KeyReader(
        decode=msgspec.json.Decoder(_only(stream.record, paths)).decode,
        take=values_at(paths),
        parents=tuple(path[0] for path in paths),
        texts=tuple(kinds[name] == "text" for name in table.key),
    )


def _path(cls: type[Any], column: str) -> tuple[str, ...]:
    """Return where in a record class the field is that becomes a column; ``()``: nowhere."""
    for name, annotation in annotations_of(cls).items():
        if name == column:
            return (name,)
        nested = _nested(annotation)
        if nested and column.startswith(f"{name}_"):
            rest = _path(nested, column.removeprefix(f"{name}_"))
            if rest:
                return (name, *rest)
    return ()


def _nested(annotation: Any) -> type[Any] | None:
    """Return the record class among what an annotation allows."""
    plain = plain_of(annotation).type
    among = typing.get_args(plain) or (plain,)
    return next((each for each in among if is_record_class(each)), None)


def _only(cls: type[Any], paths: Sequence[tuple[str, ...]]) -> type[msgspec.Struct]:
    """Make the Struct that has, of a record class, only what lies on these paths."""
    annotations = annotations_of(cls)
    below: dict[str, list[tuple[str, ...]]] = {}
    for path in paths:
        below.setdefault(path[0], []).append(path[1:])
    fields: list[tuple[str, Any, Any]] = []
    for name, rest in below.items():
        nested = _nested(annotations[name]) if rest[0] else None
        kind: Any = _only(nested, rest) if nested else plain_of(annotations[name]).type
        fields.append((name, kind | None, msgspec.field(default=None, name=_in_json(cls, name))))
    return msgspec.defstruct(f"{cls.__name__}Key", fields, gc=False)


def _in_json(cls: type[Any], field: str) -> str:
    """Return a field's name in JSON: a Struct may rename it."""
    if attrs.has(cls):
        return field
    return str(cls.__struct_encode_fields__[cls.__struct_fields__.index(field)])
