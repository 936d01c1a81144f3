"""The outbox: effects are enqueued with their rows, claimed, and what became of them is recorded.

A claim is a lease in small: it has an epoch and a token, and runs out by itself.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import attrs
import msgspec

from syncd import faults
from syncd.effects import Fate, Turn, in_turn
from syncd.model import JSON, EffectKind, Instance
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
    if ordered:
        keys = [each.ordering_key for each in postings]
        connection.execute(_SQL["order"], {"lock": _LOCK, "ordering_keys": keys})
    asked = {"postings": _as_json(postings), "now": now}
    rows = connection.execute(_SQL["enqueue"], asked).fetchall()
    faults.point("effects_enqueued")
    return Enqueued(
        {row["kind"]: row["enqueued"] for row in rows if row["conflict"] is None},
        [(row["kind"], row["conflict"]) for row in rows if row["conflict"] is not None],
    )


def _as_json(postings: Sequence[Posting]) -> str:
    """Write postings as one array; arrays of their columns cost six times the CPU in the driver."""
    written = [
        {
            "instance": each.instance,
            "account": each.account,
            "kind": each.kind,
            "key": each.key,
            "payload": msgspec.Raw(each.payload.encode()),
            "ordering_key": each.ordering_key,
            "delay_seconds": each.delay_seconds,
            "source": each.source,
            "row_version": each.row_version,
        }
        for each in postings
    ]
    return msgspec.json.encode(written).decode()


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
    unknown: bool  # what became of it the last time: its claim ran out
    sent: str = ""  # its payload as JSON, exactly


def claim(
    connection: Connection,
    kind: EffectKind,
    *,
    instance: str,
    turns: Sequence[Turn],
    owner: UUID,
    token: UUID,
    claim_seconds: float,
    now: datetime | None = None,
) -> list[Claimed]:
    """Claim a bulk of effects of one kind, all of one account: of the first whose turn it is."""
    asked = {
        "kind": kind.name,
        "instance": instance,
        "accounts": [turn.account for turn in turns],
        "ordered": kind.ordered,
        "skip_dead": kind.skip_dead,
        "owner": owner,
        "token": token,
        "claim_seconds": claim_seconds,
        "now": now,
    }
    connection.execute(_SQL["read_in_order"])
    if len(turns) > 1:
        rows = connection.execute(_SQL["heads"], asked)
        turns = in_turn(turns, {row["account"]: row["due_at"] for row in rows})
    for turn in turns:
        one = {"account": turn.account, "most": 1 if turn.probes else kind.bulk_max}
        if found := _claim_of_one(connection, kind, asked | one):
            return found
    return []


def _claim_of_one(connection: Connection, kind: EffectKind, asked: dict[str, Any]) -> list[Claimed]:
    due = [] if kind.ordered else connection.execute(_SQL["due"], asked).fetchall()
    if not due:  # also of a kind that once was ordered
        due = connection.execute(_SQL["due_in_order"], asked).fetchall()
    if not due:
        return []
    those = {"ids": [row["id"] for row in due], "unknown": [row["unknown"] for row in due]}
    rows = connection.execute(_SQL["claim"], asked | those)
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
        "sent": [c.sent if fate.state == "delivered" else None for c, fate in ordered],
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


@attrs.frozen
class Backlog:
    """What is left of one kind at one instance; `soon`: may be delivered within the time asked."""

    instance: str
    kind: str
    open: int
    soon: int
    oldest_seconds: float  # of the open ones, since it was enqueued
    dead: int


@repeatable
def backlog(
    connection: Connection,
    lanes: Sequence[tuple[str, str]],
    *,
    within_seconds: float = 0.0,
    now: datetime | None = None,
) -> list[Backlog]:
    """Return what is left of the effects of some lanes, each an instance and a kind."""
    asked = {
        "instances": [instance for instance, _ in lanes],
        "kinds": [kind for _, kind in lanes],
        "within": within_seconds,
        "now": now,
    }
    return [Backlog(**row) for row in connection.execute(_SQL["backlog"], asked)]


@repeatable
def produce(connection: Connection, instance: str, kinds: Mapping[str, Sequence[str]]) -> None:
    """Note which kinds of effects the partitions of an instance's feeds may produce."""
    named = {"feeds": list(kinds), "kinds": [",".join(sorted(each)) for each in kinds.values()]}
    connection.execute(_SQL["produce"], {"instance": instance, **named})


@repeatable
def stranded(
    connection: Connection, instance: str, kinds: Sequence[str], accounts: Sequence[str]
) -> dict[tuple[str, str], int]:
    """Return how many open effects are for none of these accounts, by kind and account."""
    named = {"instance": instance, "kinds": list(kinds), "accounts": list(accounts)}
    rows = connection.execute(_SQL["stranded"], named)
    return {(row["kind"], row["account"]): row["effects"] for row in rows}


@repeatable
def forget(connection: Connection, *, now: datetime | None = None) -> int:
    """Forget what was delivered or discarded 400 days ago, some at a time."""
    asked = {"remember_seconds": REMEMBER_SECONDS, "most": FORGET_AT_ONCE, "now": now}
    return connection.execute(_SQL["forget"], asked).rowcount


# --- An operator's -------------------------------------------------------------------------------


@repeatable
def listed(
    connection: Connection,
    which: Outgoing,
    *,
    configured: Collection[Instance[Any]],
    most: int,
    now: datetime | None = None,
) -> list[dict[str, Any]]:
    """Return effects as they stand, the newest first; `matching` says how many there are.

    `configured`: the instances of the configuration, with its accounts, to tell who is nobody.
    """
    asked = {**which.parameters(), **standing(configured), "most": most, "now": now}
    return connection.execute(_SQL["listed"], asked).fetchall()


def standing(configured: Collection[Instance[Any]]) -> dict[str, Any]:
    """Return the accounts of a configuration as statements ask for them."""
    accounts = [(each, account) for each in configured for account in each.accounts]
    return {
        "instances": [each.name for each, _ in accounts],
        "names": [account.name for _, account in accounts],
        "implied": [_implied(each) for each, _ in accounts],
    }


def _implied(instance: Instance[Any]) -> bool:
    return instance.implied and instance.connector.account_settings is not None


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
