"""A job: every partition of its streams is claimed, walked and given back, a few at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any, Literal

import attrs
import trio

from syncd import bulk
from syncd.commit import Target
from syncd.config import Job
from syncd.daemon import Process
from syncd.errors import (
    CommitUnknown,
    CursorExpired,
    LeaseLost,
    PluginError,
    SourceError,
    StoreUnavailable,
    SyncdError,
    Throttled,
    Unauthorized,
    Unavailable,
)
from syncd.events import LeaseWaiting, PartitionParked, TableChanged
from syncd.http import Client
from syncd.model import Account, Context, Feed, Instance, Mode, Partition, Request, Slice
from syncd.plugins import Pipeline
from syncd.progress import Broke, Drained, OnlyWaiting, PassEnded
from syncd.run import Finished, claim, run_partition
from syncd.schedule import seconds_until_next
from syncd.store import leases, registry
from syncd.work import Order, Work

Verdict = Literal[
    "complete", "partial", "waiting", "drained", "held", "throttled", "unavailable", "failed"
]

LOOK_AGAIN_SECONDS = 0.5  # between two looks at a lease that another process holds
TELL_AGAIN_SECONDS = 5.0  # between two words about it
CURSORS_EXPIRED_MAX = 3  # passes begun anew in one job run: an upstream may expire them all


@attrs.frozen
class Share:
    """One partition of a job, with what its runs work with."""

    partition: Partition
    work: Work
    order: Order


@attrs.frozen
class Result:
    """What became of one partition."""

    partition: str
    verdict: Verdict
    message: str
    finished: Finished | None  # its last run; `None` where it was never claimed


def exit_code(results: Sequence[Result]) -> int:
    """Return the exit code for what became of all partitions: the worst of them speaks."""
    verdicts = {result.verdict for result in results}
    for code, those in (
        (1, {"failed"}),
        (69, {"unavailable"}),
        (75, {"drained", "held", "throttled"}),
        (3, {"partial", "waiting"}),
    ):
        if verdicts & those:
            return code
    return 0


def verdict_of(finished: Finished) -> Verdict | None:
    """Return what a run's end means for its partition; `None`: it is to be claimed again."""
    match finished.ended:
        case PassEnded(status=status):
            return status
        case OnlyWaiting():
            return "waiting"
        case Drained():
            return "drained"
        case Broke(error=LeaseLost() | CommitUnknown() | CursorExpired()):
            return None
        case Broke(error=error):
            return verdict_on(error)


def verdict_on(error: SyncdError) -> Verdict:
    """Return what an error means for a partition in this job run."""
    match error:
        case Throttled():
            return "throttled"
        case Unavailable() | StoreUnavailable():
            return "unavailable"
        case _:
            return "failed"


async def run_job(
    process: Process, job: Job, *, mode: Mode, wait_seconds: float, verify: bool = False
) -> list[Result]:
    """Run every partition of a job once, due or not.

    `wait_seconds`: how long to wait for partitions that another process holds, and in a run when
    only waiting cursors remain. `verify`: compare every row with what its record says, also where
    the hashes say that nothing changed.

    Raises: what the plugins' look-ups and the database raise before the first run.
    """
    instance = process.config.instances[job.connector]
    async with AsyncExitStack() as stack:
        session = None
        lifespan = process.plugins.lifespan(instance)
        if lifespan is not None:
            session = await stack.enter_async_context(lifespan)
        parked = await process.hops.run(registry.register_instance, instance)
        shares: dict[int, Share] = {}
        hindered: list[Result] = []
        for account in instance.accounts:
            client = await stack.enter_async_context(client_of(process, instance, account))
            building = _Building(process, job, mode, wait_seconds, verify, session, account, client)
            if reason := parked[account.name]:
                hindered.append(
                    Result(client.name, "failed", parked_message(instance.name, reason), None)
                )
                continue
            try:
                for feed, streams in feeds_of(instance, job):
                    shares |= await building.shares(instance, feed, streams)
            except SourceError as error:
                hindered.append(await _hindered(process, instance, account, error))
        return hindered + await _Rounds(process, job, shares, wait_seconds).go()


async def _hindered(
    process: Process, instance: Instance[Any], account: Account[Any], error: SourceError
) -> Result:
    """Note that an account's look-ups failed; the other accounts go on."""
    where = str(Partition(instance.name, account.name, "*"))
    if isinstance(error, Unauthorized):
        await process.hops.run(leases.park_account, instance.name, account.name, str(error))
        process.emit(PartitionParked(where, str(error)))
    return Result(where, verdict_on(error), str(error), None)


def parked_message(instance: str, reason: str) -> str:
    return f"parked: {reason}; then run `syncd resume {instance}`"


def client_of(process: Process, instance: Instance[Any], account: Account[Any]) -> Client:
    """Return the HTTP client for one account; accounts share quotas of the same key."""
    name = instance.name if account.name == "default" else f"{instance.name}[{account.name}]"
    return Client(
        name,
        instance.connector.upstream(instance.settings, account.settings),
        limiters=process.limiters,
        emit=process.emit,
        clock=process.clock.now,
        random=process.random,
        scope=instance.name,
    )


def feeds_of(instance: Instance[Any], job: Job) -> Iterator[tuple[Feed, frozenset[str]]]:
    """Yield the feeds a job walks, each with the streams it wants of it."""
    for feed in instance.connector.feeds:
        names = {stream.name for stream in feed.streams}
        wanted = names & set(job.streams) if job.streams else names
        if wanted:
            yield feed, frozenset(wanted)


@attrs.frozen
class _Building:
    """Builds what the runs of one feed and account need."""

    process: Process
    job: Job
    mode: Mode
    wait_seconds: float
    verify: bool
    session: object
    account: Account[Any]
    client: Client

    async def shares(
        self, instance: Instance[Any], feed: Feed, streams: frozenset[str]
    ) -> dict[int, Share]:
        """Bind the pipeline, make the tables fit, register the slices."""
        process = self.process
        pipeline = process.plugins.pipeline(instance, feed)
        target = Target.of(instance, pipeline, streams)
        changed = await process.hops.run(
            bulk.apply,
            list(target.tables.values()),
            lock_timeout_seconds=process.config.database.lock_timeout_seconds,
        )
        for table, statements in changed.items():
            process.emit(TableChanged(table, statements))
        slices = await self._slices(pipeline)
        ids = await process.hops.run(
            registry.register_partitions,
            instance.name,
            account=self.account.name,
            feed=feed.name,
            slices=slices,
        )
        work = self._work(pipeline)
        order = Order(self.job.name, self._mode(feed), self._interval(), target, self.verify)
        return {
            ids[part.name]: Share(
                Partition(instance.name, self.account.name, feed.name, part), work, order
            )
            for part in slices
        }

    async def _slices(self, pipeline: Pipeline) -> Sequence[Slice]:
        if pipeline.partitions is None:
            return [Slice()]
        instance, feed = pipeline.instance, pipeline.feed
        whole = Partition(instance.name, self.account.name, feed.name)
        context: Context[Any, Any] = Context(
            http=self.client.for_fetch(),
            account=self.account,
            settings=instance.settings,
            session=self.session,
            partition=whole,
            request=Request("full", None, self.process.clock.now()),
        )
        try:
            return await pipeline.partitions(context)
        except SyncdError:
            raise
        except Exception as error:  # a plugin's function may raise anything
            what = f"partitions of plugin {pipeline.plugin} raised {type(error).__name__}: {error}"
            raise PluginError(str(whole), what, "mend the plugin") from error

    def _work(self, pipeline: Pipeline) -> Work:
        process, instance = self.process, pipeline.instance
        upstream = instance.connector.upstream(instance.settings, self.account.settings)
        quota = next(each for each in upstream.quotas if each.key == pipeline.feed.quota)
        return Work(
            pipeline=pipeline,
            account=self.account,
            client=self.client,
            quota=quota,
            hops=process.hops,
            clock=process.clock,
            random=process.random,
            emit=process.emit,
            draining=process.draining,
            session=self.session,
            patience_seconds=self.wait_seconds,
        )

    def _mode(self, feed: Feed) -> Mode:
        return self.mode if feed.incremental else "full"

    def _interval(self) -> float:
        return seconds_until_next(
            every_seconds=self.job.every_seconds,
            cron=self.job.cron,
            timezone=self.job.timezone,
            now=self.process.clock.now(),
        )


class _Rounds:
    """Claims and runs a job's partitions until each has its result."""

    def __init__(
        self, process: Process, job: Job, shares: Mapping[int, Share], wait_seconds: float
    ) -> None:
        self._process = process
        self._job = job
        self._shares = shares
        self._wait_seconds = wait_seconds
        self._pending = set(shares)
        self._running: dict[int, str] = {}  # partition id -> account
        self._results: dict[int, Result] = {}
        self._expired: dict[int, int] = {}
        self._changed = trio.Event()
        self._held_since: float | None = None
        self._told_again_at = 0.0

    async def go(self) -> list[Result]:
        async with trio.open_nursery() as runs:
            while self._pending and not self._process.draining.is_set():
                if await self._start_one(runs):
                    self._held_since = None
                elif self._running:
                    await self._wait()
                else:
                    await self._look_at_obstacles()
        for number in sorted(self._pending):
            self._settle(number, "drained", "stopped before it was claimed")
        return [self._results[number] for number in self._shares]

    def _free(self) -> list[int]:
        """Return the partitions that may be claimed now: of accounts with a free slot."""
        if len(self._running) >= self._job.concurrency:
            return []
        busy = list(self._running.values())
        return [
            number
            for number in self._pending - set(self._running)
            if busy.count(self._account(number)) < self._job.partitions_per_account
        ]

    def _account(self, number: int) -> str:
        return self._shares[number].partition.account

    async def _start_one(self, runs: trio.Nursery) -> bool:
        free = self._free()
        if not free:
            return False
        any_share = self._shares[free[0]]
        claimed = await claim(
            any_share.work,
            self._process.identity.id,
            order=any_share.order,
            lease_seconds=self._process.keeper.lease_seconds,
            ids=free,
            early=True,
        )
        if claimed is None:
            return False
        lease, sent_at = claimed
        self._running[lease.partition_id] = lease.partition.account
        runs.start_soon(self._run_one, lease, sent_at)
        return True

    async def _run_one(self, lease: leases.Lease, sent_at: float) -> None:
        number, share = lease.partition_id, self._shares[lease.partition_id]
        try:
            finished = await run_partition(
                share.work, share.order, lease, keeper=self._process.keeper, sent_at=sent_at
            )
        finally:
            del self._running[number]
            self._changed.set()
        verdict = verdict_of(finished)
        if isinstance(finished.ended, Broke) and isinstance(finished.ended.error, CursorExpired):
            self._expired[number] = self._expired.get(number, 0) + 1
            if self._expired[number] >= CURSORS_EXPIRED_MAX:
                verdict = "failed"
        if verdict is not None:
            message = finished.next.message if finished.next else ""
            self._settle(number, verdict, message, finished)

    def _settle(
        self, number: int, verdict: Verdict, message: str, finished: Finished | None = None
    ) -> None:
        self._pending.discard(number)
        where = str(self._shares[number].partition)
        self._results[number] = Result(where, verdict, message, finished)

    async def _wait(self) -> None:
        self._changed = trio.Event()
        with trio.move_on_after(LOOK_AGAIN_SECONDS):
            await self._changed.wait()

    async def _look_at_obstacles(self) -> None:
        """Nothing can be claimed, nothing runs: settle what is parked, wait for what is held."""
        if self._held_since is None:
            self._held_since = trio.current_time()
            self._told_again_at = 0.0
        waited = trio.current_time() - self._held_since
        found = await self._process.hops.run(leases.obstacles, sorted(self._pending))
        for each in found:
            where = str(self._shares[each.partition_id].partition)
            if each.parked is not None:
                message = parked_message(self._job.connector, each.parked)
                self._settle(each.partition_id, "failed", message)
                continue
            if each.held and waited >= self._told_again_at:  # before giving up on it, too
                self._told_again_at = waited + TELL_AGAIN_SECONDS
                self._process.emit(LeaseWaiting(where, each.holder, round(each.lease_seconds, 1)))
            if waited >= self._wait_seconds:
                message = f"{each.holder} held it for longer than {self._wait_seconds:.0f} s"
                self._settle(each.partition_id, "held", message)
        await self._wait()
