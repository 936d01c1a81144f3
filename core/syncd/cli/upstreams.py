"""An account's upstream for commands that ask it themselves, whether a database answers or not."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from datetime import UTC, datetime
from random import Random
from typing import Any

import attrs

from syncd import sealing, vault
from syncd.asking import upstream_of
from syncd.cli import accounts
from syncd.cli.database import with_control_tables
from syncd.cli.loading import Loaded
from syncd.clock import DatabaseClock
from syncd.config import Config
from syncd.errors import Refused, Unauthorized, Unavailable
from syncd.events import Event
from syncd.http import Badge, Client, FetchHttp, Limiters
from syncd.model import Account, Context, Credential, Instance, Partition, Request, Secret
from syncd.sealing import Kept
from syncd.store import credentials
from syncd.store.credentials import Owner, Row
from syncd.store.hops import Hops


@attrs.frozen
class Reach:
    """An upstream with its client, and what the plugin keeps while it is asked."""

    instance: Instance[Any]
    account: Account[Any]
    client: Client
    clock: DatabaseClock
    session: object

    def context(
        self, partition: Partition, request: Request, http: FetchHttp | None = None
    ) -> Context[Any, Any]:
        """Return what a plugin's function is given."""
        return Context(
            http=http or self.client.for_fetch(),
            account=self.account,
            settings=self.instance.settings,
            session=self.session,
            partition=partition,
            request=request,
        )


@attrs.frozen
class _Held:
    """Lets requests in by a credential as it is (`http.Authority`): a command that only asks."""

    where: str
    authorize: Callable[[Credential], Mapping[str, str | Secret]]
    kept: Kept | None
    clock: Callable[[], datetime]

    @property
    def secrets(self) -> tuple[str, ...]:
        return ()  # what is said of a request is masked by its badge

    async def badge(self) -> Badge:
        kept = self.kept
        if kept is None:
            what, do = (
                "its credential is in no vault that is at hand",
                "see `syncd credentials list`",
            )
            raise Unauthorized(self.where, what, do)
        if not kept.is_valid(self.clock()):
            what = "its access token has expired, and only a run renews it"
            raise Unavailable(self.where, what, "run one of its jobs")
        fields = self.authorize(kept.credential)
        return Badge.of(self.where, kept.version, fields, *kept.secrets, credential=kept.credential)

    async def newer(self, refused: Badge) -> Badge | None:  # noqa: ARG002  # the protocol's
        return None

    async def accepted(self, badge: Badge) -> None:
        pass


async def held(
    config: Config, instance: Instance[Any], account: Account[Any], *, emit: Callable[[Event], None]
) -> Kept | None:
    """Return the credential of an account from the vault, where it is kept there.

    Raises: `Unauthorized` where there is none, or it is taken no more; what the database raises.
    """
    if upstream_of(instance, account).authorize is None:
        return None
    owner = Owner(instance.name, account.name)

    async def look(hops: Hops) -> Row | None:
        return await hops.run(credentials.found, owner)

    row = await with_control_tables(config, look, emit=emit)
    return sealing.opened(vault.opened(config), owner, row)


@asynccontextmanager
async def reached(
    loaded: Loaded,
    instance: Instance[Any],
    account: Account[Any],
    *,
    emit: Callable[[Event], None],
    limiters: Limiters | None = None,
    kept: Kept | None = None,
) -> AsyncIterator[Reach]:
    """Open the client of an account, as a run does; its clock is this machine's.

    Accounts that are asked at once share `limiters`. `kept` is the account's credential, where it
    is one of the vault: it is not renewed here.
    """
    random = Random()  # noqa: S311  # jitter, no secrets
    clock = DatabaseClock()
    clock.observe(datetime.now(UTC))  # the database may be out of reach; nothing is stored
    name = instance.name if account.name == "default" else f"{instance.name}[{account.name}]"
    upstream = upstream_of(instance, account)
    client = Client(
        name,
        upstream,
        limiters=limiters or Limiters(random=random),
        emit=emit,
        clock=clock.now,
        random=random,
        scope=instance.name,
        private_network=instance.private_network,
        authority=_Held(name, upstream.authorize, kept, clock.now) if upstream.authorize else None,
    )
    lifespan = loaded.plugins.lifespan(instance) or nullcontext()
    async with client, lifespan as session:
        yield Reach(instance, account, client, clock, session)


@attrs.define
class Upstreams:
    """The upstreams of accounts, each opened when it is first asked, and open until `stack` ends.

    All wait for the same limits. `hide` keeps secrets of accounts of the table from being shown.
    """

    loaded: Loaded
    hops: Hops
    stack: AsyncExitStack
    hide: Callable[[Loaded], Loaded]
    _joined: bool = attrs.field(default=False, init=False)
    _limiters: Limiters = attrs.field(init=False)
    _open: dict[tuple[str, str], Reach] = attrs.field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        self._limiters = Limiters(random=Random())  # noqa: S311  # jitter, no secrets

    async def with_accounts(self) -> Config:
        """Return the configuration with the accounts of the table, which are read once.

        Raises: `ConfigError` where the vault cannot be opened; `StoreError`.
        """
        if not self._joined:
            known = await accounts.effective(self.loaded, self.hops)
            self.loaded = self.hide(accounts.joined(self.loaded, known))
            self._joined = True
        return self.loaded.config

    async def context(self, where: Partition) -> Context[Any, Any]:
        """Return what a function that awaits is given.

        Raises: `Refused` for an account that there is no more; `Unauthorized`, `ConfigError` where
        its credential is not to be had; `StoreError`.
        """
        reach = self._open.get((where.instance, where.account))
        if reach is None:
            reach = await self.stack.enter_async_context(await self._reached(where))
            self._open[where.instance, where.account] = reach
        return reach.context(where, Request("full", None, reach.clock.now()))

    async def _reached(self, where: Partition) -> AbstractAsyncContextManager[Reach]:
        instance = (await self.with_accounts()).instances[where.instance]
        loaded = self.loaded
        account = next((a for a in instance.accounts if a.name == where.account), None)
        if account is None:
            said = f"it has no account {where.account!r}, with which it asks another API"
            raise Refused(where.instance, said, "add or enable it, or discard its records")
        kept = None
        if upstream_of(instance, account).authorize is not None:
            owner = Owner(instance.name, account.name)
            row = await self.hops.run(credentials.found, owner)
            kept = sealing.opened(vault.opened(loaded.config), owner, row)
        emit, limiters = _nobody_listens, self._limiters
        return reached(loaded, instance, account, emit=emit, limiters=limiters, kept=kept)


def _nobody_listens(_: Event) -> None:
    """Take an event that a command has no use for."""
