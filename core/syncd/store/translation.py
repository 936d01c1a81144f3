"""psycopg's errors, translated into ours at the edge that met them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import psycopg_pool

from syncd.errors import (
    CommitRefused,
    StatementTimeout,
    StoreError,
    StoreExhausted,
    StoreRefused,
    StoreUnavailable,
)
from syncd.sqlstates import Reaction, reaction

INTRANS = psycopg.pq.TransactionStatus.INTRANS  # in a transaction that nothing has failed in
DRIVER_ERRORS = (psycopg.Error,)  # for whoever must let them pass and may not know the driver


def first_line(error: BaseException) -> str:
    """Return the primary message: no DETAIL, which may quote a record's values."""
    if isinstance(error, psycopg.Error) and error.diag.message_primary:
        return error.diag.message_primary
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def reaction_to(error: psycopg.Error) -> Reaction:
    """Decide what an error means to us.

    One that psycopg itself raised has no state. It is about the connection, or it is a mistake in
    how we asked. A PANIC ends the server for all, whatever its state: it comes back, or stays away
    (PostgreSQL documentation, "Message Severity Levels").
    """
    if error.diag.severity_nonlocalized == "PANIC":
        return "reconnect"
    ours = (psycopg.OperationalError, psycopg.InterfaceError)
    if error.sqlstate is None and not isinstance(error, ours):
        return "refuse"
    return reaction(error.sqlstate)


def translate(where: str, error: psycopg.Error) -> StoreError:
    """Return our error for one of psycopg's; its details hold `sqlstate` and `reaction`."""
    state, then = error.sqlstate, reaction_to(error)
    what = f"{first_line(error)}{f' (SQLSTATE {state})' if state else ''}"
    if isinstance(error, psycopg_pool.PoolTimeout):
        what = "no database connection within the time allowed"
    told = {"sqlstate": state, "reaction": then}
    match then:
        case "retry":
            return StoreUnavailable(where, what, "look for long locks", **told)
        case "reconnect":
            return StoreUnavailable(where, what, "is PostgreSQL reachable?", **told)
        case "smaller":
            do = "look for locks and slow triggers, or raise database.statement_timeout"
            return StatementTimeout(where, what, do, **told)
        case "wait":
            return StoreExhausted(where, what, "give the server what it lacks", **told)
        case _:
            return StoreRefused(where, what, "mend the database or its permissions", **told)


def refused_commit(where: str, error: psycopg.Error) -> StoreError:
    """Return our error for a COMMIT that the server answered with a refusal."""
    told = translate(where, error)
    schema, table = error.diag.schema_name, error.diag.table_name
    if reaction_to(error) != "record" or not schema or not table:
        return told
    blamed = (schema, table)
    return CommitRefused(told.where, told.what, told.do, table=blamed, **told.details)


@contextmanager
def translated(where: str) -> Iterator[None]:
    """Translate what psycopg raises inside."""
    try:
        yield
    except psycopg.Error as error:
        raise translate(where, error) from error
