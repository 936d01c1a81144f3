"""Events that upstreams told by themselves: each is remembered with what was written for it."""

from __future__ import annotations

from datetime import datetime
from hashlib import blake2b

from syncd.sqlstates import repeatable
from syncd.store.hops import Connection
from syncd.store.statements import load

_SQL = load("event")

# Providers repeat what was not heard for hours or days (Stripe, which is the most patient one that
# says so, for three); a month also covers who is asked by hand to send something again.
KEPT_SECONDS = 30 * 86400.0
FORGET_AT_ONCE = 20_000  # rows one transaction deletes: about 0.1 s, so that nobody waits for it
ID_MAX_BYTES = 512  # of what is kept as it came


def remember(
    connection: Connection, instance: str, event_id: str, *, now: datetime | None = None
) -> bool:
    """Remember an event in the caller's transaction; answer with whether it is new."""
    named = {"instance": instance, "event_id": kept(event_id), "now": now}
    return connection.execute(_SQL["remember"], named).rowcount == 1


@repeatable
def forget(connection: Connection, *, now: datetime | None = None) -> int:
    """Forget events past their time, at most `FORGET_AT_ONCE`; answer with how many."""
    named = {"kept_seconds": KEPT_SECONDS, "most": FORGET_AT_ONCE, "now": now}
    return connection.execute(_SQL["forget"], named).rowcount


def kept(event_id: str) -> str:
    """Return an event id as it is kept: what is very long, or no text to PostgreSQL, as a hash."""
    as_bytes = event_id.encode(errors="surrogatepass")
    if 0 < len(as_bytes) <= ID_MAX_BYTES and event_id.isprintable():
        return event_id
    return f"blake2b:{blake2b(as_bytes, digest_size=16).hexdigest()}"
