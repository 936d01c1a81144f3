"""The connector for the cars API: cars and their lots of Encar, KBChachacha, Copart and IAAI."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

import attrs
import msgspec

from syncd import (
    Check,
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
    Request,
    Secret,
    Slice,
    Stream,
    TokenBucket,
    Transform,
    Upstream,
    hookimpl,
)
from syncd_cars import api
from syncd_cars.records import Car, CarRecord, Lot, LotRecord, Manufacturer, car_of, lot_of

PRIORITY_SECONDS = 3600  # the priority brands go an hour before the whole feed
LOOK_UP_PAGES_MAX = 1000  # of about 424 manufacturers: one that always names a next page ends here


@attrs.frozen
class Settings:
    """What `[connectors.NAME]` may hold."""

    api_key: Secret = attrs.field(metadata={"about": "sent as `x-api-key`"})
    base_url: str = attrs.field(
        default="https://auctionsapi.com/api", metadata={"about": "where the API is"}
    )
    priority_brands: tuple[str, ...] = attrs.field(
        default=("Audi", "Mercedes-Benz", "Volkswagen", "BMW"),
        metadata={"about": "brands that are walked first, as a partition of their own"},
    )
    per_page: int = attrs.field(
        default=1000,
        validator=[attrs.validators.ge(1), attrs.validators.le(1000)],
        metadata={"about": "records a page; the API allows 1,000, a demo key 50"},
    )
    totals: bool = attrs.field(
        default=False,
        metadata={"about": "ask for totals (`simple_paginate=0`): progress knows its end"},
    )
    requests_per_second: float = attrs.field(
        default=1.0,
        validator=attrs.validators.gt(0),
        metadata={"about": "the account's limit over all endpoints and machines"},
    )
    in_flight: int = attrs.field(
        default=4,
        validator=attrs.validators.ge(1),
        metadata={"about": "requests at once, at most"},
    )


CARS = Stream(
    name="cars",
    record=CarRecord,
    row=Car,
    key=("id",),
    indexes=(("vin",), ("manufacturer_id",)),
    shortcut="raw",
)
LOTS = Stream(
    name="lots",
    record=LotRecord,
    row=Lot,
    key=("domain_id", "lot"),
    version="updated_at",
    indexes=(("car_id",), ("id",)),
    shortcut="raw",
)
MANUFACTURERS = Stream("manufacturers", Manufacturer, key=("id",), shortcut="raw")

FEED = Feed(name="cars", streams=(CARS, LOTS), quota="account", paging="numbered", incremental=True)
REFERENCE = Feed(name="manufacturers", streams=(MANUFACTURERS,), quota="account", paging="numbered")


def upstream(settings: Settings, _: None) -> Upstream:
    """Say how to talk to the API."""
    rate = TokenBucket(1, per_seconds=1 / settings.requests_per_second)
    return Upstream(
        base_url=settings.base_url,
        headers={"x-api-key": settings.api_key, "accept": "application/json"},
        quotas=(Quota("account", rate, settings.in_flight),),
        timeout_seconds=60.0,  # a page of 1,000 cars is over 6 MB
    )


CONNECTOR = Connector(
    name="cars",
    version="1.0.0",
    settings=Settings,
    feeds=(FEED, REFERENCE),
    upstream=upstream,
    request_settings=("per_page",),
)


@hookimpl
def connectors() -> Sequence[Connector]:
    return [CONNECTOR]


@hookimpl
def partitions(instance: Instance[Any], feed: Feed) -> Any:
    """Cut the priority brands out, so that they come first; the whole feed holds them too."""
    if instance.connector is not CONNECTOR or feed is not FEED:
        return None
    wanted: tuple[str, ...] = instance.settings.priority_brands

    async def slices(ctx: Context[Settings, None]) -> Sequence[Slice]:
        whole = Slice()
        if not wanted:
            return [whole]
        ids = await brand_ids(ctx, wanted)
        if not ids:
            return [whole]
        first = Slice("priority", {"manufacturer_ids": sorted(ids.values())}, PRIORITY_SECONDS)
        return [first, whole]

    return slices


async def brand_ids(ctx: Context[Settings, None], wanted: Sequence[str]) -> dict[str, int]:
    """Look up the ids of brands by name, whatever their case."""
    names = {name.casefold(): name for name in wanted}
    ids: dict[str, int] = {}
    for number in range(1, LOOK_UP_PAGES_MAX + 1):
        page = await manufacturers(ctx, Cursor({}, number=number))
        for brand in brands_of(page):
            if brand.name is not None and brand.name.casefold() in names:
                ids[names[brand.name.casefold()]] = brand.id
        if page.end or page.empty or len(ids) >= len(names):
            break
    return ids


def brands_of(page: Page) -> Iterator[Manufacturer]:
    """Read the brands of a page; one that cannot be read is nobody's priority."""
    for record in page.records["manufacturers"]:
        with suppress(msgspec.DecodeError):
            yield msgspec.json.decode(record.raw, type=Manufacturer)


@hookimpl
def begin(instance: Instance[Any], feed: Feed) -> Any:
    if instance.connector is not CONNECTOR:
        return None

    def first_cursor(_: Partition, request: Request, now: datetime) -> Pass:
        since = request.since
        if request.mode == "full" or since is None or not api.reaches_back(since, now):
            return Pass("full", (Cursor({}, number=1),))
        return Pass(request.mode, (Cursor({"since": since.isoformat()}, number=1),))

    return first_cursor


@hookimpl
def fetch(instance: Instance[Any], feed: Feed) -> Fetch | None:
    if instance.connector is not CONNECTOR:
        return None
    return cars if feed is FEED else manufacturers


async def cars(ctx: Context[Settings, None], cursor: Cursor) -> Page:
    """Fetch one page of cars with their lots."""
    assert cursor.number is not None
    params = api.cars_params(
        number=cursor.number,
        per_page=ctx.settings.per_page,
        since=api.since_of(cursor.value),
        now=ctx.http.now(),
        filters=ctx.partition.slice.settings,
        totals=ctx.settings.totals,
    )
    return api.cars_page(await ctx.http.get("/cars", params=params))


async def manufacturers(ctx: Context[Settings, None], cursor: Cursor) -> Page:
    """Fetch one page of manufacturers."""
    assert cursor.number is not None
    params: dict[str, str | int] = {"page": cursor.number, "per_page": ctx.settings.per_page}
    return api.manufacturers_page(await ctx.http.get("/manufacturers/cars", params=params))


@hookimpl
def transform(instance: Instance[Any], stream: Stream) -> Transform | None:
    if instance.connector is not CONNECTOR:
        return None
    if stream is CARS:
        return Transform("car_of", 1, car_of)
    return Transform("lot_of", 1, lot_of) if stream is LOTS else None


@hookimpl
def check(instance: Instance[Any]) -> Check | None:
    """Look the priority brands up, if any: the answer tells whether the key is taken, too."""
    if instance.connector is not CONNECTOR:
        return None

    async def ask(ctx: Context[Settings, None]) -> str:
        wanted = ctx.settings.priority_brands
        ids = await brand_ids(ctx, wanted)
        unknown = [name for name in wanted if name not in ids]
        if unknown:
            return f"the key is accepted; no manufacturer is named {', '.join(unknown)}"
        return f"the key is accepted; {len(ids)} priority brands found"

    return ask
