"""How tests reach PostgreSQL by hand."""

from __future__ import annotations

import psycopg

from syncd.store.hops import Connection, Timeouts, connection_options


def connect(dsn: str) -> Connection:
    """Open a connection as the store does."""
    return psycopg.connect(dsn, **connection_options(Timeouts(), "syncd-test"))
