"""With which accounts an instance delivers: as they are now, not as they were when it began.

Accounts of the table come and go while lanes run. Whoever comes has a client at once; whoever
leaves is claimed for no more, and what is under way for it ends. Effects for an account that nobody
has stay where they are: it may come yet, so they wait, and are told of.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import attrs
import trio

from syncd import asking, closing
from syncd.accounts import Change, Effective
from syncd.building import CLOSE_SECONDS, Tenant, client_of, effective_of
from syncd.config.accounts import unfit_quotas
from syncd.daemon import Process
from syncd.errors import ConfigError
from syncd.events import AccountInvalid, EffectAccounts, EffectStranded
from syncd.model import Account, EffectKind, Instance
from syncd.store import accounts as table
from syncd.store import effects as store
from syncd.store import registry

LOOK_SECONDS = 2.0  # between two looks at the accounts, as lanes look for effects
STRANDED_SECONDS = 60.0  # between two looks for effects that are for nobody: it counts open ones


@attrs.define(eq=False)
class Deliverers:
    """The accounts of one instance that delivers, each with what its deliveries work with."""

    process: Process
    kinds: Collection[EffectKind]
    session: object
    effective: Effective
    tenants: Mapping[str, Tenant] = attrs.field(factory=dict)  # by account
    _told: set[tuple[str, str]] = attrs.field(factory=set)  # kinds and accounts nobody has
    _refused: int | None = None  # a revision that does not go with the configuration
    _count_at: float = 0.0

    @property
    def instance(self) -> Instance[Any]:
        return self.effective.instance

    async def keep_to(self, effective: Effective) -> None:
        """Have a client for each of these accounts, and none for any other.

        Raises: `ConfigError` where they do not go with what is configured, `StoreError`; nothing
        has changed then.
        """
        instance, before = effective.instance, self.tenants
        for problem in unfit_quotas(instance):
            raise ConfigError(problem.key, problem.what, "mend the configuration")
        tenants = {each.name: self._tenant(instance, each) for each in instance.accounts}
        await self.process.hops.run(registry.register_instance, instance)
        self.effective, self.tenants = effective, tenants
        self.process.rosters.note(instance)
        await _leave([e for e in before.values() if tenants.get(e.account.name) is not e])

    async def close(self) -> None:
        """Close all clients: nothing is under way."""
        await _leave(self.tenants.values())

    def _tenant(self, instance: Instance[Any], account: Account[Any]) -> Tenant:
        known = self.tenants.get(account.name)
        if known is not None and known.account == account:
            return known
        client = client_of(self.process, instance, account, session=self.session)
        return Tenant(account, client)

    async def look(self) -> None:
        """Take note of accounts that have changed, and tell of effects that nobody will deliver.

        Raises: `StoreError`.
        """
        if self.instance.connector.account_settings is not None:
            revision = await self.process.hops.run(table.revision, self.instance.name)
            if revision not in (self.effective.revision, self._refused):
                await self._follow()
        if trio.current_time() >= self._count_at:
            await self._count()
            self._count_at = trio.current_time() + STRANDED_SECONDS

    async def _follow(self) -> None:
        process, was = self.process, self.effective
        now = await effective_of(process, process.config.instances[self.instance.name], was)
        try:
            await self.keep_to(now)
        except ConfigError as error:
            self._refused = now.revision
            process.emit(AccountInvalid(now.instance.name, "*", str(error)))
            return
        self._count_at = trio.current_time()
        process.bells.ring(kind.name for kind in self.kinds)  # some may have waited for them
        change = Change.between(was, now)
        if change != Change(0, 0, 0):
            process.emit(EffectAccounts(self.instance.name, **attrs.asdict(change)))

    async def _count(self) -> None:
        found = await self.process.hops.run(
            store.stranded,
            self.instance.name,
            [kind.name for kind in self.kinds],
            list(self.tenants),
        )
        for (kind, account), count in found.items():
            if (kind, account) not in self._told:
                self.process.emit(EffectStranded(kind, self.instance.name, account, count))
        self._told = set(found)


async def _leave(tenants: Iterable[Tenant]) -> None:
    """Let clients be closed, once what is under way with them has ended."""
    with trio.CancelScope(shield=True, deadline=closing.deadline(CLOSE_SECONDS)):
        for tenant in tenants:
            await tenant.leave()


@asynccontextmanager
async def opened(process: Process, configured: Instance[Any]) -> AsyncIterator[Deliverers]:
    """Open what an instance delivers with: a session, and a client for each account.

    Raises: what the plugin's lifespan and the database raise.
    """
    effective = await effective_of(process, configured)
    lifespan = process.plugins.lifespan(effective.instance)
    async with asking.session(configured.name, lifespan) as session, AsyncExitStack() as stack:
        deliverers = Deliverers(process, configured.connector.effects, session, effective)
        stack.push_async_callback(deliverers.close)
        await deliverers.keep_to(effective)
        yield deliverers
