"""What the runs of a job work with: for each account and feed a pipeline, its tables, a client."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import attrs

from syncd import asking, bulk, derivations
from syncd.bulk import derived
from syncd.commit import Target
from syncd.config import Job
from syncd.daemon import Process
from syncd.errors import SyncdError, Unauthorized
from syncd.events import PartitionParked, TableChanged
from syncd.http import Client
from syncd.model import Account, Context, Feed, Instance, Mode, Partition, Quota, Request, Slice
from syncd.plugins import Pipeline, Plugins
from syncd.progress import Bounds
from syncd.store import leases, registry
from syncd.work import Order, Work


@attrs.frozen
class Place:
    """One account's feed, as a job walks it; `after` are feeds of the job that it is made of."""

    whole: Partition
    work: Work
    target: Target
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


@attrs.frozen
class Outfit:
    """All places of one job, and how its accounts stand."""

    job: Job
    instance: Instance[Any]
    places: Mapping[tuple[str, str], Place]  # by account and feed
    parked: Mapping[str, str | None]  # by account, why

    @property
    def later(self) -> list[Place]:
        """Return the places whose turn comes after those of others, each after what it reads."""
        return [place for place in self.places.values() if place.after]


@asynccontextmanager
async def outfitted(
    process: Process, job: Job, *, patience_seconds: float
) -> AsyncIterator[Outfit]:
    """Open what a job's runs work with: session, clients, pipelines, tables that fit.

    Raises: what the plugin's lifespan and the database raise.
    """
    instance = process.config.instances[job.connector]
    async with AsyncExitStack() as stack:
        lifespan = process.plugins.lifespan(instance)
        session = await stack.enter_async_context(asking.session(instance.name, lifespan))
        parked = await process.hops.run(registry.register_instance, instance)
        feeds = walked_by(process.plugins, instance, job, process.config.jobs.values())
        walked = [await _walked(process, instance, *each) for each in feeds]
        clients = {
            account.name: await stack.enter_async_context(client_of(process, instance, account))
            for account in instance.accounts
        }
        places: dict[tuple[str, str], Place] = {}
        for account, pipeline, target in _by_account(instance, walked):
            whole = Partition(instance.name, account.name, pipeline.feed.name)
            # Whatever is nobody's own asks for nothing: any client does for its secrets' masks.
            client = clients.get(account.name) or next(iter(clients.values()))
            work = _work(process, pipeline, account, client)
            work = attrs.evolve(work, session=session, patience_seconds=patience_seconds)
            after = _after(pipeline, [other for other, _ in walked])
            places[whole.account, whole.feed] = Place(whole, work, target, after)
        yield Outfit(job, instance, places, parked)


def _by_account(
    instance: Instance[Any], walked: Sequence[tuple[Pipeline, Target]]
) -> Iterator[tuple[Account[Any], Pipeline, Target]]:
    """Yield account by account what is walked of each; at the end what is no single one's."""
    for account in instance.accounts:
        for pipeline, target in walked:
            if not pipeline.feed.of_instance:
                yield account, pipeline, target
    for pipeline, target in walked:
        if pipeline.feed.of_instance and instance.accounts:
            (account,) = instance.accounts_of(pipeline.feed)
            yield account, pipeline, target


def _after(pipeline: Pipeline, walked: Sequence[Pipeline]) -> frozenset[str]:
    """Return the feeds among those walked that a derived feed is made of."""
    reads = set(pipeline.derivation.reads) if pipeline.derivation else set()
    return frozenset(
        other.feed.name
        for other in walked
        if not reads.isdisjoint(stream.name for stream in other.feed.streams)
    )


async def expand(process: Process, place: Place) -> list[Partition]:
    """Ask a place for its slices; answer with its partitions.

    Raises: `SourceError` where the plugin's look-ups fail, `PluginError` where it breaks.
    """
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


def client_of(process: Process, instance: Instance[Any], account: Account[Any]) -> Client:
    """Return the HTTP client for one account; accounts share quotas of the same key."""
    name = instance.name if account.name == "default" else f"{instance.name}[{account.name}]"
    return Client(
        name,
        instance.upstream(account),
        limiters=process.limiters,
        emit=process.emit,
        clock=process.clock.now,
        random=process.random,
        scope=instance.name,
        private_network=instance.private_network,
        weight=account.weight,
        wire=process.wire() if process.wire else None,
    )


def feeds_of(instance: Instance[Any], job: Job) -> Iterator[tuple[Feed, frozenset[str]]]:
    """Yield the feeds a job walks, each with the streams it wants of it."""
    for feed in instance.connector.feeds:
        names = {stream.name for stream in feed.streams}
        wanted = names & set(job.streams) if job.streams else names
        if wanted:
            yield feed, frozenset(wanted)


def walked_by(
    plugins: Plugins, instance: Instance[Any], job: Job, jobs: Iterable[Job]
) -> list[tuple[Feed, frozenset[str]]]:
    """Return the feeds that a job's rounds walk, each with the streams that are wanted of it.

    These are the job's own, and the derived ones that join it (see `derivations.joining`): of
    those that one of `jobs`, this one among them, names.

    Raises: `HookError`.
    """
    own = list(feeds_of(instance, job))
    theirs = [feeds_of(instance, other) for other in jobs if other.connector == job.connector]
    named = {name for feeds in theirs for _, names in feeds for name in names}
    walked = {name for _, names in own for name in names}
    joined = derivations.joining(plugins.derived(instance), walked=walked, wanted=named)
    found = ((instance.connector.feed_of(name), frozenset({name})) for name in joined)
    return own + [(feed, names) for feed, names in found if feed is not None]


async def _walked(
    process: Process, instance: Instance[Any], feed: Feed, streams: frozenset[str]
) -> tuple[Pipeline, Target]:
    """Bind a feed's pipeline, and make its tables fit; what is derived must fit those, too."""
    pipeline = process.plugins.pipeline(instance, feed)
    target = Target.of(instance, pipeline, streams)
    tables = [*target.tables.values(), *sources_of(process.plugins, pipeline)]
    changed = await process.hops.run(
        bulk.apply,
        tables,
        lock_timeout_seconds=process.config.database.lock_timeout_seconds,
    )
    for table, statements in changed.items():
        process.emit(TableChanged(table, statements))
    if pipeline.derivation is not None:
        (table_of_rows,) = target.tables.values()
        made = derived.Derived.of(table_of_rows, pipeline.derivation, plugin=pipeline.plugin)
        await process.hops.run(derived.check, made)
    return pipeline, target


def sources_of(plugins: Plugins, pipeline: Pipeline) -> list[bulk.Table]:
    """Return the tables that a derived feed reads, as the feeds that fill them have them."""
    instance, reads = pipeline.instance, pipeline.derivation.reads if pipeline.derivation else ()
    tables: list[bulk.Table] = []
    for name in reads:
        feed = instance.connector.feed_of(name)
        if feed is not None:
            target = Target.of(instance, plugins.pipeline(instance, feed), frozenset({name}))
            tables += target.tables.values()
    return tables


def _work(process: Process, pipeline: Pipeline, account: Account[Any], client: Client) -> Work:
    return Work(
        pipeline=pipeline,
        account=account,
        client=client,
        quota=_quota(pipeline, account),
        hops=process.hops,
        clock=process.clock,
        random=process.random,
        emit=process.emit,
        draining=process.draining,
        threads=process.threads,
        novelties=process.novelties,
    )


def _quota(pipeline: Pipeline, account: Account[Any]) -> Quota:
    """Return the quota of a feed; one that asks for nothing needs none."""
    key = pipeline.feed.quota
    if pipeline.feed.derived:
        return Quota(key)
    upstream = pipeline.instance.upstream(account)
    return next(each for each in upstream.quotas if each.key == key)


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
