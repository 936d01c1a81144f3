r"""JSON for `jsonb` columns: exactly what was meant, or an error; nothing altered in silence.

msgspec writes NaN and infinity as null, and PostgreSQL refuses ``\u0000`` only after the whole
batch was sent (22P05). Both are met by searching the column's JSON as one piece, which costs 200 ns
a value, and by looking into the values themselves only where the search found something.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import attrs
import msgspec

_encode = msgspec.json.Encoder(decimal_format="number").encode

# `int` and `json.loads` refuse more digits than this (CPython, "Integer string conversion length
# limitation"), so psycopg could not read such a number back (P28). PostgreSQL takes 131,072.
_DIGITS_MAX = 4300
_NOT_DIGITS = bytes(set(range(256)) - set(b"0123456789"))
# Each behind a character of its own that is rare: looking for one byte costs next to nothing.
_SUSPICIOUS = ((b"n", b"null"), (b"\\", b"\\u0000"), (b"N", b"NaN"), (b"I", b"Inf"), (b"+", b"E+"))


def documents(values: Sequence[Any]) -> list[bytes | None]:
    """Encode a column's values as JSON that PostgreSQL stores and psycopg reads back.

    Decimals become JSON numbers, moments and UUIDs text, attrs objects mappings; `None` stays.

    Raises: `ValueError`, `TypeError` or `RecursionError` for what JSON or `jsonb` cannot say.
    """
    encoded = [None if value is None else _encode(value) for value in values]
    together = b" ".join(filter(None, encoded))
    if any(rare in together and mark in together for rare, mark in _SUSPICIOUS) or any(
        data and len(data) > _DIGITS_MAX and len(data.translate(None, _NOT_DIGITS)) > _DIGITS_MAX
        for data in encoded
    ):
        for value in values:
            _look_into(value)
    return encoded


def _look_into(value: Any) -> None:
    if isinstance(value, str):
        if "\0" in value:
            raise ValueError("jsonb cannot hold the character NUL")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"JSON has no {value}")
    elif isinstance(value, Decimal):
        if not value.is_finite():
            raise ValueError(f"JSON has no {value}")
        exponent = value.as_tuple().exponent
        # Of a whole number PostgreSQL writes all digits; any other one is read as a float.
        if isinstance(exponent, int) and exponent >= 0 and value.adjusted() >= _DIGITS_MAX:
            raise ValueError(f"a number of more than {_DIGITS_MAX} digits cannot be read back")
    elif isinstance(value, Mapping):
        for name, item in value.items():
            _look_into(name)
            _look_into(item)
    elif isinstance(value, list | tuple | set | frozenset):
        for item in value:
            _look_into(item)
    elif attrs.has(type(value)):
        for field in attrs.fields(type(value)):
            _look_into(getattr(value, field.name))
