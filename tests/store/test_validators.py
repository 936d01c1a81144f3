"""Validators in the database: written with their pages, read ahead, forgotten when not met."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import attrs
import psycopg
import pytest

from syncd.errors import LeaseLost
from syncd.model import Connector, Cursor, Instance, Page, Partition, Slice, Upstream
from syncd.nodes import Node, Walked
from syncd.store import leases, registry, validators
from syncd.store.hops import Connection
from syncd.store.leases import Lease
from syncd.store.validators import Under
from syncd.validators import Condition, Validator

NOW = datetime(2026, 3, 1, tzinfo=UTC)
PAGE = Page({"s": ["r", "r"]}, end=True, total=7, date=NOW)
OPENS = (Cursor({"id": 1.0, "\x7f": 'a"b'}, kind="item", version=3), Cursor([1e20, None], number=4))


@pytest.fixture
def partitions(connection: Connection) -> list[int]:
    connector = Connector("c", "1", object, (), lambda *_: Upstream("http://x", ()))
    registry.register_instance(connection, Instance("i", connector, None, ()), now=NOW)
    connection.execute("INSERT INTO syncd.account VALUES ('i', 'default')")
    parts = [Partition("i", "default", "f", Slice(name)) for name in ("a", "b")]
    return sorted(registry.register_partitions(connection, parts, now=NOW))


def node(number: int) -> Node:
    return Node.of(Cursor({}, number=number), depth=0, ordinal=number)


def condition(etag: str | None = '"1"', last_modified: str | None = None) -> Condition:
    return Condition(b"r" * 16, etag, last_modified)


def known(said: Condition, page: Page = PAGE) -> Validator:
    return Validator(said, page.opens, page.end, page.date is not None, page.total, page.counts)


def sent(number: int, said: Condition | None = None, page: Page = PAGE) -> Walked:
    validator = None if said is None else known(said, page)
    return Walked(node(number), page, NOW, (), validator=validator)


def same(number: int, said: Condition) -> Walked:
    validator = known(said)
    return Walked(node(number), validator.page(NOW), NOW, (), validator=validator)


@attrs.frozen
class Kept:
    """The validators of one partition, under one fingerprint."""

    connection: Connection
    under: Under

    def write(self, *batch: Walked, pass_id: int = 1, doubtful: Collection[bytes] = ()) -> None:
        validators.write(self.connection, self.under, pass_id, batch=batch, doubtful=doubtful)

    def read(self, *numbers: int) -> dict[int, Validator]:
        keys = {node(number).key: number for number in numbers}
        found = validators.stored(self.connection, self.under, list(keys), most=len(keys))
        assert found.keys() == keys.keys()
        return {keys[key]: each for key, each in found.items() if each is not None}


@pytest.fixture
def kept(connection: Connection, partitions: list[int]) -> Kept:
    return Kept(connection, Under(partitions[0], "print"))


def test_a_validator_is_read_as_it_was_written(kept: Kept) -> None:
    page = attrs.evolve(PAGE, opens=OPENS, total=None, date=None, end=False)
    kept.write(sent(1, condition(None, "a date"), page), sent(2, condition()))

    found = kept.read(1, 2, 3)

    assert found == {1: known(condition(None, "a date"), page), 2: known(condition())}
    assert [type(each.value) for each in found[1].opens] == [dict, list]


@pytest.mark.parametrize("length", [3, 5, 40, 300])
def test_a_chain_is_read_ahead_as_far_as_is_known(kept: Kept, length: int) -> None:
    def page(number: int) -> Page:
        return attrs.evolve(PAGE, opens=(Cursor({}, number=number + 1), Cursor({}, number=1)))

    kept.write(*(sent(number, condition(), page(number)) for number in range(1, length + 1)))

    found = validators.stored(kept.connection, kept.under, [node(1).key], most=200)

    followed = min(length + 1, validators.FOLLOWED_MAX)
    assert found.keys() == {node(number).key for number in range(1, followed + 1)}
    assert [key for key, each in found.items() if each is None] == [
        node(number).key for number in range(length + 1, followed + 1)
    ]


def test_of_many_cursors_that_a_page_named_only_so_many_are_read(kept: Kept) -> None:
    opens = tuple(Cursor({}, number=number) for number in range(2, 500))
    kept.write(sent(1, condition(), attrs.evolve(PAGE, opens=opens)))

    found = validators.stored(kept.connection, kept.under, [node(1).key], most=200)

    assert len(found) == 200


def test_a_validator_of_another_partition_or_fingerprint_is_not_there(
    kept: Kept, partitions: list[int]
) -> None:
    kept.write(sent(1, condition()))
    elsewhere = attrs.evolve(kept, under=Under(partitions[1], "print"))
    otherwise = attrs.evolve(kept, under=Under(partitions[0], "other"))

    assert (elsewhere.read(1), otherwise.read(1)) == ({}, {})
    otherwise.write(sent(1, condition('"2"')))
    assert kept.read(1) == {}  # one page has one validator
    assert otherwise.read(1) == {1: known(condition('"2"'))}


def test_a_page_that_came_without_a_validator_or_is_doubted_loses_its_own(kept: Kept) -> None:
    kept.write(*(sent(number, condition()) for number in range(1, 5)))

    kept.write(sent(1), sent(2, condition('"2"')), sent(3, condition()), doubtful={node(3).key})

    assert kept.read(1, 2, 3, 4) == {2: known(condition('"2"')), 4: known(condition())}


def test_a_304_confirms_a_validator_and_may_renew_it(kept: Kept) -> None:
    page = attrs.evolve(PAGE, opens=OPENS)
    kept.write(sent(1, condition(), page), sent(2, condition()))

    kept.write(same(1, condition('W/"2"', "a date")), pass_id=2)

    assert kept.read(1) == {1: known(condition('W/"2"', "a date"), page)}  # what it opens, too
    rows = kept.connection.execute("SELECT pass_id FROM syncd.validator ORDER BY 1").fetchall()
    assert [row["pass_id"] for row in rows] == [1, 2]


def test_confirming_what_somebody_deleted_brings_nothing_back(kept: Kept) -> None:
    kept.write(same(1, condition()))

    assert kept.read(1) == {}


def claimed(connection: Connection) -> Lease:
    asked: dict[str, Any] = {"free": 1, "lease_seconds": 60.0, "job": "j", "early": True}
    (lease,) = leases.claim(connection, owner=uuid4(), token=uuid4(), **asked)
    return lease


def test_what_a_full_pass_did_not_meet_is_forgotten_in_its_partition_only(
    connection: Connection, partitions: list[int]
) -> None:
    lease = claimed(connection)
    (other,) = set(partitions) - {lease.partition_id}
    here = Kept(connection, Under(lease.partition_id, "print"))
    there = Kept(connection, Under(other, "print"))
    for each in (here, there):
        each.write(sent(1, condition()), sent(2, condition()), pass_id=1)
    here.write(same(2, condition()), sent(3, condition()), pass_id=2)

    deleted = validators.forget(connection, lease, 2)

    assert deleted == 1
    assert (set(here.read(1, 2, 3)), set(there.read(1, 2, 3))) == ({2, 3}, {1, 2})


def test_a_lost_lease_forgets_nothing(connection: Connection, partitions: list[int]) -> None:
    lease = claimed(connection)
    here = Kept(connection, Under(lease.partition_id, "print"))
    here.write(sent(1, condition()), pass_id=1)
    stale = attrs.evolve(lease, epoch=lease.epoch - 1)

    with pytest.raises(LeaseLost):
        validators.forget(connection, stale, 2)

    assert set(here.read(1)) == {1}


def test_a_partition_that_goes_takes_its_validators_along(kept: Kept) -> None:
    kept.write(sent(1, condition()))

    kept.connection.execute("DELETE FROM syncd.partition")

    assert kept.connection.execute("SELECT FROM syncd.validator").fetchall() == []


@pytest.mark.parametrize(
    "change",
    [
        "etag = NULL",
        "etag = '\"'",
        "etag = repeat('a', 1025)",
        "etag = NULL, last_modified = ''",
        "last_modified = repeat('a', 1025)",
        "request_key = 'short'",
        "fingerprint = ''",
        "opens = '{}'",
        "records = '[]'",
        "total = -1",
    ],
)
def test_impossible_validators_are_refused(kept: Kept, change: str) -> None:
    kept.write(sent(1, condition()))

    with pytest.raises(psycopg.errors.CheckViolation):
        kept.connection.execute(f"UPDATE syncd.validator SET {change}".encode())


def test_a_table_that_is_emptied_is_kept_in_another_file(connection: Connection) -> None:
    connection.execute('CREATE SCHEMA "cars-kr"; CREATE TABLE "cars-kr".cars (id int)')
    connection.commit()
    asked = [("cars-kr", "cars"), ("cars-kr", "none")]

    before = validators.storage(connection, asked)
    connection.execute('INSERT INTO "cars-kr".cars VALUES (1)')
    grown = validators.storage(connection, asked)
    connection.execute('TRUNCATE "cars-kr".cars')
    emptied = validators.storage(connection, asked)

    assert before == grown
    assert before["cars"] != emptied["cars"]
    assert before["none"] is None
