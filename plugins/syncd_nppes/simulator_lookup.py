"""What the simulated registry finds: criteria, wildcards, and an index over its providers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import islice

from syncd_nppes.simulator_providers import Provider

# The parameters that narrow a search. All of an address's must fit the same address.
OF_ADDRESSES = ("state", "city", "postal_code", "country_code")
NAMES = ("last_name", "first_name", "organization_name")
CRITERIA = ("number", "enumeration_type", "taxonomy_description", *OF_ADDRESSES, *NAMES)


def fits(value: object, wanted: str) -> bool:
    """Return whether a text is what is wanted, or begins so; in whatever case."""
    said = str(value or "").upper()
    wanted = wanted.upper()
    return said.startswith(wanted[:-1]) if wanted.endswith("*") else said == wanted


class Lookup:
    """Finds providers by criteria, in the order in which they were added."""

    def __init__(self, providers: Iterable[Provider]) -> None:
        self.providers: Sequence[Provider] = tuple(providers)
        self._postings: dict[tuple[str, str], list[int]] = {}
        for place, each in enumerate(self.providers):
            for key in set(_keys(each)):
                self._postings.setdefault(key, []).append(place)
        self._specialties = {value for name, value in self._postings if name == "desc"}
        self._with = lru_cache(maxsize=64)(self._merged)
        self._found = lru_cache(maxsize=256)(self._find)

    def find(self, criteria: Mapping[str, str], *, most: int) -> Sequence[Provider]:
        """Return the first providers that a search finds, at most so many."""
        return self._found(tuple(sorted(criteria.items())), most)

    def _find(self, criteria: tuple[tuple[str, str], ...], most: int) -> Sequence[Provider]:
        wanted = dict(criteria)
        places = self._candidates(wanted)
        chosen: Iterable[Provider]
        chosen = self.providers if places is None else map(self.providers.__getitem__, places)
        return list(islice((each for each in chosen if is_found(each, wanted)), most))

    def _merged(self, specialty: str) -> list[int]:
        """Return the places of those whose specialty holds a text."""
        among = [each for each in self._specialties if specialty in each]
        return sorted({place for each in among for place in self._postings["desc", each]})

    def _candidates(self, wanted: Mapping[str, str]) -> Sequence[int] | None:
        """Return the places of the fewest providers among which all that are wanted must be."""
        lists = []
        if specialty := wanted.get("taxonomy_description"):
            lists.append(self._with(specialty.upper().removesuffix("*")))
        for name in ("state", "postal_code", "last_name", "organization_name"):
            begun = wanted.get(name, "").upper().removesuffix("*")[: _LENGTHS[name][-1]]
            if len(begun) in _LENGTHS[name]:
                lists.append(self._postings.get((name, begun), []))
        return min(lists, key=len) if lists else None


_LENGTHS: Mapping[str, Sequence[int]] = {
    "state": (2,),
    "postal_code": (2, 3, 4, 5),
    "last_name": (2,),
    "organization_name": (2,),
}


def _keys(provider: Provider) -> Iterator[tuple[str, str]]:
    """Yield what a provider is found by."""
    for taxonomy in provider.taxonomies:
        yield "desc", taxonomy["desc"].upper()
    for address in (*provider.addresses, *provider.practice_locations):
        for name in ("state", "postal_code"):
            said = str(address.get(name) or "").upper()
            for length in _LENGTHS[name]:
                if len(said) >= length:
                    yield name, said[:length]
    for name in ("last_name", "organization_name"):
        for said in _names(provider, name):
            yield name, said.upper()[:2]


def _names(provider: Provider, name: str) -> Iterator[str]:
    for each in (provider.basic, *provider.other_names):
        if each.get(name):
            yield each[name]


def is_found(provider: Provider, wanted: Mapping[str, str]) -> bool:
    """Return whether a search finds a provider: all criteria fit."""
    if "number" in wanted and provider.npi != wanted["number"]:
        return False
    if wanted.get("enumeration_type", provider.kind) != provider.kind:
        return False
    specialty = wanted.get("taxonomy_description", "").upper().removesuffix("*")
    if not any(specialty in each["desc"].upper() for each in provider.taxonomies):
        return False
    for name in NAMES:
        if name in wanted and not any(fits(n, wanted[name]) for n in _names(provider, name)):
            return False
    return _is_at(provider, wanted)


def _is_at(provider: Provider, wanted: Mapping[str, str]) -> bool:
    where = {name: wanted[name] for name in OF_ADDRESSES if name in wanted}
    purpose = wanted.get("address_purpose")
    if not where:
        return True
    return any(
        all(_fits_address(name, each.get(name), said) for name, said in where.items())
        for each in (*provider.addresses, *provider.practice_locations)
        if purpose in {None, each["address_purpose"]}
    )


def _fits_address(name: str, value: object, wanted: str) -> bool:
    if name == "postal_code" and len(wanted) == 5 and wanted.isdecimal():
        return fits(value, wanted + "*")  # five digits find the longer ones, too
    return fits(value, wanted)
