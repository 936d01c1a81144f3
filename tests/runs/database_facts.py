"""What a test asks the database: where a walk stands, who held what, and what the tables hold."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import attrs
import psycopg
from processes import seen
from psycopg.rows import class_row, dict_row

from syncd.store.hops import Connection, Timeouts, connection_options


def connect(dsn: str) -> Connection:
    """Open a connection that commits each statement by itself."""
    options = connection_options(Timeouts(), "test") | {"autocommit": True}
    return psycopg.connect(dsn, **options)


def rows(dsn: str, query: str, *parameters: Any) -> list[dict[str, Any]]:
    with connect(dsn) as connection, connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(query.encode(), parameters).fetchall()


@attrs.frozen
class Run:
    """One lease's worth of work, as history has it."""

    epoch: int
    owner: UUID
    status: str
    pages: int
    records: int
    started_at: Any
    finished_at: Any


def runs(dsn: str) -> list[Run]:
    with connect(dsn) as connection, connection.cursor(row_factory=class_row(Run)) as cursor:
        names = ", ".join(field.name for field in attrs.fields(Run))
        return cursor.execute(f"SELECT {names} FROM syncd.run ORDER BY epoch".encode()).fetchall()


def closed_pages(dsn: str) -> set[int]:
    """Return the pages whose records are committed, of the pass that is open."""
    found = rows(
        dsn,
        "SELECT coalesce(f.number, (f.cursor->>'page')::int) AS page"
        " FROM syncd.frontier f JOIN syncd.pass p ON p.id = f.pass_id"
        " WHERE p.state = 'open' AND f.state = 'closed' AND NOT f.empty",
    )
    return {row["page"] for row in found}


def passes(dsn: str) -> list[str]:
    """Return the states of all passes, in order."""
    return [row["state"] for row in rows(dsn, "SELECT state FROM syncd.pass ORDER BY number")]


def partition(dsn: str) -> dict[str, Any]:
    (found,) = rows(dsn, "SELECT *, lease_until > syncd.clock() AS held FROM syncd.partition")
    return found


async def left_alone(dsn: str) -> None:
    """Wait until the server has done with every connection of the engine."""
    query = (
        "SELECT pid FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name = 'syncd'"
    )
    await seen("the end of the engine's connections", lambda: not rows(dsn, query))


CARS = {
    "cars": "SELECT id, vin, title, year, manufacturer, model, color FROM cars.cars ORDER BY id",
    "lots": (
        "SELECT domain_id, lot, car_id, status, bid,"
        " to_char(updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') AS moment"
        " FROM cars.lots ORDER BY domain_id, lot COLLATE \"C\""
    ),
    "aside": (
        "SELECT (convert_from(raw, 'UTF8')::jsonb->>'id')::int AS id, reason, repeats"
        " FROM syncd.quarantine ORDER BY 1"
    ),
}


def stored_rows(dsn: str) -> dict[str, list[tuple[Any, ...]]]:
    """Return what the tables of the cars connector hold, as `upstream.true_rows` says it."""
    return {
        name: [tuple(row.values()) for row in rows(dsn, query)] for name, query in CARS.items()
    }


def sighted(dsn: str) -> list[int]:
    """Return the ids of all sightings; a page that was written twice doubles them."""
    return [row["id"] for row in rows(dsn, "SELECT id FROM sightings.sightings ORDER BY id")]
