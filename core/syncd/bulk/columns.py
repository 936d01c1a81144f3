"""Columns from record classes: which there are, and how to take them off an object. Pure."""

from __future__ import annotations

import operator
import typing
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, Literal, TypeAlias

import attrs

from syncd.bulk.classes import Plain, annotations_of, is_record_class, plain_of
from syncd.bulk.kinds import SCALARS, Kind, kind_of, spelled_out
from syncd.errors import ConfigError

# PostgreSQL, "Identifiers and Key Words": NAMEDATALEN - 1; longer names are cut in silence.
NAME_MAX_BYTES = 63

# PostgreSQL, "System Columns": every table has them already.
_SYSTEM_COLUMNS = {"ctid", "cmin", "cmax", "xmin", "xmax", "tableoid"}

Values: TypeAlias = Callable[[Any], tuple[Any, ...]]


@attrs.frozen
class TableColumn:
    """One column: its name, how its values are stored, and where in the row object they are."""

    name: str
    kind: Kind
    path: tuple[str, ...]


def columns_of(cls: type[Any]) -> tuple[TableColumn, ...]:
    """Answer the columns of a record class, nested ones flattened, in declared order.

    Raises: `ConfigError` naming class and field for unsupported types and clashing names.
    """
    columns: dict[str, TableColumn] = {}
    if not annotations_of(cls):
        raise ConfigError(cls.__qualname__, "has no fields", "declare what a row holds")
    for column in _flattened(cls, (), (cls,)):
        field = f"{cls.__qualname__}.{'.'.join(column.path)}"
        twin = columns.setdefault(column.name, column)
        if twin is not column:
            said = f"makes the column {column.name!r}, which {'.'.join(twin.path)!r} makes too"
            raise ConfigError(field, said, "rename one of the fields")
        if len(column.name.encode()) > NAME_MAX_BYTES:
            said = f"makes a column name of more than {NAME_MAX_BYTES} bytes"
            raise ConfigError(field, said, "shorten the field's name")
        if column.name.startswith("_syncd_") or column.name in _SYSTEM_COLUMNS:
            raise ConfigError(field, f"{column.name!r} is a reserved name", "rename the field")
    return tuple(columns.values())


def _flattened(
    cls: type[Any], prefix: tuple[str, ...], around: tuple[type[Any], ...]
) -> Iterator[TableColumn]:
    for name, annotation in annotations_of(cls).items():
        path = (*prefix, name)
        plain = plain_of(annotation)
        nested = plain.type if is_record_class(plain.type) else None
        if nested and not plain.column:
            if nested in around:
                said = f"holds a {nested.__name__} within a {nested.__name__}"
                do = 'store it as one document: Annotated[..., Column("jsonb")]'
                raise ConfigError(f"{cls.__qualname__}.{name}", said, do)
            yield from _flattened(nested, path, (*around, nested))
        else:
            try:
                kind = kind_of(_python_type(plain), plain.column)
            except ValueError as wrong:
                do = 'change the type, or say Annotated[..., Column("jsonb")]'
                raise ConfigError(f"{cls.__qualname__}.{name}", str(wrong), do) from wrong
            yield TableColumn("_".join(path), kind, path)


def _python_type(plain: Plain) -> type[Any] | None:
    """Answer the type whose values a column holds, `None` for whatever JSON can say.

    Raises: `ValueError` for what has no column of its own, unless its column says jsonb.
    """
    origin = typing.get_origin(plain.type) or plain.type
    if origin is Literal:
        kinds = {type(choice) for choice in typing.get_args(plain.type)} - {type(None)}
        origin = kinds.pop() if len(kinds) == 1 else Literal
    if origin is Any or (plain.column and spelled_out(plain.column.sql_type) == "jsonb"):
        return None
    if isinstance(origin, type) and issubclass(origin, SCALARS):
        return origin
    if isinstance(origin, type) and issubclass(origin, Collection):
        return None
    raise ValueError(f"has the type {plain.type}, which no column can hold")


def values_of(columns: Sequence[TableColumn]) -> Values:
    """Make the function that takes a row object's values off it, as a tuple in column order.

    Where a nested object is `None`, so are its columns. Raises (from the function):
    `AttributeError` for an object of another class.
    """
    return values_at([column.path for column in columns])


def values_at(paths: Sequence[tuple[str, ...]]) -> Values:
    """Make the function that takes what lies on these paths off an object, as `values_of`."""
    if len(paths) > 1 and all(len(path) == 1 for path in paths):
        return operator.attrgetter(*(path[0] for path in paths))
    # Nested objects: generated, as attrs generates __init__, because it runs for every row
    # (twice as fast as calling a getter for each column). The names are Python identifiers.
    takes = ", ".join(map(_take, paths))
    values: Values = eval(f"lambda row: ({takes},)", {"__builtins__": {}})  # noqa: S307
    return values


def _take(path: Sequence[str]) -> str:
    parents = [".".join(("row", *path[:depth])) for depth in range(1, len(path))]
    value = ".".join(("row", *path))
    if not parents:
        return value
    return f"(None if {' or '.join(f'{parent} is None' for parent in parents)} else {value})"
