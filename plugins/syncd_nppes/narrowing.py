"""Searches that find more than the registry hands out, split until each finds less. Pure.

A search answers with 1,200 providers at most and does not say how many there are. So one whose last
page is full is asked again in parts: by the postal code, digit by digit; within one postal code by
the kind of provider, then by the beginning of the name. A provider that two parts find is one row.

Together the parts find whatever stands in the search but for providers that the split cannot name:
without a postal code, with a foreign one, with one that is none of its state's. Those are *the
rest*, which is split by names in place of postal codes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from string import ascii_lowercase, digits
from typing import Any, Literal, TypeAlias

import msgspec

from syncd_nppes.records import text

Criteria: TypeAlias = Mapping[str, str]
Dimension = Literal["postal code", "type", "name"]

POSTAL_CODE_DIGITS = 5  # with five given, the registry finds the longer ones (ZIP+4), too
NAME_CHARACTERS_MAX = 8  # of a name's beginning: those that share more are hardly told apart by it
TYPES = ("NPI-1", "NPI-2")
_NAMES = {"NPI-1": "last_name", "NPI-2": "organization_name"}

_FIRST = {"NPI-1": ascii_lowercase, "NPI-2": ascii_lowercase + digits}
_MARKS = {"NPI-1": " '-.", "NPI-2": " '-.,&/"}  # that stand within names, beside letters
_ALL = tuple(f"{number:02}" for number in range(100))

# The first two digits of the postal codes of each state (USPS, three-digit ZIP code prefixes).
_OF_STATES = {
    "AL": "35 36", "AK": "99", "AZ": "85 86", "AR": "71 72 75", "CA": "90 91 92 93 94 95 96",
    "CO": "80 81", "CT": "06", "DE": "19", "DC": "20 56", "FL": "32 33 34", "GA": "30 31 39",
    "HI": "96", "ID": "83", "IL": "60 61 62", "IN": "46 47", "IA": "50 51 52", "KS": "66 67",
    "KY": "40 41 42", "LA": "70 71", "ME": "03 04", "MD": "20 21", "MA": "01 02 05",
    "MI": "48 49", "MN": "55 56", "MS": "38 39", "MO": "63 64 65", "MT": "59", "NE": "68 69",
    "NV": "88 89", "NH": "03", "NJ": "07 08", "NM": "87 88", "NY": "00 06 10 11 12 13 14",
    "NC": "27 28", "ND": "58", "OH": "43 44 45", "OK": "73 74", "OR": "97",  # codespell:ignore nd
    "PA": "15 16 17 18 19", "RI": "02", "SC": "29", "SD": "57", "TN": "37 38",
    "TX": "73 75 76 77 78 79 88", "UT": "84", "VT": "05", "VA": "20 22 23 24", "WA": "98 99",
    "WV": "24 25 26", "WI": "53 54", "WY": "82 83", "PR": "00", "VI": "00", "GU": "96",
}  # fmt: skip


class Glimpse(msgspec.Struct, gc=False):
    """As much of a provider as tells whether the parts of a search find it."""

    number: int | str = ""
    enumeration_type: str | None = None
    basic: Any = None
    addresses: Any = None
    practiceLocations: Any = None  # noqa: N815 - as it comes
    other_names: Any = None


def dimension(criteria: Criteria, *, by_names: bool = False) -> Dimension | None:
    """Return by what a search is split next; `None` where nothing is left to split it by.

    `by_names`: it is a part of the rest, which postal codes do not find.
    """
    code = criteria.get("postal_code")
    if not by_names and (code is None or _may_grow(code)):
        return "postal code"
    if "enumeration_type" not in criteria:
        return "type"
    name = criteria.get(_NAMES[criteria["enumeration_type"]])
    growing = name is None or (name.endswith("*") and len(name) <= NAME_CHARACTERS_MAX)
    return "name" if growing else None


def parts(criteria: Criteria, *, by_names: bool = False) -> tuple[Criteria, ...]:
    """Return the searches that a search is split into; none where it cannot be split."""
    match dimension(criteria, by_names=by_names):
        case "postal code":
            return tuple({**criteria, "postal_code": code} for code in _postal_codes(criteria))
        case "type":
            return tuple({**criteria, "enumeration_type": kind} for kind in TYPES)
        case "name":
            field = _NAMES[criteria["enumeration_type"]]
            return tuple({**criteria, field: name} for name in _names(criteria))
        case None:
            return ()


def is_found(criteria: Criteria, provider: Glimpse, *, by_names: bool = False) -> bool:
    """Return whether one of the parts of a search finds a provider that the search found."""
    match dimension(criteria, by_names=by_names):
        case "postal code":
            return _found_by_postal_code(criteria, provider)
        case "type":
            return provider.enumeration_type in TYPES
        case "name":
            return _found_by_name(criteria, provider)
        case None:
            return False


# --- By postal code -------------------------------------------------------------------------------


def _may_grow(code: str) -> bool:
    known = code.removesuffix("*")
    return code.endswith("*") and _is_number(known) and len(known) < POSTAL_CODE_DIGITS


def _postal_codes(criteria: Criteria) -> list[str]:
    code = criteria.get("postal_code")
    if code is None:
        return [f"{two}*" for two in _prefixes(criteria)]
    longer = (code.removesuffix("*") + digit for digit in digits)
    return [each if len(each) == POSTAL_CODE_DIGITS else f"{each}*" for each in longer]


def _prefixes(criteria: Criteria) -> Iterable[str]:
    known = _OF_STATES.get(criteria.get("state", ""))
    return _ALL if known is None else known.split()


def _found_by_postal_code(criteria: Criteria, provider: Glimpse) -> bool:
    state, code = criteria.get("state"), criteria.get("postal_code")
    known = tuple(_prefixes(criteria)) if code is None else (code.removesuffix("*"),)
    most = len(known[0]) + (code is not None)  # digits that the parts look at
    for address in _addresses(provider):
        if state is not None and text(address.get("state")) != state:
            continue
        given = (text(address.get("postal_code")) or "")[:most]
        if len(given) == most and _is_number(given) and given.startswith(known):
            return True
    return False


def _addresses(provider: Glimpse) -> Iterable[Mapping[str, Any]]:
    for each in (provider.addresses, provider.practiceLocations):
        if isinstance(each, list):
            yield from (address for address in each if isinstance(address, dict))


def _is_number(given: str) -> bool:
    return given.isascii() and given.isdecimal()


# --- By name --------------------------------------------------------------------------------------


def _beginning(criteria: Criteria) -> str:
    return criteria.get(_NAMES[criteria["enumeration_type"]], "").removesuffix("*")


def _names(criteria: Criteria) -> list[str]:
    """Return beginnings longer by a character (at first two: fewer are refused), and whole names.

    A name that is nothing but its beginning is found as it stands.
    """
    kind, begun = criteria["enumeration_type"], _beginning(criteria)
    follow = _FIRST[kind] + _MARKS[kind]
    if begun:
        return [begun, *(f"{begun}{letter}*" for letter in follow)]
    first = _FIRST[kind]
    return [*first, *(f"{one}{two}*" for one in first for two in follow)]


def _found_by_name(criteria: Criteria, provider: Glimpse) -> bool:
    kind, begun = criteria["enumeration_type"], _beginning(criteria)
    follow = _FIRST[kind] + _MARKS[kind]
    for name in _names_of(provider, _NAMES[kind]):
        if not name.startswith(begun):
            continue
        if begun and (len(name) == len(begun) or name[len(begun)] in follow):
            return True
        if not begun and name[0] in _FIRST[kind] and (len(name) == 1 or name[1] in follow):
            return True
    return False


def _names_of(provider: Glimpse, field: str) -> Iterable[str]:
    """Return the names under which a provider is found, former ones among them."""
    others = provider.other_names if isinstance(provider.other_names, list) else []
    for each in (provider.basic, *others):
        if isinstance(each, dict) and (name := text(each.get(field))) is not None:
            yield name.lower()
