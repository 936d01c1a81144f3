"""Make the lots of one car: nested in `/cars`, flat and with wrapped prices in `/archived-lots`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
from msgspec import UNSET, Raw, UnsetType

from syncd_cars import inventory_catalogue as catalogue
from syncd_cars.inventory_catalogue import Reference, encoded, spread
from syncd_cars.inventory_model import LOTS_MAX, Chance, Life, Weight, moment_text

_FIRST_LOT_NUMBER = 40_000_000
_FIRST_LOT_ID = 20_400_001
_MILES_PER_KM = 0.621371
_BID_STEP = 50
_STATUS_STEP = 37  # odd, so that a lot changed often meets every status


class Odometer(msgspec.Struct, gc=False):
    """What the clock of the car shows."""

    km: int
    mi: int
    status: Reference


class Damage(msgspec.Struct, gc=False):
    """What is broken."""

    main: Reference
    second: Reference


class Lot(msgspec.Struct, gc=False):
    """One lot as `/cars` nests it."""

    id: int
    lot: str | int | None
    domain: Reference
    external_id: str | None
    odometer: Odometer | None
    estimate_repair_price: int | None
    actual_cash_value: int | None
    sale_date: str | None
    bid: int | None
    buy_now: int | None
    final_bid: int | None
    status: Reference
    seller: Reference
    seller_type: Reference
    title: Reference
    damage: Damage | None
    condition: Reference
    images: Raw | UnsetType | None
    location: Reference
    archived: bool | None
    archived_at: str | None
    created_at: str
    updated_at: str
    auction_type: Reference
    popularity_score: float | UnsetType = UNSET
    keys_available: bool | UnsetType | None = UNSET
    details: Reference = UNSET
    insurance_v2: Reference = UNSET


class Wrapped(msgspec.Struct, gc=False):
    """A price or date as `/archived-lots` wraps it."""

    value: int | str | None
    updated_at: str | None = None


class ArchivedLot(msgspec.Struct, gc=False):
    """One row of `/archived-lots`."""

    archived_at: str
    lot_id: int
    car_id: int
    vin: str | None
    lot: str | int | None
    domain: Reference
    status: Reference
    bid: Wrapped
    buy_now: Wrapped
    sale_date: Wrapped
    final_bid: Wrapped


def _hours(first: datetime, days: int) -> tuple[str, ...]:
    """Spread 256 hours over `days`, each as the beginning of a moment's text."""
    step = timedelta(days=days) / catalogue.TABLE_SIZE
    return tuple((first + n * step).strftime("%Y-%m-%dT%H:") for n in range(catalogue.TABLE_SIZE))


# All that was there at the start was created before it was updated, and updated before 2026.
_CREATED_HOUR = _hours(datetime(2025, 9, 1, tzinfo=UTC), 60)
_UPDATED_HOUR = _hours(datetime(2025, 11, 1, tzinfo=UTC), 60)
_WITHIN_HOUR = tuple(f"{n * 7 % 60:02}:{n * 11 % 60:02}.000000Z" for n in range(256))
_SALE_AT = spread(
    *((f"{hour}00:00.000000Z", 1) for hour in _hours(datetime(2026, 1, 5, tzinfo=UTC), 20)[:96]),
    (None, 160),
)
_NUMBER_AS = spread(("text", 190), ("number", 65), ("missing", 1))
_HAS_ODOMETER = spread((True, 244), (False, 12))
_HAS_BID = spread((True, 150), (False, 106))
_HAS_DAMAGE = spread((True, 230), (False, 26))
_BUY_NOW: tuple[int | None, ...] = spread((0, 140), (None, 40), (8500, 40), (12_750, 36))
_PANELS = ("hood", "front_fender", "door", "trunk_lid", "radiator_support", "roof", "quarter")
_IMAGE_HOST = "https://images.auctions.example"  # a reserved name (RFC 2606): never to be fetched


def _details(weight: Weight) -> tuple[Raw, ...]:
    """Make the `details` of Korean lots, one for each byte; real ones carry an inspection sheet."""

    def one(n: int) -> Raw:
        details: dict[str, object] = {
            "badge": f"{1 + n % 4}.{n % 10} Premium",
            "engine_volume": 998 + 8 * n,
            "seats_count": None if n % 9 == 0 else 5 + n % 3,
            "first_registration": {"year": 2012 + n % 13, "month": 1 + n % 12, "day": 1 + n % 28},
        }
        if weight == "real":
            details["insurance"] = {"accidents": n % 4, "own_damage": n * 31_000, "total_loss": 0}
            details["inspect"] = {
                "outer": {panel: {"code": (n >> k) % 5} for k, panel in enumerate(_PANELS)},
                "remarks": "leak test passed, tyres 6 mm, no warning lamps; " * 8,
            }
        return encoded(details)

    return tuple(one(n) for n in range(catalogue.TABLE_SIZE))


def _insurance() -> tuple[Raw, ...]:
    """Make the `insurance_v2` of Korean lots of real weight: a list of claims, for each byte."""
    claim = {"type": "own", "date": "2023-04-11", "insurance_benefit": 812_000, "labour": 240_000}
    return tuple(
        encoded({"accident_count": n % 6, "accidents": [claim] * (n % 6)})
        for n in range(catalogue.TABLE_SIZE)
    )


def _images(weight: Weight) -> tuple[str | UnsetType | None, ...]:
    """Make image lists, one for each byte: JSON in which `@` stands for the path of the lot."""

    def listed(kind: str, count: int) -> str:
        urls = ",".join(f'"{_IMAGE_HOST}/@{kind}-{n}.webp"' for n in range(1, count + 1))
        return f"[{urls}]"

    def one(n: int) -> str:
        if weight == "demo":
            return f'{{"downloaded":{listed("", 1 + n % 2)}}}'
        big = f',"big":{listed("-big", 18)}' if n % 3 else ""
        normal = listed("-normal", 20 + n % 8)
        return f'{{"downloaded":{listed("", 20 + n % 20)},"normal":{normal}{big}}}'

    return (*(one(n) for n in range(catalogue.TABLE_SIZE - 16)), *(None,) * 10, *(UNSET,) * 6)


def _number(index: int, ordinal: int, byte: int) -> str | int | None:
    """Return the lot's number: unique; text or number; missing for one lot in 256."""
    number = _lot_number(index, ordinal)
    match _NUMBER_AS[byte]:
        case "text":
            return str(number)
        case "number":
            return number
        case _:
            return None


def _lot_number(index: int, ordinal: int) -> int:
    return _FIRST_LOT_NUMBER + LOTS_MAX * index + ordinal


def _odometer(digest: bytes, revisions: int) -> Odometer | None:
    if not _HAS_ODOMETER[digest[8]]:
        return None
    km = 1000 * digest[9] + 4 * digest[10] + revisions
    return Odometer(km, int(km * _MILES_PER_KM), catalogue.ODOMETER_STATUS[digest[11]])


def _damage(digest: bytes) -> Damage | None:
    if not _HAS_DAMAGE[digest[19]]:
        return None
    return Damage(catalogue.DAMAGE_MAIN[digest[20]], catalogue.DAMAGE_SECOND[digest[21]])


def _bid(digest: bytes, revisions: int) -> int | None:
    """Return the highest bid, which rises with every change of the lot; None before the first."""
    if not revisions and not _HAS_BID[digest[4]]:
        return None
    return _BID_STEP * (digest[5] + revisions)


def _created_at(digest: bytes, life: Life) -> str:
    if life.created_at is None:
        return _CREATED_HOUR[digest[25]] + _WITHIN_HOUR[digest[26]]
    return moment_text(life.created_at)


def _updated_at(digest: bytes, ordinal: int, life: Life) -> str:
    moment = life.lots_updated_at[ordinal] or life.created_at
    if moment is None:
        return _UPDATED_HOUR[digest[1]] + _WITHIN_HOUR[digest[2]]
    return moment_text(moment)


class LotRenderer:
    """Makes the lots of one seed and weight."""

    def __init__(self, chance: Chance, weight: Weight) -> None:
        self._chance = chance
        self._real = weight == "real"
        self._details = _details(weight)
        self._images = _images(weight)
        self._insurance = _insurance()

    def updated_at(self, index: int, ordinal: int, life: Life) -> datetime:
        """Return when a lot was last updated."""
        text = _updated_at(self._chance.of_lot(index, ordinal), ordinal, life)
        return datetime.fromisoformat(text)

    def lot(self, index: int, ordinal: int, life: Life, *, lots: int, korean: bool) -> Lot:
        """Make the lot `ordinal` of `lots` of a car whose brand is Korean or not."""
        d = self._chance.of_lot(index, ordinal)
        site = (catalogue.SITE_KOREAN if korean else catalogue.SITE_ELSEWHERE)[d[0]]
        places = catalogue.LOCATION_KOREAN if site.korean else catalogue.LOCATION_ELSEWHERE
        revisions = life.revisions_of_lot(ordinal, lots)
        number = _lot_number(index, ordinal)
        lot = Lot(
            id=_FIRST_LOT_ID + LOTS_MAX * index + ordinal,
            lot=_number(index, ordinal, d[3]),
            domain=site.domain,
            external_id=f"{number}{site.external_suffix}" if d[6] > d[7] else None,
            odometer=_odometer(d, revisions),
            estimate_repair_price=None if site.korean else 100 * d[11],
            actual_cash_value=None if site.korean else 100 * d[12] + 50,
            sale_date=_SALE_AT[d[13]],
            bid=_bid(d, revisions),
            buy_now=_BUY_NOW[d[14]],
            final_bid=None,
            status=catalogue.STATUS[(d[15] + _STATUS_STEP * revisions) % catalogue.TABLE_SIZE],
            seller=catalogue.SELLER[d[16]],
            seller_type=catalogue.SELLER_TYPE[d[17]],
            title=catalogue.DOCUMENT[d[18]],
            damage=None if site.korean else _damage(d),
            condition=catalogue.CONDITION[d[22]],
            images=self._images_of(d[23], f"{site.folder}/{number}"),
            location=places[d[24]],
            archived=None,
            archived_at=None,
            created_at=_created_at(d, life),
            updated_at=_updated_at(d, ordinal, life),
            auction_type=catalogue.AUCTION_TYPE[d[27]],
        )
        if site.korean:
            lot.details = self._details[d[28]]
        if self._real:
            self._add_real_weight(lot, d, korean=site.korean)
        return lot

    def _images_of(self, byte: int, path: str) -> Raw | UnsetType | None:
        template = self._images[byte]
        if isinstance(template, str):
            return Raw(template.replace("@", path).encode())
        return template

    def _add_real_weight(self, lot: Lot, digest: bytes, *, korean: bool) -> None:
        lot.popularity_score = digest[29] / 8
        lot.keys_available = digest[30] > digest[31]
        if korean:
            lot.insurance_v2 = self._insurance[digest[32]]


def archived(lot: Lot, *, car_id: int, vin: str | None, at: datetime) -> ArchivedLot:
    """Return the row of `/archived-lots` for a lot that left the feed at `at`.

    A lot with a bid was sold for it; the upstream wraps each price and date here.
    """
    sold = bool(lot.bid)
    return ArchivedLot(
        archived_at=at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        lot_id=lot.id,
        car_id=car_id,
        vin=None if vin is None else vin.lower(),
        lot=None if lot.lot is None else str(lot.lot),
        domain=lot.domain,
        status=catalogue.SOLD if sold else catalogue.NOT_SOLD,
        bid=Wrapped(lot.bid),
        buy_now=Wrapped(lot.buy_now),
        sale_date=Wrapped(lot.sale_date),
        final_bid=Wrapped(lot.bid if sold else None),
    )
