"""The connector for Nhanh.vn's open API v3: the customers of many stores, each an account."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import attrs

from syncd import (
    Check,
    Connector,
    Context,
    Cursor,
    Duration,
    Feed,
    Fetch,
    FixedWindow,
    Instance,
    Page,
    Partition,
    Pass,
    Quota,
    Request,
    Secret,
    Slice,
    Stream,
    Transform,
    Unauthorized,
    Unavailable,
    Unintelligible,
    Upstream,
    hookimpl,
)
from syncd_nhanh import api
from syncd_nhanh.customers import Customer, CustomerRecord, customer_of
from syncd_nhanh.refusals import judge

# Of each app, business and URL (Nhanh.vn API documentation, "Rate limit").
CALLS = 150
PER_SECONDS = 30.0


def _ascending(_: object, __: object, value: tuple[str, ...] | None) -> None:
    api.boundaries_of(value or ())


def _moment(_: object, __: object, value: str | None) -> None:
    if value is not None:
        api.moment_of(value)


@attrs.frozen
class Settings:
    """What `[connectors.NAME]` may hold."""

    app_id: int | None = attrs.field(
        default=None, metadata={"about": "the app, for accounts that name none of their own"}
    )
    secret_key: Secret | None = attrs.field(
        default=None,
        metadata={"about": "the app's secret: with it `syncd check` asks when tokens end"},
    )
    base_url: str = attrs.field(
        default="https://pos.open.nhanh.vn", metadata={"about": "where the API is"}
    )
    page_size: int = attrs.field(
        default=api.PAGE_MAX,
        validator=[attrs.validators.ge(1), attrs.validators.le(api.PAGE_MAX)],
        metadata={"about": "customers a page; the API cuts what is more than 100"},
    )
    overlap_seconds: Duration = attrs.field(
        default=600.0,
        validator=attrs.validators.ge(0.0),
        metadata={"about": "how far an incremental pass reaches back before the last one"},
    )
    full_every_seconds: Duration = attrs.field(
        default=7 * 86400.0,
        validator=attrs.validators.ge(0.0),
        metadata={"about": "how often everything is walked, too; 0s: never"},
    )
    windows: tuple[str, ...] = attrs.field(
        default=(),
        validator=_ascending,
        metadata={"about": "moments of `updatedAt` between which customers are walked in parallel"},
    )
    in_flight: int = attrs.field(
        default=4,
        validator=attrs.validators.ge(1),
        metadata={"about": "requests of one account at once, at most"},
    )


@attrs.frozen
class Store:
    """What `[[connectors.NAME.accounts]]` may hold: a business, as one app may look at it."""

    business_id: int = attrs.field(metadata={"about": "the store's number"})
    token: Secret = attrs.field(metadata={"about": "sent as `Authorization`, as it is"})
    app_id: int | None = attrs.field(default=None, metadata={"about": "the app it was made for"})
    expires_at: str | None = attrs.field(
        default=None,
        validator=_moment,
        metadata={"about": "when the token ends, as `expiredAt` said: it cannot be refreshed"},
    )
    windows: tuple[str, ...] | None = attrs.field(
        default=None,
        validator=_ascending,
        metadata={"about": "in place of the connector's"},
    )


# No `version`: `updatedAt` may be missing, tells whole seconds, and nobody says that it moves with
# points or amounts. The moment at which a request left orders two states of a customer, and the
# hash of its bytes tells that it changed at all.
CUSTOMERS = Stream(
    name="customers",
    record=CustomerRecord,
    row=Customer,
    key=("business_id", "id"),
    per_account=True,
    indexes=(("business_id", "id"), ("mobile",), ("updated_at",)),
    shortcut="raw",
)

FEED = Feed(name="customers", streams=(CUSTOMERS,), quota="customers", incremental=True)


def upstream(settings: Settings, store: Store) -> Upstream:
    """Say how to talk to the API for a store."""
    # Where the windows begin is not told.
    window = FixedWindow(CALLS, PER_SECONDS)
    quota = Quota(FEED.quota, window, settings.in_flight, per="account")
    return Upstream(
        base_url=settings.base_url,
        headers={"authorization": store.token, "accept": "application/json"},
        quotas=(quota,),
        judge=judge,
        timeout_seconds=30.0,
    )


def expires_at(_: Settings, store: Store) -> datetime | None:
    """Return when a store's token ends, where the operator has said so."""
    return api.moment_of(store.expires_at) if store.expires_at else None


CONNECTOR = Connector(
    name="nhanh",
    version="1.0.0",
    settings=Settings,
    feeds=(FEED,),
    upstream=upstream,
    account_settings=Store,
    expires_at=expires_at,
)


@hookimpl
def connectors() -> Sequence[Connector]:
    return [CONNECTOR]


@hookimpl
def partitions(instance: Instance[Any], feed: Feed) -> Any:
    """Cut a store's customers into windows where the configuration names any."""
    if instance.connector is not CONNECTOR:
        return None

    async def slices(ctx: Context[Settings, None]) -> Sequence[Slice]:
        _ids(ctx)
        boundaries = api.boundaries_of(_or(_store(ctx).windows, ctx.settings.windows))
        return api.slices_of(boundaries, everything=ctx.settings.full_every_seconds > 0)

    return slices


@hookimpl
def begin(instance: Instance[Any], feed: Feed) -> Any:
    if instance.connector is not CONNECTOR:
        return None
    settings: Settings = instance.settings

    def first_cursors(partition: Partition, request: Request, now: datetime) -> Pass:
        return api.first_pass(
            partition.slice,
            request,
            now,
            account=partition.account,
            overlap_seconds=settings.overlap_seconds,
            full_every_seconds=settings.full_every_seconds,
        )

    return first_cursors


@hookimpl
def fetch(instance: Instance[Any], feed: Feed) -> Fetch | None:
    return customers if instance.connector is CONNECTOR else None


async def customers(ctx: Context[Settings, None], cursor: Cursor) -> Page:
    """Fetch one page of customers."""
    return await _page(ctx, cursor, size=ctx.settings.page_size)


async def _page(ctx: Context[Settings, None], cursor: Cursor, *, size: int) -> Page:
    store, asked = _store(ctx), api.question(cursor, size=size)
    response = await ctx.http.post(api.CUSTOMERS, json=asked, params=_ids(ctx))
    return api.page_of(response, cursor, business_id=store.business_id)


def _store(ctx: Context[Settings, None]) -> Store:
    store: Store = ctx.account.settings
    return store


def _ids(ctx: Context[Settings, None]) -> dict[str, str | int]:
    """Return what every call names.

    Raises: `Unauthorized`, which parks this account alone, where nobody has said which app it is.
    """
    store = _store(ctx)
    app_id = _or(store.app_id, ctx.settings.app_id)
    if app_id is None:
        raise Unauthorized(
            f"account {ctx.account.name}", "has no app_id", "set app_id for it, or for all"
        )
    return {"appId": app_id, "businessId": store.business_id}


def _or(own: Any, common: Any) -> Any:
    return common if own is None else own


@hookimpl
def transform(instance: Instance[Any], stream: Stream) -> Transform | None:
    if instance.connector is not CONNECTOR:
        return None
    return Transform("customer_of", 1, customer_of)


@hookimpl
def check(instance: Instance[Any]) -> Check | None:
    """Ask for one customer, and when the token ends where the app's secret is known."""
    if instance.connector is not CONNECTOR:
        return None

    async def ask(ctx: Context[Settings, None]) -> str:
        # A token may be good and have no right to see customers: this tells both.
        await _page(ctx, Cursor({"filters": {}}), size=1)
        secret_key = ctx.settings.secret_key
        return f"the token is accepted{await _until(ctx, secret_key) if secret_key else ''}"

    return ask


async def _until(ctx: Context[Settings, None], secret_key: Secret) -> str:
    body = {"secretKey": secret_key.reveal()}
    try:
        response = await ctx.http.post(api.TOKEN, json=body, params=_ids(ctx))
        ends_at = api.token_ends_at(response)
    except (Unavailable, Unintelligible) as error:  # that address is known to answer web pages
        return f"; when it ends was not told: {error.what}"
    return f" until {ends_at:%Y-%m-%d}" if ends_at else ""
