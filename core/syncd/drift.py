"""Fields of records that their class does not know: said once, so that an API's growth is seen.

Pure. It costs a page whose records are decoded another look at its first one; only names are kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import attrs
import msgspec
from msgspec import inspect

FIELDS_MAX = 20  # of a stream that are announced: one whose objects are keyed by ids has no end
NAME_MAX = 100  # characters of a field's name
DEPTH_MAX = 8  # objects within objects that are looked into


@attrs.frozen
class Shape:
    """The fields that a class knows; below those that are objects of a class, theirs."""

    fields: Mapping[str, Shape | None]

    @classmethod
    def of(cls, record: type[Any]) -> Shape | None:
        """Return what a record class knows; `None` where it takes any field."""
        try:
            return _shape(inspect.type_info(record), DEPTH_MAX)
        except (TypeError, NameError):  # msgspec cannot say; whether it can decode, others ask
            return None

    def unknown(self, raw: bytes | msgspec.Raw) -> frozenset[str]:
        """Return the fields of a record's bytes that the class does not know, as ``owner.email``.

        Nothing of bytes that cannot be read: those are set aside by their decoder.
        """
        try:
            value = msgspec.json.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return frozenset()
        return frozenset(_unknown(self, value, ""))


def _shape(kind: inspect.Type, depth: int) -> Shape | None:
    match kind:
        case inspect.StructType() | inspect.DataclassType() | inspect.TypedDictType() if depth:
            return Shape({f.encode_name: _shape(f.type, depth - 1) for f in kind.fields})
        case inspect.ListType(item_type=within) | inspect.VarTupleType(item_type=within):
            return _shape(within, depth)
        case inspect.UnionType(types=types):
            shapes = [shape for each in types if (shape := _shape(each, depth)) is not None]
            return shapes[0] if len(shapes) == 1 else None
        case _:
            return None


def _unknown(shape: Shape, value: Any, above: str) -> Iterator[str]:
    if isinstance(value, list):
        for each in value[:1]:
            yield from _unknown(shape, each, above)
    elif isinstance(value, dict):
        for name, each in value.items():
            if name not in shape.fields:
                yield _said(f"{above}{name}")
            elif (below := shape.fields[name]) is not None:
                yield from _unknown(below, each, f"{above}{name}.")


def _said(name: str) -> str:
    """Return a name as it may stand in a line and in a text column."""
    plain = name if name.isprintable() else repr(name)[1:-1]
    return plain if len(plain) <= NAME_MAX else f"{plain[:NAME_MAX]}..."


class Novelties:
    """Which fields this process has asked about already: the table says which are really new."""

    def __init__(self) -> None:
        self._asked: dict[tuple[str, str], set[str]] = {}

    def unasked(self, instance: str, stream: str, fields: frozenset[str]) -> list[str]:
        """Return those of these fields that nobody has asked about; at most `FIELDS_MAX` ever."""
        asked = self._asked.setdefault((instance, stream), set())
        new = sorted(fields - asked)[: FIELDS_MAX - len(asked)]
        asked.update(new)
        return new
