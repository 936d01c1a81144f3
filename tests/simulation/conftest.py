"""A database for many worlds, one after the other."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from world import equip


@pytest.fixture(scope="module")
def worlds(server: str, template: str) -> Iterator[str]:
    """The conninfo of a database that is equipped for simulations; each world empties it first."""
    name = f"worlds_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
    dsn = make_conninfo(server, dbname=name)
    equip(dsn)
    yield dsn
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
