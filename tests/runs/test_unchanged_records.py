"""An unchanged record costs no row version, and by its bytes not even a decoding (P21)."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from corner_shop import Plugin, open_shop

from syncd import bulk
from syncd.errors import ConfigError
from syncd.model import Stream, Written


@attrs.define
class Thing:
    id: int
    name: str | None = None
    views: int | None = None
    shop_id: int | None = None


@attrs.define
class Place:
    id: int | None = None


@attrs.define
class Offer:
    """A record whose key lies in it at two depths, as a number or as text."""

    id: int
    lot: int | str | None = None
    place: Place | None = None


@attrs.define
class OfferRow:
    id: int
    place_id: int | None
    lot: str | None


def offer_row(record: Offer) -> OfferRow:
    place = record.place.id if record.place else None
    return OfferRow(record.id, place, None if record.lot is None else str(record.lot))


THINGS = [{"id": number, "name": f"thing {number}", "views": number} for number in range(1, 6)]
OFFERS = [{"id": n, "lot": n if n % 2 else str(n), "place": {"id": 7}} for n in range(1, 6)]

RAW = Stream("things", Thing, key=("id",), shortcut="raw")
VALUES = Stream("things", Thing, key=("id",), volatile=("views",))


def raw_plugin(**options: Any) -> Plugin:
    return Plugin(RAW, **options)


BY_BYTES: dict[str, tuple[Plugin, Any]] = {
    "a single key": (raw_plugin(), THINGS),
    "a key of two": (Plugin(attrs.evolve(RAW, key=("id", "name"))), THINGS),
    "a key of an account": (Plugin(attrs.evolve(RAW, per_account=True)), THINGS),
    "a key with a parent's value": (
        Plugin(attrs.evolve(RAW, key=("shop_id", "id")), parent={"shop_id": 3}),
        THINGS,
    ),
    "a nested key that a transform makes text of": (
        Plugin(
            Stream("things", Offer, ("place.id", "lot"), row=OfferRow, shortcut="raw"),
            change=offer_row,
        ),
        OFFERS,
    ),
}


@pytest.mark.parametrize("key", BY_BYTES)
async def test_a_record_that_came_with_the_same_bytes_is_not_decoded(dsn: str, key: str) -> None:
    plugin, records = BY_BYTES[key]
    async with open_shop(dsn, records) as shop:
        assert len(await shop.run(plugin)) == 5
        before = shop.row_versions()

        assert await shop.run(plugin) == []

        assert shop.written == Written(unchanged=5)
        assert shop.row_versions() == before


async def test_a_changed_record_is_decoded_alone(dsn: str) -> None:
    plugin = raw_plugin()
    async with open_shop(dsn, THINGS) as shop:
        await shop.run(plugin)
        shop.things[2]["name"] = "another"
        shop.things.append({"id": 9})

        decoded = await shop.run(plugin)

        assert [record.id for record in decoded] == [3, 9]
        assert shop.written == Written(inserted=1, updated=1, unchanged=4)
        assert {row["id"]: row["name"] for row in shop.rows("id, name")}[3] == "another"
        assert await shop.run(plugin) == []


async def test_bytes_that_make_no_other_row_leave_it_alone(dsn: str) -> None:
    plugin = raw_plugin()
    async with open_shop(dsn, THINGS) as shop:
        await shop.run(plugin)
        before = shop.row_versions()
        shop.things = [dict(reversed(thing.items())) for thing in THINGS]

        assert len(await shop.run(plugin)) == 5
        assert (shop.written, shop.row_versions()) == (Written(unchanged=5), before)


async def test_another_parent_is_another_record(dsn: str) -> None:
    plugin = raw_plugin(parent={"shop_id": 3})
    async with open_shop(dsn, THINGS) as shop:
        await shop.run(plugin)

        plugin.parent = {"shop_id": 4}
        assert len(await shop.run(plugin)) == 5
        assert {row["shop_id"] for row in shop.rows()} == {4}


@attrs.define
class ThingWithField(Thing):
    colour: str | None = None


async def test_an_added_field_makes_every_row_anew_and_then_none(dsn: str) -> None:
    coloured = [{**thing, "colour": "red"} for thing in THINGS]
    async with open_shop(dsn, coloured) as shop:
        await shop.run(raw_plugin())
        newer = Plugin(attrs.evolve(RAW, record=ThingWithField))

        assert len(await shop.run(newer)) == 5
        assert {row["colour"] for row in shop.rows()} == {"red"}
        assert await shop.run(newer) == []


@pytest.mark.parametrize("stream", [RAW, VALUES])
async def test_a_bumped_transform_is_applied_to_every_row_and_then_to_none(
    dsn: str, stream: Stream
) -> None:
    """Also where it makes the same row again: else the row would never be known again."""

    def shouting(record: Thing) -> Thing:
        return attrs.evolve(record, name=str(record.name).upper()) if record.id == 1 else record

    async with open_shop(dsn, THINGS) as shop:
        await shop.run(Plugin(stream))
        newer = Plugin(stream, change=shouting, transform_version=2)

        assert len(await shop.run(newer)) == 5
        assert [row["name"] for row in shop.rows()][:2] == ["THING 1", "thing 2"]
        await shop.run(newer)
        assert shop.written == Written(unchanged=5)
        shop.execute("UPDATE shop.things SET name = 'by hand' WHERE id = 2")
        await shop.run(newer)
        assert [row["name"] for row in shop.rows()][:2] == ["THING 1", "by hand"]


@pytest.mark.parametrize("stream", [RAW, VALUES])
async def test_verifying_heals_a_row_that_was_edited_by_hand(dsn: str, stream: Stream) -> None:
    plugin = Plugin(stream)
    async with open_shop(dsn, THINGS) as shop:
        await shop.run(plugin)
        shop.execute("UPDATE shop.things SET name = 'by hand' WHERE id = 2")

        await shop.run(plugin)
        assert shop.written == Written(unchanged=5)  # the record says nothing new

        assert len(await shop.run(plugin, verify=True)) == 5
        assert shop.written == Written(updated=1, unchanged=4)
        assert [row["name"] for row in shop.rows()] == [thing["name"] for thing in THINGS]


@pytest.mark.parametrize("stream", [RAW, VALUES])
async def test_a_row_that_was_deleted_by_hand_comes_back(dsn: str, stream: Stream) -> None:
    plugin = Plugin(stream)
    async with open_shop(dsn, THINGS) as shop:
        await shop.run(plugin)
        shop.execute("DELETE FROM shop.things WHERE id = 2")

        await shop.run(plugin)

        assert shop.written == Written(inserted=1, unchanged=4)
        assert len(shop.rows()) == 5


@pytest.mark.parametrize("shortcut", ["raw", "values"])
async def test_a_quarantined_record_is_counted_each_time_it_comes(dsn: str, shortcut: Any) -> None:
    def refusing(record: Thing) -> Thing:
        if record.id == 2:
            raise ValueError("not this one")
        return record

    plugin = Plugin(attrs.evolve(RAW, shortcut=shortcut), change=refusing)
    async with open_shop(dsn, THINGS) as shop:
        await shop.run(plugin)
        await shop.run(plugin)

        assert shop.written == Written(unchanged=4)
        assert shop.quarantined() == [{"reason": "transform", "repeats": 1}]
        assert 2 not in [row["id"] for row in shop.rows()]


async def test_a_volatile_value_is_no_change_and_comes_with_the_next_one(dsn: str) -> None:
    plugin = Plugin(VALUES)
    async with open_shop(dsn, THINGS) as shop:
        await shop.run(plugin)
        before = shop.row_versions()
        for thing in shop.things:
            thing["views"] += 100

        await shop.run(plugin)
        assert (shop.written, shop.row_versions()) == (Written(unchanged=5), before)
        await shop.run(plugin, verify=True)
        assert (shop.written, shop.row_versions()) == (Written(unchanged=5), before)

        shop.things[0]["name"] = "another"
        await shop.run(plugin)
        assert shop.written == Written(updated=1, unchanged=4)
        assert [row["views"] for row in shop.rows()] == [101, 2, 3, 4, 5]


async def test_a_record_of_several_rows_is_made_each_time(dsn: str) -> None:
    """Each of its rows by itself does not say that the others are there."""

    def halves(record: Thing) -> list[Thing]:
        return [record, attrs.evolve(record, id=record.id + 100)]

    plugin = raw_plugin(change=halves)
    async with open_shop(dsn, THINGS) as shop:
        await shop.run(plugin)
        shop.execute("DELETE FROM shop.things WHERE id > 100")

        assert len(await shop.run(plugin)) == 5
        assert shop.written == Written(inserted=5, unchanged=5)


async def test_a_hash_that_is_missing_is_made_good(dsn: str) -> None:
    """Rows that were written before the stream had hashes are known from the next pass on."""
    plugin = raw_plugin()
    async with open_shop(dsn, THINGS) as shop:
        await shop.run(Plugin(attrs.evolve(RAW, shortcut="off")))
        assert "_syncd_hash" not in shop.rows()[0]

        assert len(await shop.run(plugin)) == 5
        assert await shop.run(plugin) == []


BAD_KEYS: list[Any] = [2**70, "a\0b", "\ud800", None, {}]


@pytest.mark.parametrize("bad", BAD_KEYS[:1] + BAD_KEYS[3:], ids=str)
async def test_a_key_that_cannot_be_looked_up_hinders_no_other_record(dsn: str, bad: Any) -> None:
    plugin = raw_plugin()
    async with open_shop(dsn, [*THINGS, {"id": bad}]) as shop:
        await shop.run(plugin)
        before = shop.row_versions()

        await shop.run(plugin)

        assert (shop.written, shop.row_versions()) == (Written(unchanged=5), before)
        assert [row["repeats"] for row in shop.quarantined()] == [1]


@attrs.define
class Titled:
    id: str
    name: str | None = None


@pytest.mark.parametrize("shortcut", ["raw", "values"])
async def test_a_text_that_no_key_can_be_hinders_no_other_record(dsn: str, shortcut: Any) -> None:
    plugin = Plugin(Stream("things", Titled, key=("id",), shortcut=shortcut))
    things = [{"id": "a"}, {"id": "b\0c"}, {"id": "d"}]
    async with open_shop(dsn, things) as shop:
        await shop.run(plugin)
        before = shop.row_versions()

        await shop.run(plugin)

        assert (shop.written, shop.row_versions()) == (Written(unchanged=2), before)
        assert [row["repeats"] for row in shop.quarantined()] == [1]


async def test_one_known_record_among_many_new_ones_is_counted_right(dsn: str) -> None:
    many = [{"id": number} for number in range(1, 1001)]
    plugin = raw_plugin()
    async with open_shop(dsn, many[500:501]) as shop:
        await shop.run(plugin)
        shop.things = many

        await shop.run(plugin)
        assert shop.written == Written(inserted=999, unchanged=1)
        assert await shop.run(plugin) == []
        assert shop.written == Written(unchanged=1000)


@pytest.mark.parametrize(
    ("stream", "says"),
    [
        (attrs.evolve(RAW, volatile=("views",)), "volatile"),
        (attrs.evolve(RAW, mode="append", key=()), "append"),
        (attrs.evolve(RAW, record=Place, row=Thing, key=("name",)), "no field for name"),
        (attrs.evolve(VALUES, volatile=("id",)), "part of the key"),
        (attrs.evolve(VALUES, volatile=("sights",)), "sights"),
    ],
)
def test_a_shortcut_that_cannot_be_is_refused(stream: Stream, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        bulk.key_reader(stream, bulk.table_of("shop", stream))
