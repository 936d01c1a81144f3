"""Streams, rows and moments for the tests of the bulk writer, and a look into what it wrote."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from threading import Thread
from time import monotonic, sleep
from typing import Annotated, Any
from uuid import UUID

import attrs

from syncd import bulk
from syncd.bulk import Batch, Column, Result, Table
from syncd.model import Stream, Written
from syncd.store.hops import Connection

MORNING = datetime(2026, 11, 2, 6, 0, tzinfo=UTC)
TOKEN = UUID(int=7)
ARRAYS, COPY = 10**9, 1  # `copy_from_rows`: never copied, always copied


@attrs.frozen
class Item:
    """A row whose version is the moment of its request."""

    id: int
    value: str | None = None
    tags: list[Any] | None = None


ITEMS = Stream("items", Item, key=("id",))


@attrs.frozen
class Everything:
    """A column of each kind."""

    id: int
    title: str | None = "a title"
    count: int | None = 7
    small: Annotated[int | None, Column("smallint")] = 7
    ratio: float | None = 0.5
    single: Annotated[float | None, Column("real")] = 0.5
    price: Annotated[Decimal | None, Column("numeric(14,2)")] = Decimal("9.90")
    amount: Decimal | None = Decimal("1.000")
    rough: Annotated[float | None, Column("numeric(9,3)")] = 1.25
    flag: bool | None = True
    born: date | None = date(2001, 2, 3)
    seen: datetime | None = MORNING
    token: UUID | None = TOKEN
    blob: bytes | None = b"\x00\xff"
    document: Any = attrs.field(factory=lambda: {"a": [1, 2.5, None, "x"]})


EVERYTHING = Stream("everything", Everything, key=("id",))


def made(connection: Connection, stream: Stream, *, instance: str = "shop") -> Table:
    """Create a stream's table, committed."""
    table = bulk.table_of(instance, stream)
    bulk.apply(connection, [table], lock_timeout_seconds=5)
    connection.commit()
    return table


def put(
    connection: Connection,
    table: Table,
    rows: Sequence[Any],
    *,
    at: int | Sequence[int] = 0,
    **options: Any,
) -> Result:
    """Write rows whose requests left `at` seconds after the morning began."""
    seconds = [at] * len(rows) if isinstance(at, int) else at
    sent_at = [MORNING + timedelta(seconds=each) for each in seconds]
    result = bulk.write(connection, table, Batch(rows=rows, sent_at=sent_at, **options))
    assert counted(result) == len(rows)
    return result


def counted(result: Result) -> int:
    total: int = sum(result.written.counts.values())
    return total + len(result.rejected)


def written(inserted: int = 0, updated: int = 0, unchanged: int = 0, stale: int = 0) -> Written:
    return Written(inserted, updated, unchanged, stale)


def stored(connection: Connection, table: Table, columns: str = "*") -> list[dict[str, Any]]:
    """Read a table in key order, or in the order of its rows where it has no key."""
    order = ", ".join(f'"{name}"' for name in table.primary_key) or "ctid"
    query = f'SELECT {columns} FROM "{table.schema}"."{table.name}" ORDER BY {order}'
    return connection.execute(query).fetchall()


def values(connection: Connection) -> dict[int, str | None]:
    """What the items say, by key."""
    rows = connection.execute("SELECT id, value FROM shop.items").fetchall()
    return {row["id"]: row["value"] for row in rows}


def wait_for(happened: Callable[[], object], *, seconds: float = 10) -> None:
    """Look again and again until something has happened."""
    deadline = monotonic() + seconds
    while not happened():
        assert monotonic() < deadline, "it did not happen in time"
        sleep(0.005)


def waits_for_a_lock(observer: Connection, backend: int) -> bool:
    row = observer.execute("SELECT cardinality(pg_blocking_pids(%s)) AS n", [backend]).fetchone()
    observer.rollback()
    assert row is not None
    return bool(row["n"])


class Task(Thread):
    """A function run beside the test; `result()` joins it and answers, or raises, what it did."""

    def __init__(self, function: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self._function = function
        self._answer: Any = None
        self._error: Exception | None = None
        self.start()

    def run(self) -> None:
        try:
            self._answer = self._function()
        except Exception as error:  # noqa: BLE001  # handed over to the test
            self._error = error

    def result(self) -> Any:
        self.join(20)
        assert not self.is_alive(), "the task hangs"
        if self._error is not None:
            raise self._error
        return self._answer
