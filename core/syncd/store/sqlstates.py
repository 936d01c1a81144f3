"""What PostgreSQL's errors mean to us: one table of SQLSTATE classes and reactions.

Source: PostgreSQL documentation, Appendix A, "PostgreSQL Error Codes".
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import psycopg
import psycopg_pool

from syncd.errors import StoreRefused, StoreUnavailable

DRIVER_ERRORS = (psycopg.Error,)  # for whoever must let them pass and may not know the driver

Reaction = Literal["retry", "data", "refused", "unavailable"]

RETRY = {
    "40001": "serialization failure",
    "40P01": "deadlock",
    "55P03": "lock timeout",
}
_BY_CLASS: dict[str, Reaction] = {
    "08": "unavailable",  # connection exception
    "22": "data",  # data exception
    "23": "data",  # integrity constraint violation
    "25": "unavailable",  # read-only, idle-in-transaction timeout
    "28": "refused",  # invalid authorization
    "3D": "refused",  # no such database
    "3F": "refused",  # no such schema
    "42": "refused",  # syntax error or access rule violation
    "53": "unavailable",  # insufficient resources: disk full, too many connections
    "57": "unavailable",  # operator intervention: shutdown, cancelled
    "58": "unavailable",  # system error
}


def reaction(sqlstate: str | None) -> Reaction:
    """Decide what an error means: try the transaction again, blame a record, stop, or wait.

    An error without a state is a lost connection.
    """
    if sqlstate is None:
        return "unavailable"
    if sqlstate in RETRY:
        return "retry"
    return _BY_CLASS.get(sqlstate[:2], "refused")


class RetryTransaction(Exception):  # a signal between the hop and its loop
    """The whole transaction is to be tried again."""

    def __init__(self, sqlstate: str) -> None:
        super().__init__(sqlstate)
        self.sqlstate = sqlstate


def first_line(error: BaseException) -> str:
    """Return the primary message: no DETAIL, which may quote a record's values."""
    if isinstance(error, psycopg.Error) and error.diag.message_primary:
        return error.diag.message_primary
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


@contextmanager
def translated(where: str) -> Iterator[None]:
    """Translate psycopg's errors at the edge that met them."""
    try:
        yield
    except psycopg_pool.PoolTimeout as error:
        raise StoreUnavailable(
            where, "no database connection within the time allowed", "is PostgreSQL reachable?"
        ) from error
    except psycopg.Error as error:
        state = error.sqlstate
        what = f"{first_line(error)}{f' (SQLSTATE {state})' if state else ''}"
        match reaction(state):
            case "retry":
                assert state is not None
                raise RetryTransaction(state) from error
            case "unavailable":
                raise StoreUnavailable(where, what, "it is tried again") from error
            case _:
                raise StoreRefused(where, what, "mend the database or its permissions") from error
