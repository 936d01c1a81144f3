"""Tables are made and grow as the classes do, whoever else is at it, and nothing is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from decimal import Decimal
from functools import partial
from threading import Barrier
from typing import Annotated, LiteralString

import attrs
import psycopg
import pytest
from bulk_world import EVERYTHING, ITEMS, Item, Task, made, put, stored, written
from database import connect

from syncd import bulk
from syncd.bulk import Column, Table
from syncd.errors import ConfigError
from syncd.model import Stream
from syncd.store.hops import Connection

LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('syncd: data tables', 0))"


@attrs.frozen
class Grown:
    """The class of the items, one release later: `tags` are gone, others came."""

    id: int
    value: str | None
    stars: int
    price: Annotated[Decimal, Column("numeric(14,2)")]


GROWN = Stream("items", Grown, key=("id",), indexes=(("stars", "price"),))


@pytest.fixture
def another(dsn: str) -> Iterator[Callable[[], Connection]]:
    """Opens further connections to the test's database."""
    with ExitStack() as opened:
        yield lambda: opened.enter_context(connect(dsn))


def applied(connection: Connection, *tables: Table, seconds: float = 5) -> dict[str, int]:
    done = bulk.apply(connection, tables, lock_timeout_seconds=seconds)
    connection.commit()
    return done


def types(connection: Connection, table: str) -> dict[str, str]:
    rows = connection.execute(
        "SELECT attname, format_type(atttypid, atttypmod) || CASE WHEN attnotnull THEN ' not null'"
        " ELSE '' END AS type FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0"
        " AND NOT attisdropped ORDER BY attnum",
        [table],
    )
    return {row["attname"]: row["type"] for row in rows}


def test_a_table_is_made_from_its_class(connection: Connection) -> None:
    made(connection, attrs.evolve(EVERYTHING, per_account=True, indexes=(("account_id", "born"),)))

    assert types(connection, "shop.everything") == {
        "account_id": "text not null",
        "id": "bigint not null",
        "title": "text",
        "count": "bigint",
        "small": "smallint",
        "ratio": "double precision",
        "single": "real",
        "price": "numeric(14,2)",
        "amount": "numeric",
        "rough": "numeric(9,3)",
        "flag": "boolean",
        "born": "date",
        "seen": "timestamp with time zone",
        "token": "uuid",
        "blob": "bytea",
        "document": "jsonb",
        "_syncd_written_at": "timestamp with time zone not null",
        "_syncd_version": "bigint not null",
        "_syncd_hash": "bytea",
    }
    query = "SELECT indexdef FROM pg_indexes WHERE schemaname = 'shop' ORDER BY indexname"
    indexes = [row["indexdef"].partition("USING ")[2] for row in connection.execute(query)]
    assert indexes == ["btree (account_id, born)", "btree (account_id, id)"]
    comment = connection.execute("SELECT obj_description('shop.everything'::regclass) AS said")
    assert comment.fetchone() == {"said": "written by syncd: shop.everything"}


def test_a_table_that_fits_is_only_looked_at(
    connection: Connection, another: Callable[[], Connection]
) -> None:
    """Another process holds every lock that a change would need."""
    table = made(connection, ITEMS)
    other = another()
    other.execute(LOCK)
    other.execute("LOCK TABLE shop.items IN ACCESS EXCLUSIVE MODE")

    assert applied(connection, table, seconds=0.05) == {}
    assert bulk.plan(connection, table) == []


def test_new_fields_become_columns_and_old_ones_stay(connection: Connection) -> None:
    table = made(connection, ITEMS)
    put(connection, table, [Item(1, "before", [1])])

    grown = bulk.table_of("shop", GROWN)
    assert applied(connection, grown) == {"shop.items": 3}
    result = put(
        connection, grown, [Grown(1, "before", 3, Decimal(1)), Grown(2, "x", 4, Decimal(2))]
    )
    old = put(connection, table, [Item(3, "an old replica's", [2])])

    assert (result.written, old.written) == (written(inserted=1, updated=1), written(inserted=1))
    rows = stored(connection, table, "id, value, tags, stars")
    assert [tuple(row.values()) for row in rows] == [
        (1, "before", [1], 3),
        (2, "x", None, 4),
        (3, "an old replica's", [2], None),
    ]


def test_two_processes_make_the_same_tables_at_once(
    connection: Connection, another: Callable[[], Connection]
) -> None:
    tables = [bulk.table_of("shop", stream) for stream in (GROWN, EVERYTHING)]
    start = Barrier(4)

    def at_once(own: Connection, order: list[Table]) -> dict[str, int]:
        start.wait(10)
        return applied(own, *order)

    both = (tables, tables[::-1])
    tasks = [Task(partial(at_once, another(), both[n % 2])) for n in range(4)]
    done = [task.result() for task in tasks]

    assert sorted(map(len, done)) == [0, 0, 0, 2]
    assert [bulk.plan(connection, table) for table in tables] == [[], []]


def test_whoever_waits_too_long_for_the_lock_gives_up(
    connection: Connection, another: Callable[[], Connection]
) -> None:
    other = another()
    other.execute(LOCK)

    with pytest.raises(psycopg.errors.LockNotAvailable):
        applied(connection, bulk.table_of("shop", ITEMS), seconds=0.05)


def test_a_table_in_use_is_waited_for_no_longer_than_told(
    connection: Connection, another: Callable[[], Connection]
) -> None:
    made(connection, ITEMS)
    another().execute("SELECT * FROM shop.items")

    with pytest.raises(psycopg.errors.LockNotAvailable):
        applied(connection, bulk.table_of("shop", GROWN), seconds=0.05)


def test_the_callers_lock_timeout_holds_again_afterwards(connection: Connection) -> None:
    connection.execute("SET LOCAL lock_timeout = '1234ms'")

    bulk.apply(connection, [bulk.table_of("shop", ITEMS)], lock_timeout_seconds=7)

    assert connection.execute("SHOW lock_timeout").fetchone() == {"lock_timeout": "1234ms"}


def test_what_was_made_is_undone_with_the_callers_transaction(connection: Connection) -> None:
    table = bulk.table_of("shop", ITEMS)

    bulk.apply(connection, [table], lock_timeout_seconds=5)
    connection.rollback()

    assert len(bulk.plan(connection, table)) == 3


NOT_OURS = "is there already, and is no ordinary table that syncd made"


@pytest.mark.parametrize(
    ("found", "what"),
    [
        (
            "ALTER TABLE shop.items ALTER value TYPE varchar(9)",
            "column 'value' is character varying(9), and text is declared",
        ),
        (
            "ALTER TABLE shop.items DROP CONSTRAINT items_pkey",
            "the primary key is none, and id is declared",
        ),
        ("ALTER TABLE shop.items DROP COLUMN _syncd_version", NOT_OURS),
        (
            "DROP TABLE shop.items; CREATE TABLE shop.items (id int) PARTITION BY HASH (id)",
            NOT_OURS,
        ),
        ("ALTER TABLE shop.items RENAME TO t; CREATE VIEW shop.items AS TABLE shop.t", NOT_OURS),
    ],
)
def test_a_table_that_is_another_one_is_refused(
    connection: Connection, found: LiteralString, what: str
) -> None:
    table = made(connection, ITEMS)
    connection.execute(found)

    with pytest.raises(ConfigError) as caught:
        bulk.plan(connection, table)

    assert (caught.value.where, caught.value.what) == ("shop.items", what)
    assert caught.value.do


def test_the_remedy_for_another_type_is_a_statement_that_helps(connection: Connection) -> None:
    table = made(connection, ITEMS)
    connection.execute("ALTER TABLE shop.items ALTER value TYPE varchar(9)")

    with pytest.raises(ConfigError) as caught:
        bulk.plan(connection, table)
    remedy = caught.value.do.removeprefix("run ").removesuffix(", or change the class")
    connection.execute(remedy.encode())

    assert bulk.plan(connection, table) == []


def test_a_dropped_index_is_made_again(connection: Connection) -> None:
    stream = attrs.evolve(ITEMS, indexes=(("value",),))
    table = made(connection, stream)
    connection.execute("DROP INDEX shop.items_value_idx")

    assert applied(connection, table) == {"shop.items": 1}
    assert applied(connection, table) == {}
