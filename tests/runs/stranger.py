"""A connector that a test puts together, of a good slice and a bad one; and its upstream."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar, cast
from uuid import uuid4

import attrs
import msgspec
import saboteur
import trio

from syncd import (
    Connector,
    Context,
    Cursor,
    EffectKind,
    Feed,
    Page,
    Partition,
    Pass,
    Quota,
    Record,
    Request,
    Slice,
    Stream,
    Upstream,
    config,
    hookimpl,
)
from syncd.config import Config
from syncd.daemon import Process, Root
from syncd.events import Event
from syncd.jobs import run_job
from syncd.observe import Observer
from syncd.plugins import Plugins
from syncd.testing import serve
from syncd.verdicts import Result

T = TypeVar("T")
E = TypeVar("E", bound=Event)

SECONDS = 20.0  # within which everything is done
PAGES = 3
PARCEL = EffectKind("stranger.parcel", "all", bulk_max=10, concurrency=2, deadline_seconds=5.0)
LETTER = EffectKind("stranger.letter", "all", bulk_max=10, concurrency=2, deadline_seconds=5.0)


@attrs.frozen
class Settings:
    base_url: str


@attrs.define
class Thing:
    id: int
    bad: bool


THINGS = Stream(name="things", record=Thing, key=("id",))


@attrs.define
class Stranger:
    """`does`: what the fetch of the bad slice's second page does; the good one asks after it.

    `upstream` and `connector` are what else is declared.
    """

    does: Callable[[Context[Any, Any]], Awaitable[object]] | None = None
    upstream: dict[str, Any] = attrs.field(factory=dict)
    declares: dict[str, Any] = attrs.field(factory=dict)
    transforms: Sequence[Any] = ()
    writes: Any = None
    delivers: Mapping[str, Any] = attrs.field(factory=dict)  # by kind
    session: Any = None
    asks: Mapping[str, int] | None = None  # the cost that the good slice's requests name
    slices: tuple[str, ...] = ("bad", "good")
    connector: Connector = attrs.field(init=False)
    _over: trio.Event = attrs.field(factory=trio.Event, init=False)

    def __attrs_post_init__(self) -> None:
        said: dict[str, Any] = {"quotas": (Quota("all"),), **self.upstream}
        told: dict[str, Any] = {
            "upstream": lambda settings, _: Upstream(settings.base_url, **said),
            **self.declares,
        }
        feeds = (Feed("things", streams=(THINGS,), quota="all"),)
        self.connector = Connector("stranger", "1.0.0", settings=Settings, feeds=feeds, **told)

    @hookimpl
    def connectors(self) -> Sequence[Connector]:
        return [self.connector]

    def _of(self, instance: Any, answer: T) -> T | None:
        return answer if instance.connector is self.connector else None

    @hookimpl
    def partitions(self, instance: Any) -> Any:
        async def slices(_: Context[Any, Any]) -> Sequence[Slice]:
            return [Slice(name) for name in self.slices]

        return self._of(instance, slices)

    @hookimpl
    def begin(self, instance: Any) -> Any:
        def first(_: Partition, __: Request, ___: datetime) -> Pass:
            return Pass("full", (Cursor(1),))

        return self._of(instance, first)

    @hookimpl
    def fetch(self, instance: Any) -> Any:
        return self._of(instance, self._fetch)

    async def _fetch(self, ctx: Context[Any, Any], cursor: Cursor) -> Page:
        number: Any = cursor.value
        slice_number = self.slices.index(ctx.partition.slice.name)
        bad = ctx.partition.slice.name != "good"
        if self.does is not None and not bad:
            if number == PAGES:  # after the other one has done what it does, or hangs in it
                with trio.move_on_after(1.0):
                    await self._over.wait()
            await ctx.http.get("/good", cost=self.asks)
        if self.does is not None and bad and number == 2:
            try:
                await self.does(ctx)
            finally:
                self._over.set()
        row = {"id": number * len(self.slices) + slice_number, "bad": bad}
        more = (Cursor(number + 1),) if number < PAGES else ()
        return Page({"things": [Record(msgspec.Raw(msgspec.json.encode(row)))]}, more)

    @hookimpl
    def transform(self, instance: Any) -> Any:
        return self._of(instance, self.transforms)

    @hookimpl
    def write(self, instance: Any) -> Any:
        return self._of(instance, self.writes)

    @hookimpl
    def deliver(self, instance: Any, kind: EffectKind) -> Any:
        return self._of(instance, self.delivers.get(kind.name))

    @hookimpl
    def lifespan(self, instance: Any) -> Any:
        return self._of(instance, self.session() if self.session else None)


@attrs.define
class Told:
    """What became of it, and what was said meanwhile."""

    results: Sequence[Result] = ()
    events: list[Event] = attrs.field(factory=list)
    asked: list[str] = attrs.field(factory=list)  # of the upstream

    def of(self, name: str) -> Result:
        return next(each for each in self.results if f"[{name}]" in each.partition)

    def said(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            while (message := await receive())["type"] != "lifespan.shutdown":
                await send({"type": f"{message['type']}.complete"})
            await send({"type": "lifespan.shutdown.complete"})
            return
        self.asked.append(scope["path"])
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"{}"})


def structured(file: Path, plugin: Stranger) -> tuple[Config, Plugins]:
    plugins = Plugins({"stranger": plugin, "saboteur": saboteur})
    return config.structure(config.read(file), plugins.connectors, environment={}), plugins


def configuration(folder: Path, dsn: str, url: str) -> Path:
    """Write a configuration of the stranger's job, and of another connector's."""
    file = folder / f"{uuid4().hex}.toml"
    file.write_text(f"""
[database]
url = '''{dsn}'''
pool_max = 4
[connectors.stranger]
base_url = "{url}"
[connectors.saboteur]
[jobs.things]
connector = "stranger"
mode = "full"
every = "1s"
concurrency = 2
partitions_per_account = 2
[jobs.others]
connector = "saboteur"
mode = "full"
every = "1s"
""")
    return file


async def ran(
    plugin: Stranger,
    folder: Path,
    dsn: str,
    main: Callable[[Process], Awaitable[Any]] | None = None,
    *,
    told: Told | None = None,
) -> Told:
    """Walk the stranger's job once, or do something else, in a process of its own."""
    told = told or Told()

    async def walk(process: Process) -> Sequence[Result]:
        job = process.config.jobs["things"]
        return await run_job(process, job, mode="full", wait_seconds=1.0)

    with trio.fail_after(SECONDS):
        async with serve(cast("Any", told)) as url:
            settings, plugins = structured(configuration(folder, dsn, url), plugin)
            observer = Observer()
            observer.listen(told.events.append)
            told.results = await Root(settings, plugins, observer).run(main or walk) or ()
    return told
