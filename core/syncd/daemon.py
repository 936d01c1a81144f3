"""One process: what lives as long as it does, and what ends it.

root nursery            a failure here ends the process
|- signals              first: drain by a deadline; second: cancel
|- watchdog             a thread: names what blocks the loop, ends what outlives its drain
|- hops' watchdogs      end transactions that outlive their deadline
|- lease keeper         renews; cancels the scope of a run whose lease is lost
|- heartbeat            tells the database, and says how the pool stands
|- ledger of quotas     asks for what processes share of them, where they do
|- notes of quotas      tell the database how each stands, while that changes
`- main                 what the process is for (`jobs.run_job`)
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    AsyncExitStack,
    nullcontext,
    suppress,
)
from functools import partial
from importlib.metadata import version
from random import Random
from typing import TypeVar
from uuid import uuid4

import attrs
import trio

from syncd import closing, collector, valkey, vault
from syncd.clock import DatabaseClock
from syncd.config import Config
from syncd.credentials import Credentials
from syncd.drift import Novelties
from syncd.embedded.serving import serving
from syncd.enqueuing import Bells, Rosters
from syncd.errors import StoreError, SyncdError
from syncd.events import DbUnavailable, DrainStarted, EmbeddedStarted, Event
from syncd.http import Limiters, Sharing, Wire
from syncd.limits.ledger import Ask, Grant
from syncd.model import Secret
from syncd.noting import note_usage
from syncd.observe import Observer
from syncd.plugins import Plugins
from syncd.sharing import Accountant, Ledger
from syncd.store import migrations, quotas, registry
from syncd.store.hops import Hops, Timeouts
from syncd.store.keeper import LeaseKeeper
from syncd.supervision import Supervisor
from syncd.threads import Threads
from syncd.vault import Vault
from syncd.watchdog import Watchdog, watching

T = TypeVar("T")

LEAVE_SECONDS = 3.0
BEAT_SECONDS = 20.0  # three beats within `registry.STALE_SECONDS`
# Of the connection that asks for what processes share of quotas: a late answer is of no use.
LEDGER_TIMEOUTS = Timeouts(
    statement_seconds=1.0, lock_seconds=1.0, connect_seconds=2.0, patience_seconds=0.0
)
POOL_SHARE = 0.6  # of max_connections, for all our processes: others want some too


class Stopped(Exception):
    """The process was cut by a signal before its main function had ended."""


def _keep_to_itself(_: Iterable[Secret]) -> None:
    """Take secrets where nothing is ever written."""


@attrs.frozen
class Process:
    """What everything in a process shares."""

    config: Config
    plugins: Plugins
    emit: Callable[[Event], None]
    hops: Hops
    keeper: LeaseKeeper
    clock: DatabaseClock
    limiters: Limiters
    threads: Threads
    random: Random
    draining: trio.Event
    drain: Callable[[str], None]  # for this reason: as a signal does
    supervisor: Supervisor
    identity: registry.Process
    psql_command: str | None  # of the embedded server
    vault: Vault
    novelties: Novelties = attrs.field(factory=Novelties)
    bells: Bells = attrs.field(factory=Bells)  # that wake who delivers effects
    rosters: Rosters = attrs.field(factory=Rosters)  # with which accounts
    protect: Callable[[Iterable[Secret]], None] = _keep_to_itself  # they never show from then on
    wire: Callable[[], Wire] | None = None  # what clients exchange over, in a simulation
    keep_out: Callable[[str, Sequence[Secret]], None] = lambda _, __: None  # of the log: tokens
    credentials: Credentials = attrs.field()

    @credentials.default
    def _credentials(self) -> Credentials:
        return Credentials(
            self.hops,
            self.vault,
            clock=self.clock.now,
            emit=self.emit,
            holder=self.identity.id,
            protect=self.keep_out,
        )


class Root:
    """The root nursery, and what is opened before `main` and closed after it."""

    def __init__(self, config: Config, plugins: Plugins, observer: Observer) -> None:
        self._config = config
        self._plugins = plugins
        self._observer = observer
        self._emit = observer.emit
        self._draining = trio.Event()
        self.drain_reason: str | None = None  # a signal's name, "memory" ..; see `_drain`
        self._clock = DatabaseClock()
        self._random = Random()  # noqa: S311  # jitter, no secrets
        self._supervisor = Supervisor(emit=self._emit, random=self._random)
        self._identity = registry.Process(
            uuid4(), socket.gethostname(), os.getpid(), version("syncd")
        )

    async def run(self, main: Callable[[Process], Awaitable[T]]) -> T:
        """Run `main` with everything a process has around it.

        Raises: what `main` raises of `SyncdError`; `Stopped` when a signal cut it.
        """
        outcome: list[T] = []
        failure: list[SyncdError] = []
        # Armed before the first await: an early signal must drain, not kill.
        receiver = trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM)
        with receiver as signals, collector.tuned(), self._watching() as self._watchdog:
            async with trio.open_nursery() as root:
                self._scope = root.cancel_scope
                root.start_soon(self._watch_signals, signals)
                try:
                    async with AsyncExitStack() as stack:
                        process = await self._open(stack, root)
                        outcome.append(await main(process))
                except SyncdError as error:
                    failure.append(error)
                root.cancel_scope.cancel()
        if failure:
            raise failure[0]
        if not outcome:
            raise Stopped
        return outcome[0]

    def _watching(self) -> AbstractContextManager[Watchdog]:
        daemon = self._config.daemon
        return watching(
            self._observer,
            drain_seconds=daemon.drain_timeout_seconds,
            memory_max_bytes=daemon.memory_max_bytes,
            exceeded=lambda: self._drain("memory"),
        )

    async def _watch_signals(self, signals: AsyncIterator[int]) -> None:
        """Drain on the first signal, until a deadline; cut on the second."""
        signalled = False
        async for number in signals:
            if signalled:
                closing.be_gone_by(trio.current_time() + closing.LAST_SECONDS)
                self._scope.cancel()
                return
            signalled = True
            self._drain(signal.Signals(number).name)

    def _drain(self, reason: str) -> None:
        """Ask everything to stop, by a deadline. The first word stands."""
        if self._draining.is_set():
            return
        seconds = self._config.daemon.drain_timeout_seconds
        now = trio.current_time()
        self._scope.deadline = now + closing.cut_after(seconds)
        closing.be_gone_by(now + closing.gone_after(seconds))
        self._watchdog.ends_within(seconds)
        self.drain_reason = reason
        self._emit(DrainStarted(reason, seconds))
        self._draining.set()

    async def _open(self, stack: AsyncExitStack, root: trio.Nursery) -> Process:
        """Open the database and what stands on it, in the order in which they need each other."""
        dsn, psql_command = await self._database(stack)
        reserved = await self._hops(stack, root, dsn, sizes=(1, 1))
        # Another's control tables are migrated by `syncd migrate` only: they may be shared.
        await reserved.run(migrations.migrate if psql_command else migrations.require)
        life = await reserved.run(registry.beat, self._identity)
        self._clock.observe(life.clock)
        leave = partial(reserved.run, registry.leave, self._identity)
        stack.push_async_callback(_say_good_bye, leave)
        wanted = self._config.database
        pool_max = pool_size(wanted.pool_max, life)
        hops = await self._hops(stack, root, dsn, sizes=(wanted.pool_min, pool_max))
        capped_from = wanted.pool_max if pool_max < wanted.pool_max else None
        self._emit(hops.statistics(capped_from=capped_from))
        keeper = LeaseKeeper(
            reserved,
            lease_seconds=self._config.daemon.lease_seconds,
            clock=self._clock,
            emit=self._emit,
        )
        keep = self._supervisor.keep
        root.start_soon(keep, "lease keeper", keeper.run)
        limiters, accountant = await self._limiters(stack, root, dsn, life)
        root.start_soon(keep, "heartbeat", lambda: self._beat(reserved, hops, accountant))
        noting = partial(note_usage, limiters, hops, self._identity.id)
        root.start_soon(keep, "notes of quotas", noting)
        return Process(
            config=self._config,
            plugins=self._plugins,
            emit=self._emit,
            hops=hops,
            keeper=keeper,
            clock=self._clock,
            limiters=limiters,
            threads=Threads(self._emit, lambda: self._drain("threads")),
            random=self._random,
            draining=self._draining,
            drain=self._drain,
            supervisor=self._supervisor,
            identity=self._identity,
            psql_command=psql_command,
            vault=vault.opened(self._config),
            protect=self._observer.protect,
            keep_out=self._observer.keep_out,
        )

    async def _limiters(
        self, stack: AsyncExitStack, root: trio.Nursery, dsn: Secret, life: registry.Life
    ) -> tuple[Limiters, Accountant | None]:
        """Return what keeps to the quotas, and who asks for what other processes leave of them."""
        shared = self._config.quota
        if shared.ledger == "off":
            return Limiters(random=self._random), None
        limiters = Limiters(random=self._random, sharing=Sharing(str(self._identity.id)))
        accountant = Accountant(limiters, emit=self._emit, daemons=life.daemons)
        if shared.ledger == "postgres":
            hops = await self._hops(
                stack, root, dsn, sizes=(1, 1), timeouts=LEDGER_TIMEOUTS, emit=_say_nothing
            )

            async def ask(asks: Sequence[Ask]) -> Sequence[Grant]:
                return await hops.run(quotas.reserve, asks)

            def open_ledger() -> AbstractAsyncContextManager[Ledger]:
                return nullcontext(ask)

        else:
            valkey.require(shared.shared)
            open_ledger = partial(valkey.opened, shared.shared)
        account = partial(accountant.serve, open_ledger)
        root.start_soon(self._supervisor.keep, "ledger of quotas", account)
        stack.push_async_callback(_say_good_bye, accountant.leave)
        return limiters, accountant

    async def _database(self, stack: AsyncExitStack) -> tuple[Secret, str | None]:
        """Return how to connect; without a configured url, to the embedded server."""
        if self._config.database.url is not None:
            return self._config.database.url, None
        server = await stack.enter_async_context(serving(self._config.daemon.data_dir))
        self._emit(EmbeddedStarted(server.version, server.started, str(server.data_dir)))
        return Secret(server.conninfo), server.psql_command

    async def _hops(
        self,
        stack: AsyncExitStack,
        root: trio.Nursery,
        dsn: Secret,
        *,
        sizes: tuple[int, int],
        timeouts: Timeouts | None = None,
        emit: Callable[[Event], None] | None = None,
    ) -> Hops:
        database = self._config.database
        hops = Hops(
            dsn,
            pool_min=sizes[0],
            pool_max=sizes[1],
            timeouts=timeouts
            or Timeouts(
                statement_seconds=database.statement_timeout_seconds,
                lock_seconds=database.lock_timeout_seconds,
                connect_seconds=database.connect_timeout_seconds,
            ),
            emit=emit or self._emit,
            random=self._random,
        )
        stack.push_async_callback(hops.aclose)
        await hops.open()
        root.start_soon(self._supervisor.keep, "watch over transactions", hops.watch)
        return hops

    async def _beat(self, reserved: Hops, hops: Hops, accountant: Accountant | None) -> None:
        """Say now and then that we live, to the database and to whoever reads our events."""
        while True:
            await trio.sleep(BEAT_SECONDS)
            self._emit(hops.statistics())
            try:
                life = await reserved.run(registry.beat, self._identity)
            except StoreError as error:
                self._emit(DbUnavailable(str(error)))
                continue
            if accountant is not None:
                accountant.daemons = life.daemons


def _say_nothing(_: Event) -> None:
    """Leave it at `limit.unshared`, where the ledger's connection fails like all others."""


async def _say_good_bye(leave: Callable[[], Awaitable[object]]) -> None:
    with (
        trio.CancelScope(shield=True, deadline=closing.deadline(LEAVE_SECONDS)),
        suppress(StoreError),
    ):
        await leave()


def pool_size(wanted: int, life: registry.Life) -> int:
    """Return how many connections we may hold: our share of what the server allows, at least 1."""
    share = int(life.max_connections * POOL_SHARE / life.daemons)
    return max(1, min(wanted, share))
