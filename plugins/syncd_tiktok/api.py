"""TikTok's Display API v2: its requests, pages, errors and tokens. Pure.

Facts (developers.tiktok.com: "Get User Info", "List Videos", "Error Handling", "Manage User Access
Tokens"): 20 videos a page at most, the newest first; a page holds what was created before its
cursor, a time in milliseconds, and may be short or empty while `has_more` says that others follow.
Answers of data name their error in the body, also with status 200; those of OAuth are flat, and
bear the key `error` only where one happened.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

import syncd
from syncd import (
    Credential,
    Cursor,
    CursorExpired,
    Page,
    Record,
    Response,
    Secret,
    SourceError,
    Throttled,
    Unauthorized,
    Unavailable,
    Unintelligible,
)

USER_INFO = "/user/info/"
VIDEO_LIST = "/video/list/"
OAUTH_TOKEN = "/oauth/token/"  # noqa: S105 - a path

PAGE_MAX = 20  # the API refuses more

# How long a pass that runs past midnight goes on for the day that it began on.
LATE = timedelta(hours=1)

STATS = "user.info.stats"
VIDEOS = "video.list"

_USER_FIELDS = {
    "user.info.basic": ("open_id", "union_id", "avatar_url", "display_name"),
    "user.info.profile": ("bio_description", "profile_deep_link", "is_verified", "username"),
    STATS: ("follower_count", "following_count", "likes_count", "video_count"),
}
SCOPES = (*_USER_FIELDS, VIDEOS)

# `embed_html` is long and made of the id: it is not asked for.
_VIDEO_FIELDS = (
    "id,create_time,title,video_description,duration,width,height,share_url,cover_image_url,"
    "view_count,like_count,comment_count,share_count"
)

_RECONNECT = "let the store grant it, then import its tokens and resume it"


class _Data(msgspec.Struct, gc=False):
    user: msgspec.Raw = msgspec.Raw(b"")
    videos: list[msgspec.Raw] | None = None
    cursor: int | None = None
    has_more: bool = False


class _Error(msgspec.Struct, gc=False):
    code: str
    message: str = ""


class _Envelope(msgspec.Struct, gc=False):
    data: _Data
    error: _Error


class _Whose(msgspec.Struct, gc=False):
    open_id: str | None = None
    display_name: str | None = None
    username: str | None = None


class _WhoseData(msgspec.Struct, gc=False):
    user: _Whose


class _WhoseEnvelope(msgspec.Struct, gc=False):
    data: _WhoseData
    error: _Error


class _Judged(msgspec.Struct, gc=False):
    """As much of an answer as tells whether it is an error: of data, or (a text) of OAuth."""

    error: _Error | str | None = None
    error_description: str = ""


class _Tokens(msgspec.Struct, gc=False):
    access_token: str
    expires_in: int
    refresh_token: str | None = None
    refresh_expires_in: int | None = None
    open_id: str | None = None
    scope: str | None = None


_judged = msgspec.json.Decoder(_Judged)


# --- Errors ---------------------------------------------------------------------------------------


def judge(response: Response) -> SourceError | None:
    """Find the error that stands in a body; what is none of the API's is left to its status."""
    try:
        error = _judged.decode(response.content)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    if isinstance(error.error, str):
        return _of_oauth(response, error.error, error.error_description)
    return None if error.error is None else _of_data(response, error.error)


def _of_data(response: Response, error: _Error) -> SourceError | None:
    where, said = response.url, f"{error.code}: {error.message}".removesuffix(": ")
    match error.code:
        case "ok" | "":
            return None
        case "access_token_invalid":
            return Unauthorized(where, f"the access token is refused ({said})")
        case "scope_not_authorized":
            return Unauthorized(where, f"the store has not granted what is asked for ({said})")
        case "scope_permission_missed":
            return Unauthorized(where, f"the app has no leave for what is asked for ({said})")
        case "rate_limit_exceeded":
            # How long to wait is not said: the own window and growing waits decide.
            return Throttled(where, said, retry_after_seconds=0.0)
        case "internal_error":
            return Unavailable(where, said)
        case "invalid_params":
            return Unintelligible(where, f"the request is refused ({said})")
        case _ if response.status < 300:
            return Unintelligible(where, f"answered with an error that nobody knows ({said})")
        case _:
            return None


def _of_oauth(response: Response, error: str, description: str) -> SourceError:
    where, said = response.url, f"{error}: {description}".removesuffix(": ")
    if error in {"invalid_grant", "access_denied"}:
        return Unauthorized(where, f"the refresh token is refused ({said})")
    if error in {"server_error", "temporarily_unavailable"}:
        return Unavailable(where, said)
    # Of the app, not of a store: no store is parked for a wrong client_secret.
    return Unintelligible(where, f"the app is refused ({said}); look at client_key, client_secret")


# --- Tokens ---------------------------------------------------------------------------------------


def authorize(credential: Credential) -> Mapping[str, str | Secret]:
    """Return the header field that lets a store's requests in."""
    return {"authorization": Secret(f"Bearer {credential.access_token.reveal()}")}


def refresh_form(
    client_key: str | None, client_secret: Secret | None, credential: Credential
) -> dict[str, str | Secret]:
    """Return the form that trades a refresh token for the next pair.

    Raises: `Unauthorized` where there is no refresh token; `Unintelligible` where the app's own
    names are not configured, which parks no store.
    """
    where = f"POST {OAUTH_TOKEN}"
    if client_key is None or client_secret is None:
        do = "write both into the connector's table"
        raise Unintelligible(where, "client_key or client_secret is not configured", do)
    if credential.refresh_token is None:
        raise Unauthorized(where, "the store has no refresh token", _RECONNECT)
    return {
        "client_key": client_key,
        "client_secret": client_secret,
        "grant_type": "refresh_token",
        "refresh_token": credential.refresh_token,
    }


def credential_of(response: Response, before: Credential) -> Credential:
    """Read the next pair of tokens. Lifetimes are as told, reckoned from when it was asked for.

    What an answer leaves out stays as it was: not every regime changes the refresh token.

    Raises: `Unintelligible` where the answer holds no access token.
    """
    tokens = syncd.decode(response, _Tokens, where=f"POST {OAUTH_TOKEN}")

    def after(seconds: int | None) -> datetime | None:
        return None if seconds is None else response.sent_at + timedelta(seconds=seconds)

    told = {"open_id": tokens.open_id, "scope": tokens.scope}
    known = {name: text for name, text in told.items() if text is not None}
    refresh_token, refresh_expires_at = before.refresh_token, before.refresh_expires_at
    if tokens.refresh_token is not None:
        refresh_token = Secret(tokens.refresh_token)
        refresh_expires_at = after(tokens.refresh_expires_in)
    return Credential(
        access_token=Secret(tokens.access_token),
        refresh_token=refresh_token,
        access_expires_at=after(tokens.expires_in),
        refresh_expires_at=refresh_expires_at,
        details={**before.details, **known},
    )


# --- What is granted ------------------------------------------------------------------------------


def granted(scope: str | None, wanted: Iterable[str]) -> frozenset[str]:
    """Return which of the scopes that are wanted a store has granted; all, where nobody knows."""
    known = frozenset(scope.replace(" ", ",").split(",")) if scope else frozenset(SCOPES)
    return known & frozenset(wanted)


def user_params(scopes: frozenset[str]) -> dict[str, str | int]:
    """Return the parameters of `/user/info/`: the fields of what is granted.

    Raises: `Unauthorized` where the counts are not, for which a snapshot is taken.
    """
    _require(STATS, scopes, USER_INFO)
    names = [name for scope, names in _USER_FIELDS.items() if scope in scopes for name in names]
    return {"fields": ",".join(names)}


def video_params(scopes: frozenset[str]) -> dict[str, str | int]:
    """Return the parameters of `/video/list/`.

    Raises: `Unauthorized` where videos are not granted.
    """
    _require(VIDEOS, scopes, VIDEO_LIST)
    return {"fields": _VIDEO_FIELDS}


def _require(scope: str, scopes: frozenset[str], where: str) -> None:
    if scope not in scopes:
        raise Unauthorized(where, f"the store has not granted {scope}", _RECONNECT)


# --- Cursors and days -----------------------------------------------------------------------------


def first_cursor(now: datetime) -> Cursor:
    """Return where a pass begins: at the newest, for the day on which that is."""
    return Cursor({"began_at": now.isoformat()})


def snapshot_date(cursor: Any, zone: ZoneInfo, now: datetime) -> date:
    """Return the day of a pass's snapshot: the one on which it began, in the store's zone.

    A pass over midnight is one snapshot, and no two halves. But nothing is noted for a day that
    has been over for more than an hour: counts of today are not yesterday's, and a pass that waits
    into the next day would leave that one without a snapshot.

    Raises: `CursorExpired` for such a pass.
    """
    began_at = datetime.fromisoformat(cursor["began_at"])
    day: date = began_at.astimezone(zone).date()
    if day < (now - LATE).astimezone(zone).date():
        said = f"the pass began on {day.isoformat()}, a day that is over in {zone.key}"
        raise CursorExpired("snapshot", said, "a pass for today follows")
    return day


def list_body(cursor: Any) -> dict[str, int]:
    """Return the body of `/video/list/`."""
    before = {"cursor": cursor["cursor"]} if "cursor" in cursor else {}
    return {"max_count": PAGE_MAX, **before}


def next_cursor(cursor: Any, told: int | None, *, reread: bool) -> Cursor:
    """Return the cursor that follows a page which named `told`.

    Where cursors are whole seconds, another video of that very second may be left: with `reread`,
    the whole second is asked for again. It is not where that would be no step forward (20 videos of
    one second).

    Raises: `Unintelligible` where the API names no cursor, or none that leads on.
    """
    before = cursor.get("cursor")
    if told is None or told <= 0 or (before is not None and told >= before):
        said = f"there is more after {before or 'the newest'}, and its cursor is {told}"
        raise Unintelligible(f"POST {VIDEO_LIST}", said, "compare with the API's documentation")
    after = told
    if reread and told % 1000 == 0 and (before is None or told + 1000 < before):
        after = told + 1000
    return Cursor({**cursor, "cursor": after})


# --- Pages ----------------------------------------------------------------------------------------


def user_page(response: Response, day: date) -> Page:
    """Read an answer of `/user/info/`.

    Raises: `Unintelligible` where it holds no user.
    """
    where = f"GET {USER_INFO}"
    raw = _data(response, where).user
    if not bytes(raw).startswith(b'{"'):  # nothing, null, or an object of nothing
        raise Unintelligible(where, "no user", "compare with the API's documentation")
    return Page({"user_daily": [Record(raw, _parent(response, day))]}, date=response.date)


def whose(response: Response, credential: Credential | None) -> str:
    """Say whose account answered `/user/info/`, and when the tokens end that let it in.

    Raises: `Unintelligible` where it holds no user.
    """
    where = f"GET {USER_INFO}"
    user = syncd.decode(response, _WhoseEnvelope, where=where).data.user
    name = user.display_name or user.username or "a store without a name"
    said = f"the token is accepted: {name} (open_id {user.open_id or 'not told'})"
    if credential is None:
        return f"{said}; nobody renews it"
    ends = {"access": credential.access_expires_at, "refresh": credential.refresh_expires_at}
    told = [
        f"the {kind} token ends {at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
        for kind, at in ends.items()
        if at
    ]
    scope = credential.details.get("scope")
    granted_scopes = [f"granted: {scope}"] if scope else []
    return "; ".join([said, *told, *granted_scopes])


def videos_page(response: Response, cursor: Any, day: date, *, reread: bool) -> Page:
    """Read a page of `/video/list/`: each video as it is, and its counts of the day.

    Raises: `Unintelligible` where the body is no page, or leads nowhere.
    """
    data = _data(response, f"POST {VIDEO_LIST}")
    parent = _parent(response, day)
    opens = (next_cursor(cursor, data.cursor, reread=reread),) if data.has_more else ()
    raws = data.videos or []
    records = {
        "videos": [Record(raw) for raw in raws],
        "video_daily": [Record(raw, parent) for raw in raws],
    }
    return Page(records, opens, end=not data.has_more, date=response.date)


def _data(response: Response, where: str) -> _Data:
    envelope = syncd.decode(response, _Envelope, where=where)
    return envelope.data


def _parent(response: Response, day: date) -> Mapping[str, str]:
    return {"snapshot_date": day.isoformat(), "captured_at": response.sent_at.isoformat()}
