"""What a setting may be: each kind reads its value, and says itself in JSON Schema and in words.

One small structurer of our own in place of cattrs, which was tried and reports less: of a class's
validators only the first that objects, not naming its field; exceptions that repeat the value, also
a secret's; and numbers taken from text. Here every problem is listed, by its key in the file.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import attrs

from syncd.config.reading import INVALID, Invalid, Reading
from syncd.config.values import (
    DURATION_PATTERN,
    SIZE_PATTERN,
    Unwanted,
    did_you_mean,
    dotted,
    duration_seconds,
    duration_text,
    shown,
    size_bytes,
    size_text,
)
from syncd.model import Secret

DEFINITIONS: Final[dict[str, dict[str, Any]]] = {
    "interpolated": {
        "description": "Text with ${VARIABLES}: what it becomes is seen when syncd starts.",
        "type": "string",
        "pattern": r"\$\{",
    },
    "duration": {
        "description": "Numbers with the units w, d, h, m, s, ms, largest first.",
        "type": "string",
        "pattern": rf"^{DURATION_PATTERN}$|\$\{{",
    },
    "size": {
        "description": "A number with B, kB, MB, GB, TB (1000) or KiB, MiB, GiB, TiB (1024).",
        "type": "string",
        "pattern": rf"^{SIZE_PATTERN}$|\$\{{",
    },
    "secret": {
        "description": "Text, such as ${VARIABLE}, or the path of a file that holds it.",
        "oneOf": [
            {"type": "string", "minLength": 1},
            {
                "type": "object",
                "properties": {"file": {"type": "string", "minLength": 1}},
                "required": ["file"],
                "additionalProperties": False,
            },
        ],
    },
}


def _defined(name: str) -> dict[str, Any]:
    return {"$ref": f"#/$defs/{name}"}


class Kind(Protocol):
    """One kind of value."""

    @property
    def wanted(self) -> str:
        """In words, for the reference: ``duration``."""
        ...

    def read(self, value: Any, key: str, reading: Reading) -> Any | Invalid:
        """Turn a TOML value into ours, or list what is wrong with it."""
        ...

    def schema(self) -> dict[str, Any]:
        """Describe the TOML value in JSON Schema."""
        ...

    def write(self, value: Any) -> Any:
        """Turn one of our values (a default) into TOML's, which is JSON's."""
        ...


def _same(value: Any) -> Any:
    return value


@attrs.frozen
class Text:
    """A TOML string, with variables, that is converted by a function raising `Unwanted`."""

    wanted: str = "text"
    convert: Callable[[str], Any] = _same
    write: Callable[[Any], Any] = _same
    sentence: str = "wanted text"

    def read(self, value: Any, key: str, reading: Reading) -> Any | Invalid:
        if not isinstance(value, str):
            return reading.unwanted(key, value, self.sentence)
        text = reading.text(value, key)
        if text is INVALID:
            return INVALID
        return reading.foreign(lambda: self.convert(text), key, found=shown(value))

    def schema(self) -> dict[str, Any]:
        return _defined(self.wanted) if self.wanted in DEFINITIONS else {"type": "string"}


DURATION: Final = Text(
    "duration",
    duration_seconds,
    duration_text,
    'wanted a duration such as "30s", "6h" or "1h30m"',
)
SIZE: Final = Text("size", size_bytes, size_text, 'wanted a size such as "64MiB"')


def _integer(value: Any) -> int:
    if type(value) is int and abs(value) < 2**63:  # as TOML 1.0 bounds it; PostgreSQL, too
        return value
    raise Unwanted("wanted an integer")


def _number(value: Any) -> float:
    if type(value) in (int, float) and abs(value) < 2**63 and math.isfinite(value):
        return float(value)
    raise Unwanted("wanted a number")


def _flag(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise Unwanted("wanted true or false")


@attrs.frozen
class Plain:
    """A TOML integer, float or boolean."""

    wanted: str
    convert: Callable[[Any], Any]
    json_type: str

    def read(self, value: Any, key: str, reading: Reading) -> Any | Invalid:
        return reading.foreign(lambda: self.convert(value), key, found=shown(value))

    def schema(self) -> dict[str, Any]:
        return {"type": self.json_type}

    def write(self, value: Any) -> Any:
        return value


INTEGER: Final = Plain("integer", _integer, "integer")
NUMBER: Final = Plain("number", _number, "number")
FLAG: Final = Plain("true or false", _flag, "boolean")


@attrs.frozen
class Choice:
    """One of a few values."""

    values: tuple[Any, ...]

    @property
    def wanted(self) -> str:
        return " or ".join(self._quoted)

    @property
    def _quoted(self) -> tuple[str, ...]:
        return tuple(f'"{v}"' if isinstance(v, str) else str(v).lower() for v in self.values)

    def read(self, value: Any, key: str, reading: Reading) -> Any | Invalid:
        found = reading.text(value, key) if isinstance(value, str) else value
        if found is INVALID:
            return INVALID
        for choice in self.values:
            if type(found) is type(choice) and found == choice:
                return choice
        near = did_you_mean(value, map(str, self.values)) if isinstance(value, str) else ""
        return reading.unwanted(key, value, f"wanted {self.wanted}{near}")

    def schema(self) -> dict[str, Any]:
        return {"anyOf": [{"enum": list(self.values)}, _defined("interpolated")]}

    def write(self, value: Any) -> Any:
        return value


@attrs.frozen
class FilePath:
    """A path, relative to the folder of the configuration file."""

    wanted: str = "path"

    def read(self, value: Any, key: str, reading: Reading) -> Path | Invalid:
        if not isinstance(value, str):
            return reading.unwanted(key, value, "wanted a path")
        return reading.path(value, key)

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "minLength": 1}

    def write(self, value: Path) -> str:
        return str(value)


@attrs.frozen
class Hidden:
    """A secret: a text, or a file that holds it."""

    wanted: str = "secret"

    def read(self, value: Any, key: str, reading: Reading) -> Secret | Invalid:
        return reading.secret(value, key)

    def schema(self) -> dict[str, Any]:
        return _defined(self.wanted)

    def write(self, value: Secret) -> str:  # noqa: ARG002 - a secret is never written
        return "***"


@attrs.frozen
class Named:
    """A table whose keys are names, each of one kind."""

    of: Kind

    @property
    def wanted(self) -> str:
        return f"tables of {self.of.wanted}"

    def read(self, value: Any, key: str, reading: Reading) -> dict[str, Any] | Invalid:
        if not isinstance(value, Mapping):
            return reading.unwanted(key, value, f"wanted tables [{key}.NAME]")
        named = {n: self.of.read(v, f"{key}.{dotted(n)}", reading) for n, v in value.items()}
        return INVALID if INVALID in named.values() else named

    def schema(self) -> dict[str, Any]:
        return {"type": "object", "additionalProperties": self.of.schema()}

    def write(self, value: Mapping[str, Any]) -> dict[str, Any]:
        return {name: self.of.write(each) for name, each in value.items()}


@attrs.frozen
class Words:
    """Words that stand for themselves where a secret may stand (in `Annotated`)."""

    words: tuple[str, ...]


@attrs.frozen
class WordOrHidden(Hidden):
    """One of a few words, or a secret."""

    words: tuple[str, ...] = ()

    def read(self, value: Any, key: str, reading: Reading) -> Secret | Invalid:
        if isinstance(value, str) and value in self.words:
            return Secret(value)  # and none is made of it: messages may hold that word
        return super().read(value, key, reading)

    def write(self, value: Secret) -> str:
        return value.reveal()  # only a default is written, and that is a word


@attrs.frozen
class Many:
    """An array of one kind."""

    of: Kind

    @property
    def wanted(self) -> str:
        return f"array of {self.of.wanted}"

    def read(self, value: Any, key: str, reading: Reading) -> tuple[Any, ...] | Invalid:
        if not isinstance(value, list):
            return reading.unwanted(key, value, f"wanted an array of {self.of.wanted}")
        items = [self.of.read(v, f"{key}[{n}]", reading) for n, v in enumerate(value)]
        return INVALID if INVALID in items else tuple(items)

    def schema(self) -> dict[str, Any]:
        return {"type": "array", "items": self.of.schema()}

    def write(self, value: Sequence[Any]) -> list[Any]:
        return [self.of.write(v) for v in value]
