"""Ship24's tracking API: its requests, pages and errors. Pure.

Facts (docs.ship24.com, "Trackers", "Errors", "Rate limits"): trackers are listed by page number,
500 a page at most; sorted with the oldest first, pages are stable. There is no total and no "what
changed since". The answer to `/trackers/{id}/results` is the tracker, its shipment and its events,
the newest first. Errors stand in ``{"errors": [{"code", "message"}]}``, those of the bulk in
``{"error": {"code", "message"}}``; that too many asked may be said in plain text.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote

import msgspec

import syncd
from syncd import (
    Cursor,
    Page,
    Pass,
    Record,
    Request,
    Response,
    SourceError,
    Throttled,
    Unauthorized,
    Unavailable,
    Unintelligible,
)
from syncd_ship24.times import AHEAD_MAX, believed, moment_of

TRACKERS = "/trackers"
BULK = "/trackers/bulk"
LIMIT_MAX = 500

# Quotas exhausted come with 402, 403 or 405: pages of the documentation differ.
QUOTA_CODES = frozenset({"quota_limit_reached", "bulk_create_limit_exceeded"})
GONE_CODES = frozenset({"tracker_not_found", "parcel_not_found"})

# A plan's quota comes back with its month, or when a person buys more: nobody says when.
QUOTA_SECONDS = 900.0

_CHARACTERS_MAX = 300

ANSWER_SECONDS_MAX = 60.0  # no answer that took longer is read


# --- Errors ---------------------------------------------------------------------------------------


class _Error(msgspec.Struct, gc=False):
    code: str = ""
    message: str = ""


class _Refusal(msgspec.Struct, gc=False):
    errors: list[_Error] | None = None
    error: _Error | None = None


_refusal = msgspec.json.Decoder(_Refusal)


def error_of(response: Response) -> tuple[str, str]:
    """Return the code of an answer's first error and what it says; empty where it names none."""
    try:
        said = _refusal.decode(response.content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return "", ""
    found = [*(said.errors or ()), *([said.error] if said.error else ())]
    if not found:
        return "", ""
    first = found[0]
    return first.code, f"{first.code}: {first.message}"[:_CHARACTERS_MAX].removesuffix(": ")


def judge(response: Response) -> SourceError | None:
    """Say what an error means whose status says something else; `None` leaves it to that.

    A quota that keeps a bulk from being registered is told by who reads it (`registering`): an
    effect keeps what it is told, and what a client waits for in vain names no reason.
    """
    if 200 <= response.status < 300 or response.status == 429:
        return None
    code, said = error_of(response)
    where = response.url
    if code.startswith("auth_"):  # also with 400
        return Unauthorized(where, f"the key is refused ({said})", "look at api_key, then resume")
    if code in QUOTA_CODES and where.endswith(BULK):
        return None
    if code in QUOTA_CODES:
        do = "buy more, or wait for the plan's next month"
        return Throttled(where, said, do, retry_after_seconds=QUOTA_SECONDS)
    if code == "no_active_subscription":
        return Unauthorized(where, said, "renew the subscription, then resume")
    if code == "request_conflict":
        return Unavailable(where, said)
    return None


# --- Where a pass begins --------------------------------------------------------------------------


def first_pass(request: Request, now: datetime, *, follow_seconds: float) -> Pass:
    """Return a pass over all trackers, or over those created within the time they are followed.

    Nothing in the API says what changed, so an incremental pass asks young trackers anew, and lets
    go of those that have surely arrived or been lost.
    """
    if request.mode == "full" or request.since is None:
        return Pass("full", (Cursor({"page": 1}),))
    since = now - timedelta(seconds=follow_seconds)
    if request.mode == "backfill":
        since = request.since
    return Pass(request.mode, (Cursor({"page": 1, "since": since.isoformat()}),))


def list_params(cursor: Any, *, limit: int) -> dict[str, str | int]:
    """Return the parameters of one page of the list.

    With the newest first, a pass over the young ones ends early; a tracker that is made meanwhile
    moves others to the next page, which mentions them twice, and hides none.
    """
    newest_first = "since" in cursor
    return {"page": cursor["page"], "limit": limit, "sort": -1 if newest_first else 1}


def results_path(tracker_id: str) -> str:
    return f"{TRACKERS}/{quote(tracker_id, safe='')}/results"


# --- Pages ----------------------------------------------------------------------------------------


class _Listed(msgspec.Struct, gc=False):
    tracker_id: str = msgspec.field(name="trackerId")
    created_at: str | None = msgspec.field(name="createdAt", default=None)


class _List(msgspec.Struct, gc=False):
    trackers: list[_Listed]


class _ListAnswer(msgspec.Struct, gc=False):
    data: _List


class _TrackerId(msgspec.Struct, gc=False):
    tracker_id: str | None = msgspec.field(name="trackerId", default=None)


class _Metadata(msgspec.Struct, gc=False):
    generated_at: str | None = msgspec.field(name="generatedAt", default=None)
    message_id: str | None = msgspec.field(name="messageId", default=None)


class Tracking(msgspec.Struct, gc=False):
    """As much of a tracking as is needed to cut its events out of it."""

    tracker: _TrackerId | None = None
    events: list[msgspec.Raw] | None = None
    metadata: _Metadata | None = None


class _Trackings(msgspec.Struct, gc=False):
    trackings: list[msgspec.Raw]


class _ResultsAnswer(msgspec.Struct, gc=False):
    data: _Trackings


_peek = msgspec.json.Decoder(Tracking)


def list_page(response: Response, cursor: Any) -> Page:
    """Read a page of the list: it names trackers to ask for, each an item that may fail alone.

    An empty page is the end; a short one is not, as nobody says that pages are full.

    Raises: `Unintelligible` where the body is no list.
    """
    trackers = syncd.decode(response, _ListAnswer, where=f"GET {TRACKERS}").data.trackers
    since = moment_of(cursor.get("since"))
    young = [each for each in trackers if since is None or _is_young(each, since)]
    opens = [Cursor({"tracker": each.tracker_id}, kind="item") for each in young]
    goes_on = 0 < len(young) == len(trackers)
    if goes_on:
        opens.append(Cursor({**cursor, "page": cursor["page"] + 1}))
    return Page({}, tuple(opens), end=not goes_on, date=response.date)


def _is_young(listed: _Listed, since: datetime) -> bool:
    created_at = moment_of(listed.created_at)
    return created_at is None or created_at >= since


def results_page(response: Response) -> Page:
    """Read a tracker's results.

    Raises: `Unintelligible` where the body is none; a 404 that says so is a tracker that is gone.
    """
    if response.status == 404:
        code, said = error_of(response)
        if code not in GONE_CODES:
            what = f"answered 404 without saying that the tracker is gone ({said or 'no code'})"
            raise Unintelligible(response.url, what, "compare base_url with the documentation")
        return Page({}, end=True, date=response.date)
    found = syncd.decode(response, _ResultsAnswer, where=f"GET {TRACKERS}/…/results")
    records: dict[str, list[Record]] = {"trackers": [], "tracking_events": []}
    told_at = known_at(response).isoformat()
    for raw in found.data.trackings:
        _, of_tracking = records_of(raw, told_at=told_at)
        for stream, cut in of_tracking.items():
            records[stream] += cut
    return Page(records, end=True, date=response.date)


def known_at(response: Response) -> datetime:
    """Return the moment of which an answer tells, by the server's clock, and no later.

    It is compared with when messages were generated, and what happened while an answer was made is
    told by a message as well: the moment that the request left is the right one. Our clock says it,
    as long as the server's does not contradict: its Date (whole seconds, RFC 9110 6.6.1) is when it
    answered, after that moment and not long after. Without a Date, or with one that is too far
    ahead, ours is believed.
    """
    sent_at, date = response.sent_at, response.date
    if date is None or date > sent_at + AHEAD_MAX:
        return sent_at
    if sent_at >= date + timedelta(seconds=1):  # ours is ahead
        return date
    return max(sent_at, date - timedelta(seconds=ANSWER_SECONDS_MAX))


def records_of(
    raw: msgspec.Raw, *, told_at: str | None = None, received_at: datetime | None = None
) -> tuple[_Metadata, Mapping[str, list[Record]]]:
    """Cut a tracking into the records of both streams.

    `told_at` is when it was told, where it is an answer's and thus whole; a message that was
    `received_at` says it itself, and is believed within reason. What cannot be read is handed over
    whole: it is set aside with the reason.
    """
    try:
        tracking = _peek.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _Metadata(), {"trackers": [Record(raw)], "tracking_events": []}
    metadata = tracking.metadata or _Metadata()
    whole = told_at is not None
    if received_at is not None:
        told_at = believed(metadata.generated_at, now=received_at)
    tracker_id = tracking.tracker.tracker_id if tracking.tracker else None
    parent = {"tracker_id": tracker_id, "told_at": told_at}
    events = [Record(event, parent) for event in tracking.events or ()]
    trackers = [Record(raw, {"told_at": told_at, "whole": whole})]
    return metadata, {"trackers": trackers, "tracking_events": events}
