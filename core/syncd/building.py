"""What the runs of a job work with: for each account and feed a pipeline, its tables, a client."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeAlias

import attrs
import trio

from syncd import accounts, asking, closing
from syncd.accounts import Books, Effective
from syncd.admitting import bearer_of, let_renew
from syncd.commit import Target
from syncd.config import Job
from syncd.config.accounts import secrets_in, unfit_quotas
from syncd.daemon import Process
from syncd.enqueuing import Outbox
from syncd.errors import ConfigError, PluginError, SyncdError, Unauthorized
from syncd.events import AccountInvalid, PartitionParked, TableChanged
from syncd.feeding import after_of, derived_of, make_fit, sources_of, walked_by
from syncd.http import Client
from syncd.model import Account, Context, Instance, Mode, Partition, Quota, Request, Slice
from syncd.plugins import Pipeline
from syncd.progress import Bounds
from syncd.routing import refuse_strangers, routes_of
from syncd.store import leases, registry
from syncd.work import Draining, Order, Work

CLOSE_SECONDS = 3.0  # for the connections that nobody uses any more

Walks: TypeAlias = tuple[Pipeline, Target]  # of one feed: what is walked, and into which tables


@attrs.define(eq=False)
class Tenant:
    """An account as it is worked on, until it leaves; its client is closed when nobody uses it."""

    account: Account[Any]
    client: Client
    leaving: trio.Event = attrs.field(factory=trio.Event)
    _users: int = 0

    @asynccontextmanager
    async def used(self) -> AsyncIterator[None]:
        """Keep the client open."""
        self._users += 1
        try:
            yield
        finally:
            self._users -= 1
            with trio.CancelScope(shield=True, deadline=closing.deadline(CLOSE_SECONDS)):
                await self._close_where_idle()

    async def leave(self) -> None:
        """Have its runs end as in a drain: what they have fetched is committed."""
        self.leaving.set()
        await self._close_where_idle()

    async def _close_where_idle(self) -> None:
        if self.leaving.is_set() and not self._users:
            async with self.client:
                pass  # left is closed


@attrs.frozen
class Place:
    """One account's feed, as a job walks it; `after` are feeds of the job that it is made of."""

    whole: Partition
    work: Work
    target: Target
    tenant: Tenant
    after: frozenset[str] = frozenset()

    def order(
        self, job: Job, *, mode: Mode, verify: bool = False, bounds: Bounds | None = None
    ) -> Order:
        """Say what a job wants here; a feed that can only be walked in full is."""
        incremental = self.work.pipeline.feed.incremental
        return Order(
            job.name,
            mode if incremental else "full",
            self.target,
            verify,
            bounds if incremental else None,
            failed_items_max=job.failed_items_max,
        )


@attrs.define(eq=False)
class Outfit:
    """All places of one job, and how its accounts stand: as they are now, not as they were."""

    job: Job
    effective: Effective
    session: object
    patience_seconds: float
    places: Mapping[tuple[str, str], Place] = attrs.field(factory=dict)  # by account and feed
    parked: Mapping[str, str | None] = attrs.field(factory=dict)  # by account, why
    tenants: Mapping[str, Tenant] = attrs.field(factory=dict)

    @property
    def instance(self) -> Instance[Any]:
        """Return the instance, with all accounts that are worked on."""
        return self.effective.instance

    def of(self, instance: str) -> bool:
        return self.instance.name == instance

    async def refit(
        self, process: Process, effective: Effective, walked: Sequence[Walks] | None = None
    ) -> None:
        """Work on these accounts from now on; those that are as they were are left alone.

        `walked`: what is walked of each, where the caller has bound it already.

        Raises: `ConfigError` where the accounts do not go with what is configured; then nothing
        has changed. What the database raises.
        """
        instance = effective.instance
        for problem in unfit_quotas(instance):
            raise ConfigError(problem.key, problem.what, "mend the configuration")
        walked = walked or await _walked(process, instance, self.job)
        parked = await process.hops.run(registry.register_instance, instance)
        staying, coming = self._compared(process, instance)
        left = [each for each in self.tenants.values() if each.account.name not in staying]
        self.tenants = {
            each.name: staying.get(each.name) or coming[each.name] for each in instance.accounts
        }
        self.effective, self.parked = effective, parked
        self.places = {
            (place.whole.account, place.whole.feed): place
            for place in self._places(process, walked)
        }
        for tenant in left:
            await tenant.leave()

    async def close(self) -> None:
        """Close all clients: no run is left."""
        for tenant in self.tenants.values():
            await tenant.leave()

    def _compared(
        self, process: Process, instance: Instance[Any]
    ) -> tuple[dict[str, Tenant], dict[str, Tenant]]:
        """Return the tenants that stay as they are, and new ones for the other accounts."""
        staying = {
            each.name: tenant
            for each in instance.accounts
            if (tenant := self.tenants.get(each.name)) and tenant.account == each
        }
        coming = {
            each.name: Tenant(each, client_of(process, instance, each, session=self.session))
            for each in instance.accounts
            if each.name not in staying
        }
        return staying, coming

    def _places(self, process: Process, walked: Sequence[Walks]) -> Iterator[Place]:
        """Yield account by account what is walked of each; at the end what is no single one's."""
        pipelines = [pipeline for pipeline, _ in walked]
        after = {each.feed.name: after_of(each, pipelines) for each in pipelines}
        own = [each for each in walked if not each[0].feed.of_instance]
        shared = [each for each in walked if each[0].feed.of_instance]
        held = [(each, tenant) for tenant in self.tenants.values() for each in own]
        for each in shared if self.tenants else ():
            (account,) = self.instance.accounts_of(each[0].feed)
            # It asks for nothing: any client does, for its secrets' masks.
            held.append((each, Tenant(account, next(iter(self.tenants.values())).client)))
        for (pipeline, target), tenant in held:
            whole = Partition(self.instance.name, tenant.account.name, pipeline.feed.name)
            work = _work(process, pipeline, tenant)
            work = attrs.evolve(work, session=self.session, patience_seconds=self.patience_seconds)
            yield Place(whole, work, target, tenant, after[pipeline.feed.name])

    @property
    def later(self) -> list[Place]:
        """Return the places whose turn comes after those of others, each after what it reads."""
        return [place for place in self.places.values() if place.after]


@asynccontextmanager
async def outfitted(
    process: Process, job: Job, *, patience_seconds: float, before: Effective | None = None
) -> AsyncIterator[Outfit]:
    """Open what a job's runs work with: session, clients, pipelines, tables that fit.

    `before`: what is known of the accounts.

    Raises: what the plugin's lifespan and the database raise.
    """
    async with AsyncExitStack() as stack:
        effective = await effective_of(process, process.config.instances[job.connector], before)
        instance = effective.instance
        lifespan = process.plugins.lifespan(instance)
        session = await stack.enter_async_context(asking.session(instance.name, lifespan))
        outfit = Outfit(job, effective, session, patience_seconds)
        walked = await _walked(process, instance, job, opening=True)
        for pipeline, target in walked:
            await _make_fit(process, pipeline, target)
        stack.push_async_callback(outfit.close)
        await outfit.refit(process, effective, walked)
        yield outfit


async def effective_of(
    process: Process, configured: Instance[Any], before: Effective | None = None
) -> Effective:
    """Return an instance with all of its accounts; what is wrong with one of the tables is told.

    `before`: what was known; what was told then is not told again.

    Raises: `StoreError`.
    """
    effective = await _read(process, configured, before)
    told = before.refused if before else {}
    for name, error in effective.refused.items():
        if told.get(name) != error:
            process.emit(AccountInvalid(configured.name, name, error))
    return effective


async def _read(
    process: Process, configured: Instance[Any], before: Effective | None = None
) -> Effective:
    if configured.connector.account_settings is None:
        return Effective(configured)
    books = Books.of(process.config, configured, process.vault)
    effective = await process.hops.run(accounts.look, books, before)
    process.protect(secrets_in([account.settings for _, account in effective.known.values()]))
    return effective


async def expand(process: Process, place: Place) -> list[Partition]:
    """Ask a place for its slices; answer with its partitions.

    Raises: `SourceError` where the plugin's look-ups fail, `PluginError` where it breaks.
    """
    async with place.tenant.used():
        slices = await _slices(process, place)
    return [attrs.evolve(place.whole, slice=part) for part in slices]


async def note_hindrance(process: Process, place: Place, error: SyncdError) -> None:
    """Note that an account's look-ups failed; the other accounts go on."""
    if isinstance(error, Unauthorized):
        whole = place.whole
        await process.hops.run(leases.park_account, whole.instance, whole.account, str(error))
        process.emit(PartitionParked(str(attrs.evolve(whole, feed="*")), str(error)))


def parked_message(instance: str, reason: str) -> str:
    return f"parked: {reason}; then run `syncd resume {instance}`"


def client_of(
    process: Process, instance: Instance[Any], account: Account[Any], *, session: object = None
) -> Client:
    """Return the HTTP client for one account; accounts share quotas of the same key."""
    name = instance.name if account.name == "default" else f"{instance.name}[{account.name}]"
    upstream = asking.upstream_of(instance, account)
    bearer = bearer_of(process, instance, account, upstream)
    client = Client(
        name,
        upstream,
        limiters=process.limiters,
        emit=process.emit,
        clock=process.clock.now,
        random=process.random,
        scope=instance.name,
        private_network=instance.private_network,
        weight=account.weight,
        wire=process.wire() if process.wire else None,
        authority=bearer,
    )
    let_renew(process, instance, account, bearer=bearer, client=client, session=session)
    return client


async def _walked(
    process: Process, instance: Instance[Any], job: Job, *, opening: bool = False
) -> list[Walks]:
    """Bind the pipelines of a job's feeds, and say what their tables must be."""
    walked = []
    for feed, streams in walked_by(process.plugins, instance, job, process.config.jobs.values()):
        pipeline = process.plugins.pipeline(instance, feed)
        target = Target.of(instance, pipeline, streams)
        outbox = await outbox_of(process, pipeline, target, opening=opening)
        walked.append((pipeline, attrs.evolve(target, outbox=outbox)))
    return walked


async def outbox_of(
    process: Process, pipeline: Pipeline, target: Target, *, opening: bool = True
) -> Outbox:
    """Say where the effects of a feed's rows go.

    Raises: `ConfigError` where nobody delivers them, or several do; when `opening`, also where they
    go to an account that nobody has, as the configuration alone tells. What the database raises.
    """
    config, instance = process.config, pipeline.instance
    kinds = pipeline.kinds(target.tables)
    routes = routes_of(kinds, config.instances, config.effects, whose=instance.name)
    deliverers = {each.instance for each in routes.values() if each} - {instance.name}
    known = {name: await _read(process, config.instances[name]) for name in sorted(deliverers)}
    routes = routes_of(
        kinds,
        {**config.instances, **{name: each.instance for name, each in known.items()}},
        config.effects,
        whose=instance.name,
    )
    if opening:
        standing = config.instances[instance.name].accounts
        refuse_strangers(
            routes,
            {a.name for a in instance.accounts} & {a.name for a in standing},
            whose=instance.name,
            settled=[name for name, each in known.items() if each.settled],
        )
    return Outbox(routes, process.bells, process.rosters)


async def _make_fit(process: Process, pipeline: Pipeline, target: Target) -> None:
    """Make tables fit."""
    changed = await process.hops.run(
        make_fit,
        target,
        sources_of(process.plugins, pipeline),
        derived_of(pipeline, target),
        lock_timeout_seconds=process.config.database.lock_timeout_seconds,
    )
    for table, statements in changed.items():
        process.emit(TableChanged(table, statements))


def _work(process: Process, pipeline: Pipeline, tenant: Tenant) -> Work:
    return Work(
        pipeline=pipeline,
        account=tenant.account,
        client=tenant.client,
        quota=_quota(pipeline, tenant.account),
        hops=process.hops,
        clock=process.clock,
        random=process.random,
        emit=process.emit,
        draining=Draining((process.draining, tenant.leaving)),
        threads=process.threads,
        novelties=process.novelties,
    )


def _quota(pipeline: Pipeline, account: Account[Any]) -> Quota:
    """Return the quota of a feed; one that asks for nothing needs none."""
    key = pipeline.feed.quota
    if pipeline.feed.derived:
        return Quota(key)
    upstream = asking.upstream_of(pipeline.instance, account)
    found = next((each for each in upstream.quotas if each.key == key), None)
    if found is None:
        said = f"upstream has no quota {key!r}, which feed {pipeline.feed.name} names"
        raise PluginError(pipeline.instance.name, said, "mend the plugin")
    return found


async def _slices(process: Process, place: Place) -> Sequence[Slice]:
    work = place.work
    context: Context[Any, Any] = Context(
        http=work.client.for_fetch(),
        account=work.account,
        settings=work.pipeline.instance.settings,
        session=work.session,
        partition=place.whole,
        request=Request("full", None, process.clock.now()),
    )
    return await asking.sliced(work.pipeline, context)
