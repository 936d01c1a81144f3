"""One simulated daemon: the real engine between an in-memory network and an inline store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any
from uuid import UUID

import attrs
import httpx
import trio
from inline import Fortune, InlineHops, InlineThreads, now
from transport import MemoryWire

from syncd.admin.application import application
from syncd.admin.desk import Desk, table_of
from syncd.admin.opening import opened
from syncd.clock import DatabaseClock
from syncd.config import Config
from syncd.daemon import BEAT_SECONDS, Process
from syncd.errors import StoreError
from syncd.events import DrainStarted, Event
from syncd.http import Limiters, Sharing
from syncd.limits.ledger import Ask, Grant
from syncd.plugins import Plugins
from syncd.scheduler import Scheduler
from syncd.serving import generation
from syncd.sharing import Accountant
from syncd.store import quotas, registry
from syncd.store.keeper import LeaseKeeper
from syncd.supervision import Supervisor
from syncd.vault import Vault

FOREVER = 10**9
LATENCY_SECONDS = 0.004  # of a transaction


@attrs.frozen
class Means:
    """What a daemon is made of."""

    dsn: str
    plugins: Plugins
    wire: Callable[[int], MemoryWire]  # by the daemon's number
    tell: Callable[[int, Event], None]
    look_seconds: float = 1.0
    lease_seconds: float = 60.0
    hops_at_once: int = 8
    latency_seconds: float = LATENCY_SECONDS
    chance: float = 0.0  # of a transaction to meet trouble
    beats: bool = True
    shared_among: int = 0  # so many daemons share their quotas through PostgreSQL


class Daemon:
    """A process that can drain, be killed, be stopped for a while, and be configured anew."""

    def __init__(
        self, number: int, means: Means, config: Config, *, seed: object, dies_at: int | None = None
    ) -> None:
        self.number = number
        self.means = means
        self.alive = True
        self.config = config
        random = Random(f"{seed}, daemon {number}")
        self._life = trio.CancelScope()
        self._draining = trio.Event()
        self._ready = trio.Event()
        self._current: Scheduler | None = None
        self._desk: Desk | None = None
        clock = DatabaseClock(trio.current_time)
        clock.observe(now())
        self.hops = self._hops("hops", seed, dies_at=dies_at, at_once=means.hops_at_once)
        self.reserved = self._hops("reserved", seed, dies_at=None, at_once=1)
        self.ledger = self._hops("ledger", seed, dies_at=None, at_once=1)
        sharing = Sharing(f"daemon {number}") if means.shared_among else None
        self.process = Process(
            config=config,
            plugins=means.plugins,
            emit=self._emit,
            hops=self.hops,
            keeper=LeaseKeeper(
                self.reserved, lease_seconds=means.lease_seconds, clock=clock, emit=self._emit
            ),
            clock=clock,
            limiters=Limiters(random=random, sharing=sharing),
            threads=InlineThreads(),
            random=random,
            draining=self._draining,
            drain=self.drain,
            supervisor=Supervisor(emit=self._emit, random=random),
            identity=registry.Process(UUID(int=number), "simulated", number, "0"),
            psql_command=None,
            vault=Vault(),
            wire=lambda: means.wire(number),
        )

    def _hops(self, name: str, seed: object, *, dies_at: int | None, at_once: int) -> InlineHops:
        fortune = Fortune(
            Random(f"{seed}, {name} {self.number}"),
            latency_seconds=self.means.latency_seconds,
            chance=self.means.chance,
            dies_at=dies_at,
        )
        return InlineHops(
            self.means.dsn,
            fortune=fortune,
            random=Random(f"{seed}, {name} {self.number} again"),
            emit=self._emit,
            died=self.kill,
            at_once=at_once,
        )

    def _emit(self, event: Event) -> None:
        if self.alive:
            self.means.tell(self.number, event)

    async def run(self) -> None:
        """Live until drained or killed."""
        keep = self.process.supervisor.keep
        try:
            with self._life:
                async with trio.open_nursery() as root:
                    await self.hops.run(registry.beat, self.process.identity)
                    root.start_soon(keep, "lease keeper", self.process.keeper.run)
                    if self.means.beats:
                        root.start_soon(keep, "heartbeat", self._beat)
                    if self.means.shared_among:
                        root.start_soon(keep, "ledger of quotas", self._account)
                    async with (
                        opened(self.process) as self._desk,
                        trio.open_nursery() as self._generations,
                    ):
                        self._current = await self._open(self.process)
                        self._desk.open = True
                        self._ready.set()
                    await self._desk.empty()
                    root.cancel_scope.cancel()
        finally:
            self.alive = False
            self.hops.close()
            self.reserved.close()
            self.ledger.close()

    async def _open(self, process: Process) -> Scheduler:
        taken: Scheduler = await self._generations.start(
            generation, process, self.means.look_seconds
        )
        return taken

    async def _account(self) -> None:
        limiters, among = self.process.limiters, self.means.shared_among
        accountant = Accountant(limiters, emit=self._emit, daemons=among)

        async def ask(asks: Sequence[Ask]) -> Sequence[Grant]:
            return await self.ledger.run(quotas.reserve, asks)

        await accountant.run(ask)

    async def _beat(self) -> None:
        while True:
            await trio.sleep(BEAT_SECONDS)
            try:
                await self.reserved.run(registry.beat, self.process.identity)
            except StoreError:
                continue

    async def told(self, method: str, path: str, **what: Any) -> httpx.Response | None:
        """Hear a request as the HTTP server hands it over; `None`: nobody is there to answer it."""
        if not self.alive or self._desk is None:
            return None
        served = httpx.ASGITransport(application(self._desk, None))
        async with httpx.AsyncClient(transport=served, base_url="http://daemon.test") as client:
            answer = await client.request(method, path, **what)
        return answer if self.alive else None

    @property
    def is_ready(self) -> bool:
        """Whether it is at work, and is to stay so."""
        return self.alive and self._ready.is_set() and not self._draining.is_set()

    def drain(self, reason: str) -> None:
        """Let what runs come to its next commit, and end."""
        if not self._draining.is_set():
            self._emit(DrainStarted(reason, FOREVER))
            self._draining.set()

    def kill(self) -> None:
        """End it at once: nothing is given back, nothing that is under way is committed."""
        self.alive = False
        self.hops.die()
        self.reserved.die()
        self.ledger.die()
        self._life.cancel()

    def stop_keeper(self, until: float) -> None:
        """Let no lease be renewed until then."""
        self.reserved.stalled_until = until

    def stop_store(self, until: float) -> None:
        """Let it reach PostgreSQL for nothing until then."""
        self.reserved.stalled_until = self.hops.stalled_until = until

    async def configure(self, config: Config) -> None:
        """Take a new configuration over, as on SIGHUP; a daemon that ends meanwhile does not."""
        renewed = attrs.evolve(self.process, config=config)
        try:
            taken = await self._open(renewed)
        except RuntimeError:  # of a nursery that is over, or was cancelled
            if self.is_ready:
                raise
            return
        before, self._current = self._current, taken
        if self._desk is not None:
            self._desk.take_over(table_of(renewed))
        self.config = config
        if before is not None:
            before.retire()

    def clear(self) -> None:
        """Let its transactions be fine from now on."""
        for hops in (self.hops, self.reserved):
            hops.fortune.chance, hops.fortune.dies_at = 0.0, None
            hops.stalled_until = 0.0
