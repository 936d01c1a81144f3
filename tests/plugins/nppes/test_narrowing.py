"""Laws of split searches: what is split by what, and that the parts find what the whole finds."""

from __future__ import annotations

from datetime import UTC, datetime
from random import Random
from typing import Any

import attrs
import pytest

from syncd import Cursor, Response
from syncd_nppes import api
from syncd_nppes.narrowing import Glimpse, dimension, is_found, parts
from syncd_nppes.simulator import Registry
from syncd_nppes.simulator_providers import Provider, invented, npi_of

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
INTERNAL = {"taxonomy_description": "Internal Medicine"}
IN_TEXAS = {**INTERNAL, "state": "TX"}


@attrs.frozen
class Walked:
    """What a walk of all cursors of a search found."""

    npis: frozenset[str]
    too_many: list[dict[str, str]]


def walk(registry: Registry, search: dict[str, str], rest: api.Rest = "seen") -> Walked:
    """Walk a search as the engine does, each cursor once."""
    open_cursors = list(api.first_cursors(limit=200, ahead=3, expected=None))
    walked, npis, too_many = set[str](), set[str](), []
    while open_cursors:
        cursor = open_cursors.pop()
        if repr(cursor.value) in walked:
            continue
        walked.add(repr(cursor.value))
        ask = api.Ask.of(cursor.value)
        criteria = {**search, **ask.narrowed}
        if ask.kind == "too many":
            too_many.append(criteria)
            continue
        rows, opens = page(registry, ask, search, rest)
        npis |= rows
        open_cursors += opens
    return Walked(frozenset(npis), too_many)


def page(
    registry: Registry, ask: api.Ask, search: dict[str, str], rest: api.Rest
) -> tuple[set[str], tuple[Cursor, ...]]:
    criteria = {**search, **ask.narrowed}
    skip = 1000 if ask.kind == "rest" else ask.skip
    query = {k: str(v) for k, v in api.params(criteria, limit=200, skip=skip).items()}
    response = Response(200, {}, registry.answer(query).body, NOON, None, "")
    rows = api.rows_of(response, criteria)
    npis = {bytes(row).split(b'"number":', 1)[1].split(b",", 1)[0] for row in rows}
    opens = api.openings(rows, ask, search, limit=200, rest=rest)
    return {npi.decode().strip('"') for npi in npis}, opens


def texans(count: int, **basic: Any) -> list[Provider]:
    found = list(invented(count, seed=3, specialties=["Internal Medicine"], states=["TX"]))
    for each in found if basic else ():
        each.basic = each.basic | basic
    return found


def test_a_search_of_fifty_thousand_is_split_until_all_are_found() -> None:
    registry = Registry(
        invented(50_000, seed=1, specialties=["Internal Medicine"], states=["TX", "CA", "NY"])
    )

    found = walk(registry, INTERNAL)

    assert found.npis == registry.truth(INTERNAL).keys()
    assert (len(found.npis), found.too_many) == (50_000, [])
    assert len(registry.asked) < 700  # 250 pages hold as many
    assert max(int(query.get("skip", 0)) for query in registry.asked) == 1000


def test_whom_postal_codes_do_not_find_names_do() -> None:
    """Where one of them stands on a page; `always` needs none to."""
    providers = texans(1500)
    first, *_, last = providers
    for each, code in ((first, "T2P1J9"), (last, "")):
        each.addresses = [{**address, "postal_code": code} for address in each.addresses]
    registry = Registry(providers)

    assert walk(registry, IN_TEXAS).npis == registry.truth(IN_TEXAS).keys()
    assert last.npi not in walk(registry, IN_TEXAS, "never").npis
    assert any("last_name" in query for query in registry.asked)


def test_whom_nothing_shown_hints_at_is_found_where_that_is_wanted() -> None:
    providers = texans(1400)
    providers[-1].addresses = [{**each, "postal_code": ""} for each in providers[-1].addresses]
    registry = Registry(providers)

    assert len(walk(registry, IN_TEXAS, "always").npis) == 1400
    assert any("enumeration_type" in query for query in registry.asked)


def test_what_cannot_be_split_any_more_is_told() -> None:
    providers = texans(1250, last_name="SAMENAMEALL")
    for each in providers:
        each.kind = "NPI-1"
        each.addresses = [{**address, "postal_code": "78701"} for address in each.addresses]
    registry = Registry(providers)
    search = {**IN_TEXAS, "postal_code": "78701", "enumeration_type": "NPI-1"}

    found = walk(registry, {**search, "last_name": "samenam*"})

    assert len(found.npis) == 1200
    assert found.too_many == [{**search, "last_name": "samename*"}]
    assert "samename*" in str(api.too_many(found.too_many[0]))


def test_a_split_goes_by_postal_code_then_type_then_name() -> None:
    assert {each["postal_code"] for each in parts(IN_TEXAS)} == {
        f"{two}*" for two in (73, 75, 76, 77, 78, 79, 88)
    }
    assert len(parts(INTERNAL)) == 100
    assert len(parts({**INTERNAL, "state": "ZZ"})) == 100
    four = parts({**IN_TEXAS, "postal_code": "7870*"})
    assert [each["postal_code"] for each in four] == [f"7870{digit}" for digit in range(10)]
    five = {**IN_TEXAS, "postal_code": "78701"}
    assert [each["enumeration_type"] for each in parts(five)] == ["NPI-1", "NPI-2"]
    assert dimension({**five, "postal_code": "787014321"}) == "type"
    person = {**five, "enumeration_type": "NPI-1"}
    names = {each["last_name"] for each in parts(person)}
    assert {"a", "sm*", "o'*", "st*"} < names
    assert all(len(name) != 2 or name[1] != "*" for name in names)  # refused by the registry
    deeper = {each["last_name"] for each in parts({**person, "last_name": "sm*"})}
    assert {"sm", "smi*", "sm-*"} < deeper
    assert parts({**person, "last_name": "smith"}) == ()
    assert parts({**person, "last_name": "longname*"}) == ()
    assert "3m*" in {n["organization_name"] for n in parts({**five, "enumeration_type": "NPI-2"})}


@pytest.mark.parametrize(
    ("narrowed", "provider", "found"),
    [
        ({}, {"addresses": [{"state": "TX", "postal_code": "787014321"}]}, True),
        ({}, {"practiceLocations": [{"state": "TX", "postal_code": "88510"}]}, True),
        ({}, {"addresses": [{"state": "TX", "postal_code": "10001"}]}, False),
        ({}, {"addresses": [{"state": "NY", "postal_code": "78701"}]}, False),
        ({}, {"addresses": [{"state": "TX"}]}, False),
        ({}, {"addresses": None}, False),
        ({"postal_code": "78*"}, {"addresses": [{"state": "TX", "postal_code": "78X"}]}, False),
        ({"postal_code": "78*"}, {"addresses": [{"state": "TX", "postal_code": "787"}]}, True),
        ({"postal_code": "78701"}, {"enumeration_type": "NPI-1"}, True),
        ({"postal_code": "78701"}, {"enumeration_type": None}, False),
    ],
)
def test_it_is_known_whom_the_parts_find(
    narrowed: dict[str, str], provider: dict[str, Any], found: bool
) -> None:
    assert is_found({**IN_TEXAS, **narrowed}, Glimpse(**provider)) is found


@pytest.mark.parametrize(
    ("begun", "name", "found"),
    [
        (None, "SMITH", True),
        (None, "X", True),
        (None, "O'NEIL", True),
        (None, "ÑUNEZ", False),
        (None, "", False),
        ("sm*", "SM", True),
        ("sm*", "SM#TH", False),
        ("sm*", "JONES", False),
    ],
)
def test_it_is_known_whom_names_find(begun: str | None, name: str, found: bool) -> None:
    search = {**IN_TEXAS, "postal_code": "78701", "enumeration_type": "NPI-1"}
    criteria = search if begun is None else {**search, "last_name": begun}

    assert is_found(criteria, Glimpse(basic={"last_name": name})) is found
    also = {"last_name": name}
    assert is_found(criteria, Glimpse(basic=[], other_names=[also])) is found


def test_the_parts_of_any_search_find_what_is_said_to_be_found() -> None:
    """Against the simulator's own understanding of criteria, which knows nothing of parts."""
    random = Random(5)
    registry = Registry(invented(100, seed=5))
    for _ in range(15):
        specialty = random.choice(["Internal Medicine", "Pediatrics"])
        search = {"taxonomy_description": specialty}
        by_names = random.random() < 0.5
        for _ in range(random.randrange(6)):
            split = parts(search, by_names=by_names)
            if not split:
                break
            search = dict(random.choice(split))
        whole, split = registry.truth(search), parts(search, by_names=by_names)
        among = registry.truth(*split) if split else {}
        for npi, each in whole.items():
            said = Glimpse(npi, each.kind, each.basic, each.addresses, each.practice_locations, [])
            assert (npi in among) == is_found(search, said, by_names=by_names)


def test_the_check_digit_of_an_npi_is_reckoned_by_luhn() -> None:
    assert npi_of(123_456_789) == "1234567893"
