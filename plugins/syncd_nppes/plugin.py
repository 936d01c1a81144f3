"""The connector for the NPPES NPI registry: providers, and leads that are made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

import attrs
import msgspec

from syncd import (
    Check,
    Connector,
    Context,
    Cursor,
    Derivation,
    Feed,
    Fetch,
    Instance,
    Page,
    Partition,
    Pass,
    Quota,
    Request,
    Response,
    Slice,
    SlidingWindow,
    Stream,
    Transform,
    Upstream,
    hookimpl,
)
from syncd_nppes import api
from syncd_nppes.leads import Lead, Leads, derivation_of
from syncd_nppes.records import Provider, ProviderRecord, provider_of
from syncd_nppes.searches import Search, searches_of, slices_of

QUOTA = "api"


@attrs.frozen
class Settings:
    """What `[connectors.NAME]` may hold."""

    base_url: str = attrs.field(
        default="https://npiregistry.cms.hhs.gov/api", metadata={"about": "where the API is"}
    )
    searches: tuple[Search, ...] = attrs.field(
        default=(), metadata={"about": "searches, each a partition by itself"}
    )
    specialties: tuple[str, ...] = attrs.field(
        default=(), metadata={"about": "specialties, each searched for in each of the places"}
    )
    places: tuple[str, ...] = attrs.field(
        default=(),
        metadata={"about": "states (`TX`), cities (`Austin, TX`), postal codes (`787*`)"},
    )
    rest: Literal["seen", "always", "never"] = attrs.field(
        default="seen",
        metadata={
            "about": "when a search that finds too many is split by names, too, for providers "
            "whose postal code is none of its state's"
        },
    )
    leads: Leads | None = attrs.field(
        default=None, metadata={"about": "which providers become leads; without it, none"}
    )
    per_page: int = attrs.field(
        default=api.LIMIT_MAX,
        validator=[attrs.validators.ge(1), attrs.validators.le(api.LIMIT_MAX)],
        metadata={"about": "rows a page; the API hands out 200 at most"},
    )
    requests_per_second: int = attrs.field(
        default=5,
        validator=attrs.validators.ge(1),
        metadata={"about": "the registry names no limit; this is civil"},
    )
    in_flight: int = attrs.field(
        default=3,
        validator=attrs.validators.ge(1),
        metadata={"about": "requests at once, at most"},
    )

    def __attrs_post_init__(self) -> None:
        """Refuse settings that name no search.

        Raises: `ValueError`.
        """
        if not self.wanted:
            raise ValueError("names no search: wanted searches, specialties or places")

    @property
    def wanted(self) -> tuple[Search, ...]:
        """All searches, the most urgent first named."""
        return searches_of(self.searches, self.specialties, self.places)


PROVIDERS = Stream(
    name="providers",
    record=ProviderRecord,
    row=Provider,
    key=("npi",),
    version="last_updated_at",
    indexes=(("location_state", "location_city"), ("taxonomy_code",)),
)

LEADS = Stream(
    name="leads",
    record=Lead,
    key=("provider_npi", "campaign"),
    mode="insert-only",
    indexes=(("provider_npi", "status"), ("updated_at",)),
)

FEED = Feed(name="providers", streams=(PROVIDERS,), quota=QUOTA)
DERIVED = Feed(name="leads", streams=(LEADS,), quota=QUOTA, derived=True)


def upstream(settings: Settings, _: None) -> Upstream:
    """Say how to talk to the API."""
    rate = SlidingWindow(settings.requests_per_second, per_seconds=1.0)
    return Upstream(
        base_url=settings.base_url,
        headers={"accept": "application/json"},
        quotas=(Quota(QUOTA, rate, settings.in_flight),),
        timeout_seconds=60.0,
        judge=api.judge,
    )


CONNECTOR = Connector(
    name="nppes",
    version="1.0.0",
    settings=Settings,
    feeds=(FEED, DERIVED),
    upstream=upstream,
    request_settings=("per_page", "rest"),
)


@hookimpl
def connectors() -> Sequence[Connector]:
    return [CONNECTOR]


@hookimpl
def partitions(instance: Instance[Any], feed: Feed) -> Any:
    """Make a partition of each search."""
    if instance.connector is not CONNECTOR or feed is not FEED:
        return None
    found = slices_of(instance.settings.wanted)

    async def slices(_: Context[Settings, None]) -> Sequence[Slice]:
        return found

    return slices


@hookimpl
def begin(instance: Instance[Any], feed: Feed) -> Any:
    if instance.connector is not CONNECTOR or feed is not FEED:
        return None
    settings: Settings = instance.settings

    def first_cursors(_: Partition, request: Request, __: datetime) -> Pass:
        cursors = api.first_cursors(
            limit=settings.per_page, ahead=settings.in_flight, expected=request.expected
        )
        return Pass("full", cursors)

    return first_cursors


@hookimpl
def fetch(instance: Instance[Any], feed: Feed) -> Fetch | None:
    return providers if instance.connector is CONNECTOR and feed is FEED else None


async def providers(ctx: Context[Settings, None], cursor: Cursor) -> Page:
    """Fetch one page of a search.

    One that holds nothing is asked for once more: good searches are answered so, now and then, and
    no page is asked for where none is expected, but for those of a search's first pass.
    """
    ask, search = api.Ask.of(cursor.value), ctx.partition.slice.settings
    criteria = {**search, **ask.narrowed}
    if ask.kind == "too many":
        raise api.too_many(criteria)
    limit = ctx.settings.per_page
    skip = api.last_skip(limit) if ask.kind == "rest" else ask.skip
    rows, response = await asked(ctx, criteria, limit=limit, skip=skip)
    if not rows:
        rows, response = await asked(ctx, criteria, limit=limit, skip=skip)
    rest = ctx.settings.rest
    return api.page_of(rows, ask, search, limit=limit, rest=rest, response=response)


async def asked(
    ctx: Context[Settings, None], criteria: Mapping[str, str], *, limit: int, skip: int
) -> tuple[list[msgspec.Raw], Response]:
    """Ask for one page of rows."""
    params = api.params(criteria, limit=limit, skip=skip)
    response = await ctx.http.get(api.PATH, params=params)
    return api.rows_of(response, criteria), response


@hookimpl
def transform(instance: Instance[Any], stream: Stream) -> Transform | None:
    if instance.connector is not CONNECTOR or stream is not PROVIDERS:
        return None
    return Transform("provider_of", 1, provider_of)


@hookimpl
def derive(instance: Instance[Any], stream: Stream) -> Derivation | None:
    """Make leads of providers."""
    if instance.connector is not CONNECTOR or stream is not LEADS:
        return None
    return derivation_of(instance.settings.leads)


@hookimpl
def check(instance: Instance[Any]) -> Check | None:
    """Ask for one row of the first search: it tells whether the registry answers."""
    if instance.connector is not CONNECTOR:
        return None

    async def ask(ctx: Context[Settings, None]) -> str:
        first, *others = ctx.settings.wanted
        rows, _ = await asked(ctx, first.criteria, limit=1, skip=0)
        found = "finds providers" if rows else "finds nobody"
        more = f", of {len(others) + 1} searches the first" if others else ""
        return f"the registry answers; {first.name} {found}{more}"

    return ask
