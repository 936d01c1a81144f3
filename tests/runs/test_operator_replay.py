"""Records that were set aside are put back: with all they came with, and over nothing newer."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import attrs
import database_facts as facts
import pytest
import trio
from console import configured, syncd
from corner_shop import Plugin, Shop, open_shop
from database import connect
from upstream import Shape, serving, true_rows

from syncd import bulk
from syncd.cli import replaying
from syncd.cli.loading import Loaded
from syncd.cli.replaying import Outcome
from syncd.commit import Target
from syncd.model import Partition, Stream, Written
from syncd.plugins import Plugins
from syncd.replay import make, write
from syncd.store import quarantined
from syncd.store.selection import Aside

OPENED = datetime(2026, 1, 31, 12, tzinfo=UTC)
CARS = Shape(cars=120, per_page=50, requests_per_second=100.0)


@attrs.define
class Thing:
    id: int
    name: str | None = None
    shop_id: int | None = None
    opened: datetime | None = None
    code: Annotated[int | str | None, bulk.Column("jsonb")] = None
    rent: Decimal | None = None


@attrs.define
class Revised:
    id: int
    revision: int
    name: str | None = None


THINGS = [{"id": number, "name": f"thing {number}"} for number in range(1, 6)]
STREAM = Stream("things", Thing, key=("id",), shortcut="raw", per_account=True)


def choosy(record: Thing) -> Thing:
    if record.id % 2 == 0:
        raise ValueError("not an even one")
    return record


def still_choosy(record: Thing) -> Thing:
    if record.id == 4:
        raise TypeError("not four")
    return record


async def replayed(shop: Shop, plugin: Plugin, **which: Any) -> Outcome:
    """Replay as the console does, which has a Trio of its own."""
    loaded = Loaded(shop.config(plugin), Plugins({"shop": plugin}), ())
    return await trio.to_thread.run_sync(
        partial(replaying.replay_all, loaded, Aside(**({"instance": "shop"} | which)))
    )


@pytest.mark.parametrize("shortcut", ["raw", "values", "off"])
async def test_records_of_a_mended_plugin_are_put_back_as_if_they_had_just_come(
    dsn: str, shortcut: Any
) -> None:
    stream = attrs.evolve(STREAM, shortcut=shortcut)
    async with open_shop(dsn, THINGS) as shop:
        await shop.run(Plugin(stream, change=choosy))
        mended = Plugin(stream)

        outcome = await replayed(shop, mended)
        rows = shop.rows("id, name, account_id")
        after = await shop.run(mended)

        assert outcome.code == 0
        assert (outcome.records, outcome.done.settled) == (2, 2)
        assert outcome.done.written == Written(inserted=2)
        assert [(row["id"], row["name"]) for row in rows] == [
            (n, f"thing {n}") for n in range(1, 6)
        ]
        assert {row["account_id"] for row in rows} == {"north"}
        assert shop.quarantined() == []
        assert shop.written == Written(unchanged=5)
        assert len(after) == (
            0 if shortcut == "raw" else 5
        )  # known by its bytes, as if it had come


async def test_what_fails_again_stays_and_counts_up_and_the_others_go(dsn: str) -> None:
    async with open_shop(dsn, THINGS) as shop:
        await shop.run(Plugin(STREAM, change=choosy))

        outcome = await replayed(shop, Plugin(STREAM, change=still_choosy))

        (said,) = outcome.done.failed.values()
        assert said == ("transform", "seen: TypeError: not four")
        assert (outcome.code, outcome.done.settled) == (3, 1)
        assert [row["id"] for row in shop.rows()] == [1, 2, 3, 5]
        (left,) = facts.rows(dsn, "SELECT message, repeats FROM syncd.quarantine")
        assert left == {"message": "seen: TypeError: not four", "repeats": 1}
        assert "failed again (transform): seen: TypeError: not four" in replaying.as_text(outcome)


async def test_what_the_table_refuses_stays_alone(dsn: str) -> None:
    async with open_shop(dsn, THINGS) as shop:
        await shop.run(Plugin(STREAM, change=choosy))
        shop.execute("ALTER TABLE shop.things ADD CONSTRAINT no_four CHECK (id <> 4)")

        outcome = await replayed(shop, Plugin(STREAM))

        ((reason, _),) = outcome.done.failed.values()
        assert (reason, outcome.done.settled) == ("refused", 1)
        assert [row["id"] for row in shop.rows()] == [1, 2, 3, 5]
        assert facts.rows(dsn, "SELECT reason FROM syncd.quarantine") == [{"reason": "refused"}]


async def test_a_record_is_made_again_with_what_its_surroundings_gave_it(dsn: str) -> None:
    parent = {"shop_id": 7, "opened": OPENED, "code": "007", "rent": Decimal("12.30")}
    async with open_shop(dsn, THINGS) as shop:
        await shop.run(Plugin(STREAM, change=choosy, parent=parent))

        await replayed(shop, Plugin(STREAM))  # which itself says nothing of them

        rows = [tuple(row.values()) for row in shop.rows("shop_id, opened, code, rent")]
        assert rows == [(7, OPENED, "007", Decimal("12.3"))] * 5


async def test_what_its_class_cannot_take_from_its_surroundings_any_more_fails_again(
    dsn: str,
) -> None:
    async with open_shop(dsn, THINGS) as shop:
        await shop.run(Plugin(STREAM, change=choosy, parent={"shop_id": 7}))
        shop.execute('UPDATE syncd.quarantine SET parent = \'{"shop_id": "east"}\'')

        outcome = await replayed(shop, Plugin(STREAM))

        assert {reason for reason, _ in outcome.done.failed.values()} == {"decode"}
        assert len(shop.quarantined()) == 2


async def test_a_row_that_came_in_the_meantime_is_never_overwritten(dsn: str) -> None:
    async with open_shop(dsn, THINGS) as shop:
        await shop.run(Plugin(STREAM, change=choosy))
        shop.things[1] = {"id": 2, "name": "newer"}
        mended = Plugin(STREAM)
        await shop.run(mended)

        outcome = await replayed(shop, mended)

        assert outcome.done.written == Written(unchanged=1, stale=1)
        names = {row["id"]: row["name"] for row in shop.rows("id, name")}
        assert (names[2], names[4]) == ("newer", "thing 4")
        assert shop.quarantined() == []


async def test_a_record_is_written_with_no_higher_version_than_it_came_with(dsn: str) -> None:
    stream = Stream("things", Revised, key=("id",), version="revision")
    things = [{"id": 1, "revision": 5, "name": "five"}]

    def raised(record: Revised) -> Revised:
        return attrs.evolve(record, revision=9)

    async with open_shop(dsn, things) as shop:
        await shop.run(Plugin(stream))
        shop.execute("DELETE FROM shop.things; ALTER TABLE shop.things ADD CHECK (id <> 1)")
        await shop.run(Plugin(stream))
        assert facts.rows(dsn, "SELECT version FROM syncd.quarantine") == [{"version": 5}]
        shop.execute("ALTER TABLE shop.things DROP CONSTRAINT things_id_check")

        await replayed(shop, Plugin(stream, change=raised, transform_version=2))

        assert shop.rows("id, _syncd_version AS version") == [{"id": 1, "version": 5}]


async def test_a_record_that_comes_again_while_it_is_replayed_is_left(dsn: str) -> None:
    async with open_shop(dsn, THINGS) as shop:
        await shop.run(Plugin(STREAM, change=choosy))
        plugin = Plugin(STREAM)
        instance = shop.config(plugin).instances["shop"]
        pipeline = Plugins({"shop": plugin}).pipeline(instance, plugin.connector.feeds[0])
        target = Target.of(instance, pipeline, frozenset({"things"}))
        with connect(dsn) as connection:
            among = quarantined.following(connection, Aside(), after=0, upto=9, most=9)
        shop.execute(f"UPDATE syncd.quarantine SET repeats = repeats + 1 WHERE id = {among[0].id}")

        with connect(dsn) as connection:
            made = make(target.makers["things"], among)
            where = Partition("shop", "", plugin.connector.feeds[0].name)
            done = write(connection, target, where, among, made, stream="things")

        assert (done.changed, done.settled, done.written) == (1, 1, Written(inserted=1))
        assert [row["id"] for row in facts.rows(dsn, "SELECT id FROM syncd.quarantine")] == [
            among[0].id
        ]


async def test_what_cannot_be_replayed_says_why_and_stays(dsn: str) -> None:
    things: list[dict[str, Any]] = [
        {"id": 2, "name": "x" * 70_000},
        *({"id": n} for n in (4, 6, 8)),
    ]
    async with open_shop(dsn, things) as shop:
        await shop.run(Plugin(STREAM, change=choosy))
        shop.execute(
            "UPDATE syncd.quarantine SET raw_hash = decode(md5('it'), 'hex')"
            " WHERE id = (SELECT max(id) FROM syncd.quarantine);"
            "UPDATE syncd.quarantine SET raw = NULL, raw_bytes = NULL WHERE id ="
            " (SELECT min(id) FROM syncd.quarantine WHERE raw_bytes < 100);"
            "UPDATE syncd.quarantine SET parent = NULL WHERE raw_bytes < 100"
        )

        outcome = await replayed(shop, Plugin(STREAM))

        assert (outcome.code, outcome.done.settled, len(shop.quarantined())) == (3, 0, 4)
        said = replaying.as_text(outcome)
        assert "only the first 64 KiB of its 70," in said
        assert "its bytes are not known" in said
        assert "a part of its bytes was taken out" in said
        assert "what its surroundings gave it was not kept" in said


async def test_streams_that_cannot_be_replayed_do_not_keep_the_others(dsn: str) -> None:
    async with open_shop(dsn, THINGS) as shop:
        await shop.run(Plugin(STREAM, change=choosy))
        shop.execute(
            "UPDATE syncd.quarantine SET stream = 'gone' WHERE id IN"
            " (SELECT min(id) FROM syncd.quarantine);"
            "INSERT INTO syncd.quarantine (instance, account, stream, record_key, reason, message,"
            " first_seen_at, last_seen_at) VALUES ('mall', 'a', 's',"
            " decode(repeat('00', 16), 'hex'), 'key', 'm', syncd.clock(), syncd.clock())"
        )

        outcome = await replayed(shop, Plugin(STREAM), instance=None)

        assert (outcome.code, outcome.records, outcome.done.settled) == (3, 3, 1)
        assert set(outcome.refused) == {"shop.gone", "mall.s"}
        assert "mall.s: the connector is not configured" in replaying.as_text(outcome)


async def test_the_lots_of_cars_are_put_back_with_their_cars(dsn: str, tmp_path: Path) -> None:
    """By the console, as it is: lots that the table refused, and takes again."""
    async with serving(CARS) as upstream:
        file = configured(upstream, tmp_path, dsn)
        true = true_rows(upstream.simulator.inventory)
        domain, lot, car, *_ = true["lots"][3]
        await syncd("-c", file, "run", "cars", folder=tmp_path)
        facts.execute(
            dsn,
            f"DELETE FROM cars.lots WHERE domain_id = {domain} AND lot = '{lot}';"
            f"ALTER TABLE cars.lots ADD CONSTRAINT mine"
            f" CHECK (domain_id <> {domain} OR lot <> '{lot}')",
        )
        await syncd("-c", file, "run", "cars", "--full", folder=tmp_path)
        (aside,) = facts.rows(
            dsn, "SELECT id, parent FROM syncd.quarantine WHERE reason = 'refused'"
        )

        refused = await syncd(
            "-c", file, "quarantine", "replay", "--reason", "refused", folder=tmp_path
        )
        facts.execute(dsn, "ALTER TABLE cars.lots DROP CONSTRAINT mine")
        taken = await syncd(
            "-c", file, "quarantine", "replay", "--id", str(aside["id"]), "--json", folder=tmp_path
        )
        keyless = await syncd(
            "-c", file, "quarantine", "replay", "--stream", "lots", "--json", folder=tmp_path
        )

    assert aside["parent"] == {"car_id": car}
    assert refused.code == 3
    assert f"record {aside['id']}: failed again (refused)" in refused.out
    assert (taken.code, taken.json()["replayed"]) == (0, 1)
    assert taken.json()["rows"]["inserted"] == 1
    stored = facts.stored_rows(dsn)
    assert (stored["cars"], stored["lots"]) == (true["cars"], true["lots"])
    assert len(keyless.json()["failed"]) == len(true["aside"]) > 0
    assert {each["reason"] for each in keyless.json()["failed"]} == {"key"}
    assert keyless.code == 3
