"""What the runs of a job work with: for each account and feed a pipeline, its tables, a client."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import attrs

from syncd import asking, bulk
from syncd.admitting import bearer_of, let_renew
from syncd.commit import Target
from syncd.config import Job
from syncd.daemon import Process
from syncd.errors import SyncdError, Unauthorized
from syncd.events import PartitionParked, TableChanged
from syncd.http import Client
from syncd.model import Account, Context, Feed, Instance, Mode, Partition, Request, Slice
from syncd.plugins import Pipeline
from syncd.progress import Bounds
from syncd.store import leases, registry
from syncd.work import Order, Work


@attrs.frozen
class Place:
    """One account's feed, as a job walks it."""

    whole: Partition
    work: Work
    target: Target

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
            bounds,
            failed_items_max=job.failed_items_max,
        )


@attrs.frozen
class Outfit:
    """All places of one job, and how its accounts stand."""

    job: Job
    instance: Instance[Any]
    places: Mapping[tuple[str, str], Place]  # by account and feed
    parked: Mapping[str, str | None]  # by account, why


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
        walked = [await _walked(process, instance, *each) for each in feeds_of(instance, job)]
        places: dict[tuple[str, str], Place] = {}
        for account in instance.accounts:
            opened = client_of(process, instance, account, session=session)
            client = await stack.enter_async_context(opened)
            for pipeline, target in walked:
                whole = Partition(instance.name, account.name, pipeline.feed.name)
                work = _work(process, pipeline, account, client)
                work = attrs.evolve(work, session=session, patience_seconds=patience_seconds)
                places[whole.account, whole.feed] = Place(whole, work, target)
        yield Outfit(job, instance, places, parked)


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


def client_of(
    process: Process, instance: Instance[Any], account: Account[Any], *, session: object = None
) -> Client:
    """Return the HTTP client for one account; accounts share quotas of the same key."""
    name = instance.name if account.name == "default" else f"{instance.name}[{account.name}]"
    upstream = instance.upstream(account)
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


def feeds_of(instance: Instance[Any], job: Job) -> Iterator[tuple[Feed, frozenset[str]]]:
    """Yield the feeds a job walks, each with the streams it wants of it."""
    for feed in instance.connector.feeds:
        names = {stream.name for stream in feed.streams}
        wanted = names & set(job.streams) if job.streams else names
        if wanted:
            yield feed, frozenset(wanted)


async def _walked(
    process: Process, instance: Instance[Any], feed: Feed, streams: frozenset[str]
) -> tuple[Pipeline, Target]:
    """Bind a feed's pipeline, and make its tables fit."""
    pipeline = process.plugins.pipeline(instance, feed)
    target = Target.of(instance, pipeline, streams)
    changed = await process.hops.run(
        bulk.apply,
        list(target.tables.values()),
        lock_timeout_seconds=process.config.database.lock_timeout_seconds,
    )
    for table, statements in changed.items():
        process.emit(TableChanged(table, statements))
    return pipeline, target


def _work(process: Process, pipeline: Pipeline, account: Account[Any], client: Client) -> Work:
    instance = pipeline.instance
    upstream = instance.upstream(account)
    return Work(
        pipeline=pipeline,
        account=account,
        client=client,
        quota=next(each for each in upstream.quotas if each.key == pipeline.feed.quota),
        hops=process.hops,
        clock=process.clock,
        random=process.random,
        emit=process.emit,
        draining=process.draining,
        threads=process.threads,
        novelties=process.novelties,
    )


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
