"""What a test asks the database: where a walk stands, who held what, and what the tables hold."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import attrs
import psycopg
from database import direct
from processes import seen
from psycopg.rows import class_row, dict_row

from syncd.store.hops import Connection, Timeouts, connection_options


def connect(dsn: str) -> Connection:
    """Open a connection that commits each statement by itself, and waits for no lock for long.

    It goes around a pooler, which takes no `options`, and whose connections it must not take up.
    """
    options = connection_options(Timeouts(), "test") | {"autocommit": True}
    options["options"] = "-c lock_timeout=5s -c statement_timeout=15s"
    return psycopg.connect(direct(dsn), **options)


def rows(dsn: str, query: str, *parameters: Any) -> list[dict[str, Any]]:
    with connect(dsn) as connection, connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(query.encode(), parameters).fetchall()


def execute(dsn: str, statements: str) -> None:
    with connect(dsn) as connection:
        connection.execute(statements.encode())


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


def expire_lease(dsn: str) -> None:
    """Let the leases that are held run out now, as if their time had gone by."""
    due = "lease_until = syncd.clock(), claim_at = syncd.clock()"
    execute(dsn, f"UPDATE syncd.partition SET {due} WHERE token IS NOT NULL")


def versions(dsn: str, table: str) -> set[tuple[Any, ...]]:
    """Return what tells one version of every row from another: who wrote it, and when."""
    found = rows(dsn, f"SELECT ctid::text, xmin::text, _syncd_written_at AS at FROM {table}")
    return {(row["ctid"], row["xmin"], row["at"]) for row in found}


CARS = {
    "cars": "SELECT id, vin, title, year, manufacturer, model, color FROM cars.cars ORDER BY id",
    "lots": (
        "SELECT domain_id, lot, car_id, status, bid,"
        " to_char(updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') AS moment"
        ' FROM cars.lots ORDER BY domain_id, lot COLLATE "C"'
    ),
    "aside": (
        "SELECT (convert_from(raw, 'UTF8')::jsonb->>'id')::int AS id, reason, repeats"
        " FROM syncd.quarantine ORDER BY 1"
    ),
}


def stored_rows(dsn: str) -> dict[str, list[tuple[Any, ...]]]:
    """Return what the tables of the cars connector hold, as `upstream.true_rows` says it."""
    return {name: [tuple(row.values()) for row in rows(dsn, query)] for name, query in CARS.items()}


def sighted(dsn: str) -> list[int]:
    """Return the ids of all sightings; a page that was written twice doubles them."""
    return [row["id"] for row in rows(dsn, "SELECT id FROM sightings.sightings ORDER BY id")]


AUDIT = """
    CREATE TABLE public.audit (run_epoch bigint, run_owner uuid, epoch bigint, owner uuid);
    CREATE FUNCTION public.audit() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO public.audit
        SELECT NEW.epoch, NEW.owner, p.epoch, p.owner
        FROM syncd.partition p WHERE p.id = NEW.partition_id;
        RETURN NULL;
    END $$;
    CREATE TRIGGER audit AFTER UPDATE OF pages ON syncd.run
        FOR EACH ROW EXECUTE FUNCTION public.audit();
"""


def audit_commits(dsn: str) -> None:
    """Let every commit of a batch note, in its own transaction, for whom it was and who held."""
    execute(dsn, AUDIT)


def audited(dsn: str) -> dict[int, UUID]:
    """Return who committed by epoch, of commits that all came from who held the lease."""
    found = rows(dsn, "SELECT DISTINCT run_epoch, run_owner, epoch, owner FROM public.audit")
    for row in found:
        assert (row["run_epoch"], row["run_owner"]) == (row["epoch"], row["owner"])
    owners = {row["epoch"]: row["owner"] for row in found}
    assert len(owners) == len(found), "two processes committed under one epoch"
    return owners


def walked(dsn: str) -> list[dict[str, Any]]:
    """Return how far everything is: passes, their cursors, and what runs have counted."""
    queries = (
        "SELECT to_jsonb(p) FROM syncd.pass p ORDER BY id",
        "SELECT to_jsonb(f) FROM syncd.frontier f ORDER BY pass_id, cursor_key",
        "SELECT id, pages, records FROM syncd.run ORDER BY id",
    )
    return [row for query in queries for row in rows(dsn, query)]


def waiting(dsn: str) -> int:
    """Return how many of the engine's connections wait for a lock."""
    query = (
        "SELECT FROM pg_stat_activity WHERE datname = current_database()"
        " AND application_name = 'syncd' AND wait_event_type = 'Lock'"
    )
    return len(rows(dsn, query))


def clock(dsn: str) -> Any:
    """Return the moment by the clock of record."""
    (found,) = rows(dsn, "SELECT syncd.clock() AS now")
    return found["now"]
