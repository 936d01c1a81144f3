"""What the registry sends of a provider, and the row that is made of it. Pure.

Answers have drifted over the years, and old shapes still come: `number` as a number, epochs in
seconds, `gender` for `sex`. Empty is ``"--"``, a missing key, or an empty text. The order of
addresses is not fixed, so the primary ones are told by their purpose, and every list is sorted:
another order is no change.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any

import attrs
import msgspec

NPI_DIGITS = 10
MILLISECONDS_FROM = 10**11  # in seconds that were the year 5138
_EMPTY = frozenset({"", "--"})

_encode = msgspec.json.Encoder(order="sorted").encode


class ProviderRecord(msgspec.Struct, gc=False):
    """A provider as an answer holds it; what stands within is read with tolerance."""

    number: int | str
    enumeration_type: str | None = None
    created_epoch: Any = None
    last_updated_epoch: Any = None
    basic: Any = None
    addresses: Any = None
    practiceLocations: Any = None  # noqa: N815 - as it comes
    taxonomies: Any = None
    identifiers: Any = None
    endpoints: Any = None
    other_names: Any = None


@attrs.define
class Provider:
    """A row of `providers`: a person (`NPI-1`) or an organisation (`NPI-2`)."""

    npi: str
    enumeration_type: str | None
    status: str | None
    name: str | None
    first_name: str | None
    middle_name: str | None
    last_name: str | None
    name_prefix: str | None
    name_suffix: str | None
    credential: str | None
    sex: str | None
    sole_proprietor: str | None
    organization_name: str | None
    organizational_subpart: str | None
    official_name: str | None
    official_title: str | None
    official_phone: str | None
    taxonomy_code: str | None
    taxonomy: str | None
    taxonomy_state: str | None
    license: str | None
    location_address_1: str | None
    location_address_2: str | None
    location_city: str | None
    location_state: str | None
    location_postal_code: str | None
    location_country: str | None
    location_phone: str | None
    location_fax: str | None
    mailing_address_1: str | None
    mailing_address_2: str | None
    mailing_city: str | None
    mailing_state: str | None
    mailing_postal_code: str | None
    mailing_country: str | None
    mailing_phone: str | None
    mailing_fax: str | None
    enumeration_date: date | None
    certification_date: date | None
    deactivation_date: date | None
    reactivation_date: date | None
    created_at: datetime | None
    last_updated_at: datetime | None
    addresses: list[dict[str, Any]]
    practice_locations: list[dict[str, Any]]
    taxonomies: list[dict[str, Any]]
    identifiers: list[dict[str, Any]]
    endpoints: list[dict[str, Any]]
    other_names: list[dict[str, Any]]


def provider_of(record: ProviderRecord) -> Provider:
    """Make a provider's row.

    Raises: `ValueError` for a number that is no NPI.
    """
    basic = record.basic if isinstance(record.basic, dict) else {}
    addresses = documents(record.addresses)
    taxonomies = documents(record.taxonomies)
    main = next((each for each in taxonomies if each.get("primary") is True), {})
    return Provider(
        npi=npi_of(record.number),
        enumeration_type=text(record.enumeration_type),
        status=text(basic.get("status")),
        name=name_of(basic),
        first_name=text(basic.get("first_name")),
        middle_name=text(basic.get("middle_name")),
        last_name=text(basic.get("last_name")),
        name_prefix=text(basic.get("name_prefix")),
        name_suffix=text(basic.get("name_suffix")),
        credential=text(basic.get("credential")),
        sex=text(basic.get("sex")) or text(basic.get("gender")),
        sole_proprietor=text(basic.get("sole_proprietor")),
        organization_name=text(basic.get("organization_name")),
        organizational_subpart=text(basic.get("organizational_subpart")),
        official_name=words(basic, "authorized_official_", _PERSON),
        official_title=text(basic.get("authorized_official_title_or_position")),
        official_phone=text(basic.get("authorized_official_telephone_number")),
        taxonomy_code=text(main.get("code")),
        taxonomy=text(main.get("desc")),
        taxonomy_state=text(main.get("state")),
        license=text(main.get("license")),
        **_place("location", _of_purpose(addresses, "LOCATION")),
        **_place("mailing", _of_purpose(addresses, "MAILING")),
        enumeration_date=day(basic.get("enumeration_date")),
        certification_date=day(basic.get("certification_date")),
        deactivation_date=day(basic.get("deactivation_date")),
        reactivation_date=day(basic.get("reactivation_date")),
        created_at=moment(record.created_epoch),
        last_updated_at=moment(record.last_updated_epoch) or midnight(basic.get("last_updated")),
        addresses=addresses,
        practice_locations=documents(record.practiceLocations),
        taxonomies=taxonomies,
        identifiers=documents(record.identifiers),
        endpoints=documents(record.endpoints),
        other_names=documents(record.other_names),
    )


def npi_of(number: object) -> str:
    """Return an NPI as text, whichever way it came.

    Raises: `ValueError` for anything but ten digits.
    """
    npi = str(number).strip()
    if len(npi) == NPI_DIGITS and npi.isascii() and npi.isdecimal():
        return npi
    raise ValueError(f"{npi[:40]!r} is no NPI: wanted {NPI_DIGITS} digits")


def text(value: object) -> str | None:
    """Return a text; what stands for empty is null."""
    if value is None or isinstance(value, dict | list):
        return None
    said = str(value).strip()
    return None if said in _EMPTY else said


_PERSON = ("name_prefix", "first_name", "middle_name", "last_name", "name_suffix")


def name_of(basic: Mapping[str, Any]) -> str | None:
    """Return what a provider is called: the organisation's name, or a person's in full."""
    return text(basic.get("organization_name")) or words(basic, "", _PERSON)


def words(basic: Mapping[str, Any], before: str, names: tuple[str, ...]) -> str | None:
    """Return those of some fields that say something, as one text."""
    return " ".join(filter(None, (text(basic.get(before + name)) for name in names))) or None


def documents(value: object) -> list[dict[str, Any]]:
    """Return a list's objects without what says nothing, in an order that depends on them alone."""
    if not isinstance(value, list):
        return []
    found = [
        {name: each for name, each in item.items() if each is not None and each not in _EMPTY}
        if _plain(item)
        else item
        for item in value
        if isinstance(item, dict)
    ]
    return sorted(found, key=_encode) if len(found) > 1 else found


def _plain(item: Mapping[str, Any]) -> bool:
    return not any(isinstance(each, dict | list) for each in item.values())


def _of_purpose(addresses: list[dict[str, Any]], purpose: str) -> Mapping[str, Any]:
    wanted = (each for each in addresses if each.get("address_purpose") == purpose)
    return next(wanted, {})


def _place(prefix: str, address: Mapping[str, Any]) -> dict[str, str | None]:
    return {
        f"{prefix}_{column}": text(address.get(name))
        for column, name in (
            ("address_1", "address_1"),
            ("address_2", "address_2"),
            ("city", "city"),
            ("state", "state"),
            ("postal_code", "postal_code"),
            ("country", "country_code"),
            ("phone", "telephone_number"),
            ("fax", "fax_number"),
        )
    }


def day(value: object) -> date | None:
    """Return a day; text that is none becomes null."""
    said = text(value)
    try:
        return None if said is None else date.fromisoformat(said[:10])
    except ValueError:
        return None


def moment(epoch: object) -> datetime | None:
    """Return the moment of an epoch: of milliseconds in a text, or of seconds in a number."""
    if isinstance(epoch, bool):
        return None
    try:
        number = int(str(epoch).strip())
        seconds = number / 1000 if abs(number) >= MILLISECONDS_FROM else number
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def midnight(value: object) -> datetime | None:
    """Return when a day began: what is left where no epoch says more."""
    found = day(value)
    return None if found is None else datetime(found.year, found.month, found.day, tzinfo=UTC)
