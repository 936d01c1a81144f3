r"""JSON for `jsonb` columns: exactly what was meant, or an error; nothing altered in silence.

msgspec writes NaN and infinity as null, and PostgreSQL refuses ``\u0000`` only after the whole
batch was sent (22P05). Both are met by searching the encoded bytes, which costs some 100 ns, and by
looking at the value itself only where the search found something.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import attrs
import msgspec

_encode = msgspec.json.Encoder(decimal_format="number").encode

# `int(str)` and `json.loads` refuse more digits than this (CPython, sys.int_info), so psycopg could
# not read such a number back (P28). PostgreSQL itself would take 131,072.
_DIGITS_MAX = 4300
_NOT_DIGITS = bytes(set(range(256)) - set(b"0123456789"))
_SUSPICIOUS = (b"null", b"\\u0000", b"NaN", b"Infinity", b"E+")


def encoded(value: Any) -> bytes:
    """Encode a value as JSON that PostgreSQL stores and psycopg reads back.

    Decimals are JSON numbers, moments and UUIDs text, attrs objects mappings.

    Raises: `ValueError`, `TypeError` or `RecursionError` for what JSON or `jsonb` cannot say.
    """
    data = _encode(value)
    if any(mark in data for mark in _SUSPICIOUS) or (
        len(data) > _DIGITS_MAX and len(data.translate(None, _NOT_DIGITS)) > _DIGITS_MAX
    ):
        _look_into(value)
    return data


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
        if abs(value.adjusted()) >= _DIGITS_MAX or len(value.as_tuple().digits) > _DIGITS_MAX:
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
