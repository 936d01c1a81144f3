"""Control tables are versioned both ways, and two releases work side by side (P16).

The first release is frozen in `frozen/`: a database of it is migrated with everything in it, and a
process of it goes on working on the migrated tables beside present ones.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from random import Random
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
from database import connect
from first_release import MIGRATIONS, connect_old, first_database, released
from frontier_world import Crash, Feed, World, random_feed, register

from syncd import frontier
from syncd.cli.ending import CONFIGURATION, code_of
from syncd.errors import IncompatibleSchema, LeaseLost, StoreError
from syncd.progress import Next
from syncd.rounds import BY_DEFAULT, JobState
from syncd.store import leases, migrations, rounds
from syncd.store.hops import Connection
from syncd.store.leases import Effort

Patch = pytest.MonkeyPatch
TABLES = [
    "instance",
    "account",
    "daemon",
    "partition",
    "pass",
    "frontier",
    "run",
    "quarantine",
    "validator",
]
OLD, NEW = UUID(int=1), UUID(int=2)


@pytest.fixture
def first(server: str) -> Iterator[str]:
    """The conninfo of a database as the first release left it."""
    with first_database(server) as dsn:
        yield dsn


# --- migrating --------------------------------------------------------------------------------


def test_a_released_migration_is_never_edited() -> None:
    shipped = {f"{each.number:04}_{each.name}.sql": each.text for each in migrations.shipped()}

    assert {file.name: file.read_text() for file in MIGRATIONS}.items() <= shipped.items()


def test_a_first_database_is_migrated_with_everything_in_it(first: str) -> None:
    with connect(first) as connection:
        fill(connection)
        before, guards, comments = rows(connection), checks(connection), described(connection)
        assert all(before[table] for table in TABLES), "each table holds something"
        connection.commit()

        done = migrations.migrate(connection)

        assert len(done) == len(migrations.shipped()) - len(MIGRATIONS)
        assert rows(connection, like=before) == before
        assert guards <= checks(connection), "no guard was dropped"
        assert comments <= described(connection), "no comment was dropped"
        migrations.require(connection)


def test_a_migrated_database_equals_a_fresh_one(first: str, dsn: str) -> None:
    with connect(first) as old, connect(dsn) as fresh:
        migrations.migrate(old)

        assert columns(old) == columns(fresh)
        assert checks(old) == checks(fresh)
        assert described(old) == described(fresh)


def test_migrations_that_race_are_applied_once(first: str) -> None:
    applied: list[list[str]] = []
    together = threading.Barrier(3)

    def migrate() -> None:
        with connect(first) as connection:
            connection.execute("SELECT 1")
            together.wait(60)
            applied.append(migrations.migrate(connection))

    threads = [threading.Thread(target=migrate) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert sorted(map(bool, applied)) == [False, False, True]


def test_older_and_newer_tables_are_refused_with_what_helps(first: str) -> None:
    with connect(first) as connection:
        with pytest.raises(IncompatibleSchema, match="run `syncd migrate`") as older:
            migrations.require(connection)
        assert rows(connection)["migration"] == [
            {"number": n + 1, "name": file.stem[5:]} for n, file in enumerate(MIGRATIONS)
        ], "nothing was touched"
        connection.execute("INSERT INTO syncd.migration VALUES (9999, 'x', syncd.clock())")
        with pytest.raises(IncompatibleSchema, match="install the newer syncd") as newer:
            migrations.migrate(connection)

    assert [code_of(each.value) for each in (older, newer)] == [CONFIGURATION] * 2


# --- side by side -----------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_old_and_new_processes_walk_one_pass_together(
    dsn: str, seed: int, monkeypatch: Patch
) -> None:
    monkeypatch.setattr(frontier, "IN_MEMORY_MAX", 4)
    world = World(dsn, random_feed(Random(seed)), seed, daemons=4, writers=2)
    for daemon in world.daemons[::2]:
        daemon.connect = lambda: connect_old(dsn)

    world.run(seconds=30)

    world.check()


@pytest.mark.parametrize("begins", ["old", "new"])
def test_each_goes_on_with_a_pass_that_the_other_began(dsn: str, begins: str) -> None:
    world = World(dsn, Feed({page: (page + 1,) for page in range(7)}), 1, daemons=2, writers=1)
    world.crash_share = world.stall_share = 0.0
    old, new = world.daemons
    old.connect = lambda: connect_old(dsn)
    for daemon in (old, new):
        daemon.dies_after = 1

    while not world.done.is_set():
        for daemon in (old, new) if begins == "old" else (new, old):
            walked = pages(dsn)
            while not world.done.is_set() and pages(dsn) == walked:
                with suppress(Crash, StoreError):
                    daemon.live()

    world.check()
    with connect(dsn) as connection:
        found = connection.execute("SELECT page, epoch, owner FROM audit ORDER BY seq").fetchall()
        lost = connection.execute("SELECT 1 FROM syncd.run WHERE status = 'lost'").fetchall()
    assert [row["page"] for row in found] == list(range(8))
    tenures = list(dict.fromkeys((row["epoch"], row["owner"]) for row in found))
    assert len(tenures) >= 3
    assert all(one[1] != other[1] for one, other in pairwise(tenures)), "turn by turn"
    assert all(one[0] < other[0] for one, other in pairwise(tenures))
    assert len(lost) >= len(tenures) - 1, "each tells of the other's end"


def test_what_either_gives_back_the_other_claims(dsn: str) -> None:
    with connect(dsn) as new, connect_old(dsn) as old:
        register(new)
        for giver, taker in ((new, old), (old, new)):
            lease = claimed(giver)
            assert claim(taker) == [], "it is held"
            assert leases.renew(giver, [lease], lease_seconds=60.0)
            give_back(giver, lease)
            again = claimed(taker)
            assert again.epoch == lease.epoch + 1
            with pytest.raises(LeaseLost):
                leases.fence(giver, lease)
            giver.rollback()
            give_back(taker, again)


def test_a_turn_that_an_old_process_held_is_taken_once_it_is_given_back(dsn: str) -> None:
    """A process of the first release knows no jobs: it gives back to nobody."""
    with connect(dsn) as new, connect_old(dsn) as old:
        partition = register(new)
        held = claimed(old)
        rounds.register(new, {"j": ("1s", None)})
        rounds.ask(new, "j")
        seen = state(new)
        begun = rounds.begin(
            new, seen, [partition], trigger="trigger", next_at=None, jitter_seconds=0, known=["j"]
        )
        assert begun is not None
        new.commit()
        give_back(old, held)
        assert claim(new, wanted=True) == [], "it is nobody's"

        assert rounds.settle_unable(new, begun[0]) == 0
        (lease,) = claim(new, wanted=True)
        give_back(new, lease)

        assert not state(new).owed
        ended = rounds.end(new, state(new), thresholds=BY_DEFAULT, cancelled=False, followers={})
        assert ended is not None
        assert ended.status == "complete"


# --- what they say ----------------------------------------------------------------------------


def claim(connection: Connection, **more: Any) -> list[leases.Lease]:
    found = leases.claim(
        connection, owner=uuid4(), token=uuid4(), job="j", lease_seconds=60.0, free=1, **more
    )
    connection.commit()
    return found


def claimed(connection: Connection) -> leases.Lease:
    (lease,) = claim(connection)
    return lease


def give_back(connection: Connection, lease: leases.Lease) -> None:
    decided = Next("complete", 0.0, 0, "")
    leases.release(
        connection, lease, decided, job="j", committed=True, effort=Effort(), error_class=None
    )
    connection.commit()


def state(connection: Connection) -> JobState:
    (found,) = rounds.states(connection, {"j": 4})
    connection.commit()
    return found


def pages(dsn: str) -> int:
    with connect(dsn) as connection:
        row = connection.execute("SELECT count(*) AS n FROM audit").fetchone()
    assert row is not None
    return int(row["n"])


def fill(connection: Connection) -> None:
    """Leave something in each table of the first release, by its own statements."""
    lease, registry, passes = released("lease"), released("registry"), released("pass")
    whose = {"instance": "i", "account": "default", "feed": "f", "now": None}
    known = {"name": "i", "plugin": "p", "version": "1", "now": None}

    def say(text: str, parameters: dict[str, Any]) -> Any:
        return connection.execute(text.encode(), parameters)

    say(registry["register_instance"], known)
    say(registry["register_accounts"], {"instance": "i", "names": ["default"]})
    slices = {"names": ["", "part"], "settings": ["{}", '{"a": 1}'], "priorities": [0, 5]}
    say(registry["register_partitions"], whose | slices)
    life = {"id": OLD, "host": "h", "pid": 1, "version": "0", "stale_seconds": 60, "now": None}
    say(registry["beat"], life)
    wanted = {"owner": OLD, "token": uuid4(), "job": "j", "lease_seconds": 60, "free": 1}
    row = say(lease["claim"], {**wanted, "ids": None, "early": True, "now": None}).fetchone()
    begun = {"partition": row["id"], "mode": "full", "since": None, "until": row["clock"]}
    begun |= {"request_fingerprint": "r", "row_fingerprints": "{}", "connector_version": "1"}
    walk = say(passes["begin"], begun | {"now": None}).fetchone()
    cursor = {"pass": walk["id"], "keys": [b"k" * 16], "values": ['{"page": 1}'], "numbers": [1]}
    cursor |= {"kinds": ["chain"], "depths": [0], "ordinals": [0], "versions": [None]}
    say(released("frontier")["open_cursors"], cursor)
    say(passes["set_run_pass"], {"run": row["run_id"], "pass": walk["id"]})
    connection.execute(
        "INSERT INTO syncd.quarantine (instance, account, stream, record_key, reason, message, raw,"
        " first_seen_at, last_seen_at) VALUES ('i', 'default', 's', %s, 'decode', 'm', 'raw',"
        " syncd.clock(), syncd.clock())",
        (b"q" * 16,),
    )
    connection.execute(
        "INSERT INTO syncd.validator VALUES (%s, %s, %s, '\"e\"', NULL, 'f', '[]', true, true, 1,"
        " '{}', %s)",
        (row["id"], b"k" * 16, b"r" * 16, walk["id"]),
    )
    connection.commit()


def rows(connection: Connection, *, like: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return what the tables hold; with `like`, as far as that has columns for it."""
    found: dict[str, Any] = {}
    for table in (*TABLES, "migration"):
        held = connection.execute(f"SELECT to_jsonb(t) AS row FROM syncd.{table} t".encode())
        each = [row["row"] for row in held]
        if table == "migration":
            each = [{"number": row["number"], "name": row["name"]} for row in each]
            each = each[: len(MIGRATIONS)]
        elif like is not None:
            each = [{name: row[name] for name in like[table][0]} for row in each]
        found[table] = sorted(each, key=lambda row: msgspec.json.encode(row, order="sorted"))
    return found


CHECKS = """
    SELECT c.conrelid::regclass::text AS what, c.conname, pg_get_constraintdef(c.oid) AS text
    FROM pg_constraint c JOIN pg_namespace n ON n.oid = c.connamespace AND n.nspname = 'syncd'
"""
DESCRIBED = """
    SELECT c.relname AS what, coalesce(a.attname, '') AS part
    FROM pg_description d JOIN pg_class c ON c.oid = d.objoid AND d.classoid = 'pg_class'::regclass
    JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = 'syncd'
    LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = d.objsubid AND d.objsubid > 0
"""
COLUMNS = """
    SELECT table_name, column_name, data_type, is_nullable, column_default
    FROM information_schema.columns WHERE table_schema = 'syncd'
"""


def checks(connection: Connection) -> set[tuple[Any, ...]]:
    return {tuple(row.values()) for row in connection.execute(CHECKS)}


def described(connection: Connection) -> set[tuple[Any, ...]]:
    return {tuple(row.values()) for row in connection.execute(DESCRIBED)}


def columns(connection: Connection) -> set[tuple[Any, ...]]:
    return {tuple(row.values()) for row in connection.execute(COLUMNS)}
