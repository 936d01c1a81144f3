"""The JSON Schema (2020-12) of a log line, from the classes of `syncd.events`.

`python -m syncd.event_schema` prints it as it is committed: `syncd_schemas/events.schema.json`.
"""

from __future__ import annotations

import inspect
import json
import sys
from types import NoneType, UnionType
from typing import Any, Final, Literal, Union, get_args, get_origin, get_type_hints

import attrs

from syncd.events import Event, catalogue

# What `observe` adds to an event's own fields.
_OF_EVERY_LINE: Final = ("event", "level", "timestamp")

_PLAIN: Final[dict[Any, str]] = {
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
    NoneType: "null",
}


def generate() -> dict[str, Any]:
    """Describe every line that syncd logs, exactly: each field is there, and no other is."""
    kinds = sorted(catalogue().items())
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "syncd log line",
        "description": "One event. Durations are in seconds, sizes in bytes, counts are plurals.",
        "type": "object",
        "properties": {"event": {"enum": [name for name, _ in kinds]}},
        "required": ["event"],
        "oneOf": [{"$ref": f"#/$defs/{name}"} for name, _ in kinds],
        "$defs": {name: _line(kind) for name, kind in kinds},
    }


def _line(kind: type[Event]) -> dict[str, Any]:
    types = get_type_hints(kind)
    own = {field.name: _values(types[field.name]) for field in attrs.fields(kind)}
    return {
        "description": inspect.getdoc(kind),
        "type": "object",
        "properties": {
            "event": {"const": kind.name},
            "level": {"const": kind.level},
            "timestamp": {"type": "string", "format": "date-time"},
            **own,
        },
        "required": [*_OF_EVERY_LINE, *own],
        "additionalProperties": False,
    }


def _values(annotation: Any) -> dict[str, Any]:
    """Describe the values of a field.

    Raises: `TypeError` for a type that a log line cannot carry as it is.
    """
    if get_origin(annotation) is Literal:
        return {"enum": list(get_args(annotation))}
    union = get_origin(annotation) in {Union, UnionType}
    members = get_args(annotation) if union else (annotation,)
    if not all(member in _PLAIN for member in members):
        raise TypeError(f"{annotation}: the fields of events are texts, numbers, booleans or None")
    names = [_PLAIN[member] for member in members]
    return {"type": names if union else names[0]}


def main() -> None:
    """Print the schema as it is committed."""
    sys.stdout.write(json.dumps(generate(), indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
