"""What the cars API sends, and the rows that are made of it. Pure.

Any reference object may be null or absent, `engine` may be junk text, `lot` a number or a string,
prices a number or ``{"value": ..}``: what is merely untidy becomes null, what has no key is refused
by the table's key and set aside with its reason. Records are Structs: nested as they are, they
decode five times as fast as attrs classes. Rows are attrs classes.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any

import attrs
import msgspec

from syncd import Column

Price = Annotated[Decimal | None, Column("numeric(14,2)")]


class Named(msgspec.Struct, gc=False):
    """A reference: ``{"id": 16, "name": "BMW"}``."""

    id: int | None = None
    name: str | None = None


class Wrapped(msgspec.Struct, gc=False):
    """A value with its own moment: the other shape of prices and dates."""

    value: int | float | str | None = None


Reference = Named | str | None
Amount = Wrapped | int | float | str | None


class CarRecord(msgspec.Struct, gc=False):
    """A car as `/cars` sends it; its lots are records of their own."""

    id: int
    year: int | str | None = None
    title: str | None = None
    vin: str | None = None
    manufacturer: Reference = None
    model: Reference = None
    generation: Reference = None
    body_type: Reference = None
    color: Reference = None
    engine: Reference = None
    transmission: Reference = None
    drive_wheel: Reference = None
    vehicle_type: Reference = None
    fuel: Reference = None
    cylinders: int | str | None = None


@attrs.define
class Car:
    """A row of `cars`: one vehicle, whoever sells it."""

    id: int
    vin: str | None
    title: str | None
    year: int | None
    manufacturer_id: int | None
    manufacturer: str | None
    model_id: int | None
    model: str | None
    generation_id: int | None
    generation: str | None
    body_type: str | None
    vehicle_type: str | None
    color: str | None
    engine: str | None
    transmission: str | None
    drive_wheel: str | None
    fuel: str | None
    cylinders: int | None


class Odometer(msgspec.Struct, gc=False):
    km: int | float | None = None
    mi: int | float | None = None
    status: Reference = None


class Damage(msgspec.Struct, gc=False):
    main: Reference = None
    second: Reference = None


class Images(msgspec.Struct, gc=False):
    downloaded: list[str] | None = None
    normal: list[str] | None = None
    big: list[str] | None = None


class Country(msgspec.Struct, gc=False):
    iso: str | None = None
    name: str | None = None


class State(msgspec.Struct, gc=False):
    code: str | None = None
    name: str | None = None


class Location(msgspec.Struct, gc=False):
    country: Country | None = None
    state: State | None = None
    city: Reference = None


class LotRecord(msgspec.Struct, gc=False):
    """A lot as it stands inside its car; `car_id` is given by the car around it."""

    id: int | None = None
    lot: int | str | None = None
    domain: Named | None = None
    external_id: int | str | None = None
    odometer: Odometer | None = None
    estimate_repair_price: Amount = None
    actual_cash_value: Amount = None
    sale_date: Wrapped | str | None = None
    bid: Amount = None
    buy_now: Amount = None
    final_bid: Amount = None
    status: Reference = None
    seller: Reference = None
    seller_type: Reference = None
    title: Reference = None
    damage: Damage | None = None
    condition: Reference = None
    images: Images | None = None
    location: Location | None = None
    archived: bool | None = None
    archived_at: str | None = None
    created_at: str | None = None
    updated_at: str | None = None
    auction_type: Reference = None
    car_id: int | None = None


@attrs.define
class Lot:
    """A row of `lots`: one offer of one site. Prices are in the site's currency, not converted."""

    domain_id: int | None
    lot: str | None
    domain: str | None
    id: int | None
    car_id: int | None
    external_id: str | None
    status: str | None
    sale_date: datetime | None
    odometer_km: int | None
    bid: Price
    buy_now: Price
    final_bid: Price
    estimate_repair_price: Price
    actual_cash_value: Price
    condition: str | None
    damage_main: str | None
    damage_second: str | None
    seller: str | None
    seller_type: str | None
    title_document: str | None
    auction_type: str | None
    country: str | None
    state: str | None
    city: str | None
    image_url: str | None
    archived: bool | None  # null says nothing: only true means gone
    archived_at: datetime | None
    created_at: datetime | None
    updated_at: datetime | None


@attrs.define
class Manufacturer:
    """A row of `manufacturers`."""

    id: int
    name: str | None = None
    cars_qty: int | None = None
    models_qty: int | None = None
    image: str | None = None
    cars: bool | None = None
    motorcycles: bool | None = None


def car_of(record: CarRecord) -> Car:
    """Make a car's row."""
    return Car(
        id=record.id,
        vin=record.vin or None,
        title=record.title,
        year=whole(record.year),
        manufacturer_id=id_of(record.manufacturer),
        manufacturer=name_of(record.manufacturer),
        model_id=id_of(record.model),
        model=name_of(record.model),
        generation_id=id_of(record.generation),
        generation=name_of(record.generation),
        body_type=name_of(record.body_type),
        vehicle_type=name_of(record.vehicle_type),
        color=name_of(record.color),
        engine=name_of(record.engine),
        transmission=name_of(record.transmission),
        drive_wheel=name_of(record.drive_wheel),
        fuel=name_of(record.fuel),
        cylinders=whole(record.cylinders),
    )


def lot_of(record: LotRecord) -> Lot:
    """Make a lot's row."""
    damage, location = record.damage, record.location
    country = location.country if location else None
    state = location.state if location else None
    return Lot(
        domain_id=id_of(record.domain),
        lot=number_of(record.lot),
        domain=name_of(record.domain),
        id=record.id,
        car_id=record.car_id,
        external_id=number_of(record.external_id),
        status=name_of(record.status),
        sale_date=moment(record.sale_date),
        odometer_km=whole(record.odometer.km) if record.odometer else None,
        bid=amount(record.bid),
        buy_now=amount(record.buy_now),
        final_bid=amount(record.final_bid),
        estimate_repair_price=amount(record.estimate_repair_price),
        actual_cash_value=amount(record.actual_cash_value),
        condition=name_of(record.condition),
        damage_main=name_of(damage.main) if damage else None,
        damage_second=name_of(damage.second) if damage else None,
        seller=name_of(record.seller),
        seller_type=name_of(record.seller_type),
        title_document=name_of(record.title),
        auction_type=name_of(record.auction_type),
        country=country.iso if country else None,
        state=state.code if state else None,
        city=name_of(location.city) if location else None,
        image_url=first_image(record.images),
        archived=record.archived,
        archived_at=moment(record.archived_at),
        created_at=moment(record.created_at),
        updated_at=moment(record.updated_at),
    )


def id_of(reference: Reference) -> int | None:
    return reference.id if isinstance(reference, Named) else None


def name_of(reference: Reference) -> str | None:
    """Return a reference's name; text in its place is taken for the name."""
    if isinstance(reference, Named):
        return reference.name
    return reference or None


def number_of(value: int | str | None) -> str | None:
    """Return a number that names something as text, whichever way it came; blank names nothing."""
    return None if value is None else str(value).strip() or None


def first_image(images: Images | None) -> str | None:
    """Return a picture's address, best kept first: the API's own network, then the sites'."""
    if images is None:
        return None
    addresses = images.downloaded or images.big or images.normal
    return addresses[0] if addresses else None


def whole(value: float | str | None) -> int | None:
    """Return a whole number; text that is none becomes null."""
    if value is None:
        return None
    try:
        return int(value)
    except (ValueError, OverflowError):
        return None


def amount(value: Amount) -> Decimal | None:
    """Return a price, of either shape; text that is no number becomes null."""
    plain: Any = value.value if isinstance(value, Wrapped) else value
    if plain is None:
        return None
    try:
        price = Decimal(plain if isinstance(plain, int) else str(plain))
    except InvalidOperation:
        return None
    return price if price.is_finite() else None  # the text "NaN" is a Decimal, too


def moment(value: Wrapped | str | None) -> datetime | None:
    """Return a moment; one without a zone is UTC, text that is none becomes null."""
    text = value.value if isinstance(value, Wrapped) else value
    if not isinstance(text, str):
        return None
    try:
        told = datetime.fromisoformat(text)
        return told.astimezone(UTC) if told.tzinfo else told.replace(tzinfo=UTC)
    except (ValueError, OverflowError):  # the year 1 or 9999 may be none in UTC
        return None
