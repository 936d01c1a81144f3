"""The real engine on a virtual clock, with the real PostgreSQL: months pass in seconds.

Its upstream is a method of the plugin, without HTTP; `world` has daemons behind networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID

import attrs
import psycopg
import trio
from inline import BEGAN_AT, VIRTUAL, Fortune, InlineHops, InlineThreads, close_idle, now
from psycopg.rows import dict_row

from syncd.building import outfitted
from syncd.clock import DatabaseClock
from syncd.config import Config, parse, structure
from syncd.daemon import BEAT_SECONDS, Process
from syncd.errors import Unavailable
from syncd.events import Event
from syncd.hookspecs import hookimpl
from syncd.http import Limiters
from syncd.model import (
    Connector,
    Context,
    Cursor,
    Feed,
    Page,
    Pass,
    Quota,
    Request,
    Stream,
    Upstream,
)
from syncd.plugins import Plugins
from syncd.scheduler import Scheduler
from syncd.store import registry
from syncd.store.keeper import LeaseKeeper
from syncd.supervision import Supervisor
from syncd.vault import Vault

LEASE_SECONDS = 900.0  # its keeper wakes each third of it, through all the months


@attrs.define
class Item:
    id: int
    seen: str


@attrs.frozen
class Settings:
    pass


@attrs.define
class Stalls:
    """A plugin whose upstream is this object; each account has one page with one item."""

    down: bool = False
    seconds: float = 2.0  # that a page takes
    fetched: list[tuple[str, datetime]] = attrs.field(factory=list)

    @hookimpl
    def connectors(self) -> Sequence[Connector]:
        stream = Stream("items", record=Item, key=("id",), per_account=True)
        return [
            Connector(
                "stalls",
                "1.0.0",
                settings=Settings,
                feeds=(Feed("items", streams=(stream,), quota="all"),),
                upstream=lambda _, __: Upstream("http://127.0.0.1:9", quotas=(Quota("all"),)),
                account_settings=Settings,
            )
        ]

    @hookimpl
    def begin(self) -> Any:
        return lambda _, request, __: first(request)

    @hookimpl
    def fetch(self) -> Any:
        return self._fetch

    async def _fetch(self, ctx: Context[Settings, None], _: Cursor) -> Page:
        self.fetched.append((ctx.account.name, now()))
        await trio.sleep(self.seconds)
        if self.down:
            raise Unavailable("GET /items", "connection refused", "it is tried again")
        return Page({"items": [Item(1, now().isoformat())]})


def first(request: Request) -> Pass:
    return Pass(request.mode, (Cursor({"page": 1}),))


@attrs.define
class World:
    """A configuration, the upstream, and what was said."""

    dsn: str
    job: str
    accounts: Sequence[str] = ("a", "b")
    stalls: Stalls = attrs.field(factory=Stalls)
    events: list[tuple[datetime, Event]] = attrs.field(factory=list)
    daemons: int = 0
    stepped: timedelta = timedelta()  # how far the database's clock is from the true time

    def __attrs_post_init__(self) -> None:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute(VIRTUAL)

    def database_now(self) -> datetime:
        return now() + self.stepped

    def config(self, plugins: Plugins) -> Config:
        accounts = "".join(f'[[connectors.stalls.accounts]]\nname = "{a}"\n' for a in self.accounts)
        text = (
            f"[connectors.stalls]\n{accounts}"
            f'[jobs.items]\nconnector = "stalls"\nmode = "full"\n{self.job}\n'
        )
        return structure(
            parse(text, file="world.toml", folder=Path()), plugins.connectors, environment={}
        )

    async def daemon(
        self,
        *,
        look_seconds: float,
        beats: bool = False,
        task_status: trio.TaskStatus[Scheduler] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Run one daemon's scheduler until it is retired.

        With `beats` the others know that it lives; that wakes it three times a minute.
        """
        self.daemons += 1
        number = self.daemons
        async with trio.open_nursery() as nursery, AsyncExitStack() as stack:
            stack.callback(close_idle, self.dsn)
            process = self._process(number, stack)
            await process.hops.run(registry.beat, process.identity)
            nursery.start_soon(process.keeper.run)
            if beats:
                nursery.start_soon(beating, process)
            (job,) = process.config.jobs.values()
            outfit = await stack.enter_async_context(outfitted(process, job, patience_seconds=5.0))
            scheduler = Scheduler(process, {job.name: outfit}, look_seconds=look_seconds)
            task_status.started(scheduler)
            await scheduler.run()
            await process.hops.run(registry.leave, process.identity)
            nursery.cancel_scope.cancel()

    def _process(self, number: int, stack: AsyncExitStack) -> Process:
        plugins = Plugins({"stalls": self.stalls})
        clock = DatabaseClock(trio.current_time)
        clock.observe(self.database_now())

        def emit(event: Event) -> None:
            self.events.append((now(), event))

        return Process(
            config=self.config(plugins),
            plugins=plugins,
            emit=emit,
            hops=self._hops("hops", number, stack),
            keeper=LeaseKeeper(
                self._hops("reserved", number, stack),
                lease_seconds=LEASE_SECONDS,
                clock=clock,
                emit=emit,
            ),
            clock=clock,
            limiters=Limiters(random=Random(number)),
            threads=InlineThreads(),
            random=Random(number),
            draining=trio.Event(),
            drain=lambda _: None,
            supervisor=Supervisor(emit=emit, random=Random(number)),
            identity=registry.Process(UUID(int=number), "simulated", number, "0"),
            psql_command=None,
            vault=Vault(),
        )

    def _hops(self, name: str, number: int, stack: AsyncExitStack) -> InlineHops:
        fortune = Fortune(Random(f"{name} {number}"), latency_seconds=0.0)
        hops = InlineHops(self.dsn, fortune=fortune, random=Random(number), clock=self.database_now)
        stack.callback(hops.close)
        return hops

    def told(self, kind: type[Any]) -> list[tuple[datetime, Any]]:
        return [(at, event) for at, event in self.events if isinstance(event, kind)]

    def rows(self, query: str) -> list[dict[str, Any]]:
        with psycopg.connect(self.dsn, row_factory=dict_row, autocommit=True) as connection:
            return connection.execute(query.encode()).fetchall()


async def beating(process: Process) -> None:
    while True:
        await trio.sleep(BEAT_SECONDS)
        await process.hops.run(registry.beat, process.identity)


__all__ = ["BEGAN_AT", "World", "now"]
