"""What cars of the simulated inventory are made of: brands, models, and the upstream's code lists.

Everything here is encoded once, when the module is imported: a record is then put together from
finished pieces. Names and numbers of the code lists (domain, status, fuel, colour, ...) are those
that users of the classic AuctionsAPI report; ids of brands and models are invented.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, TypeAlias, TypeVar

import msgspec
from msgspec import UNSET, Raw, UnsetType

T = TypeVar("T")

Reference: TypeAlias = Raw | UnsetType | None
"""A nested object, already encoded; None is served as null, UNSET is left out."""

TABLE_SIZE = 256
"""A table has one entry for each value of a byte, so a random byte is a weighted choice."""

BRAND_SLOTS = 1024
"""Brands are dealt out in slots, a power of two: finding the slot of a car is one product."""


class Line(NamedTuple):
    """One model in one generation, as a car refers to it."""

    title: str
    model: Raw
    generation: Raw


class Brand(NamedTuple):
    """One manufacturer; `slots` of BRAND_SLOTS cars are its own."""

    id: int
    name: str
    slots: int
    korean: bool
    reference: Raw
    world_code: str
    lines: tuple[Line, ...]


def encoded(value: object) -> Raw:
    """Encode `value` as a finished piece of JSON."""
    return Raw(msgspec.json.encode(value))


def spread(*weighted: tuple[T, int]) -> tuple[T, ...]:
    """Lay out choices by their weights; the weights must add up to TABLE_SIZE."""
    table = tuple(choice for choice, weight in weighted for _ in range(weight))
    if len(table) != TABLE_SIZE:
        message = f"simulator catalogue: weights add up to {len(table)}, not {TABLE_SIZE}"
        raise ValueError(message)
    return table


def _references(
    entries: Iterable[tuple[int, str, int]], *, nulls: int = 0, absent: int = 0
) -> tuple[Reference, ...]:
    """Lay out `(id, name, weight)` references, with so many nulls and omissions among them."""
    weighted: list[tuple[Reference, int]] = [
        (encoded({"name": name, "id": number}), weight) for number, name, weight in entries
    ]
    return spread(*weighted, (None, nulls), (UNSET, absent))


# name, world manufacturer code of a VIN, slots, korean, models
_BRANDS: tuple[tuple[str, str, int, bool, tuple[str, ...]], ...] = (
    ("Audi", "WAU", 26, False, ("A4", "A6", "Q5", "Q7")),
    ("BMW", "WBA", 46, False, ("3er", "5er", "X3", "X5")),
    ("Mercedes-Benz", "WDD", 36, False, ("C-class", "E-class", "GLC", "S-class")),
    ("Volkswagen", "WVW", 26, False, ("Golf", "Jetta", "Passat", "Tiguan")),
    ("Hyundai", "KMH", 132, True, ("Avante", "Grandeur", "Santa Fe", "Sonata", "Tucson")),
    ("Kia", "KNA", 122, True, ("Carnival", "K5", "Morning", "Sorento", "Sportage")),
    ("Genesis", "KMT", 28, True, ("G70", "G80", "GV80")),
    ("Renault Korea", "KNM", 20, True, ("QM6", "SM6", "XM3")),
    ("KG Mobility", "KPT", 22, True, ("Korando", "Rexton", "Tivoli")),
    ("Chevrolet", "1G1", 82, False, ("Equinox", "Malibu", "Silverado", "Spark")),
    ("Ford", "1FA", 88, False, ("Escape", "Explorer", "F-150", "Fusion")),
    ("Toyota", "4T1", 92, False, ("Camry", "Corolla", "RAV4", "Tacoma")),
    ("Honda", "1HG", 72, False, ("Accord", "Civic", "CR-V", "Pilot")),
    ("Nissan", "1N4", 64, False, ("Altima", "Rogue", "Sentra")),
    ("Jeep", "1C4", 36, False, ("Cherokee", "Grand Cherokee", "Wrangler")),
    ("Dodge", "2C3", 26, False, ("Challenger", "Charger", "Durango")),
    ("Ram", "1C6", 16, False, ("1500", "2500")),
    ("Subaru", "JF1", 20, False, ("Forester", "Impreza", "Outback")),
    ("Mazda", "JM1", 16, False, ("CX-5", "Mazda3", "Mazda6")),
    ("Lexus", "JTH", 12, False, ("ES", "IS", "RX")),
    ("Tesla", "5YJ", 10, False, ("Model 3", "Model S", "Model Y")),
    ("Volvo", "YV1", 6, False, ("S60", "XC60", "XC90")),
    ("Land Rover", "SAL", 6, False, ("Discovery", "Range Rover")),
    ("Porsche", "WP0", 5, False, ("911", "Cayenne", "Macan")),
    ("MINI", "WMW", 4, False, ("Cooper", "Countryman")),
    ("Jaguar", "SAJ", 3, False, ("F-Pace", "XF")),
    ("Škoda", "TMB", 3, False, ("Octavia", "Superb")),
)
_GENERATIONS = ("I", "II (facelift)", "III", "IV")


def _lines(brand_id: int, models: tuple[str, ...]) -> tuple[Line, ...]:
    lines = []
    for nth, model in enumerate(models):
        model_id = brand_id * 10 + nth
        reference = encoded({"id": model_id, "name": model, "manufacturer_id": brand_id})
        for step, generation in enumerate(_GENERATIONS):
            about = {"id": model_id * 10 + step, "name": generation}
            owners = {"manufacturer_id": brand_id, "model_id": model_id}
            lines.append(Line(model, reference, encoded(about | owners)))
    return tuple(lines)


def _brands() -> tuple[Brand, ...]:
    return tuple(
        Brand(
            id=number,
            name=name,
            slots=slots,
            korean=korean,
            reference=encoded({"id": number, "name": name}),
            world_code=world_code,
            lines=_lines(number, models),
        )
        for number, (name, world_code, slots, korean, models) in enumerate(_BRANDS, start=11)
    )


BRANDS = _brands()

NO_BRAND_SLOTS = BRAND_SLOTS - sum(brand.slots for brand in BRANDS)
"""What the brands leave of the slots are cars without a manufacturer: about one in 200."""

BRAND_OF_SLOT: tuple[Brand | None, ...] = (
    *(brand for brand in BRANDS for _ in range(brand.slots)),
    *(None for _ in range(NO_BRAND_SLOTS)),
)

COLOURS = tuple(
    encoded({"name": name, "id": number})
    for number, name in (
        (1, "silver"), (2, "purple"), (3, "orange"), (4, "green"), (5, "red"), (6, "gold"),
        (7, "charcoal"), (8, "brown"), (9, "grey"), (10, "turquoise"), (11, "blue"),
        (12, "bronze"), (13, "white"), (14, "cream"), (15, "black"), (16, "yellow"),
        (17, "beige"), (18, "pink"), (100, "two_colors"),
    )
)  # fmt: skip

COLOUR: tuple[Reference, ...] = (
    *(COLOURS[n % len(COLOURS)] for n in range(244)),
    *(None for _ in range(8)),
    *(UNSET for _ in range(4)),
)

BODY_TYPE = _references(
    (
        (1, "sedan", 84), (2, "wagon", 12), (3, "coupe", 12), (4, "pickup", 24), (5, "suv", 72),
        (6, "cabrio", 4), (7, "van", 14), (11, "hatchback", 18), (100, "other", 4),
    ),
    nulls=10,
    absent=2,
)  # fmt: skip
TRANSMISSION = _references(((1, "automatic", 214), (2, "manual", 30)), nulls=9, absent=3)
DRIVE_WHEEL = _references(((1, "rear", 52), (2, "front", 110), (3, "all", 80)), nulls=10, absent=4)
VEHICLE_TYPE = _references(((1, "automobile", 250),), nulls=4, absent=2)
FUEL = _references(
    (
        (1, "diesel", 54), (2, "electric", 8), (3, "hybrid", 18), (4, "gasoline", 150),
        (5, "gas", 10), (6, "flexible", 6), (7, "hydrogen", 2),
    ),
    nulls=6,
    absent=2,
)  # fmt: skip
CYLINDERS: tuple[int | UnsetType | None, ...] = spread(
    (3, 10), (4, 140), (6, 66), (8, 22), (None, 14), (UNSET, 4)
)
ENGINE: tuple[Reference, ...] = spread(
    (encoded({"id": 7124, "name": "2.0l i-4 di, dohc, vvt, turbo, 240hp"}), 60),
    (encoded({"id": 7130, "name": "1.6l i-4 gdi, dohc, cvvt, 132hp"}), 50),
    (encoded({"id": 7201, "name": "3.5l v-6 dohc, vvt, 290hp"}), 44),
    (encoded({"id": 7307, "name": "5.0l v-8 dohc, vvt, 395hp"}), 20),
    (encoded({"id": 7411, "name": "2.2l i-4 crdi, 202hp"}), 40),
    (encoded({"id": 7900, "name": "U"}), 4),
    (encoded({"id": 7901, "name": '   2.0 / see "notes"; 4 \\ auto  '}), 4),
    (encoded("other engine"), 4),
    (encoded("2497 (cc)"), 3),
    (None, 20),
    (UNSET, 7),
)

DOMAIN_IAAI = encoded({"name": "iaai_com", "id": 1})
DOMAIN_COPART = encoded({"name": "copart_com", "id": 3})
DOMAIN_ENCAR = encoded({"name": "encar_com", "id": 12})


class Site(NamedTuple):
    """Where a lot is offered. The feed may leave out the `domain`; the lot is still of a kind."""

    domain: Reference
    folder: str
    external_suffix: str
    korean: bool


_COPART = Site(DOMAIN_COPART, "copart", "~US", korean=False)
_IAAI = Site(DOMAIN_IAAI, "iaai", "~US", korean=False)
_ENCAR = Site(DOMAIN_ENCAR, "encar", "", korean=True)
_NAMELESS = Site(None, "copart", "~US", korean=False)
SITE_ELSEWHERE = spread((_COPART, 142), (_IAAI, 92), (_ENCAR, 21), (_NAMELESS, 1))
SITE_KOREAN = spread((_ENCAR, 214), (_COPART, 26), (_IAAI, 15), (_NAMELESS, 1))

STATUSES: tuple[tuple[int, str, int], ...] = (
    (1, "not_checked", 6), (2, "not_on_sale", 10), (3, "sale", 168), (4, "on_approval", 12),
    (5, "new_auction", 30), (7, "failed", 6), (8, "not_sold", 12),
)  # fmt: skip
STATUS = _references((*STATUSES, (9, "upcoming", 8)), nulls=3, absent=1)
SOLD = encoded({"name": "sold", "id": 6})
NOT_SOLD = encoded({"name": "not_sold", "id": 8})

SELLER: tuple[Reference, ...] = spread(
    (encoded({"id": 9, "name": "Example Insurance", "is_insurance": True}), 96),
    (encoded({"id": 14, "name": "Example Rentals", "is_insurance": False}), 60),
    (encoded({"id": 21, "name": "Example Dealers Ltd.", "is_insurance": False}), 50),
    (None, 36),
    (UNSET, 14),
)
SELLER_TYPE = _references(((1, "insurance", 96), (2, "non_insurance", 120)), nulls=30, absent=10)
DOCUMENT = _references(
    ((51, "Non-Repairable", 40), (3, "Salvage Certificate", 110), (1, "Clean Title", 70)),
    nulls=26,
    absent=10,
)
DAMAGE_MAIN = _references(
    ((45, "Rear", 60), (51, "Left Side", 50), (12, "Front End", 80), (33, "Hail", 16)), nulls=50
)
DAMAGE_SECOND = _references(((51, "Left Side", 40), (8, "Undercarriage", 36)), nulls=180)
CONDITION = _references(
    (
        (0, "run_and_drives", 100), (1, "for_repair", 24), (2, "to_be_dismantled", 8),
        (3, "not_run", 30), (4, "used", 40), (6, "engine_starts", 34),
    ),
    nulls=16,
    absent=4,
)  # fmt: skip
ODOMETER_STATUS = _references(
    ((1, "actual", 200), (2, "not_actual", 24), (3, "exempt", 10)), nulls=22
)
AUCTION_TYPE = _references(((4, "live", 120), (2, "timed", 60)), nulls=60, absent=16)


def _location(country: tuple[str, str], state: tuple[int, str, str], city: str) -> Raw:
    iso, name = country
    number, code, state_name = state
    return encoded(
        {
            "country": {"iso": iso, "name": name},
            "state": {"id": number, "code": code, "name": state_name},
            "city": {"id": number * 3, "name": city},
        }
    )


_USA = ("us", "USA")
LOCATION_ELSEWHERE: tuple[Reference, ...] = spread(
    (_location(_USA, (33, "ma", "massachusetts"), "exampleton"), 60),
    (_location(_USA, (5, "ca", "california"), "port example"), 70),
    (_location(_USA, (44, "tx", "texas"), "sampleville"), 70),
    (_location(("ca", "Canada"), (61, "on", "ontario"), "exemplar falls"), 30),
    (encoded({"country": {"iso": "us", "name": "USA"}, "state": None, "city": None}), 12),
    (None, 10),
    (UNSET, 4),
)
LOCATION_KOREAN: tuple[Reference, ...] = spread(
    (encoded({"country": {"iso": "kr", "name": "South Korea"}, "state": None, "city": None}), 120),
    (_location(("kr", "South Korea"), (90, "gg", "gyeonggi"), "예시시"), 120),
    (None, 16),
)
