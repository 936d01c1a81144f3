"""An upstream with many stores, and the connector for it: what a daemon keeps in step.

Each store is an account. Its orders come in a chain of pages; a store may be closed (503), have
changed its key (401), be slow, or stop in the middle of an answer.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
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
    Stream,
    Upstream,
    decode,
    hookimpl,
)
from syncd_cars.simulator_serving import serve

PER_PAGE = 5


class Mall:
    """The upstream: store n sold `sold[n]` orders."""

    def __init__(self, stores: int, *, orders: int = 12) -> None:
        self.public_url = ""
        self.sold = dict.fromkeys((f"store-{n:03}" for n in range(stores)), orders)
        self.closed: set[str] = set()
        self.locked: set[str] = set()
        self.stuck: set[str] = set()  # send half of a body, and no more
        self.halves = 0  # bodies that stopped in the middle
        self.pause_seconds = 0.0
        self.gate: trio.Event | None = None  # answers are held back until it is open
        self.asked: Counter[tuple[str, int]] = Counter()
        self.at_once = 0
        self.most_at_once = 0

    def serve(self) -> AbstractAsyncContextManager[str]:
        return serve(cast("Any", self))

    def true_rows(self) -> set[tuple[str, int, int]]:
        """Return what the table must hold: account, number, sum."""
        return {
            (store, n, n * 3) for store, orders in self.sold.items() for n in range(1, orders + 1)
        }

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            while (message := await receive())["type"] != "lifespan.shutdown":
                await send({"type": f"{message['type']}.complete"})
            await send({"type": "lifespan.shutdown.complete"})
            return
        store = scope["path"].split("/")[1]
        page = int(parse_qs(scope["query_string"].decode()).get("page", ["1"])[0])
        self.asked[store, page] += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await trio.sleep(self.pause_seconds)
            if self.gate is not None:
                await self.gate.wait()
        finally:
            self.at_once -= 1
        status = 503 if store in self.closed else 401 if store in self.locked else 200
        body = json.dumps(self._page(store, page)).encode() if status == 200 else b"{}"
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        if store in self.stuck:
            half = body[: len(body) // 2]
            await send({"type": "http.response.body", "body": half, "more_body": True})
            self.halves += 1
            await trio.sleep_forever()
        await send({"type": "http.response.body", "body": body})

    def _page(self, store: str, page: int) -> dict[str, Any]:
        numbers = range(1, self.sold[store] + 1)[PER_PAGE * (page - 1) : PER_PAGE * page]
        last = PER_PAGE * page >= self.sold[store]
        return {
            "orders": [{"number": n, "sum": n * 3} for n in numbers],
            "next": None if last else page + 1,
        }


@attrs.define
class Order:
    number: int
    sum: int


@attrs.frozen
class Settings:
    base_url: str


@attrs.frozen
class Store:
    code: str = ""


class _Orders(msgspec.Struct):
    orders: list[msgspec.Raw]
    next: int | None


ORDERS = Feed(
    "orders",
    streams=(Stream("orders", record=Order, key=("number",), per_account=True),),
    quota="all",
)


def upstream(settings: Settings, _: Store) -> Upstream:
    return Upstream(settings.base_url, quotas=(Quota("all", concurrency=50),))


CONNECTOR = Connector(
    "mall",
    "1.0.0",
    settings=Settings,
    feeds=(ORDERS,),
    upstream=upstream,
    account_settings=Store,
)


class Plugin:
    """The connector's hooks."""

    @hookimpl
    def connectors(self) -> Sequence[Connector]:
        return [CONNECTOR]

    @hookimpl
    def begin(self) -> Any:
        def first(_: Partition, request: Request, __: datetime) -> Pass:
            return Pass(request.mode, (Cursor({"page": 1}),))

        return first

    @hookimpl
    def fetch(self) -> Fetch:
        return orders


async def orders(ctx: Context[Settings, None], cursor: Cursor) -> Page:
    page = cast("Any", cursor.value)["page"]
    response = await ctx.http.get(f"/{ctx.account.name}/orders", params={"page": page})
    found = decode(response, _Orders, where="GET /orders")
    opens = () if found.next is None else (Cursor({"page": found.next}),)
    return Page({"orders": [Record(raw) for raw in found.orders]}, opens=opens)


PLUGIN = Plugin()


def configuration(
    folder: Path,
    dsn: str,
    base_url: str,
    *,
    stores: Sequence[str],
    lease: str = "1h",
    job: str = 'every = "1h"',
    more: str = "",
    daemon: str = "",
) -> Path:
    """Write a configuration with one job over all stores; `job` and `more` are TOML."""
    file = folder / "mall.toml"
    accounts = "".join(f'[[connectors.mall.accounts]]\nname = "{store}"\n' for store in stores)
    file.write_text(
        f"[database]\nurl = '''{dsn}'''\npool_max = 4\n"
        f'[daemon]\nlease = "{lease}"\n{daemon}\n'
        f'[connectors.mall]\nbase_url = "{base_url}"\n{accounts}'
        f'[jobs.orders]\nconnector = "mall"\nmode = "full"\nconcurrency = 4\n{job}\n{more}\n'
    )
    return file
