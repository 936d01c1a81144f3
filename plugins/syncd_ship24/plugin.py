"""The connector for Ship24: registers trackers as effects, pulls them, hears of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import chain
from typing import Any

import attrs

from syncd import (
    Check,
    Connector,
    Context,
    Cursor,
    Deliver,
    Duration,
    EffectKind,
    Feed,
    Fetch,
    Instance,
    Outcome,
    Page,
    Partition,
    Pass,
    Queued,
    Quota,
    Request,
    Response,
    Route,
    RouteAnswer,
    RouteRequest,
    Secret,
    SlidingWindow,
    SourceError,
    Stream,
    Transform,
    Unintelligible,
    Upstream,
    hookimpl,
)
from syncd_ship24 import api, registering, webhook
from syncd_ship24.records import (
    EventRecord,
    Tracker,
    TrackingEvent,
    TrackingRecord,
    event_of,
    tracker_of,
)
from syncd_ship24.registering import Registration

# docs.ship24.com, "Rate limits": calls a second, each endpoint by itself.
LISTS_PER_SECOND = 10
RESULTS_PER_SECOND = 10
BULKS_PER_SECOND = 3

LIST = "list"
RESULTS = "results"
BULK = "bulk"


@attrs.frozen
class Settings:
    """What `[connectors.NAME]` may hold."""

    api_key: Secret = attrs.field(metadata={"about": "sent as `Authorization: Bearer`"})
    base_url: str = attrs.field(
        default="https://api.ship24.com/public/v1", metadata={"about": "where the API is"}
    )
    webhook_secret: Secret | None = attrs.field(
        default=None,
        metadata={
            "about": "what Ship24 posts with, as its dashboard shows; without it, nobody may"
        },
    )
    follow_seconds: Duration = attrs.field(
        default=90 * 86400.0,
        validator=attrs.validators.gt(0.0),
        metadata={"about": "how long after its creation an incremental pass asks for a tracker"},
    )
    per_page: int = attrs.field(
        default=api.LIMIT_MAX,
        validator=[attrs.validators.ge(1), attrs.validators.le(api.LIMIT_MAX)],
        metadata={"about": "trackers a page of the list; the API hands out 500 at most"},
    )
    in_flight: int = attrs.field(
        default=8,
        validator=attrs.validators.ge(1),
        metadata={"about": "requests for results at once, at most"},
    )


TRACKERS = Stream(
    name="trackers",
    record=TrackingRecord,
    row=Tracker,
    key=("tracker_id",),
    version="revision",
    indexes=(("tracking_number",), ("status_milestone",)),
    volatile=("revision",),
    redact=("shipment.recipient",),
)
EVENTS = Stream(
    name="tracking_events",
    record=EventRecord,
    row=TrackingEvent,
    key=("event_id",),
    version="told_at",
    indexes=(("tracker_id",),),
    volatile=("told_at",),
)

# Pages of the list name trackers, and are never rows themselves: each tracker's results are. Their
# cursors are page numbers: where a tracker goes meanwhile, another is passed over at a page's edge.
FEED = Feed(
    name="trackers",
    streams=(TRACKERS, EVENTS),
    quota=RESULTS,
    incremental=True,
    lasting_cursors=True,
    concurrency=8,
)

REGISTER = EffectKind(
    name="ship24.register_tracker",
    quota=BULK,
    bulk_max=registering.BULK_MAX,
    concurrency=8,  # as many as its quota: at three a second, each may take over two seconds
    # A quota at its end costs no attempt, and comes back with the plan's month at the latest.
    age_max_seconds=45 * 86400.0,
    # A bulk takes half a minute now and then, and numbers that stand twice make a second request.
    deadline_seconds=150.0,
)


def upstream(settings: Settings, _: None) -> Upstream:
    """Say how to talk to the API."""
    return Upstream(
        base_url=settings.base_url,
        headers={
            "authorization": Secret(f"Bearer {settings.api_key.reveal()}"),
            "accept": "application/json",
        },
        quotas=(
            Quota(RESULTS, SlidingWindow(RESULTS_PER_SECOND, per_seconds=1), settings.in_flight),
            Quota(LIST, SlidingWindow(LISTS_PER_SECOND, per_seconds=1), concurrency=2),
            Quota(BULK, SlidingWindow(BULKS_PER_SECOND, per_seconds=1), concurrency=8),
        ),
        timeout_seconds=api.ANSWER_SECONDS_MAX,
        judge=api.judge,
    )


CONNECTOR = Connector(
    name="ship24",
    version="1.1.0",
    settings=Settings,
    feeds=(FEED,),
    upstream=upstream,
    request_settings=("per_page",),
    effects=(REGISTER,),
)


@hookimpl
def connectors() -> Sequence[Connector]:
    return [CONNECTOR]


# --- What is pulled -------------------------------------------------------------------------------


@hookimpl
def begin(instance: Instance[Any], feed: Feed) -> Any:
    if instance.connector is not CONNECTOR:
        return None
    settings: Settings = instance.settings

    def first_cursors(_: Partition, request: Request, now: datetime) -> Pass:
        return api.first_pass(request, now, follow_seconds=settings.follow_seconds)

    return first_cursors


@hookimpl
def fetch(instance: Instance[Any], feed: Feed) -> Fetch | None:
    return trackers if instance.connector is CONNECTOR else None


async def trackers(ctx: Context[Settings, None], cursor: Cursor) -> Page:
    """Fetch a page of the list, or the results of one tracker that it named."""
    value: Any = cursor.value
    if "tracker" in value:
        path, gone = api.results_path(value["tracker"]), frozenset({404})
        return api.results_page(await ctx.http.get(path, quota=RESULTS, also=gone))
    params = api.list_params(value, limit=ctx.settings.per_page)
    return api.list_page(await ctx.http.get(api.TRACKERS, params=params, quota=LIST), value)


@hookimpl
def transform(instance: Instance[Any], stream: Stream) -> Transform | None:
    if instance.connector is not CONNECTOR:
        return None
    if stream is TRACKERS:
        return Transform("tracker_of", 2, tracker_of)
    return Transform("event_of", 1, event_of)


# --- What is registered ---------------------------------------------------------------------------


@hookimpl
def deliver(instance: Instance[Any], kind: EffectKind) -> Deliver | None:
    return registered if instance.connector is CONNECTOR and kind is REGISTER else None


async def registered(
    ctx: Context[Settings, None], effects: Sequence[Queued]
) -> Mapping[int, Outcome]:
    """Register trackers in bulk; one that exists already is as good as one that is made."""
    wanted, found = registering.read(effects)
    bulks = registering.bulks(wanted)
    for place, bulk in enumerate(bulks):
        try:
            found |= registering.outcomes(await _asked(ctx, bulk), bulk)
        except SourceError as error:
            if not found:
                raise
            return found | registering.later(error, chain.from_iterable(bulks[place:]))
    return found


async def _asked(ctx: Context[Settings, None], bulk: Sequence[Registration]) -> Response:
    body = [each.body for each in bulk]
    try:
        return await ctx.http.post(api.BULK, json=body, quota=BULK, also=registering.READ)
    except Unintelligible as error:
        raise registering.unreadable(error) from error


# --- What Ship24 tells by itself ------------------------------------------------------------------


@hookimpl
def routes(instance: Instance[Any]) -> Sequence[Route] | None:
    return [Route("POST", "/webhook", told)] if instance.connector is CONNECTOR else None


def told(settings: Settings, request: RouteRequest) -> RouteAnswer:
    """Take a webhook's message in."""
    return webhook.heard(settings.webhook_secret, request)


@hookimpl
def check(instance: Instance[Any]) -> Check | None:
    """Ask for one tracker: the answer tells whether the key is taken."""
    if instance.connector is not CONNECTOR:
        return None

    async def ask(ctx: Context[Settings, None]) -> str:
        params: dict[str, str | int] = {"page": 1, "limit": 1, "sort": -1}
        response = await ctx.http.get(api.TRACKERS, params=params, quota=LIST)
        page = api.list_page(response, {"page": 1})
        there = "there are trackers" if page.opens else "there is no tracker yet"
        hears = "" if ctx.settings.webhook_secret else "; webhooks are off: no webhook_secret"
        return f"the key is accepted, {there}{hears}"

    return ask
