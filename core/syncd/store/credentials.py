"""Credentials in the database: sealed, and renewed by one daemon at a time.

No transaction stays open while a provider is asked: who renews holds a short lease on the row.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import attrs

from syncd.model import Instance
from syncd.sqlstates import repeatable
from syncd.store import registry
from syncd.store.hops import Connection
from syncd.store.statements import load

_SQL = load("credential")

TELL_AGAIN_SECONDS = 86400.0  # between two words about one account's expiry


@attrs.frozen
class Owner:
    """Whose credential it is."""

    instance: str
    account: str

    def __str__(self) -> str:
        return self.instance if self.account == "default" else f"{self.instance}[{self.account}]"


@attrs.frozen(repr=False)
class Row:
    """A credential as it is stored. `lease_seconds`: for so long somebody is renewing it."""

    sealed: bytes
    sealed_before: bytes | None
    version: int
    access_expires_at: datetime | None
    stored_at: datetime
    state: str
    reason: str | None
    lease_token: UUID | None
    lease_seconds: float | None


@attrs.frozen(repr=False)
class Sealed:
    """A credential as it is to be stored; what is not secret stands beside."""

    sealed: bytes
    renewable: bool
    access_expires_at: datetime | None
    refresh_expires_at: datetime | None


@repeatable
def found(connection: Connection, owner: Owner, *, now: datetime | None = None) -> Row | None:
    """Return what is stored."""
    asked = attrs.asdict(owner) | {"now": now}
    row = connection.execute(_SQL["found"], asked).fetchone()
    return None if row is None else Row(**row)


@repeatable
def lease(
    connection: Connection,
    owner: Owner,
    *,
    version: int,
    holder: UUID,
    token: UUID,
    lease_seconds: float,
    now: datetime | None = None,
) -> Row | None:
    """Take the lease to renew this version, unless it is another by now, or somebody has it.

    Answers with what is stored; the lease is ours where it bears our token.
    """
    asked = {**attrs.asdict(owner), "now": now}
    found = connection.execute(_SQL["locked"], asked).fetchone()
    if found is None:
        return None
    row = Row(**found)
    held = bool(row.lease_seconds) and row.lease_token != token
    if row.version != version or row.state != "ok" or held:
        return row
    wanted = {"owner": holder, "token": token, "lease_seconds": lease_seconds}
    connection.execute(_SQL["lease"], asked | wanted)
    return attrs.evolve(row, lease_token=token, lease_seconds=lease_seconds)


@repeatable
def renew(
    connection: Connection,
    owner: Owner,
    new: Sealed,
    *,
    version: int,
    of_before: bool,
    now: datetime | None = None,
) -> Row | None:
    """Store what a version was traded for, unless it was replaced; answer with what is stored.

    `of_before`: the pair before that version was traded, and stays the one before.
    """
    whose = attrs.asdict(owner)
    asked = {**whose, **attrs.asdict(new), "version": version, "of_before": of_before, "now": now}
    connection.execute(_SQL["renew"], asked)
    row = connection.execute(_SQL["found"], {**whose, "now": now}).fetchone()
    return None if row is None else Row(**row)


@repeatable
def confirm(connection: Connection, owner: Owner, version: int) -> None:
    """Forget the pair before this version, which was let in."""
    connection.execute(_SQL["confirm"], attrs.asdict(owner) | {"version": version})


@repeatable
def refuse(
    connection: Connection,
    owner: Owner,
    *,
    version: int,
    token: UUID,
    reason: str,
    now: datetime | None = None,
) -> Row | None:
    """Note that only a person can renew this version; answer with what is stored.

    Only under the lease: somebody may have got another meanwhile.
    """
    asked = {**attrs.asdict(owner), "version": version, "token": token, "now": now}
    connection.execute(_SQL["refuse"], asked | {"reason": reason})
    row = connection.execute(_SQL["found"], asked).fetchone()
    return None if row is None else Row(**row)


@repeatable
def release(connection: Connection, owner: Owner, token: UUID) -> None:
    """Give the lease back."""
    connection.execute(_SQL["release"], attrs.asdict(owner) | {"token": token})


# --- An operator's -------------------------------------------------------------------------------


def known_accounts(connection: Connection, instance: Instance[Any]) -> list[str]:
    """Return the accounts that an instance may have credentials of; they are made known."""
    registry.register_instance(connection, instance)
    rows = connection.execute(_SQL["known_accounts"], {"instance": instance.name})
    return [row["name"] for row in rows]


def bring(
    connection: Connection,
    instance: Instance[Any],
    brought: dict[str, Sealed],
    *,
    now: datetime | None = None,
) -> list[str]:
    """Store credentials by account; answer with the accounts that are claimed again by that."""
    known_accounts(connection, instance)
    new = list(brought.values())
    asked = {
        "instance": instance.name,
        "accounts": list(brought),
        "sealed": [each.sealed for each in new],
        "renewable": [each.renewable for each in new],
        "access_expire_at": [each.access_expires_at for each in new],
        "refresh_expire_at": [each.refresh_expires_at for each in new],
        "now": now,
    }
    connection.execute(_SQL["import"], asked)
    return sorted(row["name"] for row in connection.execute(_SQL["let_in"], asked))


@repeatable
def every(connection: Connection, *, now: datetime | None = None) -> dict[Owner, Row]:
    """Return all that is stored, sealed as it is."""
    rows = connection.execute(_SQL["every"], {"now": now})
    return {Owner(row.pop("instance"), row.pop("account")): Row(**row) for row in rows}


@repeatable
def listed(connection: Connection) -> list[dict[str, Any]]:
    """Return what may be seen of all credentials."""
    return connection.execute(_SQL["listed"]).fetchall()


# --- Expiry --------------------------------------------------------------------------------------


@attrs.frozen
class Expiry:
    """When an account's credential ends unless a person does something."""

    account: str
    what: str
    expires_at: datetime


def expiring(
    connection: Connection,
    instance: str,
    configured: Sequence[Expiry],
    *,
    within_seconds: float,
    now: datetime | None = None,
) -> list[Expiry]:
    """Return what is to be said today, of credentials in the vault and of configured ones.

    Of several daemons one says it.
    """
    asked = {"instance": instance, "within_seconds": within_seconds, "now": now}
    kept = [Expiry(**row) for row in connection.execute(_SQL["expiring"], asked)]
    by_account = {each.account: each for each in (*configured, *kept)}
    if not by_account:
        return []
    told = {**asked, "accounts": sorted(by_account), "again_seconds": TELL_AGAIN_SECONDS}
    return [by_account[row["name"]] for row in connection.execute(_SQL["tell"], told)]
