"""Rows of cars and lots made of plain dicts, as one writes it for this API by hand. No syncd here.

The yardstick fills its tables with these, and what the pages hold is counted by them: syncd's own
rows are made by its connector, so that each checks the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

Json = dict[str, Any]


def car_row(car: Json) -> tuple[Any, ...]:
    """Make a row of `cars`."""
    return (
        car["id"],
        car.get("vin") or None,
        car.get("title"),
        _whole(car.get("year")),
        _id(car.get("manufacturer")),
        _name(car.get("manufacturer")),
        _id(car.get("model")),
        _name(car.get("model")),
        _id(car.get("generation")),
        _name(car.get("generation")),
        _name(car.get("body_type")),
        _name(car.get("vehicle_type")),
        _name(car.get("color")),
        _name(car.get("engine")),
        _name(car.get("transmission")),
        _name(car.get("drive_wheel")),
        _name(car.get("fuel")),
        _whole(car.get("cylinders")),
    )


def lot_rows(car: Json) -> Iterator[tuple[Any, ...]]:
    """Make the rows of `lots`; a lot without its key is left out."""
    for lot in car.get("lots") or ():
        number, domain = _number(lot.get("lot")), _id(lot.get("domain"))
        if number is not None and domain is not None:
            yield _lot_row(lot, number, domain, car["id"])


def _lot_row(lot: Json, number: str, domain: int, car: int) -> tuple[Any, ...]:
    damage = lot.get("damage") or {}
    location = lot.get("location") or {}
    odometer = lot.get("odometer") or {}
    return (
        domain,
        number,
        _name(lot.get("domain")),
        lot.get("id"),
        car,
        _number(lot.get("external_id")),
        _name(lot.get("status")),
        _moment(lot.get("sale_date")),
        _whole(odometer.get("km")),
        _price(lot.get("bid")),
        _price(lot.get("buy_now")),
        _price(lot.get("final_bid")),
        _price(lot.get("estimate_repair_price")),
        _price(lot.get("actual_cash_value")),
        _name(lot.get("condition")),
        _name(damage.get("main")),
        _name(damage.get("second")),
        _name(lot.get("seller")),
        _name(lot.get("seller_type")),
        _name(lot.get("title")),
        _name(lot.get("auction_type")),
        (location.get("country") or {}).get("iso"),
        (location.get("state") or {}).get("code"),
        _name(location.get("city")),
        _image(lot.get("images") or {}),
        lot.get("archived"),
        _moment(lot.get("archived_at")),
        _moment(lot.get("created_at")),
        _moment(lot.get("updated_at")),
    )


def counted(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """Put a row into the units that totals are counted in."""
    return tuple(
        int(value.timestamp())
        if isinstance(value, datetime)
        else int(value * 100)
        if isinstance(value, Decimal)
        else value
        for value in row
    )


def _id(reference: Any) -> int | None:
    return reference.get("id") if isinstance(reference, dict) else None


def _name(reference: Any) -> str | None:
    return reference.get("name") if isinstance(reference, dict) else reference or None


def _number(value: Any) -> str | None:
    return None if value is None else str(value).strip() or None


def _whole(value: Any) -> int | None:
    try:
        return None if value is None else int(value)
    except ValueError:
        return None


def _plain(value: Any) -> Any:
    return value.get("value") if isinstance(value, dict) else value


def _price(value: Any) -> Decimal | None:
    plain = _plain(value)
    try:
        return None if plain is None else Decimal(str(plain))
    except InvalidOperation:
        return None


def _moment(value: Any) -> datetime | None:
    text = _plain(value)
    if text is None:
        return None
    told = datetime.fromisoformat(text)
    return told if told.tzinfo else told.replace(tzinfo=UTC)


def _image(images: Json) -> str | None:
    found = images.get("downloaded") or images.get("big") or images.get("normal")
    return found[0] if found else None
