"""Find numbers of carriers and of purchase orders in a text. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

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
_LONGEST = 128  # characters of a number, its groups included
_SEPARATED = re.compile(r"[\s\u00a0-]+")
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
    r"(?<![A-Za-z0-9])(?:P\.?\s?O\.?|purchase\s+order)(?!\s*box\b)"
    r"(?:\s*(?:numbers?|no\.?|nr\.?|num\.?))?\s*[:#.-]*\s*"
    r"(?P<order>(?=[A-Z/-]*\d)[A-Z0-9][A-Z0-9/-]{2,23})(?![A-Za-z0-9])",
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


def order_near(orders: list[Order], at: int) -> str | None:
    """Return the order that a number at a place belongs to: the last before it, or else the first.

    "PO 4711: 1Z.., PO 4712: 1Z.." is how suppliers list them.
    """
    before = [order.number for order in orders if order.at <= at]
    return before[-1] if before else (orders[0].number if orders else None)


@attrs.define(eq=False)
class Searched:
    """A text in which many numbers are looked for."""

    text: str
    _carriers: list[tuple[str, int, int]] | None = attrs.field(default=None, init=False)

    def has(self, number: str) -> bool:
        """Say whether a number stands in the text by itself: see `occurs_in`."""
        wanted = plain(number)
        if not wanted:
            return False
        form = form_of(wanted) or likeness(wanted)
        known = form is not None and form.strict
        return any(
            (known or _is_one(match["number"])) and not self._is_part(match, wanted)
            for match in _written(wanted).finditer(self.text)
        )

    def _is_part(self, match: re.Match[str], wanted: str) -> bool:
        """Say whether what was found is a part of another number, which has a carrier's form."""
        if self._carriers is None:
            self._carriers = [each for each in _candidates(self.text) if form_of(each[0])]
        return any(
            at <= match.start() and match.end() <= end and each != wanted
            for each, at, end in self._carriers
        )


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


def _written(number: str) -> re.Pattern[str]:
    characters = r"[\s\u00a0-]*".join(map(re.escape, number))
    routed = r"(?:420(?:\d{5}|\d{9})[\s\u00a0-]*)?"  # a ZIP code that was scanned before it
    around = "[0-9A-Za-z]"
    return re.compile(
        rf"(?<!{around}){routed}(?P<number>{characters})(?!{around})", re.ASCII | re.IGNORECASE
    )


def _is_one(written: str) -> bool:
    first, *others = _SEPARATED.split(written)
    prefixed = len(first) <= _PREFIX_LETTERS_MAX or any(c.isdigit() for c in first)
    lines = len(written.splitlines())
    return lines == 1 and prefixed and all(any(c.isdigit() for c in each) for each in others)
