"""The connector for Front: conversations that were active, and the shipments they speak of."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import trio

from syncd import (
    AsyncTransform,
    Check,
    Connector,
    Context,
    Cursor,
    Effect,
    Feed,
    Fetch,
    Instance,
    Page,
    Partition,
    Pass,
    Request,
    Slice,
    Stream,
    Transform,
    Unintelligible,
    WithEffects,
    hookimpl,
)
from syncd_front import api, llm
from syncd_front.extracting import Extractions, scanned, shipments
from syncd_front.extraction import FIRST_TEST_VERSION
from syncd_front.found import Found, scanned_of, shipment_of
from syncd_front.records import (
    Conversation,
    ConversationRecord,
    ScannedConversation,
    Shipment,
    conversation_of,
)
from syncd_front.settings import (
    CORE_QUOTA,
    IN_FLIGHT,
    LLM_QUOTA,
    SEARCHES,
    Company,
    Settings,
    upstream,
)
from syncd_front.threads import Reading, Thread

REGISTER_TRACKER = "ship24.register_tracker"

# Of a thread's questions together, waits for limits included; three slow answers fit in it.
_THREAD_SECONDS = 900.0

CONVERSATIONS = Stream(
    name="conversations",
    record=ConversationRecord,
    row=Conversation,
    key=("conversation_id",),
    per_account=True,
    indexes=(("updated_at",),),
)
SCANNED = Stream(
    name="scanned_conversations",
    record=Thread,
    row=ScannedConversation,
    key=("conversation_id",),
    per_account=True,
    indexes=(("last_message_at",), ("outcome",)),
    volatile=("scanned_at",),
)
SHIPMENTS = Stream(
    name="shipments",
    record=Thread,
    row=Shipment,
    key=("tracking_number",),
    version="mentioned_at",
    per_account=True,
    indexes=(("conversation_id",), ("po_number",)),
)

FEED = Feed(
    "conversations",
    streams=(CONVERSATIONS, SCANNED, SHIPMENTS),
    quota=CORE_QUOTA,
    incremental=True,
    concurrency=IN_FLIGHT,
)

CONNECTOR = Connector(
    name="front",
    version="1.1.0",
    settings=Settings,
    account_settings=Company,
    feeds=(FEED,),
    upstream=upstream,
    request_settings=("history_seconds", "overlap_seconds"),
)


@hookimpl
def connectors() -> Sequence[Connector]:
    return [CONNECTOR]


@hookimpl
def lifespan(instance: Instance[Any]) -> AbstractAsyncContextManager[object] | None:
    return _extractions() if instance.connector is CONNECTOR else None


@asynccontextmanager
async def _extractions() -> AsyncIterator[Extractions]:
    yield Extractions()


@hookimpl
def partitions(instance: Instance[Any], feed: Feed) -> Any:
    """Make a partition of each inbox that is named, or one of all."""
    if instance.connector is not CONNECTOR:
        return None

    async def slices(ctx: Context[Settings, Extractions]) -> Sequence[Slice]:
        company: Company = ctx.account.settings
        search = {"search": company.search} if company.search else {}
        if not company.inboxes:
            return [Slice(settings=search, covers="part")]
        return [
            Slice(inbox, {"inbox": inbox, **search}, covers="part") for inbox in company.inboxes
        ]

    return slices


@hookimpl
def begin(instance: Instance[Any], feed: Feed) -> Any:
    if instance.connector is not CONNECTOR:
        return None
    settings: Settings = instance.settings

    def first(partition: Partition, request: Request, now: datetime) -> Pass:
        chosen = partition.slice.settings
        inbox = f"inbox:{chosen['inbox']}" if "inbox" in chosen else ""
        after = now - timedelta(seconds=settings.history_seconds)
        if request.since is not None:
            after = request.since - timedelta(seconds=settings.overlap_seconds)
        everything = request.since is None and not settings.history_seconds
        filters = [inbox, chosen.get("search", "")]
        query = api.query_of(filters, after=None if everything else after)
        return Pass(request.mode, (api.first_cursor(query),))

    return first


@hookimpl
def fetch(instance: Instance[Any], feed: Feed) -> Fetch | None:
    return conversations if instance.connector is CONNECTOR else None


async def conversations(ctx: Context[Settings, Extractions], cursor: Cursor) -> Page:
    """Fetch a page of the search, or the messages of one conversation."""
    value: Any = cursor.value
    if "conversation" in value:
        return await _thread(ctx, value["conversation"])
    path, params = api.search_request(value)
    response = await ctx.http.get(path, params=params, quota=CORE_QUOTA, cost={SEARCHES: 1})
    return api.search_page(response, value, origins=ctx.settings.next_origins)


async def _thread(ctx: Context[Settings, Extractions], conversation_id: str) -> Page:
    """Fetch the messages of a conversation, all that `Reading` has room for.

    It may have been merged into another, which is then opened, or be gone since it was named.

    Raises: `Unintelligible` where it has more pages than any thread of mail.
    """
    reading = Reading(conversation_id)
    value: Any = {}
    answered: deque[float] = deque(maxlen=api.RESOURCE_CALLS)
    for _ in range(api.MESSAGE_PAGES_MAX):
        if len(answered) == api.RESOURCE_CALLS:
            await trio.sleep_until(answered[0] + 1.0)
        path, params = api.messages_request(conversation_id, value)
        # Any media type: an answer that only leads elsewhere has no body.
        response = await ctx.http.get(
            path,
            params=params,
            quota=CORE_QUOTA,
            cost={SEARCHES: 0},
            accept="*/*",
            also=frozenset({301, 404}),
        )
        answered.append(trio.current_time())
        if response.status == 301:
            return api.merged_page(response, conversation_id)
        if response.status == 404:
            return Page({}, end=True, date=response.date)
        origins = ctx.settings.next_origins
        value = api.messages_of(response, value, reading, origins=origins)
        if value is None:
            return api.thread_page(reading.thread(), date=response.date)
    pages = api.MESSAGE_PAGES_MAX
    raise Unintelligible(f"conversation {conversation_id}", f"has more than {pages} pages of mail")


@hookimpl
def transform(
    instance: Instance[Any], stream: Stream
) -> Transform | AsyncTransform | Sequence[Transform | AsyncTransform] | None:
    if instance.connector is not CONNECTOR:
        return None
    if stream is CONVERSATIONS:
        return Transform("conversation_of", 1, conversation_of)
    settings: Settings = instance.settings
    name = f"extracted by {settings.extractor}"
    # What is handed over is a thread: it is known by its own key, and not by those of its rows.
    asking = AsyncTransform(
        name,
        FIRST_TEST_VERSION,  # what was called silent is remembered as an answer is
        scanned if stream is SCANNED else shipments,
        settings=("llm_part_characters", "prefilter"),
        key=SCANNED.key,
        volatile=("names",),
        deadline_seconds=max(_THREAD_SECONDS, 3 * settings.llm_timeout_seconds),
    )
    least = settings.confidence_least
    if stream is SCANNED:
        of = partial(scanned_of, confidence_least=least)
        return [asking, Transform("scanned_of", 2, of, order=1)]
    # Where that setting alone changes, nothing is asked: it holds for what is asked from then on.
    certain = Transform("certain", 1, partial(certain_only, confidence_least=least), order=1)
    making = Transform("shipment_of", 2, shipment_of, order=2)
    if settings.register_trackers:
        effects = (REGISTER_TRACKER,)
        making = Transform("tracked_shipment_of", 2, tracked_shipment_of, order=2, effects=effects)
    return [asking, certain, making]


def certain_only(found: Found, *, confidence_least: float) -> Found | None:
    """Leave out what a model is not certain of."""
    return found if found.is_certain(confidence_least) else None


def tracked_shipment_of(found: Found) -> WithEffects:
    """Make the row of a shipment, and have it tracked.

    The number alone is sent: what is said of it may change, and would make a second tracker.
    """
    row = shipment_of(found)
    number = row.tracking_number
    if row.problem is not None:
        return WithEffects(row, ())
    return WithEffects(row, (Effect(REGISTER_TRACKER, number, {"trackingNumber": number}),))


@hookimpl
def check(instance: Instance[Any]) -> Check | None:
    """Ask whose token it is, and whether the model is there."""
    return whose if instance.connector is CONNECTOR else None


async def whose(ctx: Context[Settings, Extractions]) -> str:
    """Say which company a token lets in to, and who extracts."""
    response = await ctx.http.get(api.ME, quota=CORE_QUOTA, cost={SEARCHES: 0})
    said = f"the token is accepted: {api.company_of(response)}"
    settings = ctx.settings
    if not settings.asks_model:
        return f"{said}; shipments are found by patterns"
    url = f"{settings.llm_base_url.rstrip('/')}{llm.MODELS}"
    await ctx.http.get(url, quota=LLM_QUOTA, cost={"tokens": 0})
    return f"{said}; {settings.llm_model} is asked at {settings.llm_base_url}"
