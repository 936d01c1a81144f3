"""Credentials that only a person can renew are warned of before they end: once a day, 30 days on.

Those in the vault, whose refresh token ends, or that have none; and those in settings, of which the
connector can say when they end (`Connector.expires_at`).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, cast

from syncd.asking import upstream_of
from syncd.border import in_thread
from syncd.contract import is_moment
from syncd.daemon import Process
from syncd.errors import PluginError
from syncd.events import CredentialExpiring
from syncd.model import Account, Instance
from syncd.store import credentials as store
from syncd.store.credentials import Expiry

WARN_SECONDS = 30 * 86400.0
CONFIGURED = "configured credential"


async def tell_of_expiry(process: Process, instances: Iterable[Instance[Any]]) -> None:
    """Warn of the credentials of these instances; of several daemons one does.

    Raises: `StoreError`.
    """
    now = process.clock.now()
    for instance in {each.name: each for each in instances}.values():
        if not _may_expire(instance):
            continue
        try:
            soon = _expiries(instance, now)
        except PluginError as error:
            process.supervisor.note(f"expiry of {instance.name}", error)
            continue
        told = await process.hops.run(
            store.expiring, instance.name, soon, within_seconds=WARN_SECONDS
        )
        for each in told:
            left = (each.expires_at - now).total_seconds()
            process.emit(CredentialExpiring(instance.name, each.account, each.what, left))


def expiry_of(instance: Instance[Any], account: Account[Any]) -> datetime | None:
    """Ask the connector when the credential in an account's settings ends.

    Raises: `PluginError`.
    """
    asks = instance.connector.expires_at
    if asks is None:
        return None
    where = f"{instance.name}[{account.name}]"
    with in_thread(where, "expires_at"):
        ends_at: Any = asks(instance.settings, account.settings)
    if ends_at is not None and not is_moment(ends_at):
        said = f"expires_at answered {ends_at!r:.40}, no moment of a time zone"
        raise PluginError(where, said, "mend the plugin")
    return cast("datetime | None", ends_at)


def _may_expire(instance: Instance[Any]) -> bool:
    """Say whether there is anything to ask the database about."""
    if instance.connector.expires_at is not None:
        return True
    return any(upstream_of(instance, each).authorize is not None for each in instance.accounts[:1])


def _expiries(instance: Instance[Any], now: datetime) -> list[Expiry]:
    found = []
    for account in instance.accounts:
        ends_at = expiry_of(instance, account)
        if ends_at is not None and (ends_at - now).total_seconds() < WARN_SECONDS:
            found.append(Expiry(account.name, CONFIGURED, ends_at))
    return found
