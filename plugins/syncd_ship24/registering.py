"""Registrations of trackers: what is sent for queued effects, and what their answer means. Pure.

Facts (docs.ship24.com, "Create trackers in bulk"): the body is a bare array of at most 100; 201
where all went well, 207 where some did, 400 where none is valid; a quota at its end, and whatever
else ails the whole, is an error as of any other endpoint. Each item says ``created``, ``existing``
or ``error`` beside the input that it is about; their order is not documented. The same parameters
again name the existing tracker; any that differs makes a second one, and takes another of the
quota: a payload is always sent alike.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

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
    Throttled,
    Unauthorized,
    Unintelligible,
)
from syncd_ship24.api import BULK, QUOTA_CODES, QUOTA_SECONDS, error_of

BULK_MAX = 100

# Statuses of refusals that are read here: of inputs, and of a quota, whose status differs between
# pages of the documentation.
READ = frozenset({400, 402, 403, 405})

# Where a single item is over the quota it waits for longer each time, at most a day: 20 attempts
# are a fortnight.
QUOTA_SECONDS_MAX = 86400.0

_NUMBER = re.compile(r"[a-zA-Z0-9\-_/.]{5,50}")
_PASSING = frozenset({"request_conflict", "internal_error"})
_DOUBLINGS_MAX = 10


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
    trackingNumber: str | None = None  # noqa: N815 - as it comes


class _Tracker(msgspec.Struct, gc=False):
    trackerId: str  # noqa: N815 - as it comes


class _Item(msgspec.Struct, gc=False):
    """`tracker` is missing or null where the item is an error."""

    itemStatus: str  # noqa: N815 - as it comes
    inputData: _Input  # noqa: N815 - as it comes
    tracker: _Tracker | None = None
    errors: list[_Error] | None = None


class _Bulk(msgspec.Struct, gc=False):
    data: list[_Item]


def outcomes(response: Response, bulk: Sequence[Registration]) -> dict[int, Outcome]:
    """Return what became of each registration of one request.

    One that no item tells of is left out: it is unknown, and asked for again.

    Raises: `Throttled` where the quota is at its end: the whole lane rests, at no attempt of any
        effect; `Unauthorized` where the key is refused; `Unintelligible` where nobody knows what
        the answer means, and where the whole is refused: halves find those that cannot be taken.
    """
    if response.status >= 300:
        return _refused(response, bulk)
    items = syncd.decode(response, _Bulk, where=f"POST {BULK}").data
    by_number = {each.number: each.effect for each in bulk}
    found = dict[int, Outcome]()
    for item in items:
        number = item.inputData.trackingNumber
        effect = by_number.get(same(number)) if number is not None else None
        if effect is not None:
            found[effect.id] = _of_item(item, effect.attempts)
    return found


def _of_item(item: _Item, attempts: int) -> Outcome:
    if item.tracker is not None:  # whatever it says, there is a tracker
        return Delivered({"trackerId": item.tracker.trackerId, "itemStatus": item.itemStatus})
    first = item.errors[0] if item.errors else _Error()
    said = f"{first.code or item.itemStatus}: {first.message}"[:300].removesuffix(": ")
    return _of_code(first.code, said, attempts)


def _of_code(code: str, said: str, attempts: int) -> Outcome:
    if code in QUOTA_CODES:
        return Retry(said, quota_seconds(attempts))
    if code in _PASSING:
        return Retry(said)
    return Dead(said)


def quota_seconds(attempts: int) -> float:
    """Return how long to wait for a quota, by the attempts that were made before."""
    return min(QUOTA_SECONDS * 2.0 ** min(attempts, _DOUBLINGS_MAX), QUOTA_SECONDS_MAX)


def _refused(response: Response, bulk: Sequence[Registration]) -> dict[int, Outcome]:
    code, said = error_of(response)
    if code in QUOTA_CODES:
        do = "buy more, or wait for the plan's next month"
        raise Throttled(response.url, said, do, retry_after_seconds=QUOTA_SECONDS)
    if response.status == 403:
        what = f"the key is refused ({said or 403})"
        raise Unauthorized(response.url, what, "look at api_key, then resume")
    if response.status == 400 and code and len(bulk) == 1:
        return {bulk[0].effect.id: _of_code(code, said, bulk[0].effect.attempts)}
    said = said or f"answered {response.status} without a code"
    raise Unintelligible(response.url, said, "compare with the API's documentation")
