"""The benchmark in small: what it measures is verified, and its verification finds what is wrong.

Speed is nobody's business here: `make bench` measures it.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias

import attrs
import databases
import httpx
import msgspec
import page_server
import pages
import psycopg
import pytest
import report
import totals
from layouts import MOMENT, PLAIN, PRICE, TABLES
from loads import Finished, Load, Plan, in_order
from pages import Pages
from programs import Bench, Failed
from runner import Results, Runner

RECORDS, PER_PAGE = 2000, 250
CARS = 150

Loaded: TypeAlias = tuple[psycopg.Connection[Any], dict[str, totals.Totals]]

MISSING = [name for name in ("aiohttp", "asyncpg", "orjson") if find_spec(name) is None]

needs_libraries = pytest.mark.skipif(
    bool(MISSING), reason=f"the yardstick's libraries ({', '.join(MISSING)}): group bench"
)


@pytest.fixture(scope="module")
def bench(server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A server of pages and a PostgreSQL, as the benchmark has them."""
    folder = tmp_path_factory.mktemp("bench")
    with page_server.serving(folder / "pages", folder / "page-server") as served:
        yield Bench(folder, databases.of(server), served)


def plan(*programs: str, phases: str, shape: str = "plain", records: int = RECORDS) -> Plan:
    return Plan(shape, records, PER_PAGE, in_order(phases.split(",")), programs, 1)


def run(bench: Bench, *plans: Plan, resume: bool = False) -> list[Finished]:
    results = Results(bench.folder / "results.jsonl")
    return Runner(bench, results, lambda _: None, resume=resume).run(plans)


# --- What is loaded -------------------------------------------------------------------------------


def test_syncd_writes_what_was_served_and_nothing_twice(bench: Bench) -> None:
    """Each load ends with the tables compared with what was served."""
    first, changed, unchanged = run(bench, plan("syncd", phases="first,1%,0%"))

    assert (first.inserted, first.updated) == (RECORDS, 0)
    assert (changed.inserted, changed.updated) == (0, RECORDS // 100)
    assert (unchanged.inserted, unchanged.updated, unchanged.dead) == (0, 0, 0)
    assert 0 < first.own_seconds < first.wall_seconds
    assert first.cpu_seconds > 0
    assert first.database_seconds > 0
    assert first.peak_bytes > 2**20


@needs_libraries
def test_the_yardstick_writes_what_was_served_and_is_not_run_twice(bench: Bench) -> None:
    both = plan("yardstick", phases="first,1%")

    first, again = run(bench, both)

    assert (first.inserted, first.updated) == (RECORDS, 0)
    assert (again.inserted, again.updated) == (0, RECORDS)
    assert 0 < first.own_seconds < first.wall_seconds
    assert run(bench, both, resume=True) == [first, again]  # to the microsecond


@needs_libraries
def test_both_make_the_same_rows_of_cars(bench: Bench) -> None:
    ours, theirs = run(
        bench, plan("syncd", "yardstick", phases="first", shape="cars", records=CARS)
    )

    assert ours.inserted == theirs.inserted > CARS


@needs_libraries
def test_a_program_that_fails_says_why(bench: Bench) -> None:
    nowhere = attrs.evolve(bench, pages=attrs.evolve(bench.pages, url=f"{bench.pages.url}/no/no"))

    with pytest.raises(Failed, match="404"):
        run(nowhere, plan("yardstick", phases="first", records=50))


@pytest.mark.parametrize("nginx", [True, False])
def test_pages_are_served_by_number_and_nothing_past_the_last(tmp_path: Path, nginx: bool) -> None:
    served = Pages("plain", 30, 20, 0)
    pages.truth_of(served, tmp_path / "pages")

    with page_server.serving(tmp_path / "pages", tmp_path / "server", nginx=nginx) as server:
        got = [
            httpx.get(f"{server.url}/{served.name}/records", params={"page": number}).json()
            for number in (1, 2, 3)
        ]

    assert [len(page["data"]) for page in got] == [20, 10, 0]
    assert [page["links"]["next"] for page in got] == ["?page=2", None, None]


# --- What is verified -----------------------------------------------------------------------------

OTHER = {
    "bigint": "{} + 1",
    "text": "concat({}, 'x')",
    PRICE: "{} + 0.01",
    "boolean": "NOT {}",
    MOMENT: "{} + interval '1 second'",
    "date": "{} + 1",
    "jsonb": "{} || '1'",
}


@pytest.fixture(scope="module")
def loaded(bench: Bench) -> Iterator[Loaded]:
    """A table as it must be, made of the generator's rows; and what is true of it."""
    served = Pages("plain", 100, 50, 0)
    truth = pages.truth_of(served, bench.folder / "pages")
    name = "bench_verified"
    bench.database.make(name, control=False)
    with bench.database.verifiable(name) as connection:
        columns = ", ".join(f'"{column}" {sql}' for column, sql in PLAIN.columns)
        connection.execute('CREATE SCHEMA "plain"')
        connection.execute(f"CREATE TABLE {PLAIN} ({columns})".encode())
        for file in (bench.folder / "pages" / served.name).glob("[0-9]*.json"):
            records = msgspec.json.encode(msgspec.json.decode(file.read_bytes())["data"])
            query = f"INSERT INTO {PLAIN} SELECT * FROM jsonb_populate_recordset(null::{PLAIN}, %s)"
            connection.execute(query.encode(), [records.decode()])
        yield connection, truth.totals
    bench.database.drop(name)


def test_a_right_table_passes(loaded: Loaded) -> None:
    connection, truth = loaded

    totals.verify(connection, TABLES["plain"], truth)
    assert truth["records"].rows == 100


@pytest.mark.parametrize("column", PLAIN.columns, ids=lambda column: column.name)
def test_one_wrong_value_is_found(
    loaded: Loaded,
    column: tuple[str, str],
) -> None:
    connection, truth = loaded
    name, sql = column
    one = f'(SELECT min(id) FROM {PLAIN} WHERE "{name}" IS NOT NULL)'
    wrong = OTHER[sql].format(f'"{name}"')

    with connection.transaction(force_rollback=True):
        connection.execute(f'UPDATE {PLAIN} SET "{name}" = {wrong} WHERE id = {one}'.encode())
        with pytest.raises(totals.Wrong, match=rf"\b{name} has"):
            totals.verify(connection, TABLES["plain"], truth)


def test_a_volatile_value_may_differ_but_not_be_missing(loaded: Loaded) -> None:
    connection, truth = loaded

    with connection.transaction(force_rollback=True):
        connection.execute(f"UPDATE {PLAIN} SET stock = stock + 1".encode())
        totals.verify(connection, TABLES["plain"], truth, volatile=("stock",))
        connection.execute(f"UPDATE {PLAIN} SET stock = NULL WHERE id = 1000003".encode())
        with pytest.raises(totals.Wrong, match=r"\bstock has"):
            totals.verify(connection, TABLES["plain"], truth, volatile=("stock",))


def test_a_missing_row_is_found(
    loaded: Loaded,
) -> None:
    connection, truth = loaded

    with connection.transaction(force_rollback=True):
        connection.execute(f"DELETE FROM {PLAIN} WHERE id = 1000003".encode())
        with pytest.raises(totals.Wrong, match="99 rows; 100 were served"):
            totals.verify(connection, TABLES["plain"], truth)


# --- What is reported -----------------------------------------------------------------------------


def finished(program: str, phase: str, *, wall_seconds: float, **said: int) -> Finished:
    load = Load("plain", 190_000, 1000, phase, program, 1)
    sizes = {
        name: said.get(name, 0)
        for name in ("inserted", "updated", "dead", "rolled_back", "wal_bytes", "peak_bytes")
    }
    return Finished(
        load=load,
        code="",
        commit="",
        at="",
        wall_seconds=wall_seconds,
        own_seconds=wall_seconds,
        cpu_seconds=wall_seconds,
        database_seconds=1.0,
        server_seconds=0.1,
        others_seconds=0.0,
        database_peak_bytes=0,
        page_server="nginx",
        database="PostgreSQL",
        **sizes,
    )


def test_bars_are_met_by_what_reaches_them_and_by_nothing_less() -> None:
    table = report.table_of(
        [
            finished("yardstick", "first", wall_seconds=14.0),
            finished("syncd", "first", wall_seconds=10.0, peak_bytes=149 * 2**20, wal_bytes=1000),
            finished("yardstick", "1%", wall_seconds=14.0),
            finished("syncd", "1%", wall_seconds=5.0, peak_bytes=151 * 2**20),
            finished("syncd", "0%", wall_seconds=5.0, wal_bytes=10, dead=1),
            finished("syncd", "100%", wall_seconds=12.0),
        ]
    )

    met = [(bar.what.rpartition(", ")[2], bar.wanted, bar.met) for bar in report.bars(table)]

    assert met == [
        ("first pass", ">= 1.4 x yardstick", True),
        ("first pass", "peak RSS < 150 MiB", True),
        ("1% changed", ">= 3.0 x yardstick", False),
        ("1% changed", "peak RSS < 150 MiB", False),
        ("0% changed", "peak RSS < 150 MiB", True),
        ("0% changed", "no row written", False),
        ("0% changed", "WAL < 1% of the first pass", False),
        ("100% changed", "peak RSS < 150 MiB", True),
        ("100% changed", ">= 0.9 x own first pass", False),
    ]
    assert "1.40x" in report.as_text(table)
