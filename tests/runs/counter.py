"""A daemon in this process that serves the routes of `courier`, and who speaks to it over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import StringIO
from pathlib import Path
from typing import Any, TypeVar

import attrs
import courier
import httpx
import psycopg
import trio
from courier import BEARER
from processes import DEADLINE_SECONDS, seen
from psycopg.rows import dict_row

from syncd.config import Config, read, structure
from syncd.daemon import Process, Root
from syncd.events import AdminListening, DaemonReady, Event
from syncd.observe import Observer
from syncd.plugins import Plugins
from syncd.serving import serve

TOKEN = "a-token-of-an-operator-invented"

E = TypeVar("E", bound=Event)


def configured(file: Path, dsn: str, *, admin: str = "", bearer: str = BEARER) -> Path:
    """Write a configuration of a daemon that only listens."""
    admin = admin or 'listen = "127.0.0.1:0"'
    file.write_text(
        f"[database]\nurl = '''{dsn}'''\npool_max = 4\nconnect_timeout = '1s'\n"
        f'[admin]\n{admin}\n[connectors.courier]\nbearer = "{bearer}"\n'
    )
    return file


def structured(file: Path) -> tuple[Config, Plugins]:
    plugins = Plugins({"courier": courier.PLUGIN})
    return structure(read(file), plugins.connectors, environment={}), plugins


@attrs.define
class Counter:
    """A daemon of this process, and who speaks to it over HTTP."""

    dsn: str
    events: list[Event] = attrs.field(factory=list)
    log: StringIO = attrs.field(factory=StringIO)
    client: httpx.AsyncClient = attrs.field(factory=httpx.AsyncClient)
    process: Process | None = None
    ended: trio.Event = attrs.field(factory=trio.Event)

    @property
    def port(self) -> int:
        (listening,) = self.told(AdminListening)
        return int(listening.address.rpartition(":")[2])

    def told(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]

    def rows(self, query: str) -> list[dict[str, Any]]:
        with psycopg.connect(self.dsn, row_factory=dict_row, autocommit=True) as connection:
            return connection.execute(query.encode()).fetchall()

    def states(self) -> dict[int, str]:
        """Return the state of each parcel in the table."""
        return {row["id"]: row["state"] for row in self.rows("SELECT * FROM courier.parcels")}

    async def ask(self, method: str, path: str, **how: Any) -> httpx.Response:
        with trio.fail_after(DEADLINE_SECONDS):
            return await self.client.request(
                method, f"http://127.0.0.1:{self.port}{path}", timeout=DEADLINE_SECONDS, **how
            )

    async def post(self, bearer: str = BEARER, **told: Any) -> httpx.Response:
        """Post an event to the webhook."""
        headers = {"authorization": f"Bearer {bearer}"}
        return await self.ask("POST", "/plugins/courier/webhook", json=told, headers=headers)

    async def stream(self) -> trio.SocketStream:
        """Open a connection, to say what no client says."""
        return await trio.open_tcp_stream("127.0.0.1", self.port)


def head(length: int) -> bytes:
    """Return the head of a request to the webhook, with a body of so many bytes."""
    return (
        "POST /plugins/courier/webhook HTTP/1.1\r\nHost: localhost\r\n"
        f"Authorization: Bearer {BEARER}\r\nContent-Length: {length}\r\n\r\n"
    ).encode()


async def answered(stream: trio.SocketStream) -> bytes:
    """Return what comes until the connection is closed."""
    heard = b""
    with trio.fail_after(DEADLINE_SECONDS):
        async for piece in stream:
            heard += piece
    return heard


@asynccontextmanager
async def counter(dsn: str, file: Path, *, admin: str = "") -> AsyncIterator[Counter]:
    """Serve until the block ends; then the daemon drains."""
    configured(file, dsn, admin=admin)
    config, plugins = structured(file)
    found = Counter(dsn)
    observer = Observer(stream=found.log, level="debug")
    observer.protect([config.instances["courier"].settings.bearer])
    observer.listen(found.events.append)

    async def main(process: Process) -> None:
        found.process = process
        await serve(process, lambda: structured(file))

    async def run() -> None:
        await Root(config, plugins, observer).run(main)
        found.ended.set()

    async with trio.open_nursery() as nursery, found.client:
        nursery.start_soon(run)
        await seen("the daemon", lambda: found.told(DaemonReady))
        yield found
        assert found.process is not None
        found.process.drain("the test is over")
        with trio.fail_after(DEADLINE_SECONDS):
            await found.ended.wait()
        observer.flush()
