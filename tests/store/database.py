"""How tests reach PostgreSQL by hand."""

from __future__ import annotations

import os

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from syncd.store.hops import Connection, Timeouts, connection_options


def connect(dsn: str) -> Connection:
    """Open a connection as the store does."""
    return psycopg.connect(dsn, **connection_options(Timeouts(), "syncd-test"))


def pooled(dsn: str) -> str:
    """Return a conninfo that leads through the pooler, where the tests are given one."""
    return _over(dsn, "SYNCD_TEST_POOLER")


def direct(dsn: str) -> str:
    """Return a conninfo that leads around the pooler, where the tests are given one."""
    return _over(dsn, "SYNCD_TEST_DSN") if os.environ.get("SYNCD_TEST_POOLER") else dsn


def _over(dsn: str, variable: str) -> str:
    given = conninfo_to_dict(os.environ.get(variable, ""))
    return make_conninfo(dsn, **{name: given[name] for name in ("host", "port") if name in given})
