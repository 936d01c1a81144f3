"""What every test may ask for: a real PostgreSQL, and a database of its own in it.

The server is started once per test process from the embedded binaries; `SYNCD_TEST_DSN` (a
superuser's) points the tests at another, `SYNCD_TEST_POOLER` at a pooler before that. A template
database with the control tables is cloned for each test.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import ExitStack

import memory
import psycopg
import pytest
from database import connect, pooled
from hypothesis import HealthCheck, settings
from psycopg.conninfo import make_conninfo

from syncd.collector import tuned
from syncd.embedded import throwaway
from syncd.store.hops import Connection
from syncd.store.migrations import migrate

# How long an example takes tells how busy the machine is, not whether a law holds.
settings.register_profile("syncd", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("syncd")


_collector = ExitStack()


def pytest_collection_finish() -> None:
    """Never look again at what is there by now: each run of syncd collects garbage (0.2 s)."""
    _collector.enter_context(tuned())


def pytest_unconfigure() -> None:
    _collector.close()


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The conninfo of a server on which databases may be made."""
    if given := os.environ.get("SYNCD_TEST_DSN"):
        yield given
        return
    with throwaway(within=memory.place()) as embedded:
        yield embedded.conninfo


@pytest.fixture(scope="session")
def template(server: str) -> Iterator[str]:
    """The name of a database with the control tables, to clone."""
    name = f"template_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(f'CREATE DATABASE "{name}"')
    with connect(make_conninfo(server, dbname=name)) as connection:
        migrate(connection)
    yield name
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(f'DROP DATABASE "{name}"')


@pytest.fixture
def dsn(server: str, template: str) -> Iterator[str]:
    """The conninfo of a fresh database with the control tables."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server, autocommit=True) as admin:
        # Half as long as writing each page to the log; the only way there was before 15.
        strategy = "STRATEGY file_copy" if admin.info.server_version >= 150000 else ""
        admin.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}" {strategy}')
    yield pooled(make_conninfo(server, dbname=name))
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
def connection(dsn: str) -> Iterator[Connection]:
    """A connection to a fresh database with the control tables."""
    opened = connect(dsn)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def worlds(server: str, template: str) -> Iterator[str]:
    """The conninfo of a database for simulated worlds, one after the other: each empties it."""
    from inline import close_idle
    from world import equip

    name = f"worlds_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
    dsn = make_conninfo(server, dbname=name)
    equip(dsn)
    yield dsn
    close_idle(dsn)
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
