"""The connector for TikTok's Display API v2: users and videos of many stores, day by day."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from typing import Any, Literal
from zoneinfo import ZoneInfo

import attrs

from syncd import (
    Check,
    Connector,
    Context,
    Credential,
    Cursor,
    Feed,
    Fetch,
    Instance,
    Page,
    Partition,
    Pass,
    Quota,
    Refresh,
    Request,
    Secret,
    SlidingWindow,
    Stream,
    Transform,
    Upstream,
    hookimpl,
)
from syncd_tiktok import api
from syncd_tiktok.records import (
    UserDaily,
    UserRecord,
    Video,
    VideoDaily,
    VideoRecord,
    counts_of,
    user_of,
    video_of,
)

# developers.tiktok.com, "Rate Limits": 600 calls in any minute, each endpoint by itself.
CALLS = SlidingWindow(600, per_seconds=60)

USER_INFO = "user_info"
VIDEO_LIST = "video_list"
OAUTH_TOKEN = "oauth_token"  # noqa: S105 - the name of a quota


def _zone(_instance: object, _attribute: object, value: str | None) -> None:
    try:
        ZoneInfo(value or "UTC")
    except (KeyError, ValueError, OSError):  # OSError: "Asia" is a folder of time zones
        message = f"found {value!r}, wanted a time zone such as Asia/Jakarta"
        raise ValueError(message) from None


@attrs.frozen
class Settings:
    """What `[connectors.NAME]` may hold."""

    base_url: str = attrs.field(
        default="https://open.tiktokapis.com/v2", metadata={"about": "where the API is"}
    )
    client_key: str | None = attrs.field(
        default=None, metadata={"about": "the app's, to renew tokens of the vault"}
    )
    client_secret: Secret | None = attrs.field(
        default=None, metadata={"about": "the app's, to renew tokens of the vault"}
    )
    timezone: str = attrs.field(
        default="UTC",
        validator=_zone,
        metadata={"about": "whose days snapshots are of; an account may have its own"},
    )
    scopes: tuple[str, ...] = attrs.field(
        default=api.SCOPES,
        metadata={"about": "what is asked for, of a store that has granted it"},
    )
    limit_per: Literal["app", "store"] = attrs.field(
        default="app",
        metadata={"about": "whether all stores share the 600 calls a minute, or each has its own"},
    )
    reread_edge: bool = attrs.field(
        default=True,
        metadata={
            "about": "ask for the last second of a page again where cursors are whole seconds: a "
            "video of that second is not passed over, and a page brings one new video less"
        },
    )


@attrs.frozen
class AccountSettings:
    """What `[[connectors.NAME.accounts]]` may hold: a store, named by its code."""

    timezone: str | None = attrs.field(
        default=None, validator=_zone, metadata={"about": "whose days its snapshots are of"}
    )
    access_token: Secret | None = attrs.field(
        default=None, metadata={"about": "a token that you renew yourself, in place of the vault's"}
    )


USERS = Stream(
    name="user_daily",
    record=UserRecord,
    row=UserDaily,
    key=("snapshot_date",),
    per_account=True,
    indexes=(("snapshot_date",),),
    volatile=("avatar_url", "captured_at"),
)
VIDEOS = Stream(
    name="videos",
    record=VideoRecord,
    row=Video,
    key=("video_id",),
    per_account=True,
    indexes=(("create_time",),),
    volatile=("cover_url", "cover_expires_at"),
)
COUNTS = Stream(
    name="video_daily",
    record=VideoRecord,
    row=VideoDaily,
    key=("video_id", "snapshot_date"),
    per_account=True,
    indexes=(("snapshot_date",),),
    volatile=("captured_at",),
)

USER_FEED = Feed("users", streams=(USERS,), quota=USER_INFO, concurrency=30)
# Its chain hands over every video that was there throughout a pass: a cursor is a time, and no
# video changes its own, so others that come or go move none from page to page. One complete pass
# therefore tells which are gone.
VIDEO_FEED = Feed(
    "videos",
    streams=(VIDEOS, COUNTS),
    quota=VIDEO_LIST,
    concurrency=20,
    concurrency_variable="VIDEO_SYNC_CONCURRENCY",
)


def upstream(settings: Settings, account: AccountSettings) -> Upstream:
    """Say how to talk to the API for one store."""
    per: Literal["instance", "account"] = "instance" if settings.limit_per == "app" else "account"
    headers: dict[str, str | Secret] = {"accept": "application/json"}
    if account.access_token is not None:
        headers["authorization"] = Secret(f"Bearer {account.access_token.reveal()}")
    return Upstream(
        base_url=settings.base_url,
        headers=headers,
        quotas=(
            Quota(USER_INFO, CALLS, concurrency=30, per=per),
            Quota(VIDEO_LIST, CALLS, concurrency=20, per=per),
            Quota(OAUTH_TOKEN, concurrency=4),
        ),
        timeout_seconds=30.0,
        judge=api.judge,
        authorize=api.authorize if account.access_token is None else None,
    )


CONNECTOR = Connector(
    name="tiktok",
    version="1.0.0",
    settings=Settings,
    account_settings=AccountSettings,
    feeds=(USER_FEED, VIDEO_FEED),
    upstream=upstream,
    request_settings=("timezone",),
)


@hookimpl
def connectors() -> Sequence[Connector]:
    return [CONNECTOR]


@hookimpl
def begin(instance: Instance[Any], feed: Feed) -> Any:
    if instance.connector is not CONNECTOR:
        return None

    def newest(_: Partition, __: Request, now: datetime) -> Pass:
        return Pass("full", (api.first_cursor(now),))

    return newest


@hookimpl
def fetch(instance: Instance[Any], feed: Feed) -> Fetch | None:
    if instance.connector is not CONNECTOR:
        return None
    return user if feed is USER_FEED else videos


async def user(ctx: Context[Settings, None], cursor: Cursor) -> Page:
    """Fetch a store's user."""
    day = _day(ctx, cursor)
    params = api.user_params(await _scopes(ctx))
    return api.user_page(await ctx.http.get(api.USER_INFO, params=params, quota=USER_INFO), day)


async def videos(ctx: Context[Settings, None], cursor: Cursor) -> Page:
    """Fetch one page of a store's videos."""
    day = _day(ctx, cursor)
    response = await ctx.http.post(
        api.VIDEO_LIST,
        json=api.list_body(cursor.value),
        params=api.video_params(await _scopes(ctx)),
        quota=VIDEO_LIST,
    )
    return api.videos_page(response, cursor.value, day, reread=ctx.settings.reread_edge)


def _day(ctx: Context[Settings, None], cursor: Cursor) -> date:
    zone = ctx.account.settings.timezone or ctx.settings.timezone
    return api.snapshot_date(cursor.value, ZoneInfo(zone), ctx.http.now())


async def _scopes(ctx: Context[Settings, None]) -> frozenset[str]:
    """Return which of the wanted scopes the store has granted, as far as its credential says."""
    credential = await ctx.http.credential()
    scope = credential.details.get("scope") if credential is not None else None
    return api.granted(scope, ctx.settings.scopes)


@hookimpl
def refresh(instance: Instance[Any]) -> Refresh | None:
    return renewed if instance.connector is CONNECTOR else None


async def renewed(ctx: Context[Settings, None], credential: Credential) -> Credential:
    """Trade a store's tokens for the next pair."""
    settings = ctx.settings
    form = api.refresh_form(settings.client_key, settings.client_secret, credential)
    response = await ctx.http.post(api.OAUTH_TOKEN, form=form, quota=OAUTH_TOKEN)
    return api.credential_of(response, credential)


@hookimpl
def transform(instance: Instance[Any], stream: Stream) -> Transform | None:
    if instance.connector is not CONNECTOR:
        return None
    if stream is USERS:
        return Transform("user_of", 1, user_of)
    return (
        Transform("video_of", 1, video_of)
        if stream is VIDEOS
        else Transform("counts_of", 1, counts_of)
    )


@hookimpl
def check(instance: Instance[Any]) -> Check | None:
    """Ask who a store is: the answer tells whether its token is taken, too."""
    if instance.connector is not CONNECTOR:
        return None

    return whose


async def whose(ctx: Context[Settings, None]) -> str:
    """Say whose account it is, and when its tokens end."""
    params = api.user_params(await _scopes(ctx))
    response = await ctx.http.get(api.USER_INFO, params=params, quota=USER_INFO)
    return api.whose(response, await ctx.http.credential())
