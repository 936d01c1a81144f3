"""Which of two states of a record is the newer one, and how rows are made of records. Pure."""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import blake2b
from typing import Any, TypeAlias

from syncd.bulk.classes import annotations_of, defaults_of, is_record_class, plain_of
from syncd.bulk.columns import columns_of
from syncd.errors import ConfigError, RecordError
from syncd.model import AsyncTransform, Stream, Transform

VersionOf: TypeAlias = Callable[[Any, datetime], int]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
BIGINT_MIN, BIGINT_MAX = -(2**63), 2**63 - 1


def version_of(stream: Stream) -> VersionOf:
    """Make the function that answers a row's version, given when its request was sent.

    The version is what the stream declares: a revision as it is, or an update time in microseconds
    since 1970, no later than `sent_at` (a clock that runs ahead would win for ever). An update time
    that is `None`, and every row of a stream that declares nothing, has `sent_at`.

    Raises: `ConfigError` if the field is neither an int nor a datetime, or a revision may be
    missing: revisions and moments do not compare. From the function: `RecordError` (quarantine) if
    the value is of another type, or does not fit into 64 bits.
    """
    if stream.version is None:
        return lambda _row, sent_at: _of_request(sent_at)
    field, kind = stream.version, _version_type(stream)
    where = f"{stream.name}.{field}"

    def revision(row: Any, _sent_at: datetime) -> int:
        value = getattr(row, field)
        if not isinstance(value, int):
            raise RecordError(where, f"the revision is {value!r}, not an int")
        if not BIGINT_MIN <= value <= BIGINT_MAX:
            raise RecordError(where, "the revision does not fit into 64 bits")
        return value

    def updated(row: Any, sent_at: datetime) -> int:
        value = getattr(row, field)
        if value is None:
            return _of_request(sent_at)
        if not isinstance(value, datetime) or value.tzinfo is None:
            raise RecordError(where, f"the update time is {value!r}, not a moment with a zone")
        return microseconds(min(value, sent_at))

    return revision if issubclass(kind, int) else updated


def microseconds(moment: datetime) -> int:
    """Answer the microseconds since 1970 in UTC."""
    return (moment - _EPOCH) // _MICROSECOND


_of_request = lru_cache(maxsize=64)(microseconds)  # all records of a page share that moment


def version_rule(stream: Stream) -> str:
    """Say by what the versions of a stream's rows are reckoned."""
    if stream.version is None:
        return "sent_at"
    return f"{'revision' if issubclass(_version_type(stream), int) else 'updated'}:{stream.version}"


def _version_type(stream: Stream) -> type[Any]:
    where = f"{stream.name}: version {stream.version!r}"
    annotation = annotations_of(stream.row_class).get(stream.version or "")
    plain = plain_of(annotation)
    kind = plain.type
    if not isinstance(kind, type) or not issubclass(kind, int | datetime) or kind is bool:
        said = f"is no int and no datetime of {stream.row_class.__qualname__}"
        raise ConfigError(where, said, "name a field that orders a record's states")
    if issubclass(kind, int) and plain.optional:
        said = "may be missing, and a revision does not compare with the time of a request"
        raise ConfigError(where, said, "make the field an int, or leave out the version")
    return kind


def row_fingerprint(
    stream: Stream,
    transforms: Sequence[Transform | AsyncTransform],
    settings: Mapping[str, Any],
) -> dict[str, str]:
    """Answer how rows are made of records: where it differs, the next pass must be a full one.

    `transforms` are those of the stream, `settings` those that they read. Answers with ``row``, a
    digest of columns, record class, transforms, settings and version rule, and ``version_rule`` by
    itself: where that one differs, the full pass is written without the version guard.
    """
    rule = version_rule(stream)
    said = {
        "columns": [(c.name, c.kind.sql) for c in columns_of(stream.row_class)],
        "key": [stream.mode, stream.per_account, *stream.key],
        "shortcut": [stream.shortcut, *sorted(stream.volatile)],
        "record": _shape(stream.record),
        "transforms": [
            (t.order, t.name, t.version)
            for t in sorted(transforms, key=lambda t: (t.order, t.name, t.version))
        ],
        "settings": settings,
        "version_rule": rule,
    }
    text = json.dumps(said, sort_keys=True, default=_said)
    return {"row": blake2b(text.encode(), digest_size=16).hexdigest(), "version_rule": rule}


def _shape(annotation: Any, around: tuple[Any, ...] = ()) -> Any:
    """Describe a type so that equal types read alike in every release of Python."""
    plain = plain_of(annotation)
    origin = typing.get_origin(plain.type) or plain.type
    name = "Union" if origin is types.UnionType else getattr(origin, "__qualname__", repr(origin))
    if plain.type in around:
        return name
    if is_record_class(plain.type):
        around = (*around, plain.type)
        defaults = defaults_of(plain.type)
        return [
            (field, _shape(hint, around), _said_default(defaults[field]))
            for field, hint in annotations_of(plain.type).items()
        ]
    return [name, plain.optional, *(_shape(a, around) for a in typing.get_args(plain.type))]


def _said_default(default: Any) -> Any:
    return default if isinstance(default, str | int | float | bool | None) else "made"


def _said(value: Any) -> Any:
    if isinstance(value, set | frozenset):
        return sorted(map(repr, value))
    return repr(value)
