"""Render one car of the simulated inventory from nothing but a seed, its index and its life."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from datetime import datetime

import msgspec
from msgspec import UnsetType

from syncd_cars import inventory_catalogue as catalogue
from syncd_cars.inventory_catalogue import Brand, Line, Reference, spread
from syncd_cars.inventory_lots import ArchivedLot, Lot, LotRenderer, archived
from syncd_cars.inventory_model import UNTOUCHED, Chance, Life, Weight, car_id

# The slot of a car is its index times this number: odd, so that it walks all slots, and near the
# golden section of their count, so that every page has its share of every brand.
_SLOT_STEP = 633

# A car at every 97th index lends its VIN to some of those that follow it.
_VIN_LENDER_EVERY = 97

_LOTS = spread((1, 224), (2, 32))
_VIN = spread(("own", 247), ("borrowed", 4), ("none", 5))
_TITLE = spread(("line", 240), ("bare", 12), ("none", 4))
_MODEL_KNOWN = spread((True, 248), (False, 8))
_NO_BRAND: tuple[Reference, ...] = spread((None, 128), (msgspec.UNSET, 128))
_GENERATION = spread(("known", 222), ("null", 26), ("absent", 8))
_COLOUR_IS_CORRECTED = spread((True, 64), (False, 192))


class Car(msgspec.Struct, gc=False):
    """One row of `/cars`."""

    id: int
    year: int
    title: str | None
    vin: str | None
    manufacturer: Reference
    model: Reference
    generation: Reference
    body_type: Reference
    color: Reference
    engine: Reference
    transmission: Reference
    drive_wheel: Reference
    vehicle_type: Reference
    fuel: Reference
    cylinders: int | UnsetType | None
    lots: list[Lot]


def _title(byte: int, year: int, brand: Brand | None, line: Line | None) -> str | None:
    match _TITLE[byte]:
        case "line" if brand and line:
            return f"{year} {brand.name} {line.title}"
        case "none":
            return None
        case _:
            return str(year)


def _generation(byte: int, line: Line | None) -> Reference:
    match _GENERATION[byte]:
        case "known" if line:
            return line.generation
        case "absent":
            return msgspec.UNSET
        case _:
            return None


def _colour(digest: bytes, life: Life) -> Reference:
    """Return the colour, which some changes correct: so that not only lots change."""
    if life.revision and _COLOUR_IS_CORRECTED[digest[12]]:
        return catalogue.COLOURS[(digest[11] + life.revision) % len(catalogue.COLOURS)]
    return catalogue.COLOUR[digest[11]]


class Renderer:
    """Renders the cars of one seed and weight."""

    def __init__(self, seed: int, weight: Weight) -> None:
        self._chance = Chance(seed)
        self._lots = LotRenderer(self._chance, weight)
        self._slot_offset = int.from_bytes(self._chance.of_car(-1)[:2])
        self._encode = msgspec.json.Encoder().encode

    def brand(self, index: int) -> Brand | None:
        """Return the manufacturer of a car."""
        slot = (index * _SLOT_STEP + self._slot_offset) % catalogue.BRAND_SLOTS
        return catalogue.BRAND_OF_SLOT[slot]

    def of_brands(self, brands: Collection[int], indices: Iterable[int]) -> list[int]:
        """Return those of `indices` whose manufacturer's id is in `brands`, in their order.

        It takes no digest: 190,000 cars take some 30 ms.
        """
        wanted = [brand is not None and brand.id in brands for brand in catalogue.BRAND_OF_SLOT]
        offset, slots = self._slot_offset, catalogue.BRAND_SLOTS
        return [index for index in indices if wanted[(index * _SLOT_STEP + offset) % slots]]

    def count_by_brand(self, indices: Iterable[int]) -> Counter[int | None]:
        """Count `indices` by the id of their manufacturer."""
        ids = [brand.id if brand else None for brand in catalogue.BRAND_OF_SLOT]
        offset, slots = self._slot_offset, catalogue.BRAND_SLOTS
        return Counter(ids[(index * _SLOT_STEP + offset) % slots] for index in indices)

    def lots_of(self, index: int) -> int:
        """Return how many lots a car has: two for every eighth, else one."""
        return _LOTS[self._chance.of_car(index)[0]]

    def updated_at(self, index: int, life: Life) -> datetime:
        """Return when a car was last updated: the newest `updated_at` of its lots."""
        lots = range(self.lots_of(index))
        return max(self._lots.updated_at(index, ordinal, life) for ordinal in lots)

    def _vin(self, index: int, digest: bytes) -> str | None:
        match _VIN[digest[1]]:
            case "none":
                return None
            case "borrowed":
                index -= index % _VIN_LENDER_EVERY
                digest = self._chance.of_car(index)
        brand = self.brand(index)
        return (brand.world_code if brand else "XXX") + digest[2:9].hex().upper()

    def _lots_of(self, index: int, life: Life, brand: Brand | None, count: int) -> list[Lot]:
        korean = brand is not None and brand.korean
        return [
            self._lots.lot(index, ordinal, life, lots=count, korean=korean)
            for ordinal in range(count)
        ]

    def car(self, index: int, life: Life = UNTOUCHED) -> bytes:
        """Render one record of `/cars` as JSON."""
        d = self._chance.of_car(index)
        brand = self.brand(index)
        line = brand.lines[d[9] % len(brand.lines)] if brand else None
        year = 2004 + d[10] % 22
        return self._encode(
            Car(
                id=car_id(index),
                year=year,
                title=_title(d[13], year, brand, line),
                vin=self._vin(index, d),
                manufacturer=brand.reference if brand else _NO_BRAND[d[14]],
                model=line.model if line and _MODEL_KNOWN[d[14]] else None,
                generation=_generation(d[15], line),
                body_type=catalogue.BODY_TYPE[d[16]],
                color=_colour(d, life),
                engine=catalogue.ENGINE[d[17]],
                transmission=catalogue.TRANSMISSION[d[18]],
                drive_wheel=catalogue.DRIVE_WHEEL[d[19]],
                vehicle_type=catalogue.VEHICLE_TYPE[d[20]],
                fuel=catalogue.FUEL[d[21]],
                cylinders=catalogue.CYLINDERS[d[22]],
                lots=self._lots_of(index, life, brand, _LOTS[d[0]]),
            )
        )

    def archived_lots(self, index: int, life: Life, *, at: datetime) -> list[ArchivedLot]:
        """Make the rows of `/archived-lots` for a car that left the feed at `at`."""
        digest = self._chance.of_car(index)
        vin = self._vin(index, digest)
        lots = self._lots_of(index, life, self.brand(index), _LOTS[digest[0]])
        return [archived(lot, car_id=car_id(index), vin=vin, at=at) for lot in lots]
