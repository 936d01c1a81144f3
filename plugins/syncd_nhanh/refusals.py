"""The errors of Nhanh's open API v3, which stand in bodies, and what each of them means. Pure.

Facts (Nhanh.vn API documentation, "Error codes" and "Rate limit"): `code` is 1 or 0; a failure
names an `errorCode`; what it says stands in `messages`, a text, an array or an object, and for the
limit in `message`. The HTTP status of a failure is not documented: the body decides, where there is
one. Some addresses answer with a web page. A call made while locked lengthens the lock.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import msgspec

from syncd import (
    CursorExpired,
    Response,
    SourceError,
    Throttled,
    Unauthorized,
    Unavailable,
    Unintelligible,
)

WHERE = "the open API"

# The documentation's prose says 429 where its example says ERR_429: both are understood.
LOCKED = frozenset({"ERR_429", "ERR_EXCEEDED_RATE_LIMIT"})
REFUSED = frozenset(
    {
        "ERR_INVALID_ACCESS_TOKEN",
        "ERR_401",
        "ERR_403",  # who consented lacks the right, or did not tick it
        "ERR_BUSINESS_NOT_ENABLE_API",
        "ERR_INVALID_APP_ID",
        "ERR_INVALID_BUSINESS_ID",
    }
)
OVERLOADED = re.compile(r"ERR_5\d\d")

LOCK_TOLD_IN_SECONDS = 1.0  # whole ones: it may last as much longer
LOCK_UNTOLD_SECONDS = 30.0  # the window: by then everything that was counted is forgotten
LOCK_MAX_SECONDS = 3600.0  # what is told beyond that is no lock, but a clock that is wrong

_SAID_MAX = 300  # characters
_BOM = b"\xef\xbb\xbf"  # RFC 8259 8.1: it may be passed over


class _Refusal(msgspec.Struct, gc=False):
    code: int | str | bool | None = None
    errorCode: int | str | None = None  # noqa: N815 - as it comes
    messages: Any = None
    message: Any = None


class _Lock(msgspec.Struct, gc=False):
    data: Any = None


_refusal = msgspec.json.Decoder(_Refusal)
_lock = msgspec.json.Decoder(_Lock)


def judge(response: Response) -> SourceError | None:
    """Find the error in an answer, whatever its status; `None` leaves it to the status."""
    media = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json" and not media.endswith("+json"):
        return _web_page(response.status, media)
    try:
        said = _refusal.decode(response.content.removeprefix(_BOM))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    code = _code(said.errorCode)
    if not code and (said.code is None or str(said.code) in {"1", "True"}):
        return None  # a success; it may bear a warning
    return _error(response, code, said)


def _web_page(status: int, media: str) -> SourceError | None:
    if status == 429 or status >= 500:
        return None
    named = f"a page of {media}" if media else "a page of no media type"
    return Unavailable(WHERE, f"answered {status} with {named}, no JSON", "it is asked again")


def _code(told: int | str | None) -> str:
    """Return an error's code, in one spelling."""
    code = str(told or "").strip().upper()
    return f"ERR_{code}" if code.isdecimal() else code


def _error(response: Response, code: str, said: _Refusal) -> SourceError | None:
    what = f"{code or 'an error without a code'}{_quoted(said)}"
    if code in LOCKED:
        seconds = lock_seconds(response)
        return Throttled(WHERE, f"locked: {what}", "wait", retry_after_seconds=seconds)
    if code in REFUSED:
        return Unauthorized(WHERE, what, "have the shop's owner consent again")
    if OVERLOADED.fullmatch(code):
        return Unavailable(WHERE, what, "it is asked again")
    if code == "ERR_INVALID_FORM_FIELDS" and _blames_the_cursor(said.messages):
        return CursorExpired(WHERE, what, "the pass begins anew")
    if code.startswith("ERR_INVALID") or response.status < 300:
        return Unintelligible(WHERE, what, "compare with the API's documentation")
    return None


def _blames_the_cursor(messages: Any) -> bool:
    return isinstance(messages, dict) and any(
        str(field).startswith("paginator.next") for field in messages
    )


def _quoted(said: _Refusal) -> str:
    texts = [*_texts(said.messages), *_texts(said.message)]
    return f": {'; '.join(texts)}"[:_SAID_MAX] if texts else ""


def _texts(messages: Any, depth: int = 3) -> list[str]:
    """Return what is said, in whichever of its shapes it came."""
    match messages:
        case dict() if depth:
            said = {field: _texts(text, depth - 1) for field, text in messages.items()}
            return [f"{field}: {'; '.join(texts)}" for field, texts in said.items()]
        case list() if depth:
            return [text for each in messages for text in _texts(each, depth - 1)]
        case None | "":
            return []
    return [str(messages)[:_SAID_MAX]]


def lock_seconds(response: Response) -> float:
    """Return how long to wait: until it is unlocked by all that is told, and a second more."""
    data = _lock.decode(response.content.removeprefix(_BOM)).data
    told = data if isinstance(data, dict) else {}
    waits = []
    if (unlocked_at := _number(told.get("unlockedAt"))) is not None:
        moment = datetime.fromtimestamp(unlocked_at, UTC)
        waits.append(response.seconds_until(moment) + LOCK_TOLD_IN_SECONDS)
    if (locked := _number(told.get("lockedSeconds"))) is not None:
        waits.append(locked + LOCK_TOLD_IN_SECONDS)
    return min(max(waits, default=LOCK_UNTOLD_SECONDS), LOCK_MAX_SECONDS)


_SECONDS_MAX = 2**34  # the year 2514: what is more is in another unit, or junk


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if 0 < number < _SECONDS_MAX else None
