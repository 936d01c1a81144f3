"""The outbox: effects are enqueued with their rows, claimed, and what became of them is recorded.

A claim is a lease in small: it has an epoch and a token, and runs out by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import attrs

from syncd import faults
from syncd.effects import Fate
from syncd.model import JSON, EffectKind
from syncd.sqlstates import repeatable
from syncd.store.hops import Connection
from syncd.store.selection import Outgoing
from syncd.store.statements import load

_SQL = load("effect")
_LOCK = 0x5CF1_EF  # any number that nobody else in the database takes

REMEMBER_SECONDS = 400 * 86400.0
FORGET_AT_ONCE = 10_000


@attrs.frozen
class Posting:
    """One effect as it is enqueued: to whom, and what it follows from. `payload` is JSON."""

    instance: str
    account: str
    kind: str
    key: str
    payload: str
    ordering_key: str | None
    delay_seconds: float
    source: str
    row_version: int | None


@attrs.frozen
class Enqueued:
    """What a transaction enqueued: how many by kind; and keys that were delivered otherwise."""

    counts: Mapping[str, int] = attrs.field(factory=dict)
    conflicts: Sequence[tuple[str, str]] = ()  # kind and key


def enqueue(
    connection: Connection,
    postings: Sequence[Posting],
    *,
    ordered: bool,
    now: datetime | None = None,
) -> Enqueued:
    """Enqueue effects in the caller's transaction; keys are distinct. `ordered`: some kind is."""
    columns = {
        "instances": [each.instance for each in postings],
        "accounts": [each.account for each in postings],
        "kinds": [each.kind for each in postings],
        "keys": [each.key for each in postings],
        "payloads": [each.payload for each in postings],
        "ordering_keys": [each.ordering_key for each in postings],
        "delays": [each.delay_seconds for each in postings],
        "sources": [each.source for each in postings],
        "versions": [each.row_version for each in postings],
    }
    if ordered:
        connection.execute(_SQL["order"], {"lock": _LOCK, **columns})
    rows = connection.execute(_SQL["enqueue"], {**columns, "now": now}).fetchall()
    faults.point("effects_enqueued")
    return Enqueued(
        {row["kind"]: row["enqueued"] for row in rows if row["conflict"] is None},
        [(row["kind"], row["conflict"]) for row in rows if row["conflict"] is not None],
    )


@attrs.frozen
class Claimed:
    """One effect under a claim of ours; `attempts` counts this one."""

    id: int
    account: str
    key: str
    payload: JSON
    attempts: int
    epoch: int
    age_seconds: float
    last_error: str | None


def claim(
    connection: Connection,
    kind: EffectKind,
    *,
    instance: str,
    accounts: Sequence[str],
    owner: UUID,
    token: UUID,
    claim_seconds: float,
    now: datetime | None = None,
) -> list[Claimed]:
    """Claim a bulk of effects of one kind, all of one account."""
    asked = {
        "kind": kind.name,
        "instance": instance,
        "accounts": list(accounts),
        "ordered": kind.ordered,
        "skip_dead": kind.skip_dead,
        "most": kind.bulk_max,
        "owner": owner,
        "token": token,
        "claim_seconds": claim_seconds,
        "now": now,
    }
    connection.execute(_SQL["read_in_order"])
    rows = connection.execute(_SQL["claim"], asked).fetchall()
    names = [field.name for field in attrs.fields(Claimed)]
    return [Claimed(**{name: row[name] for name in names}) for row in rows]


@repeatable
def renew(
    connection: Connection,
    ids: Sequence[int],
    *,
    token: UUID,
    claim_seconds: float,
    now: datetime | None = None,
) -> set[int]:
    """Lengthen a claim on effects; answer with those that are still ours."""
    asked = {"ids": list(ids), "token": token, "claim_seconds": claim_seconds, "now": now}
    return {row["id"] for row in connection.execute(_SQL["renew"], asked)}


@repeatable
def record(
    connection: Connection,
    fates: Sequence[tuple[Claimed, Fate]],
    *,
    token: UUID,
    now: datetime | None = None,
) -> set[int]:
    """Record what became of effects; answer with those of which that was news.

    A success is recorded whoever holds the claim by now, anything else only under our own.
    """
    ordered = sorted(fates, key=lambda each: each[0].id)
    asked = {
        "ids": [claimed.id for claimed, _ in ordered],
        "epochs": [claimed.epoch for claimed, _ in ordered],
        "states": [fate.state for _, fate in ordered],
        "errors": [fate.error for _, fate in ordered],
        "responses": [fate.response for _, fate in ordered],
        "waits": [fate.wait_seconds for _, fate in ordered],
        "unspent": [int(not fate.counts) for _, fate in ordered],
        "token": token,
        "now": now,
    }
    recorded = {row["id"] for row in connection.execute(_SQL["record"], asked)}
    faults.point("effects_recorded")
    return recorded


@repeatable
def flooded(connection: Connection, kinds: Sequence[str], most: int) -> list[str]:
    """Return those of these kinds of which more than `most` effects are open."""
    rows = connection.execute(_SQL["flooded"], {"kinds": list(kinds), "most": most})
    return [row["kind"] for row in rows]


@repeatable
def produce(connection: Connection, instance: str, kinds: Mapping[str, Sequence[str]]) -> None:
    """Note which kinds of effects the partitions of an instance's feeds may produce."""
    named = {"feeds": list(kinds), "kinds": [",".join(sorted(each)) for each in kinds.values()]}
    connection.execute(_SQL["produce"], {"instance": instance, **named})


@repeatable
def forget(connection: Connection, *, now: datetime | None = None) -> int:
    """Forget what was delivered or discarded 400 days ago, some at a time."""
    asked = {"remember_seconds": REMEMBER_SECONDS, "most": FORGET_AT_ONCE, "now": now}
    return connection.execute(_SQL["forget"], asked).rowcount


# --- An operator's -------------------------------------------------------------------------------


@repeatable
def listed(
    connection: Connection, which: Outgoing, *, most: int, now: datetime | None = None
) -> list[dict[str, Any]]:
    """Return effects as they stand, the newest first; `matching` says how many there are."""
    asked = {**which.parameters(), "most": most, "now": now}
    return connection.execute(_SQL["listed"], asked).fetchall()


def retry(connection: Connection, which: Outgoing, *, now: datetime | None = None) -> int:
    """Let dead and discarded effects be tried again; answer with how many."""
    return connection.execute(_SQL["retry"], {**which.parameters(), "now": now}).rowcount


def discard(connection: Connection, which: Outgoing, *, now: datetime | None = None) -> int:
    """Let effects never be delivered; answer with how many."""
    return connection.execute(_SQL["discard"], {**which.parameters(), "now": now}).rowcount


@repeatable
def stats(connection: Connection, *, now: datetime | None = None) -> list[dict[str, Any]]:
    """Return how many effects of each instance and kind stand how."""
    return connection.execute(_SQL["stats"], {"now": now}).fetchall()
