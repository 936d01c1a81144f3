"""Laws of how a customer's row is made of what the API sends: pure, over recorded shapes."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import attrs
import msgspec
import pytest

from syncd_nhanh.customers import Customer, CustomerRecord, customer_of

# As the API's documentation shows one, and as its users have seen more.
WHOLE = """
{"id":142401158,"type":1,"name":"Nguyễn Thị An","mobile":"0901234567","code":"KH00123","gender":2,
 "address":"12 Lê Lợi","email":"an@example.vn","birthday":"1991-04-30","points":120,
 "saleName":"Trần Bình","startedDate":"2023-02-11","taxCode":"",
 "locations":{"cityId":254,"districtId":318,"wardId":1116},"location":{"cityId":254,"wardId":1117},
 "business":{"name":"","address":"5 Trần Phú"},"level":{"id":3,"name":"Vàng"},
 "group":{"id":12,"name":"VIP"},"totalAmount":15250000.0,"updatedAt":1763689001,
 "note":"calls in the evening","frequencyBought":4,"totalSpent":"15250000","cityName":"Hà Nội",
 "districtName":"Hoàn Kiếm","wardName":"Hàng Bạc","somethingNew":{"a":1}}
"""


def row_of(raw: str | dict[str, Any]) -> Customer:
    text = raw if isinstance(raw, str) else msgspec.json.encode({"id": 7} | raw)
    record = msgspec.json.decode(text, type=CustomerRecord)
    record.business_id = 110668
    return customer_of(record)


def test_every_documented_field_has_its_column() -> None:
    assert row_of(WHOLE) == Customer(
        business_id=110668,
        id=142401158,
        type=1,
        name="Nguyễn Thị An",
        mobile="0901234567",
        code="KH00123",
        gender=2,
        address="12 Lê Lợi",
        email="an@example.vn",
        birthday=date(1991, 4, 30),
        points=120,
        sale_name="Trần Bình",
        started_date=date(2023, 2, 11),
        tax_code=None,
        city_id=254,
        district_id=318,
        ward_id=1116,
        city2_id=254,
        ward2_id=1117,
        business_name=None,
        business_address="5 Trần Phú",
        level_id=3,
        level_name="Vàng",
        group_id=12,
        group_name="VIP",
        total_amount=Decimal("15250000.0"),
        updated_at=datetime(2025, 11, 21, 1, 36, 41, tzinfo=UTC),
        note="calls in the evening",
        frequency_bought=4,
        total_spent=Decimal(15250000),
        city_name="Hà Nội",
        district_name="Hoàn Kiếm",
        ward_name="Hàng Bạc",
    )


FIELDS = [field for field in msgspec.json.decode(WHOLE) if field not in {"id", "somethingNew"}]
NESTED = ("locations", "location", "business", "level", "group")


def test_what_is_missing_null_or_empty_says_the_same() -> None:
    nothing = row_of({})

    assert {k: v for k, v in attrs.asdict(nothing).items() if v is not None} == {
        "business_id": 110668,
        "id": 7,
    }
    assert row_of(dict.fromkeys(FIELDS)) == nothing
    assert row_of(dict.fromkeys(FIELDS, "")) == nothing
    assert row_of({name: list[Any]() for name in NESTED}) == nothing
    assert row_of({name: dict[str, Any]() for name in NESTED}) == nothing


@pytest.mark.parametrize(
    "text", ["", " ", "0000-00-00", "0000-00-00 00:00:00", "1991-00-00", "1991-04-00", "0000-04-30"]
)
def test_a_date_with_zeros_is_none(text: str) -> None:
    row = row_of({"birthday": text, "startedDate": text})

    assert (row.birthday, row.started_date) == (None, None)


def test_numbers_may_come_as_text_and_texts_as_numbers() -> None:
    numbers = {"id": "142401158", "type": "1", "points": "120.0", "updatedAt": "1763689001"}
    nested = {"level": {"id": "3", "name": 5}, "locations": {"cityId": "254"}}

    row = row_of({**numbers, **nested, "mobile": 901234567, "gender": 2.0})

    assert (row.id, row.type, row.points, row.gender) == (142401158, 1, 120, 2)
    assert row.updated_at == datetime(2025, 11, 21, 1, 36, 41, tzinfo=UTC)
    assert (row.level_id, row.level_name, row.city_id, row.mobile) == (3, "5", 254, "901234567")


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        ("1234567890123456.78", "1234567890123456.78"),  # more digits than a double has
        ('"1234567890123456.78"', "1234567890123456.78"),
        ("0", "0"),
        ("-0.01", "-0.01"),
        ("1.525e7", "15250000"),
    ],
)
def test_amounts_keep_every_digit(told: str, kept: str) -> None:
    assert row_of(f'{{"id":7,"totalAmount":{told}}}').total_amount == Decimal(kept)


@pytest.mark.parametrize(
    "strange",
    [
        {"id": ""},
        {"points": "many"},
        {"points": 1.5},
        {"points": "1e999999999"},
        {"totalAmount": "much"},
        {"totalAmount": "NaN"},
        {"totalAmount": {"value": 1}},
        {"birthday": "30/04/1991"},
        {"birthday": "1991-02-30"},
        {"updatedAt": 10**17},
        {"level": ["VIP"]},
        {"group": "VIP"},
    ],
)
def test_what_is_something_else_is_set_aside_and_not_guessed_at(strange: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        row_of(strange)


@pytest.mark.parametrize("strange", [{"points": True}, {"name": {"first": "An"}}, {"id": None}])
def test_what_is_of_another_kind_is_not_even_decoded(strange: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        row_of(strange)
