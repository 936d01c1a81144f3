"""Find numbers of carriers and of purchase orders in a text. Pure.

Mail is what anybody sends: everything here takes time in proportion to a text, whatever it holds.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import islice

import attrs

from syncd_front.extraction.forms import Carrier, Form, form_of, likeness, plain

# What stands alone, and what may be written in groups.
_UPS = r"1Z(?:[ -]?[0-9A-Z]){16}"
_POSTAL = r"[A-Z]{2}[ ]?\d{3}[ ]?\d{3}[ ]?\d{3}[ ]?[A-Z]{2}"
_DHL = r"(?:JJD|GM)[ ]?\d{11,18}"
_DIGITS = r"\d(?:[ -]?\d){9,39}"
_NUMBER = re.compile(
    rf"(?<![0-9A-Za-z])(?:{_UPS}|{_POSTAL}|{_DHL}|{_DIGITS})(?![0-9A-Za-z])",
    re.ASCII | re.IGNORECASE,
)
_CHUNK = re.compile(r"[0-9]+", re.ASCII)
_CHUNK_DIGITS_MIN = 10  # the shortest number of a carrier
_LONGEST = 128  # characters of a number, its groups included, or of what stands between them
_SEPARATED = re.compile(r"[\s\u00a0-]+")
_RUN = re.compile(r"[^\s\u00a0-]+", re.ASCII)
_ROUTED = re.compile(r"(?<![0-9A-Za-z])420(?:\d{5}|\d{9})\Z", re.ASCII)  # see `plain`
_ROUTED_CHARACTERS = 13  # of that, and what stands before it
_CAPITALS = {ord(small): ord(small.upper()) for small in "abcdefghijklmnopqrstuvwxyz"}

# Of one number: what stands so often within others is not looked for among any more of them.
_PLACES_MAX = 1_000
_PREFIX_LETTERS_MAX = 3  # "SF 1234567890123"; a word before a number is longer, mostly

_NAMES: dict[Carrier, re.Pattern[str]] = {
    "ups": re.compile(r"\bUPS\b|United Parcel", re.IGNORECASE),
    "fedex": re.compile(r"\bFed\s?Ex\b|Federal Express", re.IGNORECASE),
    "usps": re.compile(r"\bUSPS\b|Postal Service|Certified Mail", re.IGNORECASE),
    "dhl": re.compile(r"\bDHL\b", re.IGNORECASE),
}
_CUE = re.compile(
    r"track(?:ing)?\b|waybill|\bAWB\b|consignment|shipment|sendung|env[ií]o|exp[ée]di",
    re.IGNORECASE,
)
_CUE_CHARACTERS = 60  # before a number: "your tracking number for order 4711 is"

_ORDER = re.compile(
    r"(?<![A-Za-z0-9])(?:P\.?\s?O\.?|purchase\s+order)(?!\s*box\b)\s*+"
    r"(?:(?:numbers?|no\.?|nr\.?|num\.?)\s*+)?(?:[:#.-]++\s*+)?"
    r"(?P<order>(?=[A-Z/-]{0,23}\d)[A-Z0-9][A-Z0-9/-]{2,23})(?![A-Za-z0-9])",
    re.IGNORECASE,
)


@attrs.frozen
class Sighting:
    """A number that a text holds: as carriers write it, its form, and where it stands."""

    number: str
    form: Form
    at: int


@attrs.frozen
class Order:
    """The number of a purchase order, and where it stands."""

    number: str
    at: int


def numbers_in(text: str) -> list[Sighting]:
    """Return the numbers of carriers in a text, each once, in their order.

    Only those whose check digit is right. Of forms that other numbers have, too (ten digits may be
    a telephone's), only where the text names the carrier or says close before that a number
    follows.
    """
    found: dict[str, Sighting] = {}
    named = {carrier for carrier, name in _NAMES.items() if name.search(text)}
    for number, at, _ in _candidates(text):
        form = form_of(number)
        if form is None or number in found:
            continue
        near = text[max(at - _CUE_CHARACTERS, 0) : at]
        if form.strict or form.carrier in named or _CUE.search(near):
            found[number] = Sighting(number, form, at)
    return list(found.values())


def _candidates(text: str) -> Iterator[tuple[str, int, int]]:
    """Yield what may be numbers, and where each begins and ends."""
    for match in _NUMBER.finditer(text):
        written, at = match[0], match.start()
        chunks = list(_CHUNK.finditer(written))
        apart = [chunk for chunk in chunks if len(chunk[0]) >= _CHUNK_DIGITS_MIN]
        if written[0].isdigit() and len(chunks) > 1 and apart and written[:2].upper() != "1Z":
            for chunk in apart:  # several numbers in one line, and no groups of one
                yield chunk[0], at + chunk.start(), at + chunk.end()
        else:
            yield plain(written), at, match.end()


def orders_in(text: str) -> list[Order]:
    """Return the numbers of purchase orders in a text, each once, in their order."""
    found: dict[str, Order] = {}
    for match in _ORDER.finditer(text):
        number = match["order"].rstrip("-/").upper()
        found.setdefault(number, Order(number, match.start()))
    return list(found.values())


def order_near(orders: Sequence[Order], at: int) -> str | None:
    """Return the order that a number at a place belongs to: the last before it, or else the first.

    "PO 4711: 1Z.., PO 4712: 1Z.." is how suppliers list them. `orders` are in their order.
    """
    before = bisect_right(orders, at, key=lambda order: order.at)
    return orders[max(before - 1, 0)].number if orders else None


@attrs.define(eq=False, slots=False)
class Searched:
    """A text in which many numbers are looked for."""

    text: str

    def has(self, number: str) -> bool:
        """Say whether a number stands in the text by itself: see `occurs_in`."""
        return self.place_of(number) is not None

    def place_of(self, number: str) -> int | None:
        """Return where a number stands in the text by itself for the first time."""
        wanted = plain(number)
        if not wanted:
            return None
        form = form_of(wanted) or likeness(wanted)
        known = form is not None and form.strict
        for start, end in islice(self._places(wanted), _PLACES_MAX):
            if (
                self._stands(start, end)
                and (known or _is_one(self.text[start:end]))
                and not self._is_part(start, end, wanted)
            ):
                return start
        return None

    @cached_property
    def _squeezed(self) -> str:
        """The text in capitals, without what may be written between groups."""
        return "".join(match[0] for match in _RUN.finditer(self.text)).translate(_CAPITALS)

    @cached_property
    def _runs(self) -> tuple[array[int], array[int]]:
        """Where each run of the squeezed text begins, there and in the text."""
        there, here, at = array("Q"), array("Q"), 0
        for match in _RUN.finditer(self.text):
            there.append(at)
            here.append(match.start())
            at += match.end() - match.start()
        return there, here

    @cached_property
    def _carriers(self) -> list[tuple[str, int, int]]:
        return [each for each in _candidates(self.text) if form_of(each[0])]

    def _places(self, wanted: str) -> Iterator[tuple[int, int]]:
        """Yield where a number's characters begin and end, whatever stands around them."""
        found = self._squeezed.find(wanted)
        while found >= 0:
            start, end = self._place(found), self._place(found + len(wanted) - 1) + 1
            if end - start <= len(wanted) + _LONGEST:
                yield start, end
            found = self._squeezed.find(wanted, found + 1)

    def _place(self, squeezed: int) -> int:
        there, here = self._runs
        run = bisect_right(there, squeezed) - 1
        return here[run] + squeezed - there[run]

    def _stands(self, start: int, end: int) -> bool:
        """Say whether a stretch is no part of a word; a ZIP code may have been scanned before."""
        text = self.text
        if _is_of_word(text[end : end + 1]):
            return False
        before = text[max(start - _ROUTED_CHARACTERS, 0) : start]
        return not _is_of_word(before[-1:]) or _ROUTED.search(before) is not None

    def _is_part(self, start: int, end: int, wanted: str) -> bool:
        """Say whether a stretch is a part of another number, which has a carrier's form."""
        place = bisect_right(self._carriers, start, key=lambda each: each[1]) - 1
        if place < 0:
            return False
        number, _, until = self._carriers[place]
        return end <= until and number != wanted


def _is_of_word(character: str) -> bool:
    return character.isascii() and character.isalnum()


def occurs_in(text: str, number: str) -> bool:
    """Say whether a number stands in a text by itself, whatever is written between its groups.

    It is no part of anything longer: neither of a word nor of a number that is written in groups.
    What hardly any carrier writes so ("12345 67890 TODAY") stands in one line and has a digit in
    each of its groups, but for two or three letters before them.
    """
    return Searched(text).has(number)


def blanks_between(text: str, start: int, end: int) -> Iterator[int]:
    """Yield the places of a stretch at which a text can be cut: blanks that are in no number."""
    begin = max(start - _LONGEST, 0)
    stretch = text[begin : end + _LONGEST]
    held = [(m.start() + begin, m.end() + begin) for m in _NUMBER.finditer(stretch)]
    for place in range(start, end):
        if text[place].isspace() and not any(at < place < until for at, until in held):
            yield place


def _is_one(written: str) -> bool:
    first, *others = _SEPARATED.split(written)
    prefixed = len(first) <= _PREFIX_LETTERS_MAX or any(c.isdigit() for c in first)
    lines = len(written.splitlines())
    return lines == 1 and prefixed and all(any(c.isdigit() for c in each) for each in others)
