"""Records may be attrs classes or Structs: tables, keys and rows are the same."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

import attrs
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd import bulk
from syncd.bulk.columns import columns_of, values_of
from syncd.model import Record, Stream


@attrs.frozen
class Site:
    id: int
    name: str | None = None


@attrs.define
class Offer:
    number: int
    price: Decimal
    at: datetime | None = None
    site: Site | None = None
    tags: list[str] = attrs.field(factory=list)
    note: str = "none"


class SiteStruct(msgspec.Struct):
    id: int
    name: str | None = None


class OfferStruct(msgspec.Struct, gc=False):
    number: int
    price: Decimal
    at: datetime | None = None
    site: SiteStruct | None = None
    tags: list[str] = msgspec.field(default_factory=list)
    note: str = "none"


KEY = ("number", "site_id")

offers = st.fixed_dictionaries(
    {"number": st.integers(-(2**40), 2**40), "price": st.decimals(0, 9999, places=2).map(str)},
    optional={
        "at": st.none() | st.datetimes().map(lambda at: f"{at.isoformat()}Z"),
        "site": st.none() | st.fixed_dictionaries({"id": st.integers(0, 9)}),
        "tags": st.lists(st.text(max_size=5), max_size=3),
        "note": st.text(max_size=5) | st.integers(),
        "unknown": st.integers(),
    },
)


def decoded(body: bytes, cls: type[Any]) -> Any:
    """Return the values of the row that a body makes, or what is wrong with it."""
    try:
        return values_of(columns_of(Offer))(msgspec.json.decode(body, type=cls))
    except msgspec.ValidationError as wrong:
        return str(wrong)


@given(offers.map(msgspec.json.encode))
def test_a_stand_in_takes_and_refuses_what_its_class_does(body: bytes) -> None:
    stand_in = bulk.stand_in(Offer)

    assert issubclass(stand_in, msgspec.Struct)
    assert decoded(body, stand_in) == decoded(body, Offer) == decoded(body, OfferStruct)


def test_a_struct_makes_the_table_and_the_fingerprint_that_its_twin_makes() -> None:
    for_attrs, for_struct = (Stream("offers", cls, key=KEY) for cls in (Offer, OfferStruct))

    tables = [bulk.table_of("shop", stream) for stream in (for_attrs, for_struct)]

    assert tables[0].columns == tables[1].columns
    said = [bulk.row_fingerprint(stream, (), {}) for stream in (for_attrs, for_struct)]
    assert said[0] == said[1]


@attrs.define
class Checked:
    id: int = attrs.field(validator=attrs.validators.ge(1))


@attrs.define
class Converted:
    id: int = attrs.field(converter=int)


@attrs.define
class Hooked:
    id: int

    def __attrs_post_init__(self) -> None:
        self.id += 1


@attrs.define
class Reckoned:
    id: int
    double: int = attrs.field(default=attrs.Factory(lambda self: 2 * self.id, takes_self=True))


@attrs.define
class Hidden:
    id: int
    seen: int = attrs.field(default=0, init=False)


@pytest.mark.parametrize("cls", [Checked, Converted, Hooked, Reckoned, Hidden, OfferStruct])
def test_a_class_that_looks_at_what_it_is_given_has_no_stand_in(cls: type[Any]) -> None:
    assert bulk.stand_in(cls) is cls


class Renamed(msgspec.Struct, rename="camel"):
    order_id: int
    site: SiteStruct | None = None


def test_keys_are_read_under_the_names_that_json_has() -> None:
    stream = Stream("orders", Renamed, key=("order_id", "site_id"), shortcut="raw")
    keys = bulk.key_reader(stream, bulk.table_of("shop", stream))
    assert keys is not None

    record = Record(msgspec.Raw(b'{"orderId": 7, "site": {"id": 3}}'))
    told = Record(msgspec.Raw(b'{"orderId": 7}'), key=(7, 4))

    assert keys.read([record]) == [(7, 3)]
    assert keys.read([told]) == [(7, 4)]
    assert keys.read([record, told]) == [(7, 3), (7, 4)]


def test_a_field_is_set_around_whatever_forbids_it() -> None:
    class Frozen(msgspec.Struct, frozen=True):
        id: int

    for record in (Frozen(1), Site(1)):
        bulk.set_field(record, "id", 2)
        assert record.id == 2
