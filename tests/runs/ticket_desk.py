"""An upstream with tenants, a chain of search pages and a fan-out; and the connector for it.

Search pages name tickets and the next search page; a ticket is a page of its own and carries two
streams. The upstream is served over real HTTP; the connector is a plugin as anybody would write it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qs

import attrs
import msgspec
import trio

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
    Secret,
    Stream,
    Upstream,
    decode,
    hookimpl,
)
from syncd.config import Config, parse, structure
from syncd.daemon import Process, Root
from syncd.events import Event
from syncd.jobs import run_job
from syncd.observe import Observer
from syncd.plugins import Plugins
from syncd.verdicts import Result
from syncd_cars.simulator_serving import serve


class Desk:
    """The upstream: `searches[n]` are the tickets that search page n names, and its next page."""

    def __init__(self, searches: dict[int, tuple[Sequence[int], int | None]]) -> None:
        self.public_url = ""
        self.searches = searches
        self.refused: set[str] = set()  # tokens that are not taken
        self.broken: set[int] = set()  # tickets that answer 500
        self.garbled: set[int] = set()  # tickets whose answer is no JSON
        self.messages: dict[int, list[Any]] = {}  # of tickets that have others than the usual two
        self.edition = 1  # of every subject
        self.gate: trio.Event | None = None  # tickets are answered once it is open
        self.asked: Counter[str] = Counter()

    def serve(self) -> AbstractAsyncContextManager[str]:
        return serve(cast("Any", self))

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            while (message := await receive())["type"] != "lifespan.shutdown":
                await send({"type": f"{message['type']}.complete"})
            await send({"type": "lifespan.shutdown.complete"})
            return
        token = dict(scope["headers"]).get(b"authorization", b"").decode()
        query = scope["query_string"].decode()
        if self.gate is not None and scope["path"] != "/search":
            await self.gate.wait()
        status, body = self._answer(scope["path"], query, token)
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
        ]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _answer(self, path: str, query: str, token: str) -> tuple[int, bytes]:
        if token in self.refused:
            return 401, b'{"message": "no"}'
        self.asked[f"{token} {path}{'?' if query else ''}{query}"] += 1
        if path == "/search":
            tickets, following = self.searches[int(parse_qs(query)["at"][0])]
            return 200, json.dumps({"tickets": list(tickets), "next": following}).encode()
        number = int(path.rpartition("/")[2])
        if number in self.broken:
            return 500, b"{}"
        if number in self.garbled:
            return 200, b"{half"
        messages = [{"id": number * 10 + each, "text": f"{token} {each}"} for each in range(2)]
        messages = self.messages.get(number, messages)
        ticket = {
            "id": number,
            "subject": f"{token}'s {number}{' new' * (self.edition - 1)}",
            "messages": messages,
        }
        return 200, json.dumps(ticket).encode()


@attrs.define
class Ticket:
    id: int
    subject: str


@attrs.define
class Message:
    id: int
    text: str
    ticket_id: int = 0


@attrs.frozen
class Settings:
    base_url: str
    in_flight: int = 4


@attrs.frozen
class Tenant:
    token: Secret
    seats: int = 1


class _Search(msgspec.Struct):
    tickets: list[int]
    next: int | None


class _Ticket(msgspec.Struct):
    id: int
    messages: list[msgspec.Raw]


TICKETS = Stream("tickets", record=Ticket, key=("id",), per_account=True)
MESSAGES = Stream("messages", record=Message, key=("id",), per_account=True)
FEED = Feed("tickets", streams=(TICKETS, MESSAGES), quota="tenant")
CONNECTOR = Connector(
    "desk",
    "1.0.0",
    settings=Settings,
    feeds=(FEED,),
    upstream=lambda settings, tenant: Upstream(
        settings.base_url,
        quotas=(Quota("tenant", concurrency=settings.in_flight, per="account"),),
        headers={"authorization": tenant.token},
    ),
    account_settings=Tenant,
)


class Plugin:
    """The connector's hooks; `write` may be set to write messages itself."""

    write_messages: Any = None

    @hookimpl
    def connectors(self) -> Sequence[Connector]:
        return [CONNECTOR]

    @hookimpl
    def begin(self) -> Any:
        def first(_: Partition, request: Request, now: Any) -> Pass:
            return Pass("full", (Cursor({"search": 0}),))

        return first

    @hookimpl
    def fetch(self) -> Fetch:
        return fetch

    @hookimpl
    def write(self, stream: Stream) -> Any:
        return self.write_messages if stream is MESSAGES else None


async def fetch(ctx: Context[Settings, None], cursor: Cursor) -> Page:
    where: Any = cursor.value
    if "search" in where:
        response = await ctx.http.get("/search", params={"at": where["search"]})
        found = decode(response, _Search, where="GET /search")
        opens = [Cursor({"ticket": number}, kind="item") for number in found.tickets]
        if found.next is not None:
            opens.append(Cursor({"search": found.next}))
        return Page({}, opens=tuple(opens))
    response = await ctx.http.get(f"/tickets/{where['ticket']}")
    ticket = decode(response, _Ticket, where="GET /tickets")
    parent = {"ticket_id": ticket.id}
    return Page(
        {
            "tickets": [Record(msgspec.Raw(response.content))],
            "messages": [Record(raw, parent) for raw in ticket.messages],
        }
    )


PLUGIN = Plugin()


@attrs.define
class Office:
    """A database, the desk, and what was said."""

    dsn: str
    desk: Desk
    base_url: str
    plugin: Plugin = attrs.field(factory=Plugin)
    job: str = ""  # further keys of its table
    more: str = ""  # further tables
    events: list[Event] = attrs.field(factory=list)

    def config(self, *tokens: str) -> Config:
        accounts = "".join(
            f'[[connectors.desk.accounts]]\nname = "{token}"\ntoken = "{token}"\n'
            for token in tokens
        )
        text = (
            f'[database]\nurl = "{self.dsn}"\npool_max = 4\n'
            f'[connectors.desk]\nbase_url = "{self.base_url}"\n{accounts}'
            '[jobs.desk]\nconnector = "desk"\nmode = "full"\n'
            f"{self.job}\n{self.more}"
        )
        raw = parse(text, file="syncd.toml", folder=Path.cwd())
        return structure(raw, {"desk": CONNECTOR}, environment={})

    async def run(self, *tokens: str, wait_seconds: float = 5.0) -> list[Result]:
        """Run the job for these tenants."""
        self.events.clear()
        config = self.config(*tokens)
        observer = Observer()
        observer.listen(self.events.append)

        async def main(process: Process) -> list[Result]:
            job = config.jobs["desk"]
            return await run_job(process, job, mode="full", wait_seconds=wait_seconds)

        return await Root(config, Plugins({"desk": self.plugin}), observer).run(main)
