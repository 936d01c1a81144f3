"""Registrations of trackers: what is sent for queued effects, and what their answer means. Pure.

Facts (docs.ship24.com, "Create trackers in bulk"): the body is a bare array of at most 100; 201
where all went well, 207 where some did, 400 where none is valid; a quota at its end, and whatever
else ails the whole, is an error as of any other endpoint. Each item says ``created``, ``existing``
or ``error`` beside the input that it is about; their order is not documented. The same parameters
again name the existing tracker; any that differs makes a second one, and takes another of the
quota: a payload is always sent alike. Of an item only its status and the input are sure to come;
what cannot be read of one item costs no other.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import attrs
import msgspec

import syncd
from syncd import (
    Dead,
    Delivered,
    Outcome,
    Queued,
    Response,
    Retry,
    SourceError,
    Throttled,
    Unauthorized,
    Unavailable,
    Unintelligible,
)
from syncd_ship24.api import BULK, QUOTA_CODES, QUOTA_SECONDS, error_of

BULK_MAX = 100

# Statuses of refusals that are read here: of inputs, and of a quota, whose status differs between
# pages of the documentation.
READ = frozenset({400, 402, 403, 405})

_NUMBER = re.compile(r"[a-zA-Z0-9\-_/.]{5,50}")
T = TypeVar("T")

# What the same payload will never pass; all else may, an unknown code too. A tracker's client id
# is another's (`tracker_conflict`) until a person sets one of the two free, or sends another.
FINAL = frozenset(
    {
        "validation_error",
        "missing_mandatory_field",
        "parsing_error",
        "shipping_date_outdated",
        "tracker_conflict",
    }
)
FINAL_ALONE = FINAL | {"processing_error"}  # "every single item failed validation", of one item
TAKEN = frozenset({"created", "existing"})
OUTAGES = (Throttled, Unavailable, Unauthorized)


@attrs.frozen
class Registration:
    """One tracker to be made: the effect that wants it, and the body that is sent for it."""

    effect: Queued
    body: Mapping[str, Any]

    @property
    def number(self) -> str:
        return same(self.body["trackingNumber"])


def same(number: str) -> str:
    """Return a tracking number in the one spelling by which answers are matched."""
    return number.strip().upper()


def read(effects: Iterable[Queued]) -> tuple[list[Registration], dict[int, Outcome]]:
    """Return what can be sent, and the outcome of what cannot.

    Fields of a payload that are null or empty are left out: the API takes no null.
    """
    wanted, refused = [], dict[int, Outcome]()
    for effect in effects:
        payload = effect.payload
        if not isinstance(payload, Mapping):
            refused[effect.id] = Dead("the payload is no object with a trackingNumber")
            continue
        number = payload.get("trackingNumber")
        if not isinstance(number, str) or not _NUMBER.fullmatch(number):
            what = "no text" if not isinstance(number, str) else repr(number[:60])
            refused[effect.id] = Dead(
                f"trackingNumber is {what}, not 5 to 50 of letters, digits and - _ / ."
            )
            continue
        known = {name: value for name, value in payload.items() if value not in (None, "", [], {})}
        wanted.append(Registration(effect, known))
    return wanted, refused


def bulks(wanted: Iterable[Registration]) -> list[list[Registration]]:
    """Divide registrations into requests in which no tracking number stands twice.

    Answers are matched by the number, which is all of its input that an item surely repeats.
    """
    found: list[dict[str, Registration]] = []
    for each in wanted:
        free = (bulk for bulk in found if each.number not in bulk and len(bulk) < BULK_MAX)
        bulk = next(free, None)
        if bulk is None:
            found.append(bulk := {})
        bulk[each.number] = each
    return [list(bulk.values()) for bulk in found]


class _Error(msgspec.Struct, gc=False):
    code: str = ""
    message: str = ""


class _Input(msgspec.Struct, gc=False):
    trackingNumber: str | int | None = None  # noqa: N815 - as it comes


class _Tracker(msgspec.Struct, gc=False):
    trackerId: str  # noqa: N815 - as it comes


_NULL = msgspec.Raw(b"null")


class _Item(msgspec.Struct, gc=False):
    """`tracker` and `errors` may be missing or null, or nothing that can be read."""

    itemStatus: str  # noqa: N815 - as it comes
    inputData: _Input  # noqa: N815 - as it comes
    tracker: msgspec.Raw = _NULL
    errors: msgspec.Raw = _NULL


class _Bulk(msgspec.Struct, gc=False):
    data: list[msgspec.Raw]


def outcomes(response: Response, bulk: Sequence[Registration]) -> dict[int, Outcome]:
    """Return what became of each registration of one request.

    One that no item tells of, or none that can be read, is left out: it is unknown, and asked for
    again.

    Raises: `Throttled` where the quota is at its end, for the whole or for every item that is told
        of: the whole lane rests, at no attempt of any effect; `Unauthorized` where the key is
        refused; `Unavailable` where a success is none of this API: it may have been taken, and
        halves would tell no more; `Unintelligible` where the whole is refused: halves find those
        that cannot be taken.
    """
    if response.status >= 300:
        return _refused(response, bulk)
    by_number = {each.number: each.effect for each in bulk}
    found = dict[int, Outcome]()
    codes = []
    for item in _items(response):
        number = item.inputData.trackingNumber
        effect = by_number.get(same(str(number))) if number is not None else None
        if effect is not None:
            found[effect.id], code = _of_item(item)
            codes.append(code)
    if codes and QUOTA_CODES.issuperset(codes):
        raise _over_quota(response, f"{codes[0]}, for each item")
    return found


def unreadable(error: Unintelligible) -> Unavailable:
    """Return what an answer means that is none of this API: a page of something before it.

    It is an outage, which costs time and no attempt: no half of the bulk would be told more.
    """
    return Unavailable(error.where, error.what, "compare base_url with the API's documentation")


def later(error: SourceError, bulk: Iterable[Registration]) -> dict[int, Outcome]:
    """Return the outcome of registrations whose request failed after another one had passed.

    What has passed is thus recorded; what failed comes again by itself, and fails as a whole. It
    counts as it would have, had its request been the only one.
    """
    seconds = error.retry_after_seconds if isinstance(error, Throttled) else None
    counts = not isinstance(error, OUTAGES)
    return {each.effect.id: Retry(str(error), seconds, counts=counts) for each in bulk}


def _items(response: Response) -> Iterator[_Item]:
    try:
        told = syncd.decode(response, _Bulk, where=f"POST {BULK}").data
    except Unintelligible as error:
        raise unreadable(error) from error
    for raw in told:
        item = _read(raw, _Item)
        if item is not None:
            yield item


def _read(raw: msgspec.Raw, kind: type[T]) -> T | None:
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _of_item(item: _Item) -> tuple[Outcome, str]:
    """Return an item's outcome, and the code of its error."""
    tracker = _read(item.tracker, _Tracker)
    if tracker is not None:  # whatever it says, there is a tracker
        said = {"trackerId": tracker.trackerId, "itemStatus": item.itemStatus}
        return Delivered(said), ""
    if item.itemStatus in TAKEN:
        return Delivered({"itemStatus": item.itemStatus}), ""
    errors = _read(item.errors, list[_Error])
    first = errors[0] if errors else _Error()
    what = f"{first.code or item.itemStatus}: {first.message}"[:300].removesuffix(": ")
    return _of_code(first.code, what, final=FINAL), first.code


def _of_code(code: str, said: str, *, final: Collection[str]) -> Outcome:
    """Say what a code means; a quota needs time alone, and how much of it is known to nobody."""
    if code in QUOTA_CODES:
        return Retry(said, QUOTA_SECONDS, counts=False)
    return Dead(said) if code in final else Retry(said)


def _refused(response: Response, bulk: Sequence[Registration]) -> dict[int, Outcome]:
    code, said = error_of(response)
    if code in QUOTA_CODES:
        raise _over_quota(response, said)
    if response.status == 403:
        what = f"the key is refused ({said or 403})"
        raise Unauthorized(response.url, what, "look at api_key, then resume")
    if response.status == 400 and code and len(bulk) == 1:
        effect = bulk[0].effect
        return {effect.id: _of_code(code, said, final=FINAL_ALONE)}
    said = said or f"answered {response.status} without a code"
    raise Unintelligible(response.url, said, "compare with the API's documentation")


def _over_quota(response: Response, said: str) -> Throttled:
    do = "buy more, or wait for the plan's next month"
    return Throttled(response.url, said, do, retry_after_seconds=QUOTA_SECONDS)
