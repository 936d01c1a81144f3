"""The tables that every program fills: columns, types, keys. Standard library only.

The yardstick makes its tables of these; what syncd derives from its plugins must come out the same.
"""

from __future__ import annotations

from typing import NamedTuple


class Column(NamedTuple):
    """A column and its SQL type, as `format_type()` spells it."""

    name: str
    sql: str


class Layout(NamedTuple):
    """One table."""

    schema: str
    name: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    def __str__(self) -> str:
        return f'"{self.schema}"."{self.name}"'


PRICE = "numeric(14,2)"
MOMENT = "timestamp with time zone"


def _listed(text: str) -> tuple[Column, ...]:
    """Read ``name type`` lines."""
    sql = {"price": PRICE, "moment": MOMENT}
    pairs = (line.split() for line in text.strip().splitlines())
    return tuple(Column(name, sql.get(kind, kind)) for name, kind in pairs)


PLAIN = Layout(
    "plain",
    "records",
    ("id",),
    _listed("""
        id bigint
        sku text
        name text
        description text
        brand text
        category text
        status text
        colour text
        size text
        supplier text
        country text
        currency text
        warehouse text
        ean text
        stock bigint
        reserved bigint
        sold bigint
        rating_count bigint
        weight_grams bigint
        price price
        cost price
        list_price price
        active boolean
        featured boolean
        created_at moment
        updated_at moment
        published_at moment
        available_on date
        tags jsonb
    """),
)

VIEWED = PLAIN._replace(schema="viewed", columns=(*PLAIN.columns, Column("views", "bigint")))

CARS = Layout(
    "cars",
    "cars",
    ("id",),
    _listed("""
        id bigint
        vin text
        title text
        year bigint
        manufacturer_id bigint
        manufacturer text
        model_id bigint
        model text
        generation_id bigint
        generation text
        body_type text
        vehicle_type text
        color text
        engine text
        transmission text
        drive_wheel text
        fuel text
        cylinders bigint
    """),
)

LOTS = Layout(
    "cars",
    "lots",
    ("domain_id", "lot"),
    _listed("""
        domain_id bigint
        lot text
        domain text
        id bigint
        car_id bigint
        external_id text
        status text
        sale_date moment
        odometer_km bigint
        bid price
        buy_now price
        final_bid price
        estimate_repair_price price
        actual_cash_value price
        condition text
        damage_main text
        damage_second text
        seller text
        seller_type text
        title_document text
        auction_type text
        country text
        state text
        city text
        image_url text
        archived boolean
        archived_at moment
        created_at moment
        updated_at moment
    """),
)

TABLES: dict[str, tuple[Layout, ...]] = {
    "plain": (PLAIN,),
    "viewed": (VIEWED,),
    "cars": (CARS, LOTS),
}
"""The tables by the shape of what is served: `viewed` is plain with one volatile field."""

VOLATILE = {"viewed": ("views",)}
"""What differs whenever one looks: no reason for syncd to write a row that it has."""

PATHS = {"plain": "records", "viewed": "records", "cars": "cars"}
"""Where below its address a shape's pages are asked for."""
