"""Accounts that the table says. Each function is a part of one transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import attrs
import msgspec

from syncd.sqlstates import repeatable
from syncd.store.hops import Connection
from syncd.store.statements import load

_SQL = load("account")


@attrs.frozen
class Sealed:
    """One account as the table has it: its secret settings are sealed, the others plain."""

    name: str
    settings: Mapping[str, Any]  # by key, as they would stand in the configuration
    secrets: bytes | None = attrs.field(repr=False)


@attrs.frozen
class Kept:
    """An account of the table, and how it stands."""

    sealed: Sealed
    enabled: bool
    parked: str | None  # why
    changed_at: datetime


@attrs.frozen
class Kin:
    """All accounts of an instance that the table says, at one revision of them."""

    revision: int = 0
    accounts: Sequence[Kept] = ()


@repeatable
def kept(connection: Connection, instance: str) -> Kin:
    """Return the accounts that the table says, enabled or not."""
    return _kin(connection, instance, "revision")


@repeatable
def revision(connection: Connection, instance: str) -> int:
    """Return how often the table's accounts of an instance have changed."""
    row = connection.execute(_SQL["revision"], {"instance": instance}).fetchone()
    return row["accounts_revision"] if row else 0


def locked(connection: Connection, instance: str) -> Kin:
    """Return them, and keep others from changing them until this transaction has ended."""
    return _kin(connection, instance, "lock")


def _kin(connection: Connection, instance: str, first: str) -> Kin:
    # The revision first: what changes between the two statements is then read once more.
    row = connection.execute(_SQL[first], {"instance": instance}).fetchone()
    found = connection.execute(_SQL["kept"], {"instance": instance})
    return Kin(row["accounts_revision"] if row else 0, [_kept(each) for each in found])


def _kept(row: dict[str, Any]) -> Kept:
    secrets = None if row["secrets"] is None else bytes(row["secrets"])
    return Kept(
        Sealed(row["name"], row["settings"], secrets),
        row["enabled"],
        row["parked_reason"],
        row["changed_at"],
    )


@repeatable
def parked(connection: Connection, instance: str) -> dict[str, str]:
    """Return why accounts are parked, wherever they come from."""
    rows = connection.execute(_SQL["parked"], {"instance": instance})
    return {row["name"]: row["parked_reason"] for row in rows}


def put(
    connection: Connection, instance: str, rows: Sequence[Sealed], *, now: datetime | None = None
) -> None:
    """Add accounts, or change them, in one statement whatever their number."""
    if not rows:
        return
    given = {
        "instance": instance,
        "names": [row.name for row in rows],
        "settings": [msgspec.json.encode(row.settings).decode() for row in rows],
        "secrets": [row.secrets for row in rows],
        "now": now,
    }
    connection.execute(_SQL["put"], given)
    _tell(connection, instance)


def enable(
    connection: Connection, instance: str, names: Sequence[str], *, now: datetime | None = None
) -> list[str]:
    """Let accounts be worked on again; answer with those that were not."""
    return _enable(connection, instance, names, enabled=True, now=now)


def disable(
    connection: Connection,
    instance: str,
    names: Sequence[str],
    *,
    standing: Sequence[str] = (),
    now: datetime | None = None,
) -> list[str]:
    """Let accounts be worked on no more; answer with those that were.

    `standing` are accounts that the configuration has, too: they go on as it says.
    """
    changed = _enable(connection, instance, names, enabled=False, now=now)
    _let_go(connection, instance, sorted({*changed} - {*standing}))
    return changed


def remove(
    connection: Connection,
    instance: str,
    names: Sequence[str],
    *,
    standing: Sequence[str] = (),
    now: datetime | None = None,
) -> list[str]:
    """Forget what the table says of accounts; answer with those it said something of.

    Their rows in data tables and their history stay. `standing`: as for `disable`.
    """
    asked = {"instance": instance, "names": list(names), "now": now}
    removed = [row["name"] for row in connection.execute(_SQL["remove"], asked)]
    _let_go(connection, instance, sorted({*removed} - {*standing}))
    if removed:
        _tell(connection, instance)
    return sorted(removed)


def _enable(
    connection: Connection,
    instance: str,
    names: Sequence[str],
    *,
    enabled: bool,
    now: datetime | None,
) -> list[str]:
    asked = {"instance": instance, "names": list(names), "enabled": enabled, "now": now}
    changed = [row["name"] for row in connection.execute(_SQL["enable"], asked)]
    if changed:
        _tell(connection, instance)
    return sorted(changed)


def _let_go(connection: Connection, instance: str, names: Sequence[str]) -> None:
    """Take partitions out of rounds, and let nobody claim them."""
    asked = {"instance": instance, "names": list(names)}
    if names:
        connection.execute(_SQL["forgo_turns"], asked)
        connection.execute(_SQL["let_go"], asked)


def _tell(connection: Connection, instance: str) -> None:
    connection.execute(_SQL["changed"], {"instance": instance})
