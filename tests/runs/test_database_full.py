"""A full disk, both faces (P12): no room for data is an error, no room for WAL ends the server.

The file systems are small tmpfs mounts of our own, so root must run these tests. What fills them
does not compress.
"""

from __future__ import annotations

import os
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import database_facts as facts
import over_server
import psycopg
import pytest
import trio
from own_server import OwnServer, own_server
from processes import Program, Programs, seen
from test_hops import hops_on
from upstream import Shape, Upstream, serving, true_rows

from syncd.errors import CommitUnknown
from syncd.events import DbExhausted, Event, StoreRetried
from syncd.store.hops import Connection

SHAPE = Shape(cars=1500, per_page=25, requests_per_second=8)
SPACE = "12m"  # for the data of one database; 7 MB of them are a fresh one's
WAL = "16m"  # with segments of 1 MB instead of 16
# Who else writes WAL may meet the full disk first, and then a statement is told nothing. They are
# kept asleep: the longest delay there is, no checkpoint for the sake of WAL's size, no snapshots.
WRITTEN_BY_THE_STATEMENT = {
    "wal_writer_delay": "10s",
    "max_wal_size": "1GB",
    "autovacuum": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
}
FILLER = "filler"

pytestmark = [pytest.mark.slow, pytest.mark.own_server]


@contextmanager
def small_disk(size: str) -> Iterator[Path]:
    """Mount a tmpfs of this size, which the server's user may write to; else skip."""
    if os.geteuid() != 0:
        pytest.skip("root, who may mount a small tmpfs to be filled")
    disk = Path("/tmp", f"syncd-disk-{uuid.uuid4().hex[:8]}")  # not below a folder of mode 0700
    disk.mkdir()
    options = f"size={size},mode=0777"
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(disk)]
    try:
        if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
            pytest.skip("the right to mount a small tmpfs to be filled")
        try:
            yield disk
        finally:
            subprocess.run(["umount", "--lazy", disk], check=True)
    finally:
        disk.rmdir()


def fill(disk: Path) -> None:
    """Take all the room there is."""
    with (disk / FILLER).open("wb", buffering=0) as file:
        try:
            while True:
                file.write(os.urandom(65536))
        except OSError:
            return


def make_room(disk: Path) -> None:
    (disk / FILLER).unlink(missing_ok=True)


async def test_a_disk_without_room_for_data_stops_the_run_and_the_next_one_goes_on(
    programs: Programs, tmp_path: Path
) -> None:
    with small_disk(SPACE) as disk, own_server({"fsync": "off"}) as server:
        dsn = database_on(disk, server)
        async with serving(SHAPE) as upstream:
            config = upstream.configuration(tmp_path, dsn, connector="cars", lease="60s")
            program = programs.start(config)
            await program.event("batch.committed")
            await trio.to_thread.run_sync(fill, disk)

            assert await program.ended(deadline_seconds=60) == 69, program.said()

            assert program.result()["verdict"] == "unavailable"
            assert "SQLSTATE 53100" in program.result()["message"]
            (told,) = program.events("db.exhausted")
            assert told["level"] == "error"
            assert "53100" in told["error"]
            make_room(disk)
            await finished_by_another(config, dsn, programs, upstream, after=program)


async def test_a_disk_without_room_for_wal_ends_the_server_and_costs_nothing(
    programs: Programs, tmp_path: Path
) -> None:
    """The server's PANIC takes every connection along; until there is room it cannot start."""
    with server_with_little_wal() as (server, disk):
        dsn = server.database()
        async with serving(SHAPE) as upstream:
            config = upstream.configuration(tmp_path, dsn, connector="cars", lease="60s")
            program = programs.start(config)
            await program.event("batch.committed")
            await trio.to_thread.run_sync(fill, disk)
            await trio.to_thread.run_sync(fill_wal, dsn)
            await seen("the server's end", lambda: not server.runs, told=program.said)
            assert "PANIC" in server.said()
            await program.event("db.unavailable")
            await trio.to_thread.run_sync(server.launch)
            ends = "database system is shut down"
            await seen("its end", lambda: server.said().count(ends) > 1, told=server.said)
            assert program.code is None, program.said()

            make_room(disk)
            await trio.to_thread.run_sync(server.start)

            assert await program.ended(deadline_seconds=60) == 0, program.said()
            assert program.events("db.recovered")
            assert facts.stored_rows(dsn) == true_rows(upstream.simulator.inventory)


async def test_a_transaction_whose_server_panics_is_tried_again_whatever_the_state() -> None:
    """Who meets the full disk first is told SQLSTATE 53100, as in an error that ends no server."""
    events: list[Event] = []
    attempts: list[Connection] = []

    def work(connection: Connection) -> None:
        attempts.append(connection)
        if len(attempts) == 1:
            write_wal(connection)

    with server_with_little_wal(**WRITTEN_BY_THE_STATEMENT) as (server, disk):
        async with hops_on(server.database(), events) as hops, trio.open_nursery() as nursery:
            await trio.to_thread.run_sync(fill, disk)
            nursery.start_soon(hops.run, work)
            await seen("the server's end", lambda: not server.runs, told=server.said)
            make_room(disk)
            await trio.to_thread.run_sync(server.start)

    assert len(attempts) == 2
    states = [event.sqlstate for event in events if isinstance(event, StoreRetried)]
    assert states[0] == "53100"
    assert not any(isinstance(event, DbExhausted) for event in events)


async def test_a_panic_in_the_commit_leaves_its_outcome_unknown() -> None:
    def work(connection: Connection) -> None:
        connection.execute("SELECT pg_logical_emit_message(true, 'w', repeat('w', 10000000))")

    kept = {"wal_buffers": "16MB"}  # the COMMIT is the first to write
    with server_with_little_wal(**WRITTEN_BY_THE_STATEMENT | kept) as (server, disk):
        async with hops_on(server.database()) as hops:
            await trio.to_thread.run_sync(fill, disk)
            with pytest.raises(CommitUnknown):
                await hops.run(work)

            assert "PANIC" in server.said()


@contextmanager
def server_with_little_wal(**more: str) -> Iterator[tuple[OwnServer, Path]]:
    """Run a server whose WAL lies on a small disk of its own."""
    settings = {"fsync": "off", "max_wal_size": "4MB", "min_wal_size": "2MB", **more}
    with small_disk(WAL) as disk:
        wal = ("--wal-segsize=1", f"--waldir={disk / 'wal'}")
        with own_server(settings, initdb=wal) as server:
            yield server, disk


def fill_wal(dsn: str) -> None:
    """Write WAL until the server cannot."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        try:
            write_wal(connection)
        except psycopg.OperationalError:
            return
    raise AssertionError("there was room for 64 MB of WAL")


def write_wal(connection: psycopg.Connection[Any]) -> None:
    for _ in range(64):
        connection.execute("SELECT pg_logical_emit_message(false, 'w', repeat('w', 1000000))")


async def finished_by_another(
    config: Path, dsn: str, programs: Programs, upstream: Upstream, *, after: Program
) -> None:
    """Run it again: it goes on where the other one stopped, and is complete."""
    following = programs.start(config)

    assert await following.ended(deadline_seconds=60) == 0, following.said()
    (started,) = following.events("run.started")
    assert started["resumed"]
    assert following.pid != after.pid
    assert facts.stored_rows(dsn) == true_rows(upstream.simulator.inventory)


def database_on(disk: Path, server: OwnServer) -> str:
    """Make a database whose tables lie on a disk of their own; WAL does not."""
    place = disk / "space"
    place.mkdir()
    user = over_server.unprivileged()
    os.chown(place, user["user"], user["group"])
    dsn = server.database()
    name = dsn.partition("dbname=")[2]
    with psycopg.connect(server.conninfo, autocommit=True) as admin:
        admin.execute(f"CREATE TABLESPACE small LOCATION '{place}'")
        admin.execute(f'ALTER DATABASE "{name}" SET TABLESPACE small')
    return dsn
