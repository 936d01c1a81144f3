"""Where a bench program measures: a database of its own in an embedded server."""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import psycopg
from psycopg.conninfo import make_conninfo

from syncd.embedded import start
from syncd.model import Account, Connector, Cursor, Instance, Partition, Pass, Upstream
from syncd.nodes import roots
from syncd.progress import Anew, Wanted
from syncd.store import leases, passes, registry
from syncd.store.hops import Connection, Timeouts, connection_options
from syncd.store.leases import Lease
from syncd.store.migrations import migrate
from syncd.store.passes import ActivePass


def options(description: str) -> argparse.ArgumentParser:
    """Begin a bench program's command line."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", action="store_true", help="print one JSON object, and no table")
    parser.add_argument(
        "--data", type=Path, help="folder of the embedded server (default: a temporary one)"
    )
    return parser


def begun(connection: Connection) -> tuple[Lease, ActivePass]:
    """Register a partition, take its lease, and begin a pass with one cursor."""
    connector = Connector("bench", "1", object, (), lambda *_: Upstream("http://127.0.0.1", ()))
    tenants = (Account("default", None),)
    registry.register_instance(connection, Instance("bench", connector, None, tenants))
    registry.register_partitions(connection, [Partition("bench", "default", "f")])
    (lease,) = leases.claim(
        connection, owner=uuid4(), token=uuid4(), job="bench", lease_seconds=3600.0, free=1
    )
    first = Cursor({"page": 0})
    active = passes.begin(
        connection,
        lease,
        Anew("full", None, None, "bench"),
        answered=Pass("full", (first,)),
        wanted=Wanted("full", "r", {}, "1", 1e9),
        nodes=roots([first]),
        until=lease.claimed_at,
    )
    connection.commit()
    return lease, active


@contextmanager
def database(folder: Path | None) -> Iterator[str]:
    """Make a database with the control tables; it is dropped, and the server stopped, at the end.

    PostgreSQL runs with its own defaults, fsync and all: what is measured is what a user has.
    """
    made = Path(tempfile.mkdtemp(prefix="syncd-bench-")) if folder is None else folder
    name = f"bench_{uuid4().hex[:12]}"
    try:
        with start(made) as server, psycopg.connect(server.conninfo, autocommit=True) as admin:
            admin.execute(f'CREATE DATABASE "{name}"')
            dsn = make_conninfo(server.conninfo, dbname=name)
            try:
                with connect(dsn) as connection:
                    migrate(connection)
                yield dsn
            finally:
                admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
    finally:
        if folder is None:
            shutil.rmtree(made, ignore_errors=True)


def connect(dsn: str) -> Connection:
    """Open a connection as the store does."""
    return psycopg.connect(dsn, **connection_options(Timeouts(), "syncd-bench"))


def tell(figures: dict[str, object], *, as_json: bool) -> None:
    """Print what was measured."""
    if as_json:
        print(json.dumps(figures))
        return
    width = max(map(len, figures))
    for name, value in figures.items():
        print(
            f"{name:<{width}}  {value:,}" if isinstance(value, int) else f"{name:<{width}}  {value}"
        )
