"""The classes that records are decoded into: attrs classes and msgspec Structs. Pure.

msgspec fills a Struct faster than an attrs class: a flat record of 29 fields in 4.8 us for 6.8,
nested ones with unions in a fifth of the time (core/DESIGN.md, section 12). So an attrs class whose
objects nobody but the bulk writer sees has a stand-in.
"""

from __future__ import annotations

import sys
import types
import typing
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, NewType, TypeGuard, Union

import attrs
import msgspec

from syncd.bulk.kinds import Column
from syncd.errors import ConfigError
from syncd.model import JSON

NO_DEFAULT = attrs.NOTHING


@attrs.frozen
class Plain:
    """An annotation without `Annotated`, `None` and `NewType` around it."""

    type: Any
    column: Column | None
    optional: bool


def is_record_class(kind: Any) -> TypeGuard[type[Any]]:
    """Return whether something is a class whose annotated fields a record can have."""
    return isinstance(kind, type) and (attrs.has(kind) or issubclass(kind, msgspec.Struct))


def annotations_of(cls: type[Any]) -> Mapping[str, Any]:
    """Answer the annotations of a record class's fields, resolved, in declared order.

    Raises: `ConfigError` if it is no record class, or names a type that its module does not know.
    """
    if not is_record_class(cls):
        said = "is neither an attrs class nor a msgspec.Struct"
        raise ConfigError(cls.__qualname__, said, "decorate it with @attrs.frozen")
    return _resolved(cls)  # type: ignore[arg-type]  # a class is hashable


@cache  # a job asks fifty times as it is opened, half a millisecond each
def _resolved(cls: type[Any]) -> Mapping[str, Any]:
    names = vars(sys.modules[cls.__module__]) if cls.__module__ in sys.modules else {}
    # `JSON` is a recursive alias in a string: resolving it would need its own module's names.
    anything = {name: Any for name, value in names.items() if value is JSON}
    try:
        hints = typing.get_type_hints(cls, localns=anything, include_extras=True)
    except NameError as unknown:
        do = "import it in the module that defines the class, outside of `if TYPE_CHECKING`"
        raise ConfigError(cls.__qualname__, str(unknown), do) from unknown
    return {name: hints.get(name, Any) for name in defaults_of(cls)}


def defaults_of(cls: type[Any]) -> dict[str, Any]:
    """Answer the defaults of a record class's fields, in declared order.

    `NO_DEFAULT` for a field without; what is made anew each time stands as that which makes it.
    """
    if attrs.has(cls):
        return {field.name: field.default for field in attrs.fields(cls)}
    return dict(zip(cls.__struct_fields__, _struct_defaults(cls), strict=True))


def _struct_defaults(cls: type[Any]) -> list[Any]:
    given = cls.__struct_defaults__
    without = len(cls.__struct_fields__) - len(given)
    return [NO_DEFAULT] * without + [
        NO_DEFAULT if default is msgspec.NODEFAULT else default for default in given
    ]


def plain_of(annotation: Any) -> Plain:
    """Take `Annotated`, `| None`, `NewType` and type aliases off an annotation."""
    column: Column | None = None
    optional = False
    while True:
        origin = typing.get_origin(annotation)
        if origin is Annotated:
            annotation, *notes = typing.get_args(annotation)
            column = next((note for note in notes if isinstance(note, Column)), column)
        elif origin in (Union, types.UnionType) and type(None) in typing.get_args(annotation):
            rest = [a for a in typing.get_args(annotation) if a is not type(None)]
            annotation, optional = Union[tuple(rest)], True  # noqa: UP007  # of a sequence
        elif isinstance(annotation, NewType):
            annotation = annotation.__supertype__
        elif type(annotation).__name__ == "TypeAliasType":  # `type Price = ...`, Python 3.12
            annotation = annotation.__value__
        else:
            return Plain(annotation, column, optional)


def set_field(record: Any, name: str, value: Any) -> None:
    """Set a field, around a frozen class too: the record is new, nobody else has seen it yet.

    Raises: `AttributeError` where there is no such field.
    """
    if isinstance(record, msgspec.Struct):
        msgspec.structs.force_setattr(record, name, value)
    else:
        object.__setattr__(record, name, value)


def stand_in(cls: type[Any]) -> type[Any]:
    """Make the Struct with an attrs class's fields; the class itself where only it will do.

    Its objects have the same attributes and decode from the same JSON. A class that looks at what
    it is given (a converter, a validator, a hook of its own around `__init__`) has no stand-in.
    """
    if not attrs.has(cls) or any(hasattr(cls, name) for name in _HOOKS):
        return cls
    fields: list[tuple[str, Any, Any]] = []
    for field in attrs.fields(cls):
        default: Any = field.default
        if isinstance(default, attrs.Factory):  # type: ignore[arg-type]
            if default.takes_self:
                return cls
            default = msgspec.field(default_factory=default.factory)
        elif default is attrs.NOTHING:
            default = msgspec.NODEFAULT
        if field.converter or field.validator or not field.init:
            return cls
        fields.append((field.name, _within(annotations_of(cls)[field.name]), default))
    return msgspec.defstruct(cls.__name__, fields, gc=False, kw_only=True, module=cls.__module__)


_HOOKS = ("__attrs_pre_init__", "__attrs_post_init__")


def _within(annotation: Any) -> Any:
    """Put stand-ins into an annotation, in place of the classes that it names."""
    if is_record_class(annotation):
        return stand_in(annotation)
    origin, among = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (Union, types.UnionType):
        return Union[tuple(map(_within, among))]  # noqa: UP007  # of a sequence
    return annotation
