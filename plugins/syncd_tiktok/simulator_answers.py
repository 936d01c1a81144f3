"""What the simulated upstream answers: a plain object, asked without waiting for anything.

It serves tests over HTTP (`simulator.py`) and in virtual time alike. Gates stand in the order in
which the real one is taken to look: the limit, the token, the request, the scopes.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import format_datetime
from random import Random
from typing import Any
from urllib.parse import parse_qs

import attrs
import msgspec

from syncd.testing import Call, Reply
from syncd_tiktok.simulator_stores import CursorsIn, Store
from syncd_tiktok.simulator_tokens import Grant, Regime, Tokens

PAGE_MAX = 20
PAGE_DEFAULT = 10

USER_INFO = "/user/info/"
VIDEO_LIST = "/video/list/"
OAUTH_TOKEN = "/oauth/token/"  # noqa: S105 - a path

SCOPES: Mapping[str, Sequence[str]] = {
    "user.info.basic": (
        "open_id", "union_id", "avatar_url", "avatar_url_100", "avatar_large_url", "display_name",
    ),
    "user.info.profile": ("bio_description", "profile_deep_link", "is_verified", "username"),
    "user.info.stats": ("follower_count", "following_count", "likes_count", "video_count"),
    "video.list": (
        "id", "create_time", "cover_image_url", "share_url", "video_description", "duration",
        "height", "width", "title", "embed_html", "embed_link", "like_count", "comment_count",
        "share_count", "view_count",
    ),
}  # fmt: skip

_SCOPE_OF = {name: scope for scope, names in SCOPES.items() for name in names}
_VIDEO_NAMES = frozenset(SCOPES["video.list"])
_USER_NAMES = frozenset(_SCOPE_OF) - _VIDEO_NAMES

_STATUS = {
    "access_token_invalid": 401,
    "scope_not_authorized": 401,
    "scope_permission_missed": 401,
    "invalid_params": 400,
    "rate_limit_exceeded": 429,
    "internal_error": 500,
}


@attrs.frozen
class Asked:
    """What was asked, by whom, and how it ended."""

    path: str
    store: str
    code: str
    cursor: int | None = None


class TikTok:
    """The upstream of these stores.

    `limit` is how many calls in how many seconds each endpoint takes (none: any number). With
    `always_200` errors of data come with status 200, `oauth_status` is the one of OAuth's. `app`
    are the scopes that the app itself has leave for. `restless`: after each page counts move, now
    and then a video is made or deleted.
    """

    def __init__(
        self,
        stores: Mapping[str, int],
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        seed: int = 0,
        limit: tuple[int, float] | None = None,
        regime: Regime = "2h",
        cursors_in: CursorsIn = "seconds",
        client: tuple[str, str] = ("client-key", "client-secret"),
        always_200: bool = False,
        oauth_status: int = 400,
        app: Sequence[str] = tuple(SCOPES),
        restless: bool = False,
    ) -> None:
        self.stores = {name: Store(name, videos, seed=seed) for name, videos in stores.items()}
        self.tokens = Tokens(regime=regime, now=now, seed=seed)
        self.asked: list[Asked] = []
        self.after_page: Callable[[Store, int], None] | None = None  # with the pages so far
        self.refusals: deque[str] = deque()  # codes to answer the next calls of data with
        self._now = now
        self._random = Random(f"answers {seed}")  # noqa: S311 - no secret
        self._limit = limit
        self._windows: dict[str, deque[float]] = {USER_INFO: deque(), VIDEO_LIST: deque()}
        self._cursors_in: CursorsIn = cursors_in
        self._client = client
        self._always_200 = always_200
        self._oauth_status = oauth_status
        self._app = frozenset(app)
        self._restless = restless
        self._pages: Counter[str] = Counter()
        self._signature = 0

    def permit(self, store: str, scopes: Sequence[str] = tuple(SCOPES)) -> str:
        """Let a store grant an access token that never ends; return it."""
        return self.tokens.grant(store, scopes, access_token=f"act.{store}").access_token

    def answer(self, call: Call) -> Reply:
        """Answer one request."""
        if call.path == OAUTH_TOKEN:
            return self._traded(call)
        if call.path not in self._windows:
            return self._reply(404, {"error": {"code": "not_found", "message": "", "log_id": ""}})
        if not self._admits(call.path):
            return self._refused(call, "rate_limit_exceeded")
        if self.refusals:
            return self._refused(call, self.refusals.popleft())
        return self._of_data(call)

    def refuse(self, call: Call) -> Reply:
        """Answer that too many asked."""
        return self._refused(call, "rate_limit_exceeded")

    def truth(self) -> set[tuple[str, str]]:
        """Return the store and id of every video that is public."""
        return {(s.name, video.id) for s in self.stores.values() for video in s.shown}

    # --- Data -------------------------------------------------------------------------------------

    def _of_data(self, call: Call) -> Reply:
        scheme, _, token = call.headers.get("authorization", "").partition(" ")
        grant = self.tokens.admitted(token) if scheme == "Bearer" else None
        if grant is None:
            return self._refused(call, "access_token_invalid")
        fields = [name for name in call.query.get("fields", "").split(",") if name]
        known = _USER_NAMES if call.path == USER_INFO else _VIDEO_NAMES
        method = "GET" if call.path == USER_INFO else "POST"
        if not fields or not known.issuperset(fields) or call.method != method:
            return self._refused(call, "invalid_params", grant)
        scopes = {_SCOPE_OF[name] for name in fields}
        if not scopes <= self._app:
            return self._refused(call, "scope_permission_missed", grant)
        if not scopes.issubset(grant.scopes):
            return self._refused(call, "scope_not_authorized", grant)
        self._signature += 1
        if call.path == USER_INFO:
            return self._user(call, grant, fields)
        return self._videos(call, grant, fields)

    def _user(self, call: Call, grant: Grant, fields: Sequence[str]) -> Reply:
        user = self.stores[grant.store].user(signature=self._signature)
        self._note(call, grant, "ok")
        return self._said(200, {"user": {name: user[name] for name in fields}}, "ok")

    def _videos(self, call: Call, grant: Grant, fields: Sequence[str]) -> Reply:
        try:
            body = msgspec.json.decode(call.body or b"{}", type=_ListBody)
        except msgspec.DecodeError:
            return self._refused(call, "invalid_params", grant)
        store = self.stores[grant.store]
        page = store.page(body.cursor, body.max_count, cursors_in=self._cursors_in)
        rows = []
        for video in page.videos:
            row = store.render(video, signature=self._signature)
            rows.append({name: row[name] for name in fields})
        self._note(call, grant, "ok", cursor=body.cursor)
        self._pages[store.name] += 1
        self._stir(store)
        data = {"videos": rows, "cursor": page.cursor, "has_more": page.has_more}
        return self._said(200, data, "ok")

    def _stir(self, store: Store) -> None:
        """Let happen what happens between two pages."""
        if self.after_page is not None:
            self.after_page(store, self._pages[store.name])
        if not self._restless:
            return
        draw = self._random
        store.move(draw, share=0.2)
        if draw.random() < 0.3:
            store.publish()
        if draw.random() < 0.2 and len(store.videos) > 1:
            store.delete(draw.choice(store.videos).id)

    def _admits(self, path: str) -> bool:
        if self._limit is None:
            return True
        most, seconds = self._limit
        now, recent = self._now().timestamp(), self._windows[path]
        while recent and recent[0] <= now - seconds:
            recent.popleft()
        if len(recent) >= most:
            return False
        recent.append(now)
        return True

    # --- Tokens -----------------------------------------------------------------------------------

    def _traded(self, call: Call) -> Reply:
        form = {name: values[0] for name, values in parse_qs(call.body.decode()).items()}
        media = call.headers.get("content-type", "").partition(";")[0]
        if call.method != "POST" or media != "application/x-www-form-urlencoded":
            return self._denied("invalid_request", "The request is no form.")
        if (form.get("client_key"), form.get("client_secret")) != self._client:
            return self._denied("invalid_client", "Client key or secret is incorrect.")
        if form.get("grant_type") != "refresh_token":
            return self._denied("unsupported_grant_type", "The grant type is not supported.")
        grant = self.tokens.refreshed(form.get("refresh_token", ""))
        if grant is None:
            return self._denied("invalid_grant", "Refresh token is invalid or expired.")
        self.asked.append(Asked(OAUTH_TOKEN, grant.store, "ok"))
        access_seconds, refresh_seconds = grant.expires_in(self._now())
        return self._reply(
            200,
            {
                "access_token": grant.access_token,
                "expires_in": access_seconds,
                "open_id": self.stores[grant.store].open_id,
                "refresh_token": grant.refresh_token,
                "refresh_expires_in": refresh_seconds,
                "scope": ",".join(grant.scopes),
                "token_type": "Bearer",
            },
        )

    def _denied(self, error: str, description: str) -> Reply:
        self.asked.append(Asked(OAUTH_TOKEN, "", error))
        said = {"error": error, "error_description": description, "log_id": self._log_id()}
        return self._reply(self._oauth_status, said)

    # --- Writing ----------------------------------------------------------------------------------

    def _note(
        self, call: Call, grant: Grant | None, code: str, *, cursor: int | None = None
    ) -> None:
        self.asked.append(Asked(call.path, grant.store if grant else "", code, cursor))

    def _refused(self, call: Call, code: str, grant: Grant | None = None) -> Reply:
        self._note(call, grant, code)
        return self._said(200 if self._always_200 else _STATUS[code], {}, code)

    def _said(self, status: int, data: Mapping[str, Any], code: str) -> Reply:
        message = "" if code == "ok" else code.replace("_", " ").capitalize()
        error = {"code": code, "message": message, "log_id": self._log_id()}
        return self._reply(status, {"data": data, "error": error})

    def _log_id(self) -> str:
        return f"{self._now():%Y%m%d%H%M%S}{self._random.getrandbits(64):016X}"

    def _reply(self, status: int, body: Mapping[str, Any]) -> Reply:
        headers = {
            "content-type": "application/json; charset=utf-8",
            "date": format_datetime(self._now().astimezone(UTC), usegmt=True),
        }
        return Reply(status, msgspec.json.encode(body), headers)


class _ListBody(msgspec.Struct):
    cursor: int | None = None
    max_count: int = PAGE_DEFAULT

    def __post_init__(self) -> None:
        if not 1 <= self.max_count <= PAGE_MAX:
            message = f"max_count is {self.max_count}"
            raise ValueError(message)
