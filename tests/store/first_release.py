"""The first release, frozen: its control tables, and a connection that speaks its statements.

An old process is today's engine whose statements are replaced, one by one and by name, by those
that it was released with; what it did not know yet, it does not do.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import psycopg
from database import connect
from psycopg.conninfo import make_conninfo

from syncd.store.hops import Connection, Timeouts, connection_options
from syncd.store.statements import load, statements

FROZEN = Path(__file__).with_name("frozen")
MIGRATIONS = sorted((FROZEN / "sql").iterdir())
UNKNOWN = b"SELECT WHERE false"


@cache
def released(file: str) -> Mapping[str, str]:
    """Return the statements of a file of the first release by name."""
    return statements((FROZEN / "queries" / f"{file}.sql").read_text("utf-8"))


@cache
def translations() -> Mapping[str, bytes]:
    """Return what an old process says where a present one says something."""
    found: dict[str, bytes] = {}
    for file in resources.files("syncd_schemas").joinpath("queries").iterdir():
        name = file.name.removesuffix(".sql")
        old = released(name) if (FROZEN / "queries" / file.name).exists() else {}
        for statement, text in load(name).items():
            found[text] = old[statement].encode() if statement in old else UNKNOWN
    return found


class OldConnection(psycopg.Connection[Any]):
    """Says what a process of the first release would say."""

    def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
        spoken = translations().get(query, query) if isinstance(query, str) else query
        return super().execute(spoken, None if spoken == UNKNOWN else params, **options)


def connect_old(dsn: str) -> Connection:
    """Open a connection as a process of the first release does."""
    return OldConnection.connect(dsn, **connection_options(Timeouts(), "syncd-old"))


@contextmanager
def first_database(server: str) -> Iterator[str]:
    """Make a database as the first release's `syncd migrate` left it."""
    name = f"first_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(f'CREATE DATABASE "{name}"'.encode())
    dsn = make_conninfo(server, dbname=name)
    with connect(dsn) as connection:
        for file in MIGRATIONS:
            connection.execute(file.read_bytes())
            number, _, words = file.stem.partition("_")
            connection.execute(
                "INSERT INTO syncd.migration VALUES (%s, %s, syncd.clock())", (int(number), words)
            )
    yield dsn
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())
