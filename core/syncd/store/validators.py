"""Validators in the database: read ahead of the requests, written in the commit of their pages."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import attrs
import msgspec

from syncd.nodes import Walked, cursor_key
from syncd.sqlstates import repeatable
from syncd.store.hops import Connection
from syncd.store.leases import Lease, fence
from syncd.store.statements import load
from syncd.validators import Condition, Validator, dumped, loaded

_SQL = load("validator")

FORGET_AT_ONCE = 20_000  # rows one transaction deletes: about 0.1 s, so that nobody waits for it

FOLLOWED_MAX = 32  # pages of a chain that one transaction follows: 0.35 ms each


@attrs.frozen
class Under:
    """Where validators stand, and what they hold good under (`validators.fingerprint_of`)."""

    partition_id: int
    fingerprint: str


@repeatable
def storage(connection: Connection, tables: Sequence[tuple[str, str]]) -> dict[str, int | None]:
    """Return the number of the file that each table, a (schema, name), is kept in."""
    asked = {"schemas": [schema for schema, _ in tables], "names": [name for _, name in tables]}
    rows = connection.execute(_SQL["storage"], asked)
    return {row["name"]: row["file"] for row in rows}


@repeatable
def stored(
    connection: Connection, under: Under, keys: Sequence[bytes], *, most: int
) -> dict[bytes, Validator | None]:
    """Return the validators of some cursors by key, `None` for those that have none.

    And of the cursors that those pages named, and so on along a chain, `most` in all: a chain that
    has not changed would come here for every page otherwise.
    """
    found: dict[bytes, Validator | None] = {}
    following = list(keys)
    for _ in range(FOLLOWED_MAX):
        rows = connection.execute(_SQL["stored"], _asked(under) | {"keys": following})
        read = {row["cursor_key"]: _validator(row) for row in rows}
        found |= {key: read.get(key) for key in following}
        named = (cursor_key(cursor) for each in read.values() for cursor in each.opens)
        following = [key for key in dict.fromkeys(named) if key not in found][: most - len(found)]
        if not following or len(found) >= most:
            break
    return found


def _validator(row: dict[str, Any]) -> Validator:
    return Validator(
        condition=Condition(row["request_key"], row["etag"], row["last_modified"]),
        opens=loaded(row["opens"]),
        end=row["page_end"],
        dated=row["page_dated"],
        total=row["total"],
        records=row["records"],
    )


def write(
    connection: Connection,
    under: Under,
    pass_id: int,
    *,
    batch: Sequence[Walked],
    doubtful: Collection[bytes],
) -> None:
    """Write what a batch's pages are known by, in the transaction that commits them.

    `doubtful` are the cursors of pages whose rows do not all stand as the upstream said: these
    pages are fetched whole again.
    """
    asked = _asked(under) | {"pass": pass_id}
    held = {
        page.node.key: page.validator
        for page in batch
        if page.validator is not None and page.node.key not in doubtful
    }
    same = {page.node.key for page in batch if page.unchanged}
    fresh = {key: each for key, each in held.items() if key not in same}
    again = {key: each for key, each in held.items() if key in same}
    dropped = [page.node.key for page in batch if page.node.key not in held]
    if fresh:
        connection.execute(_SQL["keep"], asked | _told(fresh) | _stands_for(fresh))
    if again:
        connection.execute(_SQL["confirm"], asked | _told(again))
    if dropped:
        connection.execute(_SQL["drop"], asked | {"keys": dropped})


def _asked(under: Under) -> dict[str, Any]:
    return {"partition": under.partition_id, "fingerprint": under.fingerprint}


def _told(those: Mapping[bytes, Validator]) -> dict[str, Any]:
    return {
        "keys": list(those),
        "etags": [each.condition.etag for each in those.values()],
        "last_modifieds": [each.condition.last_modified for each in those.values()],
    }


def _stands_for(those: Mapping[bytes, Validator]) -> dict[str, Any]:
    return {
        "request_keys": [each.condition.request_key for each in those.values()],
        "opens": [dumped(each.opens) for each in those.values()],
        "ends": [each.end for each in those.values()],
        "dateds": [each.dated for each in those.values()],
        "totals": [each.total for each in those.values()],
        "records": [msgspec.json.encode(each.records).decode() for each in those.values()],
    }


@repeatable
def forget(connection: Connection, lease: Lease, pass_id: int) -> int:
    """Delete what a full pass did not meet, at most `FORGET_AT_ONCE`; answer with how many."""
    fence(connection, lease)
    asked = {"partition": lease.partition_id, "pass": pass_id, "most": FORGET_AT_ONCE}
    return connection.execute(_SQL["forget"], asked).rowcount
