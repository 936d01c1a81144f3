"""A connector that notes every car it sees: rows are only appended, so that doubling shows.

The bundled connector's upsert would hide a page that was written twice, and its version guard a
page that was written late. Here nothing stands between the two and the table but the engine.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import attrs
import msgspec

from syncd import (
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
    Secret,
    Stream,
    TokenBucket,
    Upstream,
    decode,
    hookimpl,
)

WINDOW_MINUTES = 60  # what changed since then: nothing, of cars that no test has moved


@attrs.frozen
class Settings:
    """What `[connectors.sightings]` may hold."""

    api_key: Secret
    base_url: str
    per_page: int = 50
    requests_per_second: float = 100.0
    in_flight: int = 2


@attrs.define
class Sighting:
    """A row: this car stood in a page."""

    id: int


class _Links(msgspec.Struct):
    next: str | None


class _Envelope(msgspec.Struct):
    data: list[msgspec.Raw]
    links: _Links


SIGHTINGS = Stream(name="sightings", record=Sighting, mode="append")
FEED = Feed(name="sightings", streams=(SIGHTINGS,), quota="account", incremental=True)


def upstream(settings: Settings, _: None) -> Upstream:
    rate = TokenBucket(1, per_seconds=1 / settings.requests_per_second)
    return Upstream(
        base_url=settings.base_url,
        headers={"x-api-key": settings.api_key},
        quotas=(Quota("account", rate, settings.in_flight),),
    )


CONNECTOR = Connector(
    name="sightings", version="1.0.0", settings=Settings, feeds=(FEED,), upstream=upstream
)


@hookimpl
def connectors() -> Sequence[Connector]:
    return [CONNECTOR]


@hookimpl
def begin(instance: Instance[Any], feed: Feed) -> Any:
    if instance.connector is not CONNECTOR:
        return None

    def first_page(_: Partition, request: Request, __: datetime) -> Pass:
        minutes = None if request.mode == "full" else WINDOW_MINUTES
        return Pass(request.mode, (Cursor({"page": 1, "minutes": minutes}),))

    return first_page


@hookimpl
def fetch(instance: Instance[Any], feed: Feed) -> Fetch | None:
    return sightings if instance.connector is CONNECTOR else None


async def sightings(ctx: Context[Settings, None], cursor: Cursor) -> Page:
    """Fetch one page; it names the next one."""
    value: Any = cursor.value
    params: dict[str, str | int] = {"page": value["page"], "per_page": ctx.settings.per_page}
    if value["minutes"] is not None:
        params["minutes"] = value["minutes"]
    response = await ctx.http.get("/cars", params=params)
    envelope = decode(response, _Envelope, where="GET /cars")
    following = Cursor({**value, "page": value["page"] + 1})
    return Page(
        records={"sightings": [Record(raw) for raw in envelope.data]},
        opens=(following,) if envelope.links.next else (),
        date=response.date,
    )
