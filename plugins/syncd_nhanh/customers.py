"""What the API sends of a customer, and the row that is made of it. Pure.

A key that is missing, null and "" say the same: nothing is known; so do the dates of all zeros that
MySQL keeps, and `[]` in place of an object. Numbers may come as text. What is anything else than
that is not guessed at: the customer is set aside, with the reason. The fields that stand behind
`updated_at` in the row are not documented; they are kept where they come.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, TypeAlias

import attrs
import msgspec

from syncd import Column

Integer = Annotated[int | None, Column("integer")]
Money = Annotated[Decimal | None, Column("numeric(18,2)")]

Text: TypeAlias = str | int | float | None
Number: TypeAlias = int | float | str | None


class Locations(msgspec.Struct, gc=False, rename="camel"):
    """An address in three levels, as it was until 2025, or in two."""

    city_id: Number = None
    district_id: Number = None
    ward_id: Number = None


class Business(msgspec.Struct, gc=False):
    name: Text = None
    address: Text = None


class Named(msgspec.Struct, gc=False):
    id: Number = None
    name: Text = None


# PHP writes an object without fields as an array.
Empty: TypeAlias = list[Any] | str | None


class CustomerRecord(msgspec.Struct, gc=False, rename="camel"):
    """A customer as it comes; `business_id` is the account's."""

    id: int | str
    type: Number = None
    name: Text = None
    mobile: Text = None
    code: Text = None
    gender: Number = None
    address: Text = None
    email: Text = None
    birthday: str | None = None
    points: Number = None
    sale_name: Text = None
    started_date: str | None = None
    tax_code: Text = None
    locations: Locations | Empty = None
    location: Locations | Empty = None
    business: Business | Empty = None
    level: Named | Empty = None
    group: Named | Empty = None
    total_amount: msgspec.Raw = msgspec.Raw(b"null")  # its digits count: a double rounds them
    updated_at: Number = None
    note: Text = None
    frequency_bought: Number = None
    total_spent: msgspec.Raw = msgspec.Raw(b"null")
    city_name: Text = None
    district_name: Text = None
    ward_name: Text = None
    business_id: int | None = None


@attrs.define
class Customer:
    """A row of `customers`: a customer of a store. Money is in VND."""

    business_id: int | None
    id: int
    type: Integer
    name: str | None
    mobile: str | None
    code: str | None
    gender: Integer  # 1 male, 2 female
    address: str | None
    email: str | None
    birthday: date | None
    points: int | None
    sale_name: str | None
    started_date: date | None
    tax_code: str | None
    city_id: Integer
    district_id: Integer
    ward_id: Integer
    city2_id: Integer
    ward2_id: Integer
    business_name: str | None
    business_address: str | None
    level_id: Integer
    level_name: str | None
    group_id: Integer
    group_name: str | None
    total_amount: Money
    updated_at: datetime | None
    note: str | None
    frequency_bought: int | None
    total_spent: Money
    city_name: str | None
    district_name: str | None
    ward_name: str | None


def customer_of(record: CustomerRecord) -> Customer:
    """Make a customer's row.

    Raises: `ValueError` naming what is neither a value nor one of the ways to say nothing.
    """
    old = _object(record.locations, Locations(), "locations")
    new = _object(record.location, Locations(), "location")
    business = _object(record.business, Business(), "business")
    level = _object(record.level, Named(), "level")
    group = _object(record.group, Named(), "group")
    return Customer(
        business_id=record.business_id,
        id=_id(record.id),
        type=whole(record.type),
        name=text(record.name),
        mobile=text(record.mobile),
        code=text(record.code),
        gender=whole(record.gender),
        address=text(record.address),
        email=text(record.email),
        birthday=day(record.birthday),
        points=whole(record.points),
        sale_name=text(record.sale_name),
        started_date=day(record.started_date),
        tax_code=text(record.tax_code),
        city_id=whole(old.city_id),
        district_id=whole(old.district_id),
        ward_id=whole(old.ward_id),
        city2_id=whole(new.city_id),
        ward2_id=whole(new.ward_id),
        business_name=text(business.name),
        business_address=text(business.address),
        level_id=whole(level.id),
        level_name=text(level.name),
        group_id=whole(group.id),
        group_name=text(group.name),
        total_amount=money(record.total_amount),
        updated_at=second(record.updated_at),
        note=text(record.note),
        frequency_bought=whole(record.frequency_bought),
        total_spent=money(record.total_spent),
        city_name=text(record.city_name),
        district_name=text(record.district_name),
        ward_name=text(record.ward_name),
    )


def _object(value: Any, nothing: Any, name: str) -> Any:
    if isinstance(value, type(nothing)):
        return value
    if value:
        raise ValueError(f"{name} is a {type(value).__name__} with something in it, no object")
    return nothing


def _id(value: int | str) -> int:
    number = whole(value)
    if number is None:
        raise ValueError("the id is empty")
    return number


def text(value: Text) -> str | None:
    """Return a text; "" says nothing. A number (a phone, a tax code) is the text of it."""
    if value is None or value == "":
        return None
    return str(value)


def whole(value: Number) -> int | None:
    """Return a whole number, which may have come as text or with zeros behind its point.

    Raises: `ValueError` where it is none.
    """
    if isinstance(value, str):
        value = value.strip()
        if not value:
            return None
        return _exactly(Decimal(value) if _is_decimal(value) else None, value)
    if value is None or isinstance(value, int):
        return value
    return _exactly(Decimal(value), value)


def _is_decimal(value: str) -> bool:
    try:
        return Decimal(value).is_finite()
    except InvalidOperation:
        return False


def _exactly(number: Decimal | None, value: object) -> int:
    # The exponent is looked at first: 1E+999999999 would be written out.
    if number is None or abs(number.adjusted()) > 30 or number != int(number):
        raise ValueError(f"{value!r} is no whole number")
    return int(number)


def money(value: msgspec.Raw) -> Decimal | None:
    """Return an amount by the digits that came, of a number or of a text.

    Raises: `ValueError` where it is none.
    """
    digits = bytes(value).decode().strip().strip('"').strip()
    if digits in {"", "null"}:
        return None
    if not _is_decimal(digits):
        raise ValueError(f"{digits[:40]!r} is no amount")
    return Decimal(digits)


def day(value: str | None) -> date | None:
    """Return a date; what has a zero for its year, month or day is none.

    Raises: `ValueError` where it is no date.
    """
    digits = (value or "").strip()[:10]  # a time may stand behind it
    if not digits:
        return None
    if "00" in digits.split("-") or digits.startswith("0000"):
        return None
    return date.fromisoformat(digits)


def second(value: Number) -> datetime | None:
    """Return the moment that unix seconds tell; 0 is none.

    Raises: `ValueError` where it is none that a calendar has.
    """
    number = whole(value)
    if not number:
        return None
    try:
        return datetime.fromtimestamp(number, UTC)
    except (OverflowError, OSError) as error:
        raise ValueError(f"{number} is no moment") from error
