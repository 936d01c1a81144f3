"""Reading one answer: what it is by its head, and what its body comes to. Pure: it never waits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Literal, TypeAlias

import attrs

from syncd.errors import (
    CursorExpired,
    SourceError,
    Throttled,
    Unauthorized,
    Unavailable,
    Unintelligible,
    is_wait,
)
from syncd.http.body import ENCODINGS, Body, BodyBroken, BodyOversize
from syncd.http.headers import accepts, content_length, is_json, media_type
from syncd.http.masking import excerpt, masked
from syncd.http.wire import Fault
from syncd.limits.announced import Announced, announcements, http_date, retry_after_seconds

# data: the body is wanted. moved: a redirect. throttled: wait and ask again. unavailable: it may be
# better later. unauthorized, refused: it will not. unfit: it says it is no data of ours.
# unmodified: the data is what it was when the request's condition was told.
Kind = Literal[
    "data", "moved", "throttled", "unavailable", "unauthorized", "refused", "unfit", "unmodified"
]

Reason = Literal["unavailable", "unauthorized", "unintelligible", "misdirected", "expired"]

# The body of an answer that is not data is worth a line in a message, and a kept connection.
EXCERPT_BYTES = 64 * 2**10
EXCERPT_SECONDS = 2.0

_FIELD_CHARACTERS_MAX = 80

# A body cut short without the transport noticing ends in other than what it began with.
_BRACKETS = {b"{": b"}", b"[": b"]"}
_EDGE = 64  # bytes; more blanks than that are not looked behind

# RFC 9110 15.3.5, 15.3.6, 15.4.5: answers without content.
_BODILESS = frozenset({204, 205, 304})


@attrs.frozen
class Expected:
    """What counts as data for one request, and how much of it."""

    accept: str
    also: frozenset[int]
    wire_max_bytes: int
    body_max_bytes: int
    secrets: tuple[str, ...] = attrs.field(default=(), repr=False)
    unmodified: bool = False  # a condition was sent, so that 304 is an answer
    judged: bool = False  # the connector looks at every body, so that it is wanted


@attrs.frozen
class Unmodified:
    headers: Mapping[str, str]
    date: datetime | None


@attrs.frozen
class Data:
    status: int
    headers: Mapping[str, str]
    content: bytes
    date: datetime | None


@attrs.frozen
class Moved:
    status: int
    location: str


@attrs.frozen
class Throttling:
    status: int
    asked_seconds: float | None


@attrs.frozen
class Failure:
    """No data. `again`: another attempt may bring some. `unsent`: nobody has heard this one."""

    reason: Reason
    what: str
    status: int | None
    again: bool
    unsent: bool = False


Outcome: TypeAlias = Data | Unmodified | Moved | Throttling | Failure


def is_answer(outcome: Outcome) -> bool:
    """Say whether a request was answered for good: with data, or with a refusal that will stay."""
    return isinstance(outcome, Data | Unmodified) or (
        isinstance(outcome, Failure) and outcome.status is not None and not outcome.again
    )


def is_unread(outcome: Outcome) -> bool:
    """Say whether a request may have been carried out, and what came of it is not known.

    What asks to wait was not taken up; what refuses for good was read.
    """
    if not isinstance(outcome, Failure) or outcome.unsent or outcome.reason == "misdirected":
        return False
    return outcome.again or (outcome.status is not None and 200 <= outcome.status < 300)


def kind_of(status: int, headers: Mapping[str, str], also: frozenset[int]) -> Kind:
    """Say what an answer is by its status; what a connector counts as data is data."""
    if status in also or 200 <= status < 300:
        return "data"
    if status in {301, 302, 303, 307, 308} and "location" in headers:
        return "moved"
    if status == 429 or (status == 503 and "retry-after" in headers):
        return "throttled"
    if status >= 500 or status == 408:  # RFC 9110 15.5.9: 408 may be asked again
        return "unavailable"
    return "unauthorized" if status in {401, 403} else "refused"


def outcome_of(error: SourceError, status: int) -> Outcome:
    """Say what it means that a connector's judge found an error in an answer.

    Raises: `TypeError` for an error that no answer can be.
    """
    match error:
        case Throttled(retry_after_seconds=seconds):
            if not is_wait(seconds):
                raise TypeError(f"judge asked for a wait of {seconds!r:.40} s")
            return Throttling(status, seconds)
        case Unavailable(what=what):
            return Failure("unavailable", what, status, again=True)
        case Unauthorized(what=what):
            return Failure("unauthorized", what, status, again=False)
        case CursorExpired(what=what):
            return Failure("expired", what, status, again=False)
        case Unintelligible(what=what):
            return Failure("unintelligible", what, status, again=False)
        case _:
            raise TypeError(f"judge returned {type(error).__name__}, which no answer can be")


def unfit(status: int, headers: Mapping[str, str], expected: Expected) -> str | None:
    """Say why an answer of a good status is no data, by its head; `None` where it may be."""
    if status in expected.also and status in _BODILESS:
        return None  # the connector asked for an answer that has no body
    if status in _BODILESS | {206} and status not in expected.also:
        return f"answered {status}, which is no complete content"
    media, charset = media_type(headers)
    if not accepts(expected.accept, media):
        named = _quoted(media, expected) if media else "no media type"
        return f"answered {status} with {named}, not {expected.accept}"
    # RFC 8259 8.1: JSON between systems is UTF-8; ASCII is a part of it.
    if is_json(media) and charset not in {None, "utf-8", "utf8", "us-ascii"}:
        return f"answered {status} in charset {_quoted(charset or '', expected)}, not UTF-8"
    encoding = headers.get("content-encoding", "").lower()
    if encoding not in ENCODINGS:
        return f"answered {status} in encoding {_quoted(encoding, expected)}, not asked for"
    length = content_length(headers)
    if length is not None and length > expected.wire_max_bytes:
        return f"announced a body of {length} bytes, over the {expected.wire_max_bytes} allowed"
    return None


def _quoted(text: str, expected: Expected) -> str:
    # Masked before it is cut, so that no half of a secret stays at the end.
    return repr(masked(text, expected.secrets)[:_FIELD_CHARACTERS_MAX])


def cut_short(content: bytes) -> str | None:
    """Say whether a JSON body ends too early, as far as its first and last character tell."""
    begins = content[:_EDGE].lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
    ends = content[-_EDGE:].rstrip(b" \t\r\n")[-1:]
    if not begins and len(content) <= _EDGE:
        return "the body is empty"
    if ends and _BRACKETS.get(begins, ends) != ends:
        return f"the body ends too early, after {len(content)} bytes"
    return None


class Reading:
    """Take one answer's head and body; say what came of it. `now` is the moment of sending."""

    def __init__(self, expected: Expected, *, now: datetime) -> None:
        self._expected = expected
        self._now = now
        self._status: int | None = None
        self._headers: Mapping[str, str] = {}
        self._kind: Kind = "unavailable"
        self._unfit = ""
        self._failure: Failure | None = None
        self._body = Body("", wire_max_bytes=0, body_max_bytes=0)

    @property
    def throttling(self) -> Throttling | None:
        """What the head said, as soon as it is here."""
        if self._status is None or self._kind != "throttled":
            return None
        asked = retry_after_seconds(
            self._headers.get("retry-after"),
            date=self.date or self._now,
            milliseconds=self._headers.get("retry-after-ms"),
        )
        return Throttling(self._status, asked)

    @property
    def announced(self) -> tuple[Announced, ...]:
        """What the head said of limits."""
        if not any("limit" in name for name in self._headers):
            return ()  # most say nothing, and reading the date is dear
        return announcements(self._headers, date=self.date or self._now)

    @property
    def date(self) -> datetime | None:
        return http_date(self._headers.get("date"))

    def judgeable(self, outcome: Outcome) -> tuple[int, Mapping[str, str], bytes] | None:
        """Return status, fields and body (the beginning of it, where it is no data) to be judged.

        Not what was cut short or broken, nor what has no body of its own.
        """
        if self._status is None or isinstance(outcome, Moved | Unmodified):
            return None
        if isinstance(outcome, Data):
            return self._status, self._headers, outcome.content
        return None if self._kind == "data" else (self._status, self._headers, self._body.so_far())

    def head(self, status: int, headers: Mapping[str, str]) -> float:
        """Take status and headers; return for how many seconds the body is wanted."""
        self._status, self._headers = status, headers
        self._kind = kind_of(status, headers, self._expected.also)
        if self._kind == "data" and (why := unfit(status, headers, self._expected)):
            self._kind, self._unfit = "unfit", why
        if status == 304 and self._expected.unmodified:
            self._kind = "unmodified"
        if self._kind == "throttled" and not self._expected.judged:
            return 0.0  # whatever is here already; nobody waits for the rest
        encoding = headers.get("content-encoding", "").lower()
        if self._kind != "data":
            readable = EXCERPT_BYTES if encoding in ENCODINGS else 0
            self._body = Body(encoding, wire_max_bytes=readable, body_max_bytes=readable)
            return EXCERPT_SECONDS
        self._body = Body(
            encoding,
            wire_max_bytes=self._expected.wire_max_bytes,
            body_max_bytes=self._expected.body_max_bytes,
        )
        return math.inf

    def chunk(self, data: bytes) -> bool:
        """Take a piece of the body; return whether more is wanted."""
        try:
            self._body.feed(data)
        except BodyOversize as exc:
            self._failure = Failure("unintelligible", str(exc), self._status, again=False)
        except BodyBroken as exc:
            self._failure = Failure("unintelligible", str(exc), self._status, again=True)
        return self._failure is None

    def outcome(self, fault: Fault | None) -> Outcome:
        """Say what came of the exchange, which ended with or without a fault."""
        if fault is not None and fault.misdirected:
            return Failure("misdirected", fault.what, None, again=False)
        if self._status is None:
            what = fault.what if fault else "no answer"
            unsent = fault is not None and fault.unsent
            return Failure("unavailable", what, None, again=True, unsent=unsent)
        if (throttling := self.throttling) is not None:
            return throttling
        if self._kind == "moved":
            return Moved(self._status, self._headers["location"])
        if self._kind == "unmodified":
            return Unmodified(self._headers, self.date)  # RFC 9110 15.4.5: it has no body to lose
        if self._kind == "data":
            return self._failure or self._data(self._status, fault)
        return self._refusal(self._status)

    def _data(self, status: int, fault: Fault | None) -> Data | Failure:
        if fault is not None:
            reason: Reason = "unintelligible" if fault.protocol else "unavailable"
            what = f"{fault.what} ({self._body.wire_bytes} bytes of the body came)"
            return Failure(reason, what, status, again=True)
        try:
            content = self._body.finish()
        except BodyBroken as exc:
            return Failure("unintelligible", str(exc), status, again=True)
        is_whole = status in _BODILESS or not is_json(media_type(self._headers)[0])
        if not is_whole and (why := cut_short(content)):
            return Failure("unintelligible", why, status, again=True)
        return Data(status, self._headers, content, self.date)

    def _refusal(self, status: int) -> Failure:
        said = excerpt(self._body.so_far(), self._expected.secrets)
        quoted = f": {said!r}" if said else ""
        if self._kind == "unfit":
            return Failure("unintelligible", f"{self._unfit}{quoted}", status, again=False)
        what = f"answered {status}{quoted}"
        if self._kind == "unavailable":
            return Failure("unavailable", what, status, again=True)
        if self._kind == "unauthorized":
            what = f"the credential is refused ({status}){quoted}"
            return Failure("unauthorized", what, status, again=False)
        return Failure("unintelligible", what, status, again=False)
