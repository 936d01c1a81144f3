"""Setting accounts and partitions aside by hand, and letting them be claimed again."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from hashlib import blake2b
from typing import Any

import attrs

from syncd.model import Partition, Slice
from syncd.store.hops import Connection
from syncd.store.selection import Selection, pattern_of
from syncd.store.statements import load

_SQL = load("parking")


@attrs.frozen
class Parked:
    """What was set aside, and how many of the partitions concerned a process still works on."""

    accounts: Sequence[str] = ()
    partitions: Sequence[str] = ()
    running: int = 0


def park_accounts(
    connection: Connection,
    instance: str,
    account: str | None,
    reason: str,
    *,
    now: datetime | None = None,
) -> Parked:
    """Set accounts of an instance aside; a run that goes on is not ended by it."""
    asked = _asked(Selection(instance, account), now) | {"reason": reason}
    rows = connection.execute(_SQL["park_accounts"], asked).fetchall()
    return Parked(accounts=sorted(row["name"] for row in rows), running=_running(connection, asked))


def park_partitions(
    connection: Connection, which: Selection, reason: str, *, now: datetime | None = None
) -> Parked:
    """Set partitions of one instance aside; a run that goes on is not ended by it."""
    asked = _asked(which, now) | {"reason": reason}
    rows = connection.execute(_SQL["park_partitions"], asked).fetchall()
    names = sorted(
        str(Partition(row["instance"], row["account"], row["feed"], Slice(row["slice"])))
        for row in rows
    )
    return Parked(partitions=names, running=_running(connection, asked))


def _running(connection: Connection, asked: dict[str, Any]) -> int:
    row = connection.execute(_SQL["running"], asked).fetchone()
    assert row is not None
    return int(row["leased"])


def resume(
    connection: Connection,
    instance: str,
    account: str | None,
    *,
    feed: str | None = None,
    slice: str | None = None,  # noqa: A002  # the word of the model
    now: datetime | None = None,
) -> int:
    """Let what is parked be claimed again; answer with how many accounts and partitions were.

    With a feed or a slice only partitions: an account that is parked stays so.
    """
    asked = _asked(Selection(instance, account, feed, slice), now)
    resumed = 0
    if feed is None and slice is None:
        resumed = connection.execute(_SQL["resume_accounts"], asked).rowcount
    return resumed + connection.execute(_SQL["resume_partitions"], asked).rowcount


def trial_seconds(instance: str, account: str) -> float:
    """Return how long after its refusal, and after each try, an account is tried again.

    About a day, of each account another length: hundreds that were refused together do not come
    back together.
    """
    drawn = int.from_bytes(blake2b(f"{instance}/{account}".encode(), digest_size=2).digest(), "big")
    return 86400.0 * (0.75 + 0.5 * drawn / 65536)


def due_again(
    connection: Connection,
    instance: str,
    accounts: Sequence[str],
    *,
    now: datetime | None = None,
) -> dict[str, str]:
    """Take the tries that are due, so that nobody else makes them; answer with why each is parked.

    Only of accounts whose credential was refused, never of those that an operator has parked.
    """
    asked = {
        "instance": instance,
        "names": list(accounts),
        "waits": [trial_seconds(instance, account) for account in accounts],
        "now": now,
    }
    rows = connection.execute(_SQL["due_again"], asked)
    return {row["name"]: row["parked_reason"] for row in rows}


def let_in(connection: Connection, instance: str, account: str, reason: str) -> bool:
    """Let an account be claimed again that is parked for this reason still; say whether it was."""
    asked = {"instance": instance, "account": account, "reason": reason}
    return connection.execute(_SQL["let_in"], asked).rowcount == 1


def still_parked(connection: Connection, instance: str, account: str | None) -> list[str]:
    """Return the accounts that are parked, of those whose names fit."""
    asked = _asked(Selection(instance, account), None)
    return [row["name"] for row in connection.execute(_SQL["still_parked"], asked)]


def _asked(which: Selection, now: datetime | None) -> dict[str, Any]:
    """Return a statement's parameters: one instance by its name, the rest by patterns."""
    parameters = {name: pattern_of(glob) for name, glob in attrs.asdict(which).items()}
    return parameters | {"instance": which.instance, "now": now}
