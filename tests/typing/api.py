"""A plugin as a stranger writes one, through the public door only: read by mypy, never run.

The lines under "mistakes" must not pass: each switches off the error that an author would get, and
mypy reports what it need not have switched off (`warn_unused_ignores`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any

import attrs
import msgspec

import syncd


@attrs.frozen
class Settings:
    """What `[connectors.NAME]` may hold."""

    base_url: str = "https://api.example.com/v1"
    patience_seconds: syncd.Duration = 30.0
    page_max_bytes: syncd.Size = 2**20
    webhook_secret: syncd.Secret | None = None


@attrs.frozen
class ShopSettings:
    """What `[[connectors.NAME.accounts]]` may hold."""

    token: syncd.Secret
    region: str = "eu"


@attrs.frozen
class Order:
    """One order as the API sends it, and as it is stored."""

    id: int
    total: Annotated[Decimal, syncd.Column("numeric(14,2)")]
    updated_at: datetime | None = None


@attrs.frozen
class Body:
    """One answer of the API."""

    orders: list[msgspec.Raw]
    next: str | None = None


@attrs.frozen
class Session:
    """What the runs of an instance share."""

    opened_at: datetime


@attrs.frozen
class Call:
    """A customer to be called: made of orders, and worked on by others."""

    order_id: int
    status: str


ORDERS = syncd.Stream("orders", Order, key=("id",), version="updated_at", per_account=True)
FEED = syncd.Feed("orders", (ORDERS,), quota="shop", incremental=True)
CALLS = syncd.Stream("calls", Call, key=("order_id",), mode="insert-only", per_account=True)
DERIVED = syncd.Feed("calls", (CALLS,), quota="shop", derived=True)


def upstream(settings: Settings, shop: ShopSettings) -> syncd.Upstream:
    return syncd.Upstream(
        base_url=settings.base_url,
        headers={"authorization": shop.token},
        quotas=(
            syncd.Quota("shop", syncd.FixedWindow(150, per_seconds=30), concurrency=4),
            syncd.Quota(
                "search",
                (
                    syncd.SlidingWindow(500, per_seconds=60),
                    syncd.SlidingWindow(200_000, per_seconds=60, unit="tokens"),
                    syncd.TokenBucket(1, per_seconds=1, burst=5),
                ),
                adaptive=syncd.Adaptive(concurrency_least=2),
            ),
        ),
        body_max_bytes=settings.page_max_bytes,
        judge=judge,
        spent=spent,
        authorize=bearer,
    )


def bearer(credential: syncd.Credential) -> Mapping[str, str | syncd.Secret]:
    return {"authorization": syncd.Secret(f"Bearer {credential.access_token.reveal()}")}


class Said(msgspec.Struct):
    error: str = ""
    unlocked_at: int = 0
    tokens: int = 0


def judge(answer: syncd.Response) -> syncd.SourceError | None:
    """Find the errors that stand in bodies."""
    said = syncd.decode(answer, Said, where="shop")
    if said.error == "locked":
        seconds = answer.seconds_until(datetime.fromtimestamp(said.unlocked_at, UTC))
        return syncd.Throttled("shop", "locked", retry_after_seconds=seconds)
    return syncd.Unavailable("shop", said.error) if said.error else None


def spent(answer: syncd.Response) -> Mapping[str, int]:
    """Read what a request has really cost."""
    return {"tokens": syncd.decode(answer, Said, where="shop").tokens}


CONNECTOR = syncd.Connector(
    name="shop",
    version="1.0.0",
    settings=Settings,
    account_settings=ShopSettings,
    feeds=(FEED, DERIVED),
    upstream=upstream,
)

# A plugin's functions see the settings and the session of their own classes.
Ctx = syncd.Context[Settings, Session]


@syncd.hookimpl
def connectors() -> Sequence[syncd.Connector]:
    return [CONNECTOR]


@syncd.hookimpl
def partitions(instance: syncd.Instance[Any], feed: syncd.Feed) -> syncd.Partitions | None:
    return slices if instance.connector is CONNECTOR and feed is FEED else None


async def slices(ctx: Ctx) -> Sequence[syncd.Slice]:
    answer = await ctx.http.get("/warehouses")
    names = syncd.decode(answer, list[str], where="warehouses")
    return [syncd.Slice(name, {"warehouse": name}) for name in names]


@syncd.hookimpl
def begin(instance: syncd.Instance[Any]) -> syncd.Begin | None:
    return first if instance.connector is CONNECTOR else None


def first(partition: syncd.Partition, request: syncd.Request, now: datetime) -> syncd.Pass:
    since = request.since
    if since is None or now - since > timedelta(days=90):  # as far back as the API goes
        return syncd.Pass("full", (syncd.Cursor({"warehouse": partition.slice.name}),))
    return syncd.Pass("incremental", (syncd.Cursor({"since": since.isoformat()}),))


@syncd.hookimpl
def fetch(instance: syncd.Instance[Any]) -> syncd.Fetch | None:
    return page if instance.connector is CONNECTOR else None


async def page(ctx: Ctx, cursor: syncd.Cursor) -> syncd.Page:
    if not isinstance(cursor.value, Mapping):
        raise syncd.Unintelligible(str(ctx.partition), f"a cursor of {cursor.value!r}")
    params = {name: str(value) for name, value in cursor.value.items()}
    answer = await ctx.http.get("/orders", params=params)
    if not answer.content:
        answer = await ctx.http.post(
            "/search", json={"orders": [1, 2]}, quota="search", cost={"tokens": 120}
        )
    refuse(answer)
    body = syncd.decode(answer, Body, where="orders")
    records = [syncd.Record(raw, {"warehouse": ctx.partition.slice.name}) for raw in body.orders]
    opens = (syncd.Cursor({"after": body.next}),) if body.next else ()
    return syncd.Page({"orders": records}, opens, end=not opens, date=answer.date)


def refuse(answer: syncd.Response) -> None:
    """Raise what an answer's status means to the engine."""
    match answer.status:
        case 401:
            raise syncd.Unauthorized(answer.url, "the token is refused", "renew it")
        case 410:
            raise syncd.CursorExpired(answer.url, "the cursor is gone")
        case 420:
            raise syncd.Throttled(answer.url, "calm down", retry_after_seconds=60.0)
        case 503:
            raise syncd.Unavailable(answer.url, "closed for the night")


@syncd.hookimpl
def transform(
    instance: syncd.Instance[Any], stream: syncd.Stream
) -> Sequence[syncd.Transform | syncd.AsyncTransform] | None:
    if stream is not ORDERS:
        return None
    return [
        syncd.Transform("in_utc", 1, in_utc),
        syncd.AsyncTransform("weighed", 1, weighed, order=1, settings=("base_url",)),
    ]


async def weighed(
    ctx: Ctx, orders: Sequence[Order]
) -> Sequence[syncd.Done | syncd.Quarantined | syncd.Later]:
    answers: list[syncd.Done | syncd.Quarantined | syncd.Later] = []
    for order in orders:
        try:
            weigh = {"id": order.id}
            await ctx.http.post("/weigh", json=weigh, idempotent=False, timeout_seconds=300.0)
        except syncd.Throttled as error:
            answers.append(syncd.Later(error.what, seconds=error.retry_after_seconds))
        except syncd.Unintelligible as error:
            answers.append(syncd.Quarantined(error.what))
        else:
            answers.append(syncd.Done(order))
    return answers


def in_utc(order: Order) -> Order | None:
    if order.updated_at is None:
        return None
    return attrs.evolve(order, updated_at=order.updated_at.astimezone(UTC))


@syncd.hookimpl
def write(instance: syncd.Instance[Any], stream: syncd.Stream) -> syncd.Write | None:
    return None if stream is ORDERS else copy


def copy(connection: Any, rows: Sequence[Any]) -> syncd.Written:
    return syncd.Written(inserted=len(rows)) + syncd.Written(unchanged=0)


@syncd.hookimpl
def derive(instance: syncd.Instance[Any], stream: syncd.Stream) -> syncd.Derivation | None:
    if stream is not CALLS:
        return None
    return syncd.Derivation(
        "SELECT o.id AS order_id, %(status)s AS status FROM {orders} AS o"
        " WHERE o.account_id = %(account)s AND o.total > 1000",
        reads=("orders",),
        parameters={"status": "new"},
    )


@syncd.hookimpl
def lifespan(instance: syncd.Instance[Any]) -> AbstractAsyncContextManager[Session] | None:
    return opened() if instance.connector is CONNECTOR else None


@asynccontextmanager
async def opened() -> AsyncIterator[Session]:
    yield Session(datetime.now(UTC))


@syncd.hookimpl
def check(instance: syncd.Instance[Any]) -> syncd.Check | None:
    return ask if instance.connector is CONNECTOR else None


async def ask(ctx: Ctx) -> str:
    account: syncd.Account[Any] = ctx.account
    http: syncd.Http = ctx.http
    try:
        await http.get("/me")
    except syncd.SyncdError as error:
        return f"{account.name}: {error}"
    return f"{account.name}: open since {ctx.session.opened_at}, waits {ctx.settings.base_url}"


@syncd.hookimpl
def refresh(instance: syncd.Instance[Any]) -> syncd.Refresh | None:
    return renew if instance.connector is CONNECTOR else None


async def renew(ctx: Ctx, old: syncd.Credential) -> syncd.Credential:
    if old.refresh_token is None:
        raise syncd.Unauthorized("shop", "there is no refresh token", "import another credential")
    answer = await ctx.http.post(
        "/token", form={"grant_type": "refresh_token", "refresh_token": old.refresh_token}
    )
    token = syncd.Secret(syncd.decode(answer, str, where="token"))
    return attrs.evolve(old, access_token=token, access_expires_at=ctx.http.now())


@syncd.hookimpl
def routes(instance: syncd.Instance[Any]) -> Sequence[syncd.Route] | None:
    return [syncd.Route("POST", "/webhook", heard)] if instance.connector is CONNECTOR else None


def heard(settings: Settings, request: syncd.RouteRequest) -> syncd.RouteAnswer:
    secret = settings.webhook_secret
    if secret is None or not syncd.bearer_matches(request.headers, secret):
        return syncd.RouteAnswer(401)
    orders = [syncd.Record(msgspec.Raw(request.body))]
    event_id = request.headers.get("x-event-id")
    return syncd.RouteAnswer(200, records={"orders": orders}, event_id=event_id)


# --- Effects --------------------------------------------------------------------------------------

REGISTER = syncd.EffectKind("shop.register", "all", bulk_max=100, ordered=True)


def registered(order: Order) -> syncd.WithEffects:
    effect = syncd.Effect(REGISTER.name, key="1", payload={"order": "1"}, delay_seconds=5.0)
    return syncd.WithEffects(order, [effect])


REGISTERED = syncd.Transform("registered", 1, registered, effects=(REGISTER.name,))


@syncd.hookimpl
def deliver(instance: syncd.Instance[Any], kind: syncd.EffectKind) -> syncd.Deliver | None:
    return register if instance.connector is CONNECTOR and kind is REGISTER else None


async def register(ctx: Ctx, effects: Sequence[syncd.Queued]) -> Mapping[int, syncd.Outcome]:
    said: dict[int, syncd.Outcome] = {}
    for each in effects:
        answer = await ctx.http.post("/register", json={"key": each.key, "what": each.payload})
        if answer.status == 200:
            said[each.id] = syncd.Delivered({"status": answer.status})
        elif answer.status == 402:
            said[each.id] = syncd.Retry("the plan's quota is used up", 900.0, counts=False)
        else:
            said[each.id] = syncd.Dead("no") if each.attempts else syncd.Retry("busy", 5.0)
    return said


# --- Mistakes -------------------------------------------------------------------------------------


async def mistakes(ctx: Ctx, cursor: syncd.Cursor) -> syncd.Page:
    print(ctx.settings.base_ulr)  # type: ignore[attr-defined]
    print(ctx.session.opened)  # type: ignore[attr-defined]
    cursor.kind = "item"  # type: ignore[misc]
    ctx.http.get("/orders")  # type: ignore[unused-coroutine]
    syncd.Throttled("shop", "too fast")  # type: ignore[call-arg]
    syncd.Retry("busy", counts="no")  # type: ignore[arg-type]
    syncd.Stream("orders", Order, mode="replace")  # type: ignore[arg-type]
    syncd.Pass("full", syncd.Cursor(1))  # type: ignore[arg-type]
    syncd.Derivation("SELECT 1", reads="orders")  # type: ignore[arg-type]
    return [syncd.Record(b"{}")]  # type: ignore[arg-type, return-value]


def blind(first_only: Ctx) -> syncd.Page:
    raise NotImplementedError


takes_too_little: syncd.Fetch = blind  # type: ignore[assignment]
does_not_await: syncd.Begin = page  # type: ignore[assignment]


def copied(connection: Any, rows: Sequence[Any]) -> syncd.Written:
    effects = [syncd.Effect(REGISTER.name, key=str(each), payload=None) for each in rows]
    return syncd.Written(inserted=len(rows), effects=effects)


COPIES: syncd.Write | syncd.Writer | None = syncd.Writer(
    copied, effects=(REGISTER.name,), any_order=True
)
