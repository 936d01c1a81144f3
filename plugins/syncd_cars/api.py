"""The cars API: its requests and pages. Pure.

Facts: one call a second over the whole account; pages are numbered from 1, at most 1,000 records;
no total unless `simple_paginate=0`; past the end comes 200 with no records; `minutes` reaches back
at most 72 h. Whether `links.next` keeps the other parameters is not documented, so addresses are
built here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import msgspec

import syncd
from syncd import CursorExpired, Page, Record, Response

MINUTES_MAX = 4320  # 72 h: the API refuses more
MARGIN_MINUTES = 15  # so that nothing falls between two windows

_LOTS = b'"lots":'


class _Car(msgspec.Struct, gc=False):
    """As much of a car as is needed to cut its lots out of it."""

    id: int
    lots: msgspec.Raw = msgspec.Raw(b"null")


class _Links(msgspec.Struct, gc=False):
    next: str | None = None


class _Meta(msgspec.Struct, gc=False):
    total: int | None = None


class _Envelope(msgspec.Struct, gc=False):
    data: list[msgspec.Raw]
    links: _Links
    meta: _Meta | None = None


_peek = msgspec.json.Decoder(_Car)
_lots = msgspec.json.Decoder(list[msgspec.Raw] | None)


def since_of(cursor: Any) -> datetime | None:
    """Return where an incremental pass's window starts, by the cursor's value."""
    text = cursor.get("since") if isinstance(cursor, dict) else None
    return datetime.fromisoformat(text) if text else None


def minutes_since(since: datetime, now: datetime) -> int:
    """Return `minutes` for a window that starts at `since`, whenever it is asked for."""
    return math.ceil((now - since) / timedelta(minutes=1)) + MARGIN_MINUTES


def reaches_back(since: datetime, now: datetime) -> bool:
    """Return whether the API still knows what changed since then."""
    return minutes_since(since, now) <= MINUTES_MAX


def cars_params(  # one call's parameters, in one place
    *,
    number: int,
    per_page: int,
    since: datetime | None,
    now: datetime,
    filters: Mapping[str, Any],
    totals: bool,
) -> dict[str, str | int]:
    """Return the parameters of one page of `/cars`.

    Raises: `CursorExpired` where the window's start has moved out of the API's reach.
    """
    params: dict[str, str | int] = {"page": number, "per_page": per_page}
    if since is not None:
        minutes = minutes_since(since, now)
        if minutes > MINUTES_MAX:
            raise CursorExpired(
                "GET /cars",
                f"the window since {since.isoformat()} is {minutes} minutes long, at most "
                f"{MINUTES_MAX} are kept",
                "a full pass follows",
            )
        params["minutes"] = minutes
    if brands := filters.get("manufacturer_ids"):
        params["manufacturer_id"] = ",".join(str(brand) for brand in brands)
    if totals:
        params["simple_paginate"] = 0
    return params


def cars_page(response: Response) -> Page:
    """Read a page of `/cars`: cars, and the lots cut out of them.

    Raises: `Unintelligible` where the body is not a page.
    """
    envelope = syncd.decode(response, _Envelope, where="GET /cars")
    cars, lots = [], []
    for raw in envelope.data:
        try:
            car = _peek.decode(raw)
        except msgspec.DecodeError:
            cars.append(Record(raw))  # set aside when its row is made, with the reason
            continue
        cars.append(Record(_without_lots(raw, car.lots), key=(car.id,)))
        lots += _lots_of(car)
    return _page({"cars": cars, "lots": lots}, envelope, response)


def _without_lots(raw: msgspec.Raw, lots: msgspec.Raw) -> msgspec.Raw:
    """Cut a car's lots out of it: a new bid changes a lot, and not its car.

    Where blanks stand between the name and the lots, they stay, and it changes both.
    """
    whole, text = bytes(raw), bytes(lots)
    begin = whole.find(_LOTS) + len(_LOTS)
    if not whole.startswith(text, begin):
        return raw
    return msgspec.Raw(whole[:begin] + b"null" + whole[begin + len(text) :])


def _lots_of(car: _Car) -> list[Record]:
    parent = {"car_id": car.id}
    try:
        lots = _lots.decode(car.lots)
    except msgspec.DecodeError:
        # In another shape than a list they are handed over whole: no lot without its key becomes a
        # row, so they are set aside with the reason, where dropping them would say nothing.
        return [Record(car.lots, parent)]
    return [Record(lot, parent) for lot in lots or ()]


def manufacturers_page(response: Response) -> Page:
    """Read a page of `/manufacturers/cars`."""
    envelope = syncd.decode(response, _Envelope, where="GET /manufacturers/cars")
    return _page({"manufacturers": [Record(raw) for raw in envelope.data]}, envelope, response)


def _page(records: Mapping[str, list[Record]], envelope: _Envelope, response: Response) -> Page:
    return Page(
        records=records,
        end=envelope.links.next is None,
        date=response.date,
        total=envelope.meta.total if envelope.meta else None,
    )
