"""An upstream whose people come and go, page by page; and a connector whose rows go with them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
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
    Slice,
    Stream,
    Transform,
    Upstream,
    decode,
    hookimpl,
)
from syncd.config import Config, parse, structure
from syncd.daemon import Process, Root
from syncd.events import AbsenceRefused, Event, RowsAbsent
from syncd.jobs import run_job
from syncd.model import Mode
from syncd.observe import Observer
from syncd.plugins import Plugins
from syncd.verdicts import Result
from syncd_cars.simulator_serving import serve


class Bureau:
    """The upstream: by town, pages of people. A page with an entry in `answers` is that instead."""

    def __init__(self, **towns: Sequence[Sequence[Any]]) -> None:
        self.public_url = ""
        self.towns: dict[str, list[list[Any]]] = {
            name: [list(page) for page in pages] for name, pages in towns.items()
        }
        self.answers: dict[tuple[str, int], bytes] = {}
        self.asked: list[tuple[str, int, bool]] = []  # town, page, conditionally

    def serve(self) -> AbstractAsyncContextManager[str]:
        return serve(cast("Any", self))

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            while (message := await receive())["type"] != "lifespan.shutdown":
                await send({"type": f"{message['type']}.complete"})
            await send({"type": "lifespan.shutdown.complete"})
            return
        town, page = scope["path"].strip("/"), int(parse_qs(scope["query_string"])[b"page"][0])
        fields = dict(scope["headers"])
        body = self.answers.get((town, page)) or json.dumps(self._page(town, page)).encode()
        mark = f'"{sha256(body).hexdigest()[:16]}"'.encode()
        self.asked.append((town, page, b"if-none-match" in fields))
        same = fields.get(b"if-none-match") == mark
        headers = [(b"etag", mark)]
        if not same:
            headers += [
                (b"content-type", b"application/json"),
                (b"content-length", str(len(body)).encode()),
            ]
        await send(
            {"type": "http.response.start", "status": 304 if same else 200, "headers": headers}
        )
        await send({"type": "http.response.body", "body": b"" if same else body})

    def _page(self, town: str, page: int) -> Any:
        pages = self.towns[town]
        people = [
            person(each) if isinstance(each, int) else each
            for each in (pages[page - 1] if page <= len(pages) else [])
        ]
        return {"people": people, "next": page + 1 if page < len(pages) else None}


def person(number: int, **fields: Any) -> dict[str, Any]:
    return {"id": number, "name": f"person {number}", "revision": 1} | fields


@attrs.define
class Person:
    id: int
    name: str
    revision: int = 1


@attrs.frozen
class Settings:
    base_url: str


@attrs.frozen
class Town:
    pass


class _People(msgspec.Struct):
    people: list[msgspec.Raw]
    next: int | None


STREAM = Stream(
    "people",
    Person,
    key=("id",),
    version="revision",
    per_account=True,
    on_absent="delete",
    shortcut="raw",
)


@attrs.define
class Plugin:
    """The connector's hooks. `slices` are what a town's feed is cut into; none: it is whole."""

    stream: Stream = STREAM
    feed_options: Mapping[str, Any] = attrs.field(factory=dict)
    slices: Sequence[Slice] = ()
    change: Any = None  # the transform's function
    connector: Connector = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        feed = Feed("people", streams=(self.stream,), quota="all", **self.feed_options)
        self.connector = Connector(
            "census",
            "1.0.0",
            settings=Settings,
            feeds=(feed,),
            upstream=lambda settings, _: Upstream(settings.base_url, quotas=(Quota("all"),)),
            account_settings=Town,
        )

    @hookimpl
    def connectors(self) -> Sequence[Connector]:
        return [self.connector]

    @hookimpl
    def partitions(self) -> Any:
        async def cut(_: Context[Settings, None]) -> Sequence[Slice]:
            return self.slices or [Slice()]

        return cut

    @hookimpl
    def begin(self, feed: Feed) -> Any:
        def first(_: Partition, request: Request, __: datetime) -> Pass:
            numbered = feed.paging == "numbered"
            cursor = Cursor({}, number=1) if numbered else Cursor({"page": 1})
            return Pass(request.mode, (cursor,))

        return first

    @hookimpl
    def fetch(self, feed: Feed) -> Fetch:
        async def fetch(ctx: Context[Settings, None], cursor: Cursor) -> Page:
            where: Any = cursor.value
            page = cursor.number or where["page"]
            of: Any = ctx.partition.slice.settings.get("of", ctx.account.name)
            response = await ctx.http.get(f"/{of}", params={"page": page})
            found = decode(response, _People, where="GET /people")
            records = {self.stream.name: [Record(raw) for raw in found.people]}
            if feed.paging == "numbered":
                return Page(records, end=found.next is None)
            opens = () if found.next is None else (Cursor({"page": found.next}),)
            return Page(records, opens=opens)

        return fetch

    @hookimpl
    def transform(self) -> Transform | None:
        return None if self.change is None else Transform("change", 1, self.change)


PLUGIN = Plugin()  # for processes of their own


def configuration(dsn: str, base_url: str, *towns: str, lease: str = "30s") -> str:
    accounts = "".join(f'[[connectors.census.accounts]]\nname = "{town}"\n' for town in towns)
    return (
        f"[database]\nurl = '''{dsn}'''\npool_max = 4\n"
        f'[daemon]\nlease = "{lease}"\n'
        f'[connectors.census]\nbase_url = "{base_url}"\n{accounts}'
        '[jobs.census]\nconnector = "census"\nmode = "full"\n'
    )


@attrs.define
class Census:
    """A database, the bureau, and what was said of the last run."""

    dsn: str
    bureau: Bureau
    base_url: str
    plugin: Plugin = attrs.field(factory=Plugin)
    events: list[Event] = attrs.field(factory=list)
    further: str = ""  # tables of the configuration

    def config(self, *towns: str) -> Config:
        text = configuration(self.dsn, self.base_url, *towns) + self.further
        raw = parse(text, file="syncd.toml", folder=Path.cwd())
        return structure(raw, {"census": self.plugin.connector}, environment={})

    async def run_towns(self, *towns: str, mode: Mode = "full") -> list[Result]:
        """Run the job once for these towns."""
        self.events.clear()
        self.bureau.asked.clear()
        config = self.config(*towns)
        observer = Observer()
        observer.listen(self.events.append)

        async def main(process: Process) -> list[Result]:
            job = config.jobs["census"]
            return await run_job(process, job, mode=mode, wait_seconds=0.1)

        return await Root(config, Plugins({"census": self.plugin}), observer).run(main)

    async def run(self, *, mode: Mode = "full") -> Result:
        """Run the job once for the town named north."""
        (result,) = await self.run_towns("north", mode=mode)
        return result

    def rows(self, query: str, *parameters: Any) -> list[dict[str, Any]]:
        with psycopg.connect(self.dsn, row_factory=dict_row, autocommit=True) as connection:
            return connection.execute(query.encode(), parameters or None).fetchall()

    def execute(self, statement: str) -> None:
        """Do something by hand."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute(statement.encode())

    def ids(self, town: str = "north") -> list[int]:
        query = "SELECT id FROM census.people WHERE account_id = %s ORDER BY id"
        return [row["id"] for row in self.rows(query, town)]

    def marked(self) -> dict[int, datetime]:
        """Return whose rows are marked, and since when."""
        query = "SELECT id, _syncd_absent_at FROM census.people WHERE _syncd_absent_at IS NOT NULL"
        found = {row["id"]: row["_syncd_absent_at"] for row in self.rows(query)}
        assert all(at <= datetime.now(UTC) for at in found.values())
        return found

    @property
    def gone(self) -> list[tuple[str, int, int]]:
        """Return what the last run told of rows that were marked or deleted."""
        return [(e.action, e.count, e.rows) for e in self.events if isinstance(e, RowsAbsent)]

    @property
    def refused(self) -> list[str]:
        return [each.reason for each in self.events if isinstance(each, AbsenceRefused)]
