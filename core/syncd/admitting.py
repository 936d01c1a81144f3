"""Clients whose requests are let in by credentials of the vault, and how those are renewed."""

from __future__ import annotations

from typing import Any

import attrs

from syncd import asking
from syncd.credentials import Bearer
from syncd.daemon import Process
from syncd.http import Client
from syncd.model import (
    Account,
    Context,
    Credential,
    Instance,
    Partition,
    Refresh,
    Request,
    Upstream,
)
from syncd.store.credentials import Owner


def bearer_of(
    process: Process, instance: Instance[Any], account: Account[Any], upstream: Upstream
) -> Bearer | None:
    """Return who lets the requests of an account in, where its credential is in the vault."""
    if upstream.authorize is None:
        return None
    return process.credentials.bearer(Owner(instance.name, account.name), upstream.authorize)


def let_renew(
    process: Process,
    instance: Instance[Any],
    account: Account[Any],
    *,
    bearer: Bearer | None,
    client: Client,
    session: object,
) -> None:
    """Have the plugin renew an account's credential, over the account's own client."""
    refresh = process.plugins.refresh(instance) if bearer is not None else None
    if bearer is not None and refresh is not None:
        bearer.trade = _Trade(process, instance, account, refresh, client, session)


@attrs.frozen(eq=False)
class _Trade:
    """Trades a credential for the next one; its requests bear no credential."""

    process: Process
    instance: Instance[Any]
    account: Account[Any]
    refresh: Refresh
    client: Client
    session: object

    async def __call__(self, old: Credential) -> Credential:
        instance = self.instance
        context: Context[Any, Any] = Context(
            http=self.client.for_fetch(authorized=False),
            account=self.account,
            settings=instance.settings,
            session=self.session,
            partition=Partition(instance.name, self.account.name, "*"),
            request=Request("full", None, self.process.clock.now()),
        )
        return await asking.refreshed(self.refresh, context, old)
