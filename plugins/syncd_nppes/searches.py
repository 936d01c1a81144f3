"""What is searched for: the settings that say it, and the partitions that they make. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Literal

import attrs

from syncd import Slice

_STATE = re.compile(r"[A-Za-z]{2}")
_POSTAL_CODE = re.compile(r"[0-9]{2,4}\*|[0-9]{5}|[0-9]{9}")
_WILDCARD = re.compile(r"\*|.\*|.*\*.+", re.DOTALL)  # that the registry refuses, or knows not


@attrs.frozen
class Search:
    """One search, a partition by itself: what it names must all fit."""

    specialty: str = attrs.field(
        default="", metadata={"about": "text of the taxonomy, such as `Internal Medicine`"}
    )
    state: str = attrs.field(default="", metadata={"about": "two letters"})
    city: str = attrs.field(default="", metadata={"about": "its name; `AUS*` for a beginning"})
    postal_code: str = attrs.field(
        default="", metadata={"about": "5 or 9 digits, or 2 to 4 and `*`"}
    )
    enumeration_type: Literal["NPI-1", "NPI-2"] | None = attrs.field(
        default=None, metadata={"about": "persons (NPI-1) or organisations (NPI-2) only"}
    )
    priority: int = attrs.field(
        default=0, metadata={"about": "seconds by which it is walked before others"}
    )

    def __attrs_post_init__(self) -> None:
        """Refuse what the registry refuses.

        Raises: `ValueError`.
        """
        if not (self.specialty or self.city or self.postal_code):
            raise ValueError("wanted a specialty, a city or a postal code: no less is searched for")
        if self.state and not _STATE.fullmatch(self.state):
            raise ValueError(f"state {self.state!r}: wanted two letters")
        if self.postal_code and not _POSTAL_CODE.fullmatch(self.postal_code):
            raise ValueError(f"postal code {self.postal_code!r}: wanted 78701, 787014321 or 787*")
        for said in (self.specialty, self.city):
            if _WILDCARD.fullmatch(said):
                raise ValueError(f"{said!r}: a `*` stands at the end, after two characters or more")

    @property
    def criteria(self) -> dict[str, str]:
        """Return the parameters that say it."""
        said = {
            "taxonomy_description": self.specialty,
            "city": self.city,
            "state": self.state.upper(),
            "postal_code": self.postal_code,
            "enumeration_type": self.enumeration_type or "",
        }
        return {name: value for name, value in said.items() if value}

    @property
    def name(self) -> str:
        return ", ".join(self.criteria.values())


def placed(specialty: str, place: str) -> Search:
    """Return the search for a specialty in a place: ``TX``, ``Austin, TX``, ``787*``, ``78701``.

    Raises: `ValueError` for a place of another form.
    """
    if _POSTAL_CODE.fullmatch(place):
        return Search(specialty, postal_code=place)
    city, _, state = (part.strip() for part in place.rpartition(","))
    if not _STATE.fullmatch(state):
        raise ValueError(f"place {place!r}: wanted a state (TX), a city (Austin, TX) or 787*")
    return Search(specialty, state=state, city=city)


def searches_of(
    listed: Sequence[Search], specialties: Sequence[str], places: Sequence[str]
) -> tuple[Search, ...]:
    """Return all searches, each once: those that are listed, then each specialty in each place.

    Raises: `ValueError`.
    """
    found: dict[str, Search] = {}
    for each in (*listed, *_crossed(specialties, places)):
        found.setdefault(each.name, each)
    return tuple(found.values())


def _crossed(specialties: Sequence[str], places: Sequence[str]) -> Iterator[Search]:
    if not places:
        yield from (Search(each) for each in specialties)
        return
    for specialty in specialties or ("",):
        yield from (placed(specialty, place) for place in places)


def slices_of(searches: Sequence[Search]) -> list[Slice]:
    """Return a partition for each search; of equal priorities the first one named goes first."""
    most = len(searches)
    return [
        Slice(each.name, each.criteria, each.priority + most - place, covers="part")
        for place, each in enumerate(searches)
    ]
