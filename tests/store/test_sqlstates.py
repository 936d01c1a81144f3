"""The table of SQLSTATEs: each row is produced by a real server, and led to its reaction."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from random import Random
from typing import Any

import psycopg
import pytest
import trio
from database import connect, direct
from hypothesis import given
from hypothesis import strategies as st
from test_hops import hops_on, make_table

from syncd.bulk.refusals import blames_a_row
from syncd.errors import (
    StatementTimeout,
    StoreError,
    StoreExhausted,
    StoreRefused,
    StoreUnavailable,
)
from syncd.events import DbExhausted, Event, StoreRetried
from syncd.sqlstates import ATTEMPTS_MAX, REACTIONS, TABLE, Reaction, Row, pause, reaction
from syncd.store.hops import Connection
from syncd.store.translation import reaction_to

LEADS_TO: dict[Reaction, type[StoreError]] = {
    "retry": StoreUnavailable,
    "reconnect": StoreUnavailable,
    "smaller": StatementTimeout,
    "record": StoreRefused,  # outside of the bulk writer, where no record is to blame
    "wait": StoreExhausted,
    "refuse": StoreRefused,
}

RAISE = "DO $$ BEGIN RAISE EXCEPTION 'as asked for' USING ERRCODE = '{}'; END $$"


def raising(state: str, times: list[Connection]) -> Callable[[Connection], None]:
    """Return a transaction that the server ends with an error of this state."""

    def work(connection: Connection) -> None:
        times.append(connection)
        connection.execute(RAISE.format(state).encode())

    return work


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.states)
async def test_each_row_leads_to_its_reaction(dsn: str, row: Row) -> None:
    events: list[Event] = []
    attempts: list[Connection] = []
    state = row.states if len(row.states) == 5 else f"{row.states}001"
    async with hops_on(dsn, events, patience_seconds=0.2) as hops:
        with trio.fail_after(30), pytest.raises(LEADS_TO[row.reaction], match=state) as caught:
            await hops.run(raising(state, attempts))

    assert type(caught.value) is LEADS_TO[row.reaction]
    if row.reaction == "retry":
        assert len(attempts) == ATTEMPTS_MAX
    elif row.reaction == "reconnect":
        assert len(attempts) > 1
    else:
        assert len(attempts) == 1
    retried = row.reaction in {"retry", "reconnect"}
    said = [event.sqlstate for event in events if isinstance(event, StoreRetried)]
    assert said == [state] * len(attempts) * retried
    exhausted = [event for event in events if isinstance(event, DbExhausted)]
    assert len(exhausted) == (row.reaction == "wait")


def test_a_row_is_found_by_its_whole_code_before_its_class() -> None:
    assert {row.reaction for row in TABLE} == set(REACTIONS)
    assert len({row.states for row in TABLE}) == len(TABLE)
    assert (reaction("57014"), reaction("57P01")) == ("smaller", "reconnect")
    assert (reaction("25006"), reaction("25P02")) == ("wait", "refuse")
    assert (reaction("54000"), reaction("54001")) == ("record", "refuse")
    assert reaction("P0001") == "refuse"
    assert reaction(None) == "reconnect"


@given(st.sampled_from(list(REACTIONS)), st.integers(1, 100), st.floats(0, 100), st.floats(0, 0.99))
def test_a_pause_is_short_and_there_are_only_so_many(
    then: Reaction, attempts: int, failing: float, chance: float
) -> None:
    wait = pause(
        then, attempts=attempts, failing_seconds=failing, patience_seconds=30.0, chance=chance
    )

    again = {"retry": attempts < ATTEMPTS_MAX, "reconnect": failing < 30.0}
    assert (wait is not None) == again.get(then, False)
    assert wait is None or 0 <= wait <= 2.0


# What the states mean is PostgreSQL's to say: here they come about by themselves.


def serialization_failure(connection: Connection, other: Connection) -> None:
    connection.execute("ROLLBACK; BEGIN ISOLATION LEVEL REPEATABLE READ")
    connection.execute("SELECT * FROM t")
    other.execute("UPDATE t SET v = v + 1 WHERE k = 1")
    other.commit()
    connection.execute("UPDATE t SET v = v + 1 WHERE k = 1")


def lock_timeout(connection: Connection, other: Connection) -> None:
    other.execute("UPDATE t SET v = v + 1 WHERE k = 1")
    connection.execute("SET LOCAL lock_timeout = '50ms'")
    connection.execute("UPDATE t SET v = v + 1 WHERE k = 1")


def statement_timeout(connection: Connection, other: Connection) -> None:
    connection.execute("SET LOCAL statement_timeout = '50ms'")
    connection.execute("SELECT pg_sleep(30)")


def terminated(connection: Connection, other: Connection) -> None:
    other.execute("SELECT pg_terminate_backend(%s, 5000)", (connection.info.backend_pid,))
    connection.execute("SELECT 1")


def idle_in_transaction(connection: Connection, other: Connection) -> None:
    connection.execute("SET LOCAL idle_in_transaction_session_timeout = '50ms'")
    gone = "SELECT 1 FROM pg_stat_activity WHERE pid = %s"
    while other.execute(gone, (connection.info.backend_pid,)).fetchone():
        other.rollback()  # one transaction sees one state of that view
        time.sleep(0.01)
    connection.execute("SELECT 1")


def read_only(connection: Connection, other: Connection) -> None:
    connection.execute("SET TRANSACTION READ ONLY")
    connection.execute("INSERT INTO t VALUES (3, 0)")


def no_right(connection: Connection, other: Connection) -> None:
    connection.execute("CREATE ROLE nobody_at_all")
    connection.execute("SET LOCAL ROLE nobody_at_all")
    connection.execute("SELECT * FROM pg_authid")


def key_too_long(connection: Connection, other: Connection) -> None:
    connection.execute("CREATE TABLE long (k text PRIMARY KEY)")
    noise = Random(1).randbytes(8192).hex()  # does not compress
    connection.execute("INSERT INTO long VALUES (%s)", (noise,))


def asking(statement: str) -> Callable[[Connection, Connection], object]:
    return lambda connection, _: connection.execute(statement.encode())


GENUINE: dict[str, tuple[Callable[[Connection, Connection], Any], Reaction]] = {
    "22012": (asking("SELECT 1 / 0"), "record"),
    "23505": (asking("INSERT INTO t VALUES (1, 0)"), "record"),
    "25006": (read_only, "wait"),
    "25P03": (idle_in_transaction, "reconnect"),
    "3F000": (asking("CREATE TABLE nowhere.t ()"), "refuse"),
    "40001": (serialization_failure, "retry"),
    "42501": (no_right, "refuse"),
    "42P01": (asking("SELECT * FROM nothing"), "refuse"),
    "54000": (key_too_long, "record"),
    "55P03": (lock_timeout, "retry"),
    "57014": (statement_timeout, "smaller"),
    "57P01": (terminated, "reconnect"),
    "58P01": (asking("COPY t FROM '/nowhere/at/all'"), "wait"),
}


@pytest.mark.parametrize("state", GENUINE)
def test_what_a_server_says_by_itself_is_what_the_table_takes_it_for(dsn: str, state: str) -> None:
    provoke, then = GENUINE[state]
    with connect(dsn) as admin:
        make_table(admin)
    with (
        closing(connect(direct(dsn))) as connection,
        closing(connect(direct(dsn))) as other,
        pytest.raises(psycopg.Error) as caught,
    ):
        provoke(connection, other)

    assert caught.value.sqlstate == state
    assert reaction_to(caught.value) == then
    assert blames_a_row(caught.value) == (then == "record")


async def test_a_serialization_failure_repeats_the_whole_transaction(dsn: str) -> None:
    events: list[Event] = []
    times: Counter[str] = Counter()

    def add(connection: Connection, other: Connection) -> None:
        times["run"] += 1
        if times["run"] == 1:
            serialization_failure(connection, other)
        connection.execute("UPDATE t SET v = v + 10 WHERE k = 2")

    async with hops_on(dsn, events) as hops:
        await hops.run(make_table)
        with connect(dsn) as other:
            await hops.run(add, other)
            values = other.execute("SELECT v FROM t ORDER BY k").fetchall()

    assert [row["v"] for row in values] == [1, 10]
    assert [e.sqlstate for e in events if isinstance(e, StoreRetried)] == ["40001"]


async def test_a_lock_that_is_held_for_a_while_is_waited_for(dsn: str) -> None:
    events: list[Event] = []
    times: Counter[str] = Counter()

    def add(connection: Connection, other: Connection) -> None:
        times["run"] += 1
        if times["run"] <= 2:
            lock_timeout(connection, other)
        other.rollback()
        connection.execute("UPDATE t SET v = v + 10 WHERE k = 1")

    async with hops_on(dsn, events) as hops:
        await hops.run(make_table)
        with connect(dsn) as other:
            await hops.run(add, other)
            values = other.execute("SELECT v FROM t ORDER BY k").fetchall()

    assert [row["v"] for row in values] == [10, 0]
    assert [e.sqlstate for e in events if isinstance(e, StoreRetried)] == ["55P03"] * 2
