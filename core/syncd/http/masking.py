"""Nothing that an upstream sends back is printed with a secret in it."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import parse_qsl, quote, quote_plus

from syncd.model import Secret

MASK = "***"
EXCERPT_CHARACTERS = 200

# A header or parameter of such a name holds a secret, whether or not its author wrapped it in one.
_SENSITIVE = re.compile(r"auth|cookie|key|passw|secret|signature|token", re.IGNORECASE)

# Words that stand before a credential (RFC 9110 11.1) and are none.
_SCHEMES = frozenset({"apikey", "basic", "bearer", "digest", "negotiate", "token"})

# What stands in a JSON body under such a name: an answer that goes astray may hold a new token.
_NAMED = re.compile(r'("\w*(?:token|secret|passw\w*)"\s*:\s*")(?:[^"\\]|\\.)+', re.IGNORECASE)

# Shorter pieces of a value ("v1", "app") occur everywhere; the value as a whole is always masked.
_PIECE_CHARACTERS_MIN = 6


def secrets_of(headers: Mapping[str, str | Secret]) -> tuple[str, ...]:
    """Return every text by which a secret of these headers could be recognised, longest first."""
    found: set[str] = set()
    for name, value in headers.items():
        if isinstance(value, Secret):
            found |= _forms(value.reveal())
        elif _SENSITIVE.search(name):
            found |= _forms(value)
    return longest_first(found)


def secrets_in(query: str) -> tuple[str, ...]:
    """Return the values of a query's parameters that are secrets by their name."""
    pairs = parse_qsl(query, keep_blank_values=False)
    return longest_first(
        {form for name, value in pairs if _SENSITIVE.search(name) for form in _forms(value)}
    )


def longest_first(secrets: Iterable[str]) -> tuple[str, ...]:
    """Order secrets for `masked`: one that another begins with would leave the other's rest."""
    return tuple(sorted(set(secrets), key=len, reverse=True))


def masked(text: str, secrets: Sequence[str]) -> str:
    """Replace every secret in a text, in capitals or not (hosts and media types are folded)."""
    if not secrets:
        return text
    return re.sub("|".join(map(re.escape, secrets)), MASK, text, flags=re.IGNORECASE)


def excerpt(content: bytes, secrets: Sequence[str]) -> str:
    """Return the beginning of a body for a message: printable, on one line, without secrets."""
    # Masked before it is cut, so that no half of a secret stays at the end.
    text = masked(content.decode("utf-8", errors="replace"), secrets)
    text = _NAMED.sub(rf"\1{MASK}", text)
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= EXCERPT_CHARACTERS else f"{line[:EXCERPT_CHARACTERS]}..."


def _forms(value: str) -> set[str]:
    """Say how a header's value may come back: whole, its credential alone, quoted, decoded."""
    pieces = value.split()
    words = {value} | {
        piece
        for piece in pieces
        if len(piece) >= _PIECE_CHARACTERS_MIN and piece.lower() not in _SCHEMES
    }
    if pieces and pieces[0].lower() == "basic":
        words |= _basic(pieces[-1])
    return {form for word in words if word for form in _spelled(word)}


def _spelled(word: str) -> tuple[str, ...]:
    """Spell a word plainly, as a part of an address, and as JSON may have it."""
    told = json.dumps(word)[1:-1]
    return word, quote(word, safe=""), quote_plus(word), told, told.replace("/", "\\/")


def _basic(credential: str) -> set[str]:
    """Decode Basic's user and password (RFC 7617)."""
    try:
        pair = base64.b64decode(credential, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return set()
    return {pair, pair.partition(":")[2]}
