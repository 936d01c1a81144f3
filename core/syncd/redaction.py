"""What must not be kept of a record that is set aside: fields its stream names. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b
from typing import Any

import attrs

from syncd.errors import Rejected

MASK = "***"
WITHHELD = "what was said of it is not kept, for its stream is redacted and it cannot be read"

_UNREADABLE = (ValueError, RecursionError)  # no JSON, no UTF-8, digits without end; too deep


@attrs.frozen
class Redaction:
    """Takes the values of some fields out of a record's bytes and of what is said of it.

    A path is followed through objects by name, and through every element of an array. Where it
    ends early at a value (an upstream that sends a name for a person), that value goes.
    """

    paths: tuple[tuple[str, ...], ...]

    @classmethod
    def of(cls, fields: Sequence[str]) -> Redaction:
        return cls(tuple(tuple(field.split(".")) for field in fields))

    def __call__(self, one: Rejected) -> Rejected:
        """Return the same without these values; bytes that cannot be read are not kept."""
        if not self.paths:
            return one
        one = attrs.evolve(one, parent=None)  # nobody makes anything of the rest any more
        if one.raw is None:
            return attrs.evolve(one, message=WITHHELD)
        one = attrs.evolve(one, raw_bytes=len(one.raw), raw_hash=digest(one.raw))
        taken: list[Any] = []
        try:
            value = json.loads(one.raw or b"")
            for path in self.paths:
                value = _without(value, path, taken)
            raw = json.dumps(value, separators=(",", ":")).encode()
        except _UNREADABLE:
            return attrs.evolve(one, raw=None, message=WITHHELD)
        return attrs.evolve(one, raw=raw, message=_masked(one.message, taken))


def without_secrets(one: Rejected, mask: Callable[[str], str]) -> Rejected:
    """Return the same as `mask` leaves it: an upstream may send back what it was sent."""
    raw = one.raw
    if raw is not None:
        shown = mask(raw.decode(errors="surrogateescape")).encode(errors="surrogateescape")
        if shown != raw:
            size, known_by = one.raw_bytes or len(raw), one.raw_hash or digest(raw)
            one = attrs.evolve(one, raw=shown, raw_bytes=size, raw_hash=known_by)
    return attrs.evolve(one, message=mask(one.message))


def digest(raw: bytes) -> bytes:
    """Return by what a record is known whose bytes are not kept."""
    return blake2b(raw, digest_size=16).digest()


def _without(value: Any, path: Sequence[str], taken: list[Any]) -> Any:
    """Return a value without what lies on a path; that goes to `taken`."""
    if value is None:
        return None
    if not path:
        taken.append(value)
        return MASK
    if isinstance(value, list):
        return [_without(each, path, taken) for each in value]
    if not isinstance(value, dict):
        taken.append(value)
        return MASK
    if path[0] in value:
        value[path[0]] = _without(value[path[0]], path[1:], taken)
    return value


def _masked(text: str, taken: Sequence[Any]) -> str:
    spelled = {form for value in taken for form in _spelled(value)} - {""}
    for form in sorted(spelled, key=len, reverse=True):  # the longest first: one may hold another
        text = text.replace(form, MASK)
    return text


def _spelled(value: Any) -> Iterator[str]:
    """Spell every text and number of a value as a message may quote it."""
    if isinstance(value, dict):
        for name, each in value.items():
            yield from _spelled(name)
            yield from _spelled(each)
    elif isinstance(value, list):
        for each in value:
            yield from _spelled(each)
    elif isinstance(value, str):
        yield from (value, repr(value)[1:-1], json.dumps(value)[1:-1])
        yield json.dumps(value, ensure_ascii=False)[1:-1]
        yield value.encode(errors="backslashreplace").decode()
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield str(value)
