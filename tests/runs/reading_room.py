"""Two upstreams, one of letters and one that reads them for us, and the connector that asks both.

A page of letters is an item. The reader counts what it is asked, and answers as a test wants it to.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import attrs
import msgspec
import trio
from database import connect

from syncd import (
    AsyncTransform,
    Connector,
    Context,
    Cursor,
    Done,
    Feed,
    Later,
    Page,
    Partition,
    Pass,
    Quarantined,
    Quota,
    Record,
    Request,
    Stream,
    Transform,
    Upstream,
    decode,
    hookimpl,
)
from syncd.cli.loading import Loaded
from syncd.cli.replaying import Outcome, replay_all
from syncd.cli.upstreams import reached
from syncd.config import Config, parse, structure
from syncd.daemon import Process, Root
from syncd.events import BatchCommitted, Event
from syncd.jobs import run_job
from syncd.model import Written
from syncd.observe import Observer
from syncd.plugins import Plugins
from syncd.preview import Preview, Previewer
from syncd.store.selection import Aside
from syncd.testing import serve
from syncd.verdicts import Result

DEADLINE_SECONDS = 120.0

NOT_NOW, NEVER = 409, 422


@attrs.frozen
class Settings:
    base_url: str
    reader_url: str
    language: str = "en"


@attrs.define
class Letter:
    id: int
    text: str
    seen: int = 0


@attrs.define
class Reading:
    """What is made of a letter: one row for each word of it, numbered."""

    id: int
    text: str
    answer: str
    seen: int = 0


LETTERS = Stream("readings", record=Letter, row=Reading, key=("id",), volatile=("seen",))


async def _answer(send: Any, status: int, body: Any) -> None:
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": msgspec.json.encode(body)})


async def _lives(receive: Any, send: Any) -> None:
    while (message := await receive())["type"] != "lifespan.shutdown":
        await send({"type": f"{message['type']}.complete"})
    await send({"type": "lifespan.shutdown.complete"})


async def _nothing_first(_: str) -> None:
    pass


@attrs.define
class Reader:
    """The other API: what it was asked stands in `asked`, by text."""

    asked: Counter[str] = attrs.field(factory=Counter)
    statuses: dict[str, int] = attrs.field(factory=dict)  # of texts that it does not read
    before: Callable[[str], Awaitable[None]] = _nothing_first  # it answers

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await _lives(receive, send)
            return
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        text = msgspec.json.decode(body)["text"]
        self.asked[text] += 1
        await self.before(text)
        await _answer(send, self.statuses.get(text, 200), {"answer": text.upper()})


async def read(ctx: Context[Settings, None], letters: Sequence[Letter]) -> list[Any]:
    """Ask about letters, one after the other."""
    return [await _read(ctx, letter) for letter in letters]


async def _read(ctx: Context[Settings, None], letter: Letter) -> Done | Quarantined | Later:
    url = f"{ctx.settings.reader_url}/read"
    also = frozenset({NOT_NOW, NEVER})
    response = await ctx.http.post(url, json={"text": letter.text}, quota="reader", also=also)
    match response.status:
        case 409:
            return Later("the reader is busy")
        case 422:
            return Quarantined("the reader will not")
    answer = msgspec.json.decode(response.content)["answer"]
    return Done(_rows(letter, answer))


def _rows(letter: Letter, answer: str) -> Any:
    """An empty letter makes no row, one with a stroke in it two."""
    if not answer:
        return None
    rows = [
        Reading(letter.id + 100 * number, letter.text, part, letter.seen)
        for number, part in enumerate(answer.split("|"))
    ]
    return rows if len(rows) > 1 else rows[0]


READ = AsyncTransform("read", 1, read, settings=("language",))


@attrs.define
class Plugin:
    """One stream, what is done with it, and how many pages there are."""

    stream: Stream = LETTERS
    transforms: Sequence[Transform | AsyncTransform] = (READ,)
    pages: int = 1
    finished: bool = False  # pages hold objects in place of records
    quotas: tuple[Quota, ...] = (Quota("letters", concurrency=4), Quota("reader", concurrency=8))
    connector: Connector = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.connector = Connector(
            "room",
            "1.0.0",
            settings=Settings,
            feeds=(Feed("letters", streams=(self.stream,), quota="letters"),),
            upstream=lambda settings, _: Upstream(
                settings.base_url, self.quotas, credential_origins=(settings.reader_url,)
            ),
        )

    @hookimpl
    def connectors(self) -> Sequence[Connector]:
        return [self.connector]

    @hookimpl
    def begin(self) -> Any:
        def first(_: Partition, __: Request, ___: datetime) -> Pass:
            return Pass("full", tuple(Cursor(n, kind="item") for n in range(self.pages)))

        return first

    @hookimpl
    def fetch(self) -> Any:
        async def fetch(ctx: Context[Settings, None], cursor: Cursor) -> Page:
            response = await ctx.http.get(f"/letters/{cursor.value}")
            raws = decode(response, list[msgspec.Raw], where="GET /letters")
            if self.finished:
                return Page({"readings": [msgspec.json.decode(raw, type=Letter) for raw in raws]})
            return Page({"readings": [Record(raw) for raw in raws]})

        return fetch

    @hookimpl
    def transform(self) -> Sequence[Transform | AsyncTransform]:
        return self.transforms


@attrs.define
class Room:
    """A database, both upstreams, and what was said in the last run."""

    dsn: str
    pages: list[list[dict[str, Any]]]
    reader: Reader = attrs.field(factory=Reader)
    base_url: str = ""
    reader_url: str = ""
    language: str = "en"
    job: str = ""
    events: list[Event] = attrs.field(factory=list)
    said: Callable[[Event], None] = lambda _: None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await _lives(receive, send)
            return
        await _answer(send, 200, self.pages[int(scope["path"].rpartition("/")[2])])

    def config(self, plugin: Plugin) -> Config:
        text = (
            f'[database]\nurl = "{self.dsn}"\npool_max = 4\n'
            f'[connectors.room]\nbase_url = "{self.base_url}"\nreader_url = "{self.reader_url}"\n'
            f'language = "{self.language}"\n'
            f'[jobs.room]\nconnector = "room"\nmode = "full"\n{self.job}\n'
        )
        raw = parse(text, file="syncd.toml", folder=Path.cwd())
        return structure(raw, {"room": plugin.connector}, environment={})

    async def run(
        self, plugin: Plugin | None = None, *, verify: bool = False, wait_seconds: float = 0.0
    ) -> Result:
        """Walk all pages once; what the reader was asked is counted anew."""
        plugin = plugin or Plugin()
        plugin.pages = len(self.pages)
        self.reader.asked.clear()
        self.events.clear()
        config = self.config(plugin)
        observer = Observer()
        observer.listen(self._hear)

        async def main(process: Process) -> list[Result]:
            job = config.jobs["room"]
            return await run_job(
                process, job, mode="full", wait_seconds=wait_seconds, verify=verify
            )

        (result,) = await Root(config, Plugins({"room": plugin}), observer).run(main)
        return result

    async def preview(self, *, records_max: int) -> Preview:
        """Preview the readings, without a database."""
        plugin = Plugin(pages=len(self.pages))
        loaded = self._loaded(plugin)
        (instance,) = loaded.config.instances.values()
        (account,) = instance.accounts
        partition = Partition(instance.name, account.name, "letters")
        async with reached(loaded, instance, account, emit=self._hear) as reach:
            request = Request("full", None, reach.clock.now())
            previewer = Previewer(
                loaded.plugins.pipeline(instance, plugin.connector.feeds[0]),
                "readings",
                reach.client,
                lambda http: reach.context(partition, request, http),
                reach.clock.now,
            )
            return await previewer.preview(
                partition, request, records_max=records_max, pages_max=len(self.pages)
            )

    async def replay(self) -> Outcome:
        """Replay all that was set aside."""
        loaded = self._loaded(Plugin())
        return await trio.to_thread.run_sync(replay_all, loaded, Aside())

    def _loaded(self, plugin: Plugin) -> Loaded:
        return Loaded(self.config(plugin), Plugins({"room": plugin}), ())

    def _hear(self, event: Event) -> None:
        self.events.append(event)
        self.said(event)

    @property
    def written(self) -> Written:
        """What became of the last run's rows."""
        told = [event for event in self.events if isinstance(event, BatchCommitted)]
        counts = [Written(e.inserted, e.updated, e.unchanged, e.stale) for e in told]
        return sum(counts, start=Written())

    def rows(self) -> dict[int, str]:
        with connect(self.dsn) as connection:
            rows = connection.execute("SELECT id, answer FROM room.readings ORDER BY id")
            return {row["id"]: row["answer"] for row in rows}

    def select(self, query: str) -> list[Any]:
        with connect(self.dsn) as connection:
            return [next(iter(row.values())) for row in connection.execute(query.encode())]

    def execute(self, statement: str) -> None:
        with connect(self.dsn) as connection:
            connection.execute(statement.encode())
            connection.commit()


def letters(*texts: str, first: int = 1) -> list[dict[str, Any]]:
    return [{"id": number, "text": text} for number, text in enumerate(texts, start=first)]


@asynccontextmanager
async def open_room(dsn: str, *pages: list[dict[str, Any]], job: str = "") -> AsyncIterator[Room]:
    """Serve both upstreams over real HTTP; `job` are settings of the job, as in the file."""
    room = Room(dsn, list(pages), job=job)
    with trio.fail_after(DEADLINE_SECONDS):
        async with serve(cast("Any", room)) as url, serve(cast("Any", room.reader)) as reader:
            room.base_url, room.reader_url = url, reader
            yield room
