"""The server that all programs load into, and a fresh database for each sequence of loads."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import psycopg
from layouts import Layout
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from syncd import embedded
from syncd.embedded import unprivileged
from syncd.store.hops import Timeouts, connection_options
from syncd.store.migrations import migrate

PREFIX = "bench_"

ENDS_WITHIN_SECONDS = 30.0  # a backend, once its client has gone
OTHERS = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND backend_type = 'client backend'
      AND pid <> pg_backend_pid()
"""


@attrs.frozen
class Written:
    """What a load did to the data tables, by PostgreSQL's own statistics."""

    inserted: int
    updated: int
    dead: int  # dead tuples that nobody has vacuumed
    rolled_back: int  # transactions in the database
    wal_bytes: int  # of the whole server, control tables included


@attrs.frozen
class Server:
    """A PostgreSQL that runs."""

    conninfo: str
    postmaster: int
    version: str

    def dsn(self, name: str) -> str:
        return make_conninfo(self.conninfo, dbname=name)

    def options(self, name: str) -> dict[str, Any]:
        """Return what asyncpg connects with."""
        said = conninfo_to_dict(self.dsn(name))
        names = {"dbname": "database"}
        return {names.get(word, word): value for word, value in said.items() if value is not None}

    def _connect(self, name: str | None = None) -> psycopg.Connection[Any]:
        return psycopg.connect(self.dsn(name) if name else self.conninfo, autocommit=True)

    def names(self) -> list[str]:
        """Return the benchmark's databases."""
        with self._connect() as admin:
            query = "SELECT datname FROM pg_database WHERE starts_with(datname, %s)"
            return [name for (name,) in admin.execute(query, (PREFIX,))]

    def make(self, name: str, *, control: bool) -> None:
        """Make a fresh database; with syncd's control tables where `control` says so."""
        self.drop(name)
        with self._connect() as admin:
            admin.execute(f'CREATE DATABASE "{name}"'.encode())
        if control:
            with psycopg.connect(
                self.dsn(name), **connection_options(Timeouts(), "syncd-bench")
            ) as connection:
                migrate(connection)

    def drop(self, name: str) -> None:
        with self._connect() as admin:
            admin.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'.encode())

    def mark(self, name: str, phases: Sequence[str]) -> None:
        """Note which phases a database has seen, so that loads may go on from there."""
        with self._connect() as admin:
            comment = json.dumps(list(phases)).replace("'", "''")
            admin.execute(f"COMMENT ON DATABASE \"{name}\" IS '{comment}'".encode())

    def marked(self, name: str) -> tuple[str, ...] | None:
        """Return the phases that a database has seen; `None` where it is not there."""
        with self._connect() as admin:
            query = (
                "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s"
            )
            row = admin.execute(query, (name,)).fetchone()
            return None if row is None else tuple(json.loads(row[0] or "[]"))

    def settle(self, name: str) -> None:
        """Bring a database into the state that every load begins with."""
        with self._connect(name) as connection:
            connection.execute("VACUUM (ANALYZE)")
            connection.execute("CHECKPOINT")

    def written(self, name: str, tables: tuple[Layout, ...]) -> Written:
        """Read the statistics so far; those of a program are whole once its backends have ended."""
        with self._connect(name) as connection:
            deadline = time.monotonic() + ENDS_WITHIN_SECONDS
            while connection.execute(OTHERS).fetchone() != (0,):
                assert time.monotonic() < deadline, "somebody is still connected"
                time.sleep(0.01)
            where = " OR ".join(
                f"(schemaname = '{table.schema}' AND relname = '{table.name}')" for table in tables
            )
            query = (
                "SELECT coalesce(sum(n_tup_ins), 0), coalesce(sum(n_tup_upd), 0), "
                "coalesce(sum(n_dead_tup), 0), (SELECT xact_rollback FROM pg_stat_database "
                "WHERE datname = current_database()), pg_current_wal_insert_lsn() - '0/0'::pg_lsn "
                f"FROM pg_stat_user_tables WHERE {where}"
            )
            row = connection.execute(query.encode()).fetchone()
            assert row is not None
            return Written(*map(int, row))

    def verifiable(self, name: str) -> psycopg.Connection[Any]:
        """Open a connection to look at what a program wrote."""
        return self._connect(name)


def of(conninfo: str) -> Server:
    """Describe a server that runs on this machine."""
    with psycopg.connect(conninfo) as connection:
        row = connection.execute("SELECT pg_backend_pid(), version()").fetchone()
        assert row is not None
        stat = Path(f"/proc/{row[0]}/stat").read_text().rpartition(") ")[2]
    return Server(conninfo, int(stat.split()[1]), row[1].split(" on ")[0])


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """Run the embedded server with its default settings for as long as the block lasts."""
    folder.mkdir(parents=True, exist_ok=True)
    if os.geteuid() == 0:  # let it run here rather than in a place of its own
        unprivileged.give(folder, unprivileged.choose(folder))
    with embedded.start(folder) as server:
        yield of(server.conninfo)
