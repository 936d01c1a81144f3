"""Flat records as a shop's API would send them, made of nothing but a seed. Pure.

A record needs no other record: a digest of (seed, index) gives the random bytes that its values are
picked by. In each generation some records are changed: `revisions` says which.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from hashlib import blake2b
from typing import Any

SHARES = (0.0, 0.01, 0.5, 1.0)
"""The share of the records that a generation changes against the one before it."""

_SEED = 11
_FIRST_ID, _ID_STEP = 1_000_003, 7  # ids of a real table have gaps
_CREATED = datetime(2024, 1, 1, tzinfo=UTC)
_UPDATED = datetime(2025, 1, 1, tzinfo=UTC)
_REVISED_SECONDS = 86_400 * 30  # a later generation's changes come a month later

_WORDS_TEXT = (
    "adjustable anodised beech brass brushed ceramic classic compact cordless cotton double dry "
    "durable enamel extra fine flat folding forged glass granite heavy inner knitted large "
    "light linen maple matt narrow natural nylon oak olive outdoor outer oval padded plain "
    "polished quilted reinforced ribbed round rubber seamless short slate slim small soft solid "
    "square stackable steel stoneware tall thermal walnut waterproof wide wool woven zinc"
)
_WORDS = tuple(_WORDS_TEXT.split())
_THINGS_TEXT = (
    "apron basket bench bowl broom brush bucket cabinet candle chair clock coat cup cushion "
    "desk drill flask fork frame funnel glove hammer hook jacket jar kettle knife ladder lamp "
    "lid mat mirror mug napkin pan pillow plate pliers rack ruler saw scarf screen shelf spade "
    "spoon stool table tin towel tray trowel vase whisk"
)
_THINGS = tuple(_THINGS_TEXT.split())
_BRANDS = tuple(f"{a.title()} & {b.title()}" for a, b in zip(_THINGS, _WORDS[7:], strict=False))
_CATEGORIES = tuple(f"home/{a}/{b}" for a, b in zip(_WORDS[::2], _THINGS[::2], strict=False))
_STATUSES = ("active", "out of stock", "on order", "ending", "discontinued", "new")
_COLOURS = ("black", "white", "grey", "red", "dark blue", "green", "sand", "off-white", None)
_SIZES = ("S", "M", "L", "XL", "40 x 60 cm", "one size", None, None)
_SUPPLIERS = tuple(f"Supplier {n:03} of {word}" for n, word in enumerate(_WORDS[:40]))
_COUNTRIES = ("DE", "FR", "VN", "PT", "PL", "TR", "CN", "IN")
_CURRENCIES = ("EUR", "USD", "PLN", "GBP")
_WAREHOUSES = tuple(f"WH-{n:02}-{chr(65 + n % 7)}" for n in range(24))
_TAGS = ("sale", "gift", "winter", "summer", "eco", "heavy goods", "fragile", "bulk")


@cache
def revisions(records: int, generation: int) -> Sequence[int]:
    """Return for each record the generation that it was changed in last; 0: never."""
    found = [0] * records
    for number in range(1, generation + 1):
        chosen = random.Random(number).sample(range(records), round(records * SHARES[number]))
        for index in chosen:
            found[index] = number
    return found


def rows(
    start: int, stop: int, *, records: int, generation: int, views: bool
) -> Iterator[tuple[Any, ...]]:
    """Yield the records from `start` to `stop` as they are true, in the order of the columns.

    Prices are in cents, moments in seconds since 1970, a date in days since 1970.
    """
    changed = revisions(records, generation)
    for index in range(start, min(stop, records)):
        row = _row(index, changed[index])
        yield (*row, 13 * generation + index % 997) if views else row


def _row(index: int, revision: int) -> tuple[Any, ...]:
    d = blake2b(b"%d.%d" % (_SEED, index)).digest()
    thing = _THINGS[d[0] % len(_THINGS)]
    words = [_WORDS[byte % len(_WORDS)] for byte in d[1:30]]
    cost = 150 + 256 * d[30] + d[31]
    price = cost * 2 + 137 * revision
    created = int(_CREATED.timestamp()) + 7200 * d[32] + 60 * d[33] + index % 60
    updated = int(_UPDATED.timestamp()) + 3600 * d[34] + d[35]
    stock = 4 * d[36] + 11 * revision
    return (
        _FIRST_ID + _ID_STEP * index,
        f"{thing[:3].upper()}-{index:07}-{d[37]:02X}",
        f"{words[0].title()} {words[1]} {thing}, {words[2]}",
        _described(thing, words, 18 + d[38] % 12),
        _BRANDS[d[39] % len(_BRANDS)],
        _CATEGORIES[d[40] % len(_CATEGORIES)],
        _STATUSES[(d[41] + revision) % len(_STATUSES)],
        _COLOURS[d[42] % len(_COLOURS)],
        _SIZES[d[43] % len(_SIZES)],
        _SUPPLIERS[d[44] % len(_SUPPLIERS)],
        _COUNTRIES[d[45] % len(_COUNTRIES)],
        _CURRENCIES[d[46] % len(_CURRENCIES)],
        _WAREHOUSES[d[47] % len(_WAREHOUSES)],
        f"40{index:07}{d[48]:04}"[:13] if d[48] > 15 else None,
        stock,
        min(stock, d[49] % 9),
        31 * d[50] + 5 * revision,
        d[51] * d[52] % 4001,
        25 + 40 * d[53],
        price,
        cost,
        price + 100 * (d[54] % 30),
        d[55] > 20,
        d[56] > 240,
        created,
        updated + _REVISED_SECONDS * revision,
        created + 86_400 * (1 + d[57] % 20) if d[57] > 31 else None,
        19_800 + d[58],
        [_TAGS[(d[59] + 3 * n) % len(_TAGS)] for n in range(d[60] % 5)],
    )


def _described(thing: str, words: Sequence[str], stop: int) -> str:
    care = f"{words[19].title()}, {words[20]} and {words[21]}; made to last"
    return f"{words[3].title()} {thing}: {' '.join(words[4:stop])}. {care}, wipe with a damp cloth."


def sent(names: Sequence[str], kinds: Sequence[str], row: Sequence[Any]) -> dict[str, Any]:
    """Return a record as the API sends it: prices as text, moments and dates in ISO 8601."""
    return {
        name: value if value is None or kind not in _SPELT else _SPELT[kind](value)
        for name, kind, value in zip(names, kinds, row, strict=True)
    }


def _price(cents: int) -> str:
    return f"{cents // 100}.{cents % 100:02}"


def _moment(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"


@cache
def _day(days: int) -> str:
    return f"{datetime.fromtimestamp(0, UTC) + timedelta(days=days):%Y-%m-%d}"


_SPELT: dict[str, Callable[[int], str]] = {
    "numeric(14,2)": _price,
    "timestamp with time zone": _moment,
    "date": _day,
}
