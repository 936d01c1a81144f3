"""The connector for the plain pages: what a user would write for a flat, numbered feed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any

import attrs
import msgspec

from syncd import (
    Column,
    Connector,
    Context,
    Cursor,
    Feed,
    Fetch,
    Instance,
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

Price = Annotated[Decimal, Column("numeric(14,2)")]


@attrs.frozen
class Settings:
    """What `[connectors.plain]` may hold."""

    base_url: str
    per_page: int = 1000
    in_flight: int = 8


@attrs.define
class Plain:
    """A record of the feed, and its row."""

    id: int
    sku: str
    name: str
    description: str
    brand: str
    category: str
    status: str
    colour: str | None
    size: str | None
    supplier: str
    country: str
    currency: str
    warehouse: str
    ean: str | None
    stock: int
    reserved: int
    sold: int
    rating_count: int
    weight_grams: int
    price: Price
    cost: Price
    list_price: Price
    active: bool
    featured: bool
    created_at: datetime
    updated_at: datetime
    published_at: datetime | None
    available_on: date
    tags: list[str]


@attrs.define
class Viewed(Plain):
    """The same with a field that differs whenever one looks."""

    views: int


class _Links(msgspec.Struct, gc=False):
    next: str | None = None


class _Envelope(msgspec.Struct, gc=False):
    data: list[msgspec.Raw]
    links: _Links


def upstream(settings: Settings, _: None) -> Upstream:
    quotas = (Quota("pages", concurrency=settings.in_flight),)
    return Upstream(base_url=settings.base_url, quotas=quotas)


def connector(name: str, stream: Stream) -> Connector:
    feed = Feed(name="records", streams=(stream,), quota="pages", paging="numbered")
    return Connector(
        name=name,
        version="1.0.0",
        settings=Settings,
        feeds=(feed,),
        upstream=upstream,
        request_settings=("per_page",),
    )


CONNECTORS = (
    connector("plain", Stream("records", Plain, key=("id",), shortcut="raw")),
    connector("viewed", Stream("records", Viewed, key=("id",), volatile=("views",))),
)


@hookimpl
def connectors() -> Sequence[Connector]:
    return CONNECTORS


@hookimpl
def begin(instance: Instance[Any], feed: Feed) -> Any:
    return first_page if instance.connector in CONNECTORS else None


def first_page(_: Partition, request: Request, __: datetime) -> Pass:
    return Pass(request.mode, (Cursor({}, number=1),))


@hookimpl
def fetch(instance: Instance[Any], feed: Feed) -> Fetch | None:
    return records if instance.connector in CONNECTORS else None


async def records(ctx: Context[Settings, None], cursor: Cursor) -> Page:
    """Fetch one page."""
    assert cursor.number is not None
    params: dict[str, str | int] = {"page": cursor.number, "per_page": ctx.settings.per_page}
    response = await ctx.http.get("/records", params=params)
    envelope = decode(response, _Envelope, where="GET /records")
    return Page(
        records={"records": [Record(raw) for raw in envelope.data]},
        end=envelope.links.next is None,
        date=response.date,
    )
