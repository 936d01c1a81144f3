"""What is configured, made known to the database: instances, accounts, partitions, processes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import attrs
import msgspec

from syncd.model import Instance, Partition
from syncd.sqlstates import repeatable
from syncd.store.hops import Connection
from syncd.store.statements import load

_SQL = load("registry")

STALE_SECONDS = 60.0  # a process that has not beaten for two leases is gone


@repeatable
def register_instance(
    connection: Connection, instance: Instance[Any], *, now: datetime | None = None
) -> dict[str, str | None]:
    """Make an instance and its accounts known; answer with why each is parked, `None` if not."""
    connector = instance.connector
    known = {"name": instance.name, "plugin": connector.name, "version": connector.version}
    connection.execute(_SQL["register_instance"], {**known, "now": now})
    own = [account for feed in connector.feeds for account in instance.accounts_of(feed)]
    names = list(dict.fromkeys(account.name for account in (*instance.accounts, *own)))
    connection.execute(_SQL["register_accounts"], {"instance": instance.name, "names": names})
    rows = connection.execute(_SQL["account_states"], {"instance": instance.name})
    return {row["name"]: row["parked_reason"] for row in rows if row["name"] in names}


@repeatable
def register_partitions(
    connection: Connection, parts: Sequence[Partition], *, now: datetime | None = None
) -> list[int]:
    """Make partitions known, as they are now; answer with their ids, in the same order."""
    covers = [part.slice.covers for part in parts]
    named = {
        "instances": [part.instance for part in parts],
        "accounts": [part.account for part in parts],
        "feeds": [part.feed for part in parts],
        "slices": [part.slice.name for part in parts],
        "settings": [msgspec.json.encode(part.slice.settings).decode() for part in parts],
        "covers": covers,
        "priorities": [part.slice.priority for part in parts],
        "now": now,
    }
    rows = connection.execute(_SQL["known_as_they_are"], named).fetchall()
    if any(row["id"] is None for row in rows):
        connection.execute(_SQL["register_partitions"], named)
        rows = connection.execute(_SQL["known_as_they_are"], named).fetchall()
    if "share" in covers:
        connection.execute(_SQL["forsake_shares"], named)  # else those left would wait for them
    return [row["id"] for row in rows]


@repeatable
def known_partitions(connection: Connection, whole: Partition) -> list[int]:
    """Return the ids of all partitions of an account's feed that are known."""
    whose = {"instance": whole.instance, "account": whole.account, "feed": whole.feed}
    return [row["id"] for row in connection.execute(_SQL["known_partitions"], whose)]


@attrs.frozen
class Life:
    """Who else is here, and what the server allows."""

    daemons: int
    max_connections: int  # those that are not reserved for others
    clock: datetime


@attrs.frozen
class Process:
    """One process of syncd, as others see it."""

    id: UUID
    host: str
    pid: int
    version: str


@repeatable
def beat(connection: Connection, process: Process, *, now: datetime | None = None) -> Life:
    """Give a sign of life; answer with how many processes live, this one included."""
    row = connection.execute(
        _SQL["beat"], {**attrs.asdict(process), "stale_seconds": STALE_SECONDS, "now": now}
    ).fetchone()
    assert row is not None
    return Life(**row)


@repeatable
def leave(connection: Connection, process: Process, *, now: datetime | None = None) -> None:
    """Say good-bye."""
    connection.execute(_SQL["leave"], {"id": process.id, "now": now})


@repeatable
def recent_runs(
    connection: Connection, *, job: str | None = None, most: int = 20
) -> list[dict[str, Any]]:
    """Return the history, newest first."""
    return connection.execute(_SQL["recent_runs"], {"job": job, "most": most}).fetchall()
