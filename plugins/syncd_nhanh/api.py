"""Nhanh's open API v3: its requests, its pages, and where a pass over customers begins. Pure.

Facts (Nhanh.vn API documentation, "Customer list" and "Rate limit"): every call is a POST; at most
100 customers a page, and a larger size is silently cut to that; `next` is opaque, an object or an
array, whose shape may differ from page to page, and it ends by being absent or null; a page may
hold fewer customers than asked for, or none, and go on. There is no total.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from hashlib import blake2b
from itertools import pairwise
from typing import Any

import attrs
import msgspec

import syncd
from syncd import Cursor, Page, Pass, Record, Request, Response, Slice, Unintelligible

CUSTOMERS = "/v3.0/customer/list"
TOKEN = "/v3.0/app/checkaccesstoken"  # noqa: S105 - an address
PAGE_MAX = 100

EVERYTHING = "everything"  # the slice that is walked unfiltered, beside windows
WINDOW_PRIORITY_SECONDS = 3600  # windows are claimed before it: it tells little that they do not

# Whether the bounds of `updatedAtFrom/To` are included is not documented, and times are in whole
# seconds: one second more on the safe side.
EDGE_SECONDS = 1


# --- Moments --------------------------------------------------------------------------------------


def moment_of(text: str) -> datetime:
    """Read a moment: ISO 8601, or unix seconds as the API tells them; one without a zone is UTC.

    Raises: `ValueError`.
    """
    try:
        if text.isascii() and text.isdecimal():
            return datetime.fromtimestamp(int(text), UTC)
        told = datetime.fromisoformat(text)
        return told.astimezone(UTC) if told.tzinfo else told.replace(tzinfo=UTC)
    except (ValueError, OverflowError, OSError):
        raise ValueError(
            'wanted a moment such as "2026-11-22" or "2026-11-22T08:00+07:00"'
        ) from None


def boundaries_of(texts: Sequence[str]) -> tuple[int, ...]:
    """Read the boundaries between windows, in unix seconds.

    Raises: `ValueError` where one is no moment, or they do not ascend.
    """
    moments = tuple(math.floor(moment_of(text).timestamp()) for text in texts)
    if any(later <= earlier for earlier, later in pairwise(moments)):
        raise ValueError("wanted moments that ascend")
    return moments


# --- Slices, and where a pass begins --------------------------------------------------------------


@attrs.frozen
class Window:
    """A span of `updatedAt` in unix seconds; open where a bound is `None`."""

    since: int | None = None
    until: int | None = None

    @property
    def filters(self) -> dict[str, int]:
        """Return the filters of a request; neighbours overlap by a moment."""
        found = {}
        if self.since is not None:
            found["updatedAtFrom"] = self.since
        if self.until is not None:
            found["updatedAtTo"] = self.until + EDGE_SECONDS
        return found

    @property
    def name(self) -> str:
        if self.since is None:
            return f"before {_said(self.until or 0)}"
        return f"{_said(self.since)} to {_said(self.until) if self.until is not None else 'now'}"

    def within(self, other: Window) -> Window | None:
        """Return what lies in both, `None` where nothing can."""
        since = max((w.since for w in (self, other) if w.since is not None), default=None)
        until = min((w.until for w in (self, other) if w.until is not None), default=None)
        if since is not None and until is not None and since > until + EDGE_SECONDS:
            return None
        return Window(since, until)


def _said(second: int) -> str:
    moment = datetime.fromtimestamp(second, UTC)
    return f"{moment:%Y-%m-%d}" if not second % 86400 else f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def slices_of(boundaries: Sequence[int], *, everything: bool) -> list[Slice]:
    """Cut a store's customers by `updatedAt`, the first window open to the past, the last to now.

    Customers without `updatedAt` are in no window: `everything` is one slice more, unfiltered.
    """
    if not boundaries:
        return [Slice()]
    edges = [None, *boundaries, None]
    windows = [Window(*pair) for pair in pairwise(edges)]
    slices = [
        Slice(window.name, attrs.asdict(window), WINDOW_PRIORITY_SECONDS, covers="part")
        for window in windows
    ]
    return [*slices, Slice(EVERYTHING, covers="all")] if everything else slices


def first_pass(
    part: Slice,
    request: Request,
    now: datetime,
    *,
    account: str,
    overlap_seconds: float,
    full_every_seconds: float,
) -> Pass:
    """Say where a pass over a slice begins; one without anything to ask has no cursor.

    An incremental pass becomes a full one when the store's weekly moment (or what is configured)
    has come since the pass before: customers without `updatedAt` are found in no other way.
    """
    window = Window(**part.settings) if part.settings else None
    if request.mode == "full" or request.since is None:
        return _pass("full", window or Window())
    if window is None and request.mode == "incremental":
        every, begins_at = full_every_seconds, _offset_seconds(account, full_every_seconds)
        if full_is_due(request.since, now, every_seconds=every, offset_seconds=begins_at):
            return _pass("full", Window())
    if part.name == EVERYTHING:
        return Pass(request.mode, ())  # what changed is found by the windows
    asked = _asked(request, overlap_seconds).within(window or Window())
    return _pass(request.mode, asked) if asked else Pass(request.mode, ())


def _asked(request: Request, overlap_seconds: float) -> Window:
    assert request.since is not None
    since = math.floor(request.since.timestamp()) - EDGE_SECONDS
    if request.mode == "incremental":
        # Open towards now: who is changed while the pass is walked may come right away.
        return Window(since - math.ceil(overlap_seconds), None)
    return Window(since, math.ceil(request.until.timestamp()))


def _pass(mode: Any, window: Window) -> Pass:
    return Pass(mode, (Cursor({"filters": window.filters}),))


def full_is_due(
    since: datetime, now: datetime, *, every_seconds: float, offset_seconds: float
) -> bool:
    """Say whether a moment at which everything is walked lies between `since` and now.

    These moments are `every_seconds` apart, the same for all time: whoever was down when one came
    walks everything afterwards, and a pass that failed is still due. A watermark lies about a
    minute before its pass began; where the moment falls between the two, everything is walked
    twice, which costs calls, where passing it by would cost a week.
    """
    if not every_seconds:
        return False
    last = math.floor((now.timestamp() - offset_seconds) / every_seconds)
    return since.timestamp() < last * every_seconds + offset_seconds


def _offset_seconds(account: str, every_seconds: float) -> float:
    """Spread accounts evenly over the week, each at its own moment, the same on every machine."""
    digest = blake2b(account.encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") / 2**32 * every_seconds


# --- Requests and pages ---------------------------------------------------------------------------


class _Paginator(msgspec.Struct, gc=False):
    next: msgspec.Raw = msgspec.Raw(b"null")


class _List(msgspec.Struct, gc=False):
    data: list[msgspec.Raw]
    paginator: _Paginator | list[Any]  # an empty one may come as PHP writes it: []


def question(cursor: Cursor, *, size: int) -> dict[str, Any]:
    """Return the body that asks for a page.

    A cursor holds its filters, for it means nothing with others, and `next` as the text that came:
    sent back unchanged, whatever it is.
    """
    assert isinstance(cursor.value, Mapping)
    paginator: dict[str, Any] = {"size": size}
    following = cursor.value.get("next")
    if isinstance(following, str):
        paginator["next"] = msgspec.Raw(following.encode())
    return {"filters": cursor.value["filters"], "paginator": paginator}


def page_of(response: Response, cursor: Cursor, *, business_id: int) -> Page:
    """Read a page of customers.

    Raises: `Unintelligible` where the body is not a page: one that lacks its paginator might be
        taken for the last one.
    """
    answered = syncd.decode(response, _List, where=f"POST {CUSTOMERS}")
    assert isinstance(cursor.value, Mapping)
    opens: tuple[Cursor, ...] = ()
    paginator = answered.paginator
    if isinstance(paginator, _Paginator) and goes_on(paginator.next):
        following = _text(paginator.next)
        opens = (Cursor({"filters": cursor.value["filters"], "next": following}),)
    parent = {"business_id": business_id}
    records = [Record(raw, parent) for raw in answered.data]
    return Page({"customers": records}, opens, end=not opens, date=response.date)


# What says that no page follows: absent or null by the documentation, and whatever is empty.
_NOTHING = frozenset({b"null", b"{}", b"[]", b'""', b"0", b"false"})


def goes_on(following: msgspec.Raw) -> bool:
    """Say whether `next` names a page."""
    return b"".join(bytes(following).split()) not in _NOTHING


def _text(following: msgspec.Raw) -> str:
    try:
        return bytes(following).decode()
    except UnicodeDecodeError as error:
        said = "next holds half of a surrogate pair, which cannot be sent back"
        raise Unintelligible(f"POST {CUSTOMERS}", said, "ask the API's support") from error


class _Token(msgspec.Struct, gc=False):
    expiredAt: int | str | None = None  # noqa: N815 - as it comes


class _Checked(msgspec.Struct, gc=False):
    data: _Token | list[Any] | None = None


def token_ends_at(response: Response) -> datetime | None:
    """Read when a token ends from the answer that checks it; `None` where it does not say.

    Raises: `Unintelligible` where the body is no such answer.
    """
    answered = syncd.decode(response, _Checked, where=f"POST {TOKEN}")
    told = answered.data.expiredAt if isinstance(answered.data, _Token) else None
    try:
        return moment_of(str(told)) if told else None
    except ValueError:
        return None
