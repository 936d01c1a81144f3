"""Invented providers for the simulated registry. Seeded; every name is made of syllables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import attrs

SPECIALTIES: Mapping[str, str] = {
    "Internal Medicine": "207R00000X",
    "Family Medicine": "207Q00000X",
    "Pediatrics": "208000000X",
    "Dermatology": "207N00000X",
    "Psychiatry & Neurology": "2084P0800X",
    "Physical Therapist": "225100000X",
    "Chiropractor": "111N00000X",
    "Clinic/Center": "261Q00000X",
}
# State, its cities, and the beginnings of their postal codes (three digits).
STATES: Mapping[str, Sequence[tuple[str, str]]] = {
    "TX": (("AUSTIN", "787"), ("HOUSTON", "770"), ("DALLAS", "752"), ("EL PASO", "799")),
    "CA": (("LOS ANGELES", "900"), ("SAN DIEGO", "921"), ("FRESNO", "937")),
    "NY": (("NEW YORK", "100"), ("ALBANY", "122")),
    "WY": (("CHEYENNE", "820"),),
}
_SYLLABLES = [one + two for one in "bdfghklmnprstvwz" for two in "aeiou"]
_KINDS = ("CLINIC", "GROUP", "HEALTH CENTER", "ASSOCIATES", "& SONS MEDICAL", "CARE-PLUS")
_EPOCH = datetime(2006, 1, 1, tzinfo=UTC)


@attrs.define
class Provider:
    """One provider, as the registry knows it; `basic` and the lists are as they are sent."""

    npi: str
    kind: str  # NPI-1 or NPI-2
    basic: dict[str, Any]
    addresses: list[dict[str, Any]]
    taxonomies: list[dict[str, Any]]
    created_at: datetime
    updated_at: datetime
    practice_locations: list[dict[str, Any]] = attrs.field(factory=list)
    identifiers: list[dict[str, Any]] = attrs.field(factory=list)
    endpoints: list[dict[str, Any]] = attrs.field(factory=list)
    other_names: list[dict[str, Any]] = attrs.field(factory=list)

    @property
    def is_old_style(self) -> bool:
        """Whether it is sent as the registry sent it years ago: one in seven."""
        return int(self.npi) % 7 == 0

    def change(self, **basic: Any) -> None:
        """Let it be updated, a day later."""
        self.updated_at += timedelta(days=1)
        day = self.updated_at.date().isoformat()
        self.basic = self.basic | {"last_updated": day} | basic  # others may share the old one


def npi_of(number: int) -> str:
    """Return the NPI of nine digits with its check digit: Luhn over 80840 and the number."""
    digits = [int(digit) for digit in f"80840{number:09}"]
    doubled = [2 * digit for digit in digits[-1::-2]]
    total = sum(d - 9 if d > 9 else d for d in doubled) + sum(digits[-2::-2])
    return f"{number:09}{-total % 10}"


def invented(
    count: int,
    *,
    seed: int,
    specialties: Sequence[str] = tuple(SPECIALTIES),
    states: Sequence[str] = tuple(STATES),
) -> Iterator[Provider]:
    """Yield so many providers: persons mostly, with one or two specialties, in some state.

    Beyond the first 2,000 they are made of two others: one's name, and the other's places.
    """
    random = Random(seed)  # noqa: S311 - nothing here is a secret
    made: list[Provider] = []
    for number in range(count):
        npi = npi_of(100_000_000 + 3 * number)
        if number < _MODELS:
            made.append(_one(random, npi, specialties[number % len(specialties)], states))
            made[-1].taxonomies += _second(random, made[-1], specialties)
            yield made[-1]
            continue
        place = made[int(random.random() * _MODELS)]
        yield attrs.evolve(
            made[int(random.random() * _MODELS)],
            npi=npi,
            addresses=place.addresses,
            taxonomies=place.taxonomies,
        )


_MODELS = 2000


def _one(random: Random, npi: str, specialty: str, states: Sequence[str]) -> Provider:
    state = random.choice(states)
    city, code = random.choice(STATES[state])
    return provider(
        random,
        npi=npi,
        organisation=random.random() < 0.2,
        specialty=specialty,
        place=(city, state, f"{code}{random.randrange(100):02}"),
    )


def _second(random: Random, first: Provider, specialties: Sequence[str]) -> list[dict[str, Any]]:
    """Make a secondary taxonomy for one in five: a search for it finds them, too."""
    known, other = first.taxonomies[0], random.choice(specialties)
    if random.random() < 0.8 or other == known["desc"]:
        return []
    return [_taxonomy(random, other, known["state"], primary=False)]


def provider(
    random: Random,
    *,
    npi: str,
    organisation: bool,
    specialty: str,
    place: tuple[str, str, str],
) -> Provider:
    """Make one provider; it practises and gets its mail at addresses of one city."""
    created = _EPOCH + timedelta(seconds=random.randrange(15 * 365 * 86400))
    updated = created + timedelta(seconds=random.randrange(4 * 365 * 86400))
    days = {"enumeration_date": created, "last_updated": updated, "certification_date": updated}
    basic = _organisation(random) if organisation else _person(random)
    city, state, code = place
    return Provider(
        npi=npi,
        kind="NPI-2" if organisation else "NPI-1",
        basic=basic
        | {name: moment.date().isoformat() for name, moment in days.items()}
        | {"status": "A"},
        addresses=[
            address(random, "MAILING", city, state, f"{code}{random.randrange(1, 9999):04}"),
            address(random, "LOCATION", city, state, code),
        ],
        taxonomies=[_taxonomy(random, specialty, state, primary=True)],
        created_at=created,
        updated_at=updated,
        identifiers=[_identifier(random, state) for _ in range(random.randrange(3))],
    )


def address(random: Random, purpose: str, city: str, state: str, code: str) -> dict[str, Any]:
    """Make an address; some keys are missing where there is nothing to say."""
    made = {
        "country_code": "US",
        "country_name": "United States",
        "address_purpose": purpose,
        "address_type": "DOM",
        "address_1": f"{random.randrange(1, 9999)} {_word(random, 2)} ST",
        "city": city,
        "state": state,
        "postal_code": code,
        "telephone_number": f"555-{random.randrange(100, 999)}-{random.randrange(9999):04}",
    }
    return made | ({"address_2": f"STE {random.randrange(99)}"} if random.random() < 0.3 else {})


def _person(random: Random) -> dict[str, Any]:
    return {
        "first_name": _word(random, 2),
        "middle_name": _word(random, 1) if random.random() < 0.4 else "--",
        "last_name": _word(random, random.choice((2, 2, 3))),
        "name_prefix": random.choice(("Dr.", "--")),
        "name_suffix": "--",
        "credential": random.choice(("MD", "DO", "--")),
        "sole_proprietor": random.choice(("NO", "YES")),
        "sex": random.choice(("F", "M")),
    }


def _organisation(random: Random) -> dict[str, Any]:
    official = "authorized_official_"
    return {
        "organization_name": f"{_word(random, 3)} {random.choice(_KINDS)}",
        "organizational_subpart": "NO",
        f"{official}first_name": _word(random, 2),
        f"{official}middle_name": "--",
        f"{official}last_name": _word(random, 2),
        f"{official}telephone_number": f"555{random.randrange(10**7):07}",
        f"{official}title_or_position": "Owner",
    }


def _taxonomy(random: Random, specialty: str, state: str, *, primary: bool) -> dict[str, Any]:
    return {
        "code": SPECIALTIES.get(specialty, "208D00000X"),
        "taxonomy_group": "",
        "desc": specialty,
        "state": state,
        "license": f"{random.choice('ABM')}{random.randrange(10**6):06}",
        "primary": primary,
    }


def _identifier(random: Random, state: str) -> dict[str, Any]:
    number = f"{random.randrange(10**7):07}"
    return {"code": "05", "desc": "MEDICAID", "identifier": number, "issuer": None, "state": state}


def _word(random: Random, syllables: int) -> str:
    return "".join(random.choices(_SYLLABLES, k=syllables)).upper()
