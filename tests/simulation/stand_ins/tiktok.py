"""A stand-in for TikTok's Display API v2: a connector and its upstream, with invented records.

Facts (developers.tiktok.com, "List Videos", "Rate limits"): 20 videos a page at most, newest first;
a cursor in milliseconds and `has_more`; 600 calls a minute, in a sliding window, for each endpoint;
429 `rate_limit_exceeded` without `Retry-After`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from email.utils import format_datetime
from typing import Any

import attrs
import msgspec
from inline import now
from judge import Allowed, Judge
from transport import Answer, Asked

import syncd
from syncd import (
    Connector,
    Context,
    Cursor,
    Feed,
    Instance,
    Page,
    Pass,
    Quota,
    Record,
    Secret,
    SlidingWindow,
    Stream,
    Unintelligible,
    Upstream,
    hookimpl,
)

HOST = "open.tiktokapis.test"
PAGE_MAX = 20
NEWEST_AT = 1_767_000_000  # seconds; every older video is an hour older


@attrs.frozen
class Settings:
    base_url: str = f"https://{HOST}/v2"
    calls: int = 600  # of each endpoint in a window; 0: there is no limit
    window_seconds: float = 60.0
    in_flight: int = 30
    timeout_seconds: float = 30.0


@attrs.frozen
class AccountSettings:
    token: Secret


@attrs.define
class User:
    open_id: str
    follower_count: int


@attrs.define
class Video:
    id: str
    create_time: int
    title: str
    like_count: int


class _Data(msgspec.Struct):
    user: msgspec.Raw = msgspec.Raw(b"")
    videos: list[msgspec.Raw] = []
    cursor: int = 0
    has_more: bool = False


class _Error(msgspec.Struct):
    code: str


class _Envelope(msgspec.Struct):
    data: _Data
    error: _Error


USERS = Stream("users", User, key=("open_id",), per_account=True)
VIDEOS = Stream("videos", Video, key=("id",), per_account=True)


def upstream(settings: Settings, account: AccountSettings) -> Upstream:
    quotas = [_quota(settings, key) for key in ("user_info", "video_list")]
    return Upstream(
        settings.base_url,
        quotas=tuple(quotas),
        headers={"authorization": Secret(f"Bearer {account.token.reveal()}")},
        timeout_seconds=settings.timeout_seconds,
    )


def _quota(settings: Settings, key: str) -> Quota:
    window = SlidingWindow(settings.calls, settings.window_seconds) if settings.calls else ()
    return Quota(key, window, settings.in_flight)


CONNECTOR = Connector(
    "tiktok",
    "1.0.0",
    settings=Settings,
    feeds=(
        Feed("users", streams=(USERS,), quota="user_info"),
        Feed("videos", streams=(VIDEOS,), quota="video_list"),
    ),
    upstream=upstream,
    account_settings=AccountSettings,
)


@hookimpl
def connectors() -> Sequence[Connector]:
    return [CONNECTOR]


@hookimpl
def begin(instance: Instance[Any], feed: Feed) -> Any:
    if instance.connector is not CONNECTOR:
        return None
    return lambda _, request, __: Pass(request.mode, (Cursor({"cursor": 0}),))


@hookimpl
def fetch(instance: Instance[Any], feed: Feed) -> Any:
    if instance.connector is not CONNECTOR:
        return None
    return users if feed.name == "users" else videos


async def users(ctx: Context[Settings, None], _: Cursor) -> Page:
    response = await ctx.http.get("/user/info/", params={"fields": "open_id"}, quota="user_info")
    envelope = _read(response, "GET /user/info/")
    if not bytes(envelope.data.user):
        raise Unintelligible("GET /user/info/", "no user", "compare with the documentation")
    return Page({"users": [Record(envelope.data.user)]}, date=response.date)


async def videos(ctx: Context[Settings, None], cursor: Cursor) -> Page:
    assert isinstance(cursor.value, dict)
    asked = {"max_count": PAGE_MAX, "cursor": cursor.value["cursor"]}
    fields = {"fields": "id,create_time,title,like_count"}
    response = await ctx.http.post("/video/list/", json=asked, params=fields, quota="video_list")
    envelope = _read(response, "POST /video/list/")
    data = envelope.data
    opens = (Cursor({"cursor": data.cursor}),) if data.has_more else ()
    return Page({"videos": [Record(raw) for raw in data.videos]}, opens, date=response.date)


def _read(response: syncd.Response, where: str) -> _Envelope:
    envelope = syncd.decode(response, _Envelope, where=where)
    if envelope.error.code != "ok":
        raise Unintelligible(where, f"said {envelope.error.code}", "compare with the documentation")
    return envelope


# --- The upstream ---------------------------------------------------------------------------------


@attrs.define
class Store:
    """One store's videos, newest first: (id, likes)."""

    name: str
    followers: int
    likes: list[int]
    first: int = 0  # how many newer ones came since

    def rows(self) -> list[tuple[str, str, int, str, int]]:
        """Return what is true: account, id, time, title, likes."""
        return [
            (self.name, self._id(n), self._time(n), f"a video {n}", likes)
            for n, likes in enumerate(self.likes)
        ]

    def _id(self, place: int) -> str:
        return str(7_300_000_000_000_000_000 + len(self.likes) - place)

    def _time(self, place: int) -> int:
        return NEWEST_AT - 3600 * (place - self.first)

    def page(self, cursor: int, count: int) -> dict[str, Any]:
        """Answer with what was created before `cursor`, in milliseconds; 0: the newest."""
        begin = 0
        if cursor:
            begin = max(0, self.first + (NEWEST_AT - cursor // 1000) // 3600 + 1)
        end = min(begin + count, len(self.likes))
        found = [
            {"id": self._id(n), "create_time": self._time(n), "title": f"a video {n}"}
            | {"like_count": self.likes[n], "share_url": f"https://tiktok.test/{self._id(n)}"}
            for n in range(begin, end)
        ]
        last = self._time(end - 1) * 1000 if found else cursor
        return {"videos": found, "cursor": last, "has_more": end < len(self.likes)}


class TikTok:
    """The upstream: an object that answers."""

    def __init__(
        self,
        stores: Mapping[str, int],
        *,
        allowed: Allowed | None = None,
        user_seconds: float = 0.0,
        video_seconds: float = 0.0,
    ) -> None:
        self.stores = {name: Store(name, 100, [1] * videos) for name, videos in stores.items()}
        keys = ("user_info", "video_list")
        self.judges: Mapping[str, Judge] = {key: Judge(key, allowed) for key in keys}
        self._seconds = {"user_info": user_seconds, "video_list": video_seconds}

    def judge_of(self, asked: Asked) -> Judge:
        return self.judges["user_info" if asked.path.endswith("/user/info/") else "video_list"]

    def answer(self, asked: Asked) -> Answer:
        judge = self.judge_of(asked)
        if not judge.arrives(asked.at, sender=asked.sender, left_at=asked.left_at):
            return _said(429, {}, "rate_limit_exceeded")
        store = self.stores.get(asked.headers.get("authorization", "").removeprefix("Bearer act."))
        if store is None:
            return _said(401, {}, "access_token_invalid")
        if judge.key == "user_info":
            data: dict[str, Any] = {
                "user": {"open_id": store.name, "follower_count": store.followers}
            }
        else:
            body = {**asked.query, **(msgspec.json.decode(asked.body) if asked.body else {})}
            count = min(int(body.get("max_count", 10)), PAGE_MAX)
            data = store.page(int(body.get("cursor", 0)), count)
        return _said(200, data, "ok", seconds=self._seconds[judge.key])

    def change(self, random: Any) -> None:
        """Let some counts move, and a new video appear somewhere."""
        for store in self.stores.values():
            store.followers += random.randrange(3)
            for place in random.sample(range(len(store.likes)), k=len(store.likes) // 3):
                store.likes[place] += 1
        store = random.choice(list(self.stores.values()))
        store.likes.insert(0, 0)
        store.first += 1

    def truth(self) -> set[tuple[Any, ...]]:
        return {row for store in self.stores.values() for row in store.rows()}


TRUTH = "SELECT account_id, id, create_time, title, like_count FROM tiktok.videos"


def _said(status: int, data: Mapping[str, Any], code: str, *, seconds: float = 0.0) -> Answer:
    body = msgspec.json.encode({"data": data, "error": {"code": code, "message": "", "log_id": ""}})
    date = format_datetime(now(), usegmt=True)
    return Answer(status, body, {"content-type": "application/json", "date": date}, seconds)
