r"""JSON for `jsonb` columns: exactly what was meant, or an error; nothing altered in silence.

msgspec writes NaN and infinity as null, and PostgreSQL refuses ``\u0000`` only after the whole
batch was sent (22P05). Both are met by searching the column's JSON as one piece, which costs 200 ns
a value, and by looking into a value itself only where the search found something.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

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
    if _is_suspicious(b" ".join(filter(None, encoded))):
        for value, data in zip(values, encoded, strict=True):
            if data and _is_suspicious(data):
                _look_into(value)
    return encoded


def _is_suspicious(data: bytes) -> bool:
    if any(data.find(rare) >= 0 and data.find(mark) >= 0 for rare, mark in _SUSPICIOUS):
        return True
    return len(data) > _DIGITS_MAX and len(data.translate(None, _NOT_DIGITS)) > _DIGITS_MAX


def _look_into(value: Any) -> None:
    """Raise `ValueError` for what JSON, `jsonb` or psycopg's reading of it has no word for."""
    waiting = [msgspec.to_builtins(value, builtin_types=(Decimal,), str_keys=True)]
    while waiting:
        match waiting.pop():
            case dict() as mapping:
                waiting += [*mapping.keys(), *mapping.values()]
            case list() | tuple() as items:
                waiting += items
            case str() as text if "\0" in text:
                raise ValueError("jsonb cannot hold the character NUL")
            case float() as number if not math.isfinite(number):
                raise ValueError(f"JSON has no {number}")
            case Decimal() as number:
                _refuse_unreadable(number)


def _refuse_unreadable(number: Decimal) -> None:
    if not number.is_finite():
        raise ValueError(f"JSON has no {number}")
    exponent = number.as_tuple().exponent
    # Of a whole number PostgreSQL writes all digits; any other one is read as a float.
    if isinstance(exponent, int) and exponent >= 0 and number.adjusted() >= _DIGITS_MAX:
        raise ValueError(f"a number of more than {_DIGITS_MAX} digits cannot be read back")
