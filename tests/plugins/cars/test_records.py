"""Laws of the rows that are made of cars and lots: untidy is null, keyless is refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from random import Random
from typing import Any
from uuid import uuid4

import attrs
import msgspec
import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg.conninfo import make_conninfo

from syncd import bulk
from syncd.store.hops import Connection
from syncd_cars import records
from syncd_cars.inventory import Inventory
from syncd_cars.plugin import CARS, LOTS
from syncd_cars.records import Car, CarRecord, Lot, LotRecord, car_of, lot_of

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
REFERENCES_OF_A_CAR = (
    "manufacturer", "model", "generation", "body_type", "color", "engine", "transmission",
    "drive_wheel", "vehicle_type", "fuel",
)  # fmt: skip
PRICES = ("bid", "buy_now", "final_bid", "estimate_repair_price", "actual_cash_value")


def car(**fields: Any) -> Car:
    return car_of(msgspec.json.decode(msgspec.json.encode({"id": 7} | fields), type=CarRecord))


def lot(**fields: Any) -> Lot:
    return lot_of(msgspec.json.decode(msgspec.json.encode(fields), type=LotRecord))


def nulls_of(row: Any) -> set[str]:
    return {name for name, value in attrs.asdict(row).items() if value is None}


# cars


def test_a_car_of_nothing_but_its_id_is_a_row_of_nulls() -> None:
    every = {field.name for field in attrs.fields(Car)}

    assert nulls_of(car()) == every - {"id"}


@pytest.mark.parametrize("name", REFERENCES_OF_A_CAR)
def test_a_reference_of_a_car_may_be_null_absent_or_plain_text(name: str) -> None:
    assert getattr(car(), name) is None
    assert getattr(car(**{name: None}), name) is None
    assert getattr(car(**{name: {}}), name) is None
    assert getattr(car(**{name: {"id": 3, "name": None}}), name) is None
    assert getattr(car(**{name: {"id": 3, "name": "it"}}), name) == "it"
    assert getattr(car(**{name: "it"}), name) == "it"
    assert getattr(car(**{name: ""}), name) is None


@pytest.mark.parametrize("name", ["manufacturer", "model", "generation"])
def test_the_id_of_a_reference_stands_beside_its_name(name: str) -> None:
    column = f"{name}_id"

    assert getattr(car(**{name: {"id": 16, "name": "BMW"}}), column) == 16
    assert getattr(car(**{name: {"name": "BMW"}}), column) is None
    assert getattr(car(**{name: "BMW"}), column) is None
    assert getattr(car(**{name: None}), column) is None


@pytest.mark.parametrize(
    "junk", ["other engine", "U", '   2.0 / see "notes"; 4 \\ auto  ', "2497 (cc)", "0", "ß\t\n✓"]
)
def test_junk_text_of_an_engine_is_kept_as_it_came_in_either_shape(junk: str) -> None:
    assert car(engine=junk).engine == junk
    assert car(engine={"id": 1, "name": junk}).engine == junk


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (2016, 2016),
        ("2016", 2016),
        (" 2016 ", 2016),
        ("", None),
        ("V6", None),
        ("2016.5", None),
        ("9" * 5000, None),
        (None, None),
    ],
)
def test_a_number_of_a_car_that_is_none_becomes_null(value: Any, number: int | None) -> None:
    assert car(year=value).year == number
    assert car(cylinders=value).cylinders == number


def test_a_vin_that_says_nothing_is_null() -> None:
    assert (car(vin="").vin, car(vin=None).vin, car(vin="WBA3B5").vin) == (None, None, "WBA3B5")


# lots


def test_a_lot_of_nothing_is_a_row_of_nulls() -> None:
    assert nulls_of(lot()) == {field.name for field in attrs.fields(Lot)}


@given(st.integers(0, 10**12))
def test_a_lots_number_is_one_key_whether_it_came_as_a_number_or_as_text(number: int) -> None:
    domain = {"id": 3, "name": "copart_com"}
    as_number, as_text = lot(lot=number, domain=domain), lot(lot=str(number), domain=domain)

    assert (as_number.domain_id, as_number.lot) == (as_text.domain_id, as_text.lot)
    assert as_number == as_text


@pytest.mark.parametrize("given_", ["", " ", "\t", None])
def test_a_blank_lot_number_is_no_key(given_: str | None) -> None:
    assert lot(lot=given_).lot is None


@pytest.mark.parametrize("name", PRICES)
@pytest.mark.parametrize(
    ("value", "price"),
    [
        (8300, Decimal(8300)),
        (0, Decimal(0)),
        (8300.5, Decimal("8300.5")),
        (0.1, Decimal("0.1")),
        ("8300.50", Decimal("8300.50")),
        ("8,300", None),
        ("on request", None),
        ("", None),
        ("NaN", None),
        ("-Infinity", None),
        (None, None),
    ],
)
def test_a_price_is_the_same_plain_and_wrapped_and_null_where_it_is_no_number(
    name: str, value: Any, price: Decimal | None
) -> None:
    assert getattr(lot(**{name: value}), name) == price
    assert getattr(lot(**{name: {"value": value, "updated_at": None}}), name) == price


def test_a_wrapped_price_may_be_without_its_value() -> None:
    assert lot(bid={}).bid is None
    assert lot(bid={"updated_at": "2026-11-20T23:20:51Z"}).bid is None


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-20T23:20:51.000000Z", datetime(2026, 11, 20, 23, 20, 51, tzinfo=UTC)),
        ("2026-11-20T23:20:51Z", datetime(2026, 11, 20, 23, 20, 51, tzinfo=UTC)),
        ("2026-11-20 23:20:51", datetime(2026, 11, 20, 23, 20, 51, tzinfo=UTC)),
        ("2026-11-20T23:20:51.123456+09:00", datetime(
            2026, 11, 20, 23, 20, 51, 123456, tzinfo=timezone(timedelta(hours=9))
        )),
        ("2026-11-20", datetime(2026, 11, 20, tzinfo=UTC)),
        ("0000-00-00 00:00:00", None),
        ("99999-01-01T00:00:00Z", None),
        ("0001-01-01T00:00:00+14:00", None),
        ("9999-12-31T23:59:59-12:00", None),
        ("tomorrow", None),
        ("", None),
        (None, None),
    ],
)  # fmt: skip
def test_a_moment_is_the_same_plain_and_wrapped_and_null_where_it_is_none(
    text: str | None, moment: datetime | None
) -> None:
    assert lot(sale_date=text).sale_date == moment
    assert lot(sale_date={"value": text, "updated_at": None}).sale_date == moment
    assert lot(updated_at=text).updated_at == moment


def test_a_sale_date_that_is_a_number_says_nothing() -> None:
    assert lot(sale_date={"value": 1763680851}).sale_date is None


@pytest.mark.parametrize("said", [None, False, True])
def test_archived_null_is_not_false(said: bool | None) -> None:
    assert lot(archived=said).archived is said
    assert lot().archived is None


@pytest.mark.parametrize("about", [{"km": None}, {}, None, {"km": 1.6e5}, {"km": 160_934.9}])
def test_an_odometer_may_lack_what_it_shows(about: Any) -> None:
    shown = (about or {}).get("km")

    assert lot(odometer=about).odometer_km == (None if shown is None else int(shown))


def test_a_location_may_lack_any_of_its_parts() -> None:
    nowhere = (None, None, None)
    for location in (None, {}, {"country": None, "state": None, "city": None}):
        row = lot(location=location)
        assert (row.country, row.state, row.city) == nowhere

    row = lot(location={"country": {"iso": "kr"}, "state": None, "city": "서울"})
    assert (row.country, row.state, row.city) == ("kr", None, "서울")


def test_the_picture_is_the_best_kept_one() -> None:
    images = {"normal": ["n"], "big": ["b"], "downloaded": ["d", "e"]}

    assert lot(images=images).image_url == "d"
    assert lot(images=images | {"downloaded": []}).image_url == "b"
    assert lot(images={"normal": ["n"], "big": None}).image_url == "n"
    assert lot(images={}).image_url is None
    assert lot(images=None).image_url is None


def test_a_lot_belongs_to_the_car_around_it_whatever_it_says_itself() -> None:
    record = msgspec.json.decode(b'{"car_id":5}', type=LotRecord)
    record.car_id = 7  # as the core does with a record's parent

    assert lot_of(record).car_id == 7


# whatever comes

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.sampled_from(
        ["2026-11-20T23:20:51Z", "0001-01-01T00:00:00+14:00", "NaN", "1e9", "\x00", "9" * 5000]
    )
)
untidy = (
    scalars
    | st.dictionaries(
        st.sampled_from(
            ["id", "name", "value", "km", "main", "second", "country", "iso", "state", "code",
             "city", "downloaded", "big"]
        ),
        scalars | st.dictionaries(st.sampled_from(["iso", "code", "name", "id"]), scalars),
        max_size=3,
    )
    | st.dictionaries(
        st.sampled_from(["downloaded", "big", "normal"]), st.none() | st.lists(st.text(max_size=4))
    )
)  # fmt: skip


def records_of(kind: type[Any]) -> st.SearchStrategy[bytes]:
    """Objects with any of a class's fields holding anything; most of them decode somewhere."""
    names = list(kind.__struct_fields__)
    return st.dictionaries(st.sampled_from(names), untidy, max_size=4).map(msgspec.json.encode)


@given(records_of(CarRecord), st.integers(-(2**63), 2**63 - 1))
@settings(max_examples=150)
def test_no_car_that_decodes_makes_its_transform_raise(body: bytes, number: int) -> None:
    fields = msgspec.json.decode(body) | {"id": number}
    try:
        record = msgspec.json.decode(msgspec.json.encode(fields), type=CarRecord)
    except msgspec.DecodeError:
        return

    assert car_of(record).id == number


@given(records_of(LotRecord))
@settings(max_examples=250)
def test_no_lot_that_decodes_makes_its_transform_raise(body: bytes) -> None:
    try:
        record = msgspec.json.decode(body, type=LotRecord)
    except msgspec.DecodeError:
        return

    row = lot_of(record)
    assert row.lot is None or row.lot.strip()
    assert all(
        price is None or price.is_finite() for price in (getattr(row, name) for name in PRICES)
    )


@given(st.text(max_size=30) | st.sampled_from(["NaN", "sNaN", "inf", "1e9999999999", "١٢"]))
@settings(max_examples=150)
def test_no_text_makes_a_number_or_a_moment_raise(text: str) -> None:
    records.whole(text)
    records.moment(text)
    price = records.amount(text)
    assert price is None or price.is_finite()


def test_every_car_of_the_stand_in_becomes_a_row() -> None:
    for raw in Inventory(200, seed=Random(5).randrange(1000)).cars():
        row = car(**raw)
        assert row.id == raw["id"]
        for each in raw["lots"]:
            assert lot(**each).id == each["id"]


# in the table


@pytest.fixture
def tables(connection: Connection) -> dict[str, bulk.Table]:
    made = {stream.name: bulk.table_of("cars", stream) for stream in (CARS, LOTS)}
    bulk.apply(connection, list(made.values()), lock_timeout_seconds=5.0)
    return made


def written(connection: Connection, table: bulk.Table, rows: list[Any]) -> bulk.Result:
    return bulk.write(connection, table, bulk.Batch(rows, [NOON] * len(rows)))


@pytest.mark.parametrize(
    "keyless",
    [
        {"lot": "45000001"},
        {"lot": "45000001", "domain": None},
        {"lot": "45000001", "domain": {"name": "copart_com"}},
        {"domain": {"id": 3}},
        {"domain": {"id": 3}, "lot": None},
        {"domain": {"id": 3}, "lot": " "},
    ],
)
def test_a_lot_without_domain_or_number_is_refused_by_its_key_and_the_others_stay(
    connection: Connection, tables: dict[str, bulk.Table], keyless: dict[str, Any]
) -> None:
    sound = lot(lot=1, domain={"id": 3, "name": "copart_com"})

    result = written(connection, tables["lots"], [lot(**keyless), sound])

    assert (result.written.inserted, [each.reason for each in result.rejected]) == (1, ["key"])
    assert "domain_id, lot" in result.rejected[0].message


def test_archived_null_stays_null_in_the_table(
    connection: Connection, tables: dict[str, bulk.Table]
) -> None:
    domain = {"id": 3, "name": "copart_com"}
    said = [None, False, True]

    written(connection, tables["lots"], [
        lot(lot=n, domain=domain, archived=each) for n, each in enumerate(said)
    ])  # fmt: skip

    rows = connection.execute("SELECT archived FROM cars.lots ORDER BY lot").fetchall()
    assert [row["archived"] for row in rows] == said


def test_both_shapes_of_a_lot_are_one_row(
    connection: Connection, tables: dict[str, bulk.Table]
) -> None:
    domain = {"id": 3, "name": "copart_com"}
    plain = lot(lot=45, domain=domain, bid=8300, sale_date="2026-10-23T14:00:00Z")
    wrapped = lot(
        lot="45",
        domain=domain,
        bid={"value": 8300.0, "updated_at": None},
        sale_date={"value": "2026-10-23T14:00:00Z", "updated_at": None},
    )

    first = written(connection, tables["lots"], [plain]).written
    second = written(connection, tables["lots"], [wrapped]).written

    assert (first.inserted, second.unchanged) == (1, 1)


@given(body=records_of(LotRecord))
@settings(max_examples=60)
def test_what_is_made_of_any_lot_is_written_or_refused_and_never_breaks_its_batch(
    body: bytes, lots_table: tuple[psycopg.Connection[Any], bulk.Table]
) -> None:
    connection, table = lots_table
    try:
        record = msgspec.json.decode(body, type=LotRecord)
    except msgspec.DecodeError:
        return
    odd = attrs.evolve(lot_of(record), domain_id=1, lot=str(uuid4()))
    sound = attrs.evolve(lot(bid=5), domain_id=2, lot=str(uuid4()))

    result = bulk.write(connection, table, bulk.Batch([odd, sound], [NOON, NOON]))

    assert result.written.inserted + len(result.rejected) == 2
    assert result.written.inserted >= 1


@pytest.fixture(scope="module")
def lots_table(server: str, template: str) -> Any:
    """One table for all examples of one test: a database for each would take an hour."""
    with psycopg.connect(server, autocommit=True) as admin:
        name = f"test_{uuid4().hex[:12]}"
        admin.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        opened = psycopg.connect(make_conninfo(server, dbname=name))
        table = bulk.table_of("cars", LOTS)
        bulk.apply(opened, [table], lock_timeout_seconds=5.0)
        yield opened, table
        opened.close()
        admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
