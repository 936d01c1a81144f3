"""An upstream that knows its pages by ETag or Last-Modified, and the connector for it.

`books` are page numbers with an end marker, `readers` a fan-out (pages that name readers, and a
page for each), `reviews` a chain. Every answer's validators are made of its body.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qs

import attrs
import msgspec
import psycopg
from psycopg.rows import dict_row

from syncd import (
    Connector,
    Context,
    Cursor,
    Feed,
    Fetch,
    Page,
    Partition,
    Pass,
    Quota,
    Record,
    Request,
    Stream,
    TokenBucket,
    Transform,
    Upstream,
    decode,
    hookimpl,
)
from syncd.config import Config, parse, structure
from syncd.daemon import Process, Root
from syncd.events import Event
from syncd.jobs import run_job
from syncd.model import Mode
from syncd.observe import Observer
from syncd.plugins import Plugins
from syncd.verdicts import Result
from syncd_cars.simulator_serving import serve

PUBLISHED = datetime(2026, 1, 1, tzinfo=UTC)


@attrs.frozen
class Asked:
    """One request: what for, whether only if it has changed, and what was answered."""

    target: str
    conditional: bool
    status: int


class Library:
    """The upstream. `shelves[n]` are the books of page n + 1."""

    def __init__(self, shelves: Sequence[Sequence[str]] = ()) -> None:
        self.public_url = ""
        self.shelves = [list(shelf) for shelf in shelves]
        self.readers: list[list[int]] = []  # by page, which names the next one
        self.names: dict[int, str] = {}
        self.reviews: list[list[str]] = []
        self.garbled: set[str] = set()  # targets whose second record is none
        self.redirected: set[str] = set()  # targets that are answered after a redirect
        self.now = datetime(2026, 2, 1, tzinfo=UTC)
        self.by_date = False  # Last-Modified in place of ETags
        self.modified: dict[str, datetime] = {}
        self.claims_everything_is_old = False
        self.asked: list[Asked] = []

    def serve(self) -> AbstractAsyncContextManager[str]:
        return serve(cast("Any", self))

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            while (message := await receive())["type"] != "lifespan.shutdown":
                await send({"type": f"{message['type']}.complete"})
            await send({"type": "lifespan.shutdown.complete"})
            return
        query = scope["query_string"].decode()
        target = scope["path"] + (f"?{query}" if query else "")
        fields = {name.decode(): value.decode() for name, value in scope["headers"]}
        status, headers, body = self._answer(target, scope["path"], query, fields)
        conditions = {"if-none-match", "if-modified-since"}
        self.asked.append(Asked(target, bool(conditions & fields.keys()), status))
        encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": status, "headers": encoded})
        await send({"type": "http.response.body", "body": body})

    def _answer(
        self, target: str, path: str, query: str, fields: dict[str, str]
    ) -> tuple[int, dict[str, str], bytes]:
        if target in self.redirected and not query.endswith("again=1"):
            return 302, {"location": f"{target}&again=1", "content-length": "0"}, b""
        body = json.dumps(self._content(target, path, parse_qs(query))).encode()
        mark = self._mark(target, body)
        name, asked_by = (
            ("last-modified", "if-modified-since") if self.by_date else ("etag", "if-none-match")
        )
        said = {name: mark, "date": format_datetime(self.now, usegmt=True)}
        if self.claims_everything_is_old or fields.get(asked_by) == mark:
            return 304, said, b""
        said |= {"content-type": "application/json", "content-length": str(len(body))}
        return 200, said, body

    def _mark(self, target: str, body: bytes) -> str:
        if self.by_date:
            return format_datetime(self.modified.get(target, PUBLISHED), usegmt=True)
        return f'"{sha256(body).hexdigest()[:16]}"'

    def _content(self, target: str, path: str, query: dict[str, list[str]]) -> Any:
        at = int(query.get("page", ["1"])[0])
        if path == "/books":
            books = self.shelves[at - 1] if at <= len(self.shelves) else []
            records: list[Any] = [
                {"id": at * 100 + n, "title": title} for n, title in enumerate(books)
            ]
            if target in self.garbled:
                records[1] = {"id": "none"}
            return {"records": records, "last": at == len(self.shelves)}
        if path == "/readers":
            return {"ids": self.readers[at - 1], "next": at + 1 if at < len(self.readers) else None}
        if path == "/reviews":
            records = [{"id": at * 100 + n, "text": t} for n, t in enumerate(self.reviews[at - 1])]
            return {"records": records, "next": at + 1 if at < len(self.reviews) else None}
        number = int(path.rpartition("/")[2])
        return {"id": number, "name": self.names[number]}

    def change(self, page: int, *books: str) -> None:
        """Put other books on a shelf."""
        self.shelves[page - 1] = list(books)
        self.modified[f"/books?page={page}"] = PUBLISHED + timedelta(days=1)

    def answered(self) -> dict[str, int]:
        """Return how often each status was answered since the last question."""
        found = {str(each.status): 0 for each in self.asked}
        for each in self.asked:
            found[str(each.status)] += 1
        self.asked.clear()
        return found


@attrs.define
class Book:
    id: int
    title: str


@attrs.define
class Reader:
    id: int
    name: str


@attrs.define
class Review:
    id: int
    text: str


@attrs.frozen
class Settings:
    base_url: str
    requests_per_second: float = 1000.0


class _Records(msgspec.Struct):
    records: list[msgspec.Raw]
    last: bool = False
    next: int | None = None


class _Ids(msgspec.Struct):
    ids: list[int]
    next: int | None


STREAMS = {
    "books": Stream("books", record=Book, key=("id",)),
    "readers": Stream("readers", record=Reader, key=("id",)),
    "reviews": Stream("reviews", record=Review, key=("id",)),
}


def upstream(settings: Settings, _: None) -> Upstream:
    rate = TokenBucket(1, per_seconds=1 / settings.requests_per_second)
    return Upstream(settings.base_url, quotas=(Quota("all", rate, 4),))


def connector(**options: Any) -> Connector:
    """Return the connector; `options` are those of its feeds, over `conditional`."""
    how = {"conditional": True, "incremental": True} | options
    feeds = tuple(
        Feed(
            name,
            streams=(stream,),
            quota="all",
            paging="numbered" if name == "books" else "chain",
            **how,
        )
        for name, stream in STREAMS.items()
    )
    return Connector("library", "1.0.0", settings=Settings, feeds=feeds, upstream=upstream)


@attrs.define
class Plugin:
    """The connector's hooks. `read` are the pages that it had to read."""

    announced: Connector = attrs.field(factory=connector)
    edition: int = 1  # the version of the transform of books
    read: list[Any] = attrs.field(factory=list)
    swallow: bool = False  # catches what its requests raise, as no plugin should

    @hookimpl
    def connectors(self) -> Sequence[Connector]:
        return [self.announced]

    @hookimpl
    def begin(self, feed: Feed) -> Any:
        def first(_: Partition, request: Request, __: datetime) -> Pass:
            cursor = Cursor({}, number=1) if feed.name == "books" else Cursor({"page": 1})
            return Pass(request.mode, (cursor,))

        return first

    @hookimpl
    def transform(self, stream: Stream) -> Transform | None:
        if stream.name != "books":
            return None
        return Transform("shout", self.edition, self._shouted)

    def _shouted(self, book: Book) -> Book:
        return attrs.evolve(book, title=book.title + "!" * self.edition)

    @hookimpl
    def fetch(self, feed: Feed) -> Fetch:
        functions: dict[str, Callable[..., Any]] = {
            "books": self._books,
            "readers": self._readers,
            "reviews": self._reviews,
        }
        return functions[feed.name]

    async def _books(self, ctx: Context[Settings, None], cursor: Cursor) -> Page:
        assert cursor.number is not None
        try:
            response = await ctx.http.get("/books", params={"page": cursor.number})
        except Exception:  # to see that the engine does not depend on the plugin's manners
            if self.swallow:
                return Page({"books": []})
            raise
        found = decode(response, _Records, where="GET /books")
        self.read.append(cursor.number)
        records = [Record(raw) for raw in found.records]
        return Page({"books": records}, end=found.last, date=response.date)

    async def _readers(self, ctx: Context[Settings, None], cursor: Cursor) -> Page:
        where: Any = cursor.value
        if "reader" in where:
            response = await ctx.http.get(f"/readers/{where['reader']}")
            self.read.append(where["reader"])
            return Page({"readers": [Record(msgspec.Raw(response.content))]})
        response = await ctx.http.get("/readers", params={"page": where["page"]})
        found = decode(response, _Ids, where="GET /readers")
        self.read.append(f"page {where['page']}")
        opens = [Cursor({"reader": number}, kind="item") for number in found.ids]
        following = () if found.next is None else (Cursor({"page": found.next}),)
        return Page({}, opens=(*opens, *following))

    async def _reviews(self, ctx: Context[Settings, None], cursor: Cursor) -> Page:
        where: Any = cursor.value
        response = await ctx.http.get("/reviews", params={"page": where["page"]})
        found = decode(response, _Records, where="GET /reviews")
        self.read.append(where["page"])
        opens = () if found.next is None else (Cursor({"page": found.next}),)
        return Page({"reviews": [Record(raw) for raw in found.records]}, opens=opens)


PLUGIN = Plugin()  # for processes of their own


def configuration(dsn: str, base_url: str, *, job: str, rate: float = 1000.0) -> str:
    return (
        f"[database]\nurl = '''{dsn}'''\npool_max = 4\n"
        '[daemon]\nlease = "3s"\n'
        f'[connectors.library]\nbase_url = "{base_url}"\nrequests_per_second = {rate}\n'
        f'[jobs.{job}]\nconnector = "library"\nstreams = ["{job}"]\nmode = "full"\n'
    )


@attrs.define
class Reading:
    """A database, the library, and what was said of the last run."""

    dsn: str
    library: Library
    base_url: str
    plugin: Plugin = attrs.field(factory=Plugin)
    events: list[Event] = attrs.field(factory=list)

    def config(self, job: str) -> Config:
        text = configuration(self.dsn, self.base_url, job=job)
        raw = parse(text, file="syncd.toml", folder=Path.cwd())
        return structure(raw, {"library": self.plugin.announced}, environment={})

    async def run(self, job: str = "books", *, mode: Mode = "full", verify: bool = False) -> Result:
        """Run a job once."""
        self.events.clear()
        self.plugin.read.clear()
        self.library.asked.clear()
        config = self.config(job)
        observer = Observer()
        observer.listen(self.events.append)

        async def main(process: Process) -> list[Result]:
            return await run_job(
                process, config.jobs[job], mode=mode, wait_seconds=1.0, verify=verify
            )

        (result,) = await Root(config, Plugins({"library": self.plugin}), observer).run(main)
        return result

    def rows(self, query: str) -> list[dict[str, Any]]:
        with psycopg.connect(self.dsn, row_factory=dict_row, autocommit=True) as connection:
            return connection.execute(query.encode()).fetchall()

    def execute(self, statement: str) -> None:
        """Do something by hand."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute(statement.encode())

    def titles(self) -> list[str]:
        return [row["title"] for row in self.rows("SELECT title FROM library.books ORDER BY id")]

    def versions(self, table: str = "books") -> list[tuple[Any, ...]]:
        """Return what tells one version of every row from another."""
        query = f"SELECT ctid::text, xmin::text, _syncd_written_at FROM library.{table} ORDER BY 1"
        return [tuple(row.values()) for row in self.rows(query)]

    def validators(self) -> int:
        (row,) = self.rows("SELECT count(*) AS n FROM syncd.validator")
        return int(row["n"])
