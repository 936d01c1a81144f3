"""An upstream of one page whose records a test may change, and a plugin with the streams it names.

What is decoded is seen by the transform: it is called for every record that was, and no other.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import attrs
import msgspec
import trio
from database import connect

from syncd import (
    Connector,
    Context,
    Cursor,
    Feed,
    Page,
    Partition,
    Pass,
    Quota,
    Record,
    Request,
    Stream,
    Transform,
    Upstream,
    decode,
    hookimpl,
)
from syncd.config import Config, parse, structure
from syncd.daemon import Process, Root
from syncd.events import BatchCommitted, Event
from syncd.jobs import run_job
from syncd.model import Written
from syncd.observe import Observer
from syncd.plugins import Plugins
from syncd.verdicts import Result
from syncd_cars.simulator_serving import serve

DEADLINE_SECONDS = 60.0


@attrs.frozen
class Settings:
    base_url: str


@attrs.frozen
class Branch:
    """An account has no settings of its own."""


@attrs.define
class Plugin:
    """One stream, `things`; what its transform was called with stands in `decoded`."""

    stream: Stream
    change: Callable[[Any], Any] = lambda record: record
    transform_version: int = 1
    parent: Mapping[str, Any] = attrs.field(factory=dict)
    decoded: list[Any] = attrs.field(factory=list)
    connector: Connector = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        feed = Feed("things", streams=(self.stream,), quota="all")
        self.connector = Connector(
            "shop",
            "1.0.0",
            settings=Settings,
            feeds=(feed,),
            upstream=lambda settings, _: Upstream(settings.base_url, quotas=(Quota("all"),)),
            account_settings=Branch,
        )

    @hookimpl
    def connectors(self) -> Sequence[Connector]:
        return [self.connector]

    @hookimpl
    def begin(self) -> Any:
        def first(_: Partition, __: Request, ___: datetime) -> Pass:
            return Pass("full", (Cursor({}),))

        return first

    @hookimpl
    def fetch(self) -> Any:
        async def fetch(ctx: Context[Settings, None], _: Cursor) -> Page:
            response = await ctx.http.get("/things")
            raws = decode(response, list[msgspec.Raw], where="GET /things")
            return Page({"things": [Record(raw, self.parent) for raw in raws]})

        return fetch

    @hookimpl
    def transform(self) -> Transform:
        def seen(record: Any) -> Any:
            self.decoded.append(record)
            return self.change(record)

        return Transform("seen", self.transform_version, seen)


@attrs.define
class Shop:
    """A database, the upstream's records, and what was said in the last run."""

    dsn: str
    public_url: str = ""
    things: list[dict[str, Any]] = attrs.field(factory=list)
    events: list[Event] = attrs.field(factory=list)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            while (message := await receive())["type"] != "lifespan.shutdown":
                await send({"type": f"{message['type']}.complete"})
            await send({"type": "lifespan.shutdown.complete"})
            return
        body = msgspec.json.encode(self.things)
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def config(self, plugin: Plugin) -> Config:
        text = (
            f'[database]\nurl = "{self.dsn}"\npool_max = 4\n'
            f'[connectors.shop]\nbase_url = "{self.public_url}"\n'
            '[[connectors.shop.accounts]]\nname = "north"\n'
            '[jobs.shop]\nconnector = "shop"\nmode = "full"\n'
        )
        raw = parse(text, file="syncd.toml", folder=Path.cwd())
        return structure(raw, {"shop": plugin.connector}, environment={})

    async def run(self, plugin: Plugin, *, verify: bool = False) -> list[Any]:
        """Walk the page once; answer with the records that were decoded."""
        plugin.decoded.clear()
        self.events.clear()
        config = self.config(plugin)
        observer = Observer()
        observer.listen(self.events.append)

        async def main(process: Process) -> list[Result]:
            job = config.jobs["shop"]
            return await run_job(process, job, mode="full", wait_seconds=0.0, verify=verify)

        (result,) = await Root(config, Plugins({"shop": plugin}), observer).run(main)
        assert result.verdict == "complete", result.message
        return list(plugin.decoded)

    @property
    def written(self) -> Written:
        """What became of the last run's rows."""
        told = [event for event in self.events if isinstance(event, BatchCommitted)]
        counts = [Written(e.inserted, e.updated, e.unchanged, e.stale) for e in told]
        return sum(counts, start=Written())

    def rows(self, columns: str = "*") -> list[dict[str, Any]]:
        with connect(self.dsn) as connection:
            found = connection.execute(f"SELECT {columns} FROM shop.things ORDER BY id".encode())
            return found.fetchall()

    def row_versions(self) -> list[dict[str, Any]]:
        """Return what changes whenever a row is written anew, or only locked."""
        return self.rows("id, ctid::text, xmin::text, xmax::text")

    def execute(self, statement: str) -> None:
        with connect(self.dsn) as connection:
            connection.execute(statement.encode())
            connection.commit()

    def quarantined(self) -> list[dict[str, Any]]:
        with connect(self.dsn) as connection:
            return connection.execute("SELECT reason, repeats FROM syncd.quarantine").fetchall()


@asynccontextmanager
async def open_shop(dsn: str, things: Sequence[dict[str, Any]]) -> AsyncIterator[Shop]:
    """Serve these records over real HTTP for runs that write to this database."""
    shop = Shop(dsn, things=[dict(thing) for thing in things])
    with trio.fail_after(DEADLINE_SECONDS):
        async with serve(cast("Any", shop)):
            yield shop
