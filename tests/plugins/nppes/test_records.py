"""Laws of the registry's rows: what they keep, and what is no change."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from syncd_nppes.records import Provider, ProviderRecord, moment, npi_of, provider_of

RECORDED = Path(__file__).parent / "recorded"


class Answer(msgspec.Struct):
    results: list[ProviderRecord]


def recorded(name: str) -> ProviderRecord:
    (record,) = msgspec.json.decode((RECORDED / f"{name}.json").read_bytes(), type=Answer).results
    return record


def made(**fields: Any) -> Provider:
    record = recorded("person")
    for name, value in fields.items():
        setattr(record, name, value)
    return provider_of(record)


def test_a_person_is_kept_whole_and_the_primary_values_are_columns() -> None:
    row = provider_of(recorded("person"))

    assert (row.npi, row.enumeration_type, row.status) == ("1063837144", "NPI-1", "A")
    assert (row.name, row.last_name, row.middle_name) == ("Dr. ANNA SMITH", "SMITH", None)
    assert (row.sex, row.credential, row.sole_proprietor) == ("F", "MD", "NO")
    assert (row.taxonomy_code, row.taxonomy, row.license) == (
        "207R00000X",
        "Internal Medicine",
        "M1234",
    )
    assert (row.location_city, row.location_state) == ("AUSTIN", "TX")
    assert (row.location_address_2, row.location_postal_code) == ("STE 4", "787014321")
    assert (row.location_fax, row.mailing_fax) == ("512-555-0102", None)
    assert (row.mailing_address_1, row.mailing_postal_code) == ("PO BOX 12", "787010012")
    assert row.enumeration_date == date(2014, 2, 26)
    assert row.last_updated_at == datetime(2021, 4, 25, 19, 25, 53, tzinfo=UTC)
    assert [len(each) for each in (row.addresses, row.taxonomies, row.identifiers)] == [2, 2, 1]
    assert row.endpoints[0]["endpoint"] == "anna@direct.example"
    assert row.other_names == [
        {"type": "Former Name", "code": "1", "first_name": "ANNA", "last_name": "JONES"}
    ]


def test_an_organisation_without_addresses_has_none() -> None:
    row = provider_of(recorded("organisation"))

    assert (row.name, row.organization_name) == ("HILL COUNTRY CLINIC LLC",) * 2
    assert (row.official_name, row.official_title) == ("Mr. JOHN DOE", "Owner")
    assert (row.addresses, row.location_city, row.mailing_state) == ([], None, None)
    assert (row.last_name, row.sex, row.license) == (None, None, None)


def test_the_shape_of_years_ago_and_another_order_are_the_same_row() -> None:
    assert provider_of(recorded("years_ago")) == provider_of(recorded("person"))


@pytest.mark.parametrize(
    ("epoch", "wanted"),
    [
        ("1619378753000", datetime(2021, 4, 25, 19, 25, 53, tzinfo=UTC)),
        (1619378753, datetime(2021, 4, 25, 19, 25, 53, tzinfo=UTC)),
        ("1619378753", datetime(2021, 4, 25, 19, 25, 53, tzinfo=UTC)),
        (10**11, datetime(1973, 3, 3, 9, 46, 40, tzinfo=UTC)),
        (10**11 - 1, datetime(5138, 11, 16, 9, 46, 39, tzinfo=UTC)),
        ("--", None),
        (None, None),
        (True, None),
        ("1" * 40, None),
    ],
)
def test_an_epoch_of_either_unit_is_a_moment(epoch: object, wanted: datetime | None) -> None:
    assert moment(epoch) == wanted


def test_without_an_epoch_the_day_of_the_update_counts() -> None:
    row = made(last_updated_epoch=None)

    assert row.last_updated_at == datetime(2021, 4, 25, tzinfo=UTC)


@pytest.mark.parametrize("number", ["106383714", "10638371444", "106383714x", "", "--", -1])
def test_what_is_no_npi_is_set_aside(number: object) -> None:
    with pytest.raises(ValueError, match="is no NPI"):
        npi_of(number)


@pytest.mark.parametrize("odd", [None, [], {}, "--", 7, [None, "x", 3]])
def test_odd_values_in_place_of_lists_and_objects_cost_no_row(odd: object) -> None:
    row = made(basic=odd, addresses=odd, taxonomies=odd, practiceLocations=odd, other_names=odd)

    assert row.npi == "1063837144"
    assert (row.name, row.addresses, row.taxonomies, row.other_names) == (None, [], [], [])
