"""Rows made of rows: what they hold, what is left alone, what it costs, what is refused."""

from __future__ import annotations

import re
from typing import Any

import attrs
import psycopg
import pytest
from bulk_world import made, stored, written

from syncd import Derivation, Stream
from syncd.bulk import Table
from syncd.bulk.derived import Derived, check, derive, sample
from syncd.errors import HookError, StoreError
from syncd.model import WriteMode
from syncd.store.hops import Connection


@attrs.frozen
class Provider:
    npi: str
    state: str | None
    age: int | None


@attrs.frozen
class Lead:
    npi: str
    status: str
    age: int | None = None


PROVIDERS = Stream("providers", Provider, key=("npi",), shortcut="off")
SELECT = (
    "SELECT p.npi, %(status)s AS status, p.age FROM {providers} AS p WHERE p.state = %(state)s"
    " AND p.npi NOT LIKE '%%x' -- and no more"
)
FILTER = {"status": "new", "state": "TX"}


def leads(mode: WriteMode = "insert-only", **declared: Any) -> Stream:
    key = () if mode == "append" else ("npi",)
    return Stream("leads", Lead, key=key, mode=mode, shortcut="off", **declared)


def bound(connection: Connection, stream: Stream, select: str = SELECT, **given: Any) -> Derived:
    """Make the tables, and bind a select to them."""
    made(connection, PROVIDERS)
    table = made(connection, stream)
    derivation = Derivation(select, reads=("providers",), parameters=given or FILTER)
    return Derived.of(table, derivation, plugin="p")


def provide(connection: Connection, *rows: tuple[str, str, int]) -> None:
    for npi, state, age in rows:
        connection.execute(
            "INSERT INTO shop.providers VALUES (%s, %s, %s, now(), 1) ON CONFLICT (npi)"
            " DO UPDATE SET state = excluded.state, age = excluded.age",
            (npi, state, age),
        )
    connection.commit()


def rows(connection: Connection, table: Table) -> list[tuple[Any, ...]]:
    return [tuple(r.values()) for r in stored(connection, table, "npi, status, age")]


def test_rows_are_made_as_the_select_says_and_existing_ones_are_left_alone(
    connection: Connection,
) -> None:
    derived = bound(connection, leads())
    provide(connection, ("1", "TX", 30), ("2", "CA", 31), ("3", "TX", 32), ("4x", "TX", 33))
    assert derive(connection, derived, account="default") == (2, written(inserted=2))
    connection.execute("UPDATE shop.leads SET status = 'called', age = 7 WHERE npi = '1'")
    before = stored(connection, derived.table, "npi, xmin::text, xmax::text, ctid::text")
    provide(connection, ("1", "TX", 60), ("5", "TX", 34))

    assert derive(connection, derived, account="default") == (3, written(1, 0, 2))

    assert rows(connection, derived.table) == [
        ("1", "called", 7),
        ("3", "new", 32),
        ("5", "new", 34),
    ]
    after = stored(connection, derived.table, "npi, xmin::text, xmax::text, ctid::text")
    assert after[:2] == before, "not even locked"


def test_of_what_is_upserted_only_rows_that_differ_are_written(connection: Connection) -> None:
    derived = bound(connection, leads("upsert"))
    provide(connection, ("1", "TX", 30), ("2", "TX", 31))
    derive(connection, derived, account="default")
    before = stored(connection, derived.table, "xmin::text, xmax::text, _syncd_version")
    provide(connection, ("2", "TX", 32), ("3", "TX", 33))

    assert derive(connection, derived, account="default") == (3, written(1, 1, 1))

    assert rows(connection, derived.table) == [("1", "new", 30), ("2", "new", 32), ("3", "new", 33)]
    after = stored(connection, derived.table, "xmin::text, xmax::text, _syncd_version")
    assert after[0] == before[0]
    assert after[1]["_syncd_version"] > before[1]["_syncd_version"]
    # A clock that was ahead once keeps no row from being made anew.
    connection.execute("UPDATE shop.leads SET _syncd_version = 9e18")
    provide(connection, ("1", "TX", 40))
    assert derive(connection, derived, account="default") == (3, written(0, 1, 2))


def test_appended_rows_come_with_each_pass(connection: Connection) -> None:
    derived = bound(connection, leads("append"))
    provide(connection, ("1", "TX", 30))

    for _ in range(2):
        assert derive(connection, derived, account="default") == (1, written(inserted=1))

    assert rows(connection, derived.table) == [("1", "new", 30)] * 2


def test_a_volatile_column_makes_no_change(connection: Connection) -> None:
    derived = bound(connection, leads("upsert", volatile=("age",)))
    provide(connection, ("1", "TX", 30))
    derive(connection, derived, account="default")
    provide(connection, ("1", "TX", 31))

    assert derive(connection, derived, account="default") == (1, written(unchanged=1))


def test_rows_of_an_account_are_its_own(connection: Connection) -> None:
    select = "SELECT p.npi, %(account)s AS status FROM {providers} AS p"
    select = select.replace("status", "status, NULL::int AS age")
    derived = bound(connection, leads("upsert", per_account=True), select)
    provide(connection, ("1", "TX", 30))

    for account in ("north", "south"):
        assert derive(connection, derived, account=account) == (1, written(inserted=1))

    assert stored(connection, derived.table, "account_id, npi, status") == [
        {"account_id": "north", "npi": "1", "status": "north"},
        {"account_id": "south", "npi": "1", "status": "south"},
    ]


def test_values_are_cast_as_an_assignment_would(connection: Connection) -> None:
    select = "SELECT p.npi::varchar(3), 'x'::name AS status, 7::numeric AS age FROM {providers} p"
    derived = bound(connection, leads("upsert"), select)
    provide(connection, ("1", "TX", 30))
    check(connection, derived)

    derive(connection, derived, account="default")

    assert rows(connection, derived.table) == [("1", "x", 7)]


@pytest.mark.parametrize(
    ("select", "complaint"),
    [
        ("SELECT p.npi, 1 AS age FROM {providers} p", "its select lacks status; the row's"),
        (f"SELECT *, 1 AS extra FROM ({SELECT}\n) AS s", "does not know what its select has: ext"),
        (
            "SELECT p.age AS npi, '' AS status, p.age FROM {providers} p",
            r"column 'npi' is bigint, and text in the row; write \(npi\)::text",
        ),
        ("SELECT npi, npi, state AS status, age FROM {providers}", "two columns .* one name"),
        ("SELECT nip FROM {providers}", 'cannot be run: column "nip" does not exist'),
        ("SELECT npi FROM {providers} WHERE state = %(stat)s", "cannot be run: .*stat"),
        ("SELECT npi FROM {providers} WHERE npi LIKE '%x'", "cannot be run: .*placeholder"),
        ("DELETE FROM {providers} RETURNING npi, state AS status, age", "cannot be run: "),
        (
            "WITH d AS (DELETE FROM {providers} RETURNING *) SELECT npi, '' AS status, 1 AS age",
            "cannot be run: WITH clause containing a data-modifying statement",
        ),
        ("SELECT 1) AS d; DELETE FROM {providers}; SELECT (SELECT 1", "cannot be run: "),
    ],
)
def test_a_wrong_select_is_refused_before_it_is_run(
    connection: Connection, select: str, complaint: str
) -> None:
    derived = bound(connection, leads(), select)
    provide(connection, ("1", "TX", 30))

    with pytest.raises(HookError, match=complaint) as refused:
        check(connection, derived)

    assert str(refused.value).startswith("shop.leads: derive of plugin p: ")
    connection.rollback()
    assert len(connection.execute("SELECT 1 FROM shop.providers").fetchall()) == 1


def test_a_parameter_that_cannot_be_sent_is_refused(connection: Connection) -> None:
    derived = bound(connection, leads(), status="new", state=object())

    with pytest.raises(HookError, match="its select cannot be run: cannot adapt type 'object'"):
        check(connection, derived)


@pytest.mark.parametrize(
    ("mode", "select", "complaint"),
    [
        ("insert-only", "SELECT NULL AS npi, '' AS status, 1 AS age FROM {providers}", "23502"),
        ("insert-only", "SELECT npi, '' AS status, age / 0 AS age FROM {providers}", "22012"),
        ("upsert", "SELECT '' AS npi, '' AS status, age FROM {providers}", "21000"),
    ],
)
def test_what_cannot_be_written_says_why_and_parks_nothing(
    connection: Connection, mode: WriteMode, select: str, complaint: str
) -> None:
    derived = bound(connection, leads(mode), select)
    provide(connection, ("1", "TX", 30), ("2", "TX", 30))
    check(connection, derived)

    with pytest.raises(
        StoreError, match=f"plugin p: its rows cannot be written: .*{complaint}"
    ) as e:
        derive(connection, derived, account="default")

    assert type(e.value) is StoreError, "it is tried again after a wait: the rows may be mended"


def test_a_sample_shows_rows_and_cannot_write(connection: Connection) -> None:
    derived = bound(connection, leads())
    provide(connection, ("1", "TX", 30), ("3", "TX", 32))
    connection.commit()

    (row,) = sample(connection, derived, account="default", most=1)

    assert row in (
        {"npi": "1", "status": "new", "age": 30},
        {"npi": "3", "status": "new", "age": 32},
    )
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        connection.execute("DELETE FROM shop.leads")


# --- What it costs --------------------------------------------------------------------------------

MANY = 100_000


@pytest.fixture
def many(connection: Connection) -> Derived:
    """So many providers in a table that nobody has analysed, half of them leads already."""
    derived = bound(connection, leads(), status="new", state="TX")
    connection.execute(
        "INSERT INTO shop.providers SELECT n::text, 'TX', n, now(), 1"
        " FROM generate_series(1, %s) AS n",
        (MANY,),
    )
    connection.execute(
        "INSERT INTO shop.leads SELECT n::text, 'old', n, now(), 1"
        " FROM generate_series(1, %s, 2) AS n",
        (MANY,),
    )
    connection.commit()
    return derived


@pytest.mark.parametrize("analysed", [False, True])
@pytest.mark.parametrize("mode", ["insert-only", "upsert"])
def test_a_hundred_thousand_rows_are_joined_and_none_is_looked_up_by_itself(
    connection: Connection, many: Derived, mode: WriteMode, *, analysed: bool
) -> None:
    if analysed:
        connection.execute("ANALYZE shop.providers, shop.leads")
    derived = attrs.evolve(many, table=attrs.evolve(many.table, mode=mode))
    connection.execute("SET LOCAL enable_nestloop = off; SET LOCAL jit = off")

    explain = f"EXPLAIN {derived.statement}".encode()
    plan = connection.execute(explain, derived.named("default")).fetchall()

    text = "\n".join(str(row["QUERY PLAN"]) for row in plan)
    assert "Nested Loop" not in text, text
    assert re.search(r"(Hash|Merge) (Right |Left )?(Anti |Join|Left)", text), text


def test_save_all_is_one_statement(connection: Connection, many: Derived) -> None:
    """Beside it are only the settings of its transaction."""
    asked: list[str] = []
    execute = psycopg.Cursor.execute

    class Counting(psycopg.Cursor[Any]):
        def execute(self, query: Any, *given: Any, **named: Any) -> Any:
            asked.append(query if isinstance(query, str) else bytes(query).decode())
            return execute(self, query, *given, **named)

    connection.cursor_factory = Counting

    count, done = derive(connection, many, account="default")

    assert (count, done) == (MANY, written(MANY // 2, 0, MANY // 2))
    assert [query.partition(" ")[0] for query in asked] == ["SET", "WITH", "SET"]
    (row,) = connection.execute(
        "SELECT current_setting('enable_nestloop') AS loops, current_setting('jit') AS jit"
    ).fetchall()
    assert row["loops"] == "on", "for the transaction's other statements"
