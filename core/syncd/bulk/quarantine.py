"""Setting rejected records aside, one row each, for an operator to look at and put back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from hashlib import blake2b
from typing import Any

import psycopg

from syncd.bulk.jsonb import documents
from syncd.bulk.versions import BIGINT_MAX, BIGINT_MIN
from syncd.errors import Rejected, sayable

RAW_MAX_BYTES = 64 * 1024
PARENT_MAX_BYTES = 8 * 1024  # as JSON: some keys of what a record stood in
TEXT_MAX_CHARS = 8 * 1024  # of a key or a message: some repeat the whole value

_CONTENT = (
    "key",
    "reason",
    "message",
    "raw",
    "raw_bytes",
    "raw_hash",
    "version",
    "pass_id",
    "cursor",
    "parent",
    "sent_at",
)
# A record that comes again in an older state does not take the place of the newer one.
_NEWER = "(q.version IS NULL OR excluded.version IS NULL OR excluded.version >= q.version)"
_RENEWED = ", ".join(f"{c} = CASE WHEN {_NEWER} THEN excluded.{c} ELSE q.{c} END" for c in _CONTENT)
_QUARANTINE = f"""
    INSERT INTO syncd.quarantine AS q (instance, account, stream, record_key, {", ".join(_CONTENT)},
                                       first_seen_at, last_seen_at, repeats)
    SELECT %(instance)s::text, %(account)s::text, r.stream, r.record_key, r.key,
           r.reason, r.message, r.raw, r.raw_bytes, r.raw_hash, r.version, %(pass_id)s::bigint,
           r.cursor, r.parent::jsonb, r.sent_at,
           coalesce(r.seen_at, clock.now), coalesce(r.seen_at, clock.now), r.times - 1
    FROM unnest(%(stream)s::text[], %(record_key)s::bytea[], %(key)s::text[], %(reason)s::text[],
                %(message)s::text[], %(raw)s::bytea[], %(raw_bytes)s::bigint[],
                %(raw_hash)s::bytea[], %(version)s::bigint[], %(cursor)s::text[],
                %(parent)s::text[], %(sent_at)s::timestamptz[], %(seen_at)s::timestamptz[],
                %(times)s::int[])
         AS r (stream, record_key, key, reason, message, raw, raw_bytes, raw_hash, version, cursor,
               parent, sent_at, seen_at, times),
         (SELECT syncd.clock(%(now)s::timestamptz) AS now) AS clock
    ORDER BY r.stream COLLATE "C", r.record_key
    ON CONFLICT (instance, account, stream, record_key) DO UPDATE SET {_RENEWED},
        last_seen_at = greatest(q.last_seen_at, excluded.last_seen_at),
        repeats = q.repeats + excluded.repeats + 1
"""  # noqa: S608  # made of constants


def quarantine(
    conn: psycopg.Connection[Any],
    rejected: Sequence[Rejected],
    *,
    instance: str,
    account: str,
    pass_id: int | None,
    now: datetime | None = None,
) -> int:
    """Set records aside in `syncd.quarantine`, in one statement of the caller's transaction.

    A record is known by its key, by its bytes where no key could be read, by the message where
    there are neither; one that is there already counts up and, unless it is older, shows its
    latest state. `now` takes the place of the server's clock. Answers with the number of records.
    """
    rows = _merged(rejected)
    if not rows:
        return 0
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    given = {"instance": instance, "account": account, "pass_id": pass_id, "now": now}
    conn.execute(_QUARANTINE, {**given, **columns}, prepare=False)
    return len(rows)


def key_text(named: Mapping[str, Any]) -> str:
    """Return a key, by field, as the quarantine shows it and knows a record by."""
    return json.dumps(dict(named), ensure_ascii=False, default=str)


def _merged(rejected: Sequence[Rejected]) -> list[dict[str, Any]]:
    """Answer one row for each record, its newest state, with how many times it came."""
    rows: dict[tuple[str, bytes], dict[str, Any]] = {}
    for one in rejected:
        row = _row(one)
        known = rows.setdefault((one.stream, row["record_key"]), row)
        if known is row:
            continue
        times = known["times"] + 1
        if None in (known["version"], row["version"]) or row["version"] >= known["version"]:
            known.update(row)
        known["times"] = times
    return list(rows.values())


def _row(one: Rejected) -> dict[str, Any]:
    fits = one.version is not None and BIGINT_MIN <= one.version <= BIGINT_MAX
    raw_hash = one.raw_hash
    if raw_hash is None and one.raw is not None:
        raw_hash = _digest(one.raw)
    by_key = None if one.key is None else _digest(_bytes(one.key))
    return {
        "stream": one.stream,
        "record_key": by_key or raw_hash or _digest(_bytes(one.message)),
        "key": None if one.key is None else storable(one.key),
        "reason": one.reason,
        "message": storable(one.message),
        "raw": None if one.raw is None else one.raw[:RAW_MAX_BYTES],
        "raw_bytes": _size(one),
        "raw_hash": raw_hash,
        "version": one.version if fits else None,
        "cursor": None if one.cursor is None else storable(one.cursor),
        "parent": _document(one.parent),
        "sent_at": one.sent_at,
        "seen_at": one.seen_at,
        "times": 1,
    }


def _document(parent: Mapping[str, Any] | None) -> str | None:
    """Return what a record's surroundings gave it as JSON, or nothing where that cannot be said."""
    if parent is None:
        return None
    try:
        (encoded,) = documents([dict(parent)])
    except (TypeError, ValueError, OverflowError, RecursionError):  # a plugin's values
        return None
    if encoded is None or len(encoded) > PARENT_MAX_BYTES:
        return None
    return encoded.decode()


def _size(one: Rejected) -> int | None:
    if one.raw_bytes is not None:
        return one.raw_bytes
    return None if one.raw is None else len(one.raw)


def _digest(content: bytes) -> bytes:
    return blake2b(content, digest_size=16).digest()


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogatepass")


def storable(text: str) -> str:
    """Make any text storable, visibly, and cut it."""
    shown = sayable(text)
    return shown if len(shown) <= TEXT_MAX_CHARS else f"{shown[:TEXT_MAX_CHARS]}..."
