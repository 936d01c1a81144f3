"""What must be true of a table after a load: how many rows, and of each column a count and a sum.

Text is summed by its length, a moment by its seconds since 1970, a date by its days since then, a
price in cents, a truth as 1, a list by its length. Expected totals are what the generator counted;
found ones are asked of PostgreSQL.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

import msgspec
import psycopg
from layouts import MOMENT, PRICE, Layout

Sums = dict[str, tuple[int, int]]
"""By column: how many values are not null, and their sum."""


class Wrong(Exception):
    """A table does not hold what was served."""


class Totals(msgspec.Struct):
    """The sums of one table."""

    rows: int
    sums: Sums


_COUNTED: dict[str, Callable[[Any], int]] = {"text": len, "jsonb": len}
_ASKED = {
    "bigint": "{}",
    "text": "length({})",
    PRICE: "100 * {}",
    "boolean": "{}::int",
    MOMENT: "extract(epoch FROM {})",
    "date": "{} - date '1970-01-01'",
    "jsonb": "jsonb_array_length({})",
}


class Counting:
    """Counts rows as they are generated, in the units of `plain_records.rows`."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._rows = 0
        self._sums = [[0, 0] for _ in layout.columns]

    def add(self, rows: Sequence[Sequence[Any]]) -> None:
        """Count some rows; no key twice."""
        self._rows += len(rows)
        values = zip(*rows, strict=True)
        for column, sums, found in zip(self._layout.columns, self._sums, values, strict=False):
            there = [value for value in found if value is not None]
            counted = _COUNTED.get(column.sql)
            sums[0] += len(there)
            sums[1] += sum(map(counted, there)) if counted else sum(there)

    def totals(self) -> Totals:
        named = zip(self._layout.names, self._sums, strict=True)
        return Totals(self._rows, {name: (sums[0], sums[1]) for name, sums in named})


def found(connection: psycopg.Connection[Any], layout: Layout) -> Totals:
    """Ask PostgreSQL for a table's totals."""
    asked = ["count(*)"]
    for name, sql in layout.columns:
        value = _ASKED[sql].format(f'"{name}"')
        asked += [f'count("{name}")', f"coalesce(sum({value}), 0)"]
    query = f"SELECT {', '.join(asked)} FROM {layout}"
    answer = connection.execute(query.encode()).fetchone()
    assert answer is not None
    rows, *numbers = map(int, answer)
    pairs = zip(numbers[::2], numbers[1::2], strict=True)
    return Totals(rows, dict(zip(layout.names, pairs, strict=True)))


def verify(
    connection: psycopg.Connection[Any],
    tables: Iterable[Layout],
    expected: dict[str, Totals],
    *,
    volatile: Collection[str] = (),
) -> None:
    """Compare tables with what was served; of `volatile` columns only that they are there.

    Raises: `Wrong`, naming the first columns that differ.
    """
    for layout in tables:
        there, wanted = found(connection, layout), expected[layout.name]
        if there.rows != wanted.rows:
            raise Wrong(f"{layout}: {there.rows} rows; {wanted.rows} were served")
        wrong = [
            f"{name} has {there.sums[name]}, not {sums}"
            for name, sums in wanted.sums.items()
            if there.sums[name] != sums
            and not (name in volatile and there.sums[name][0] == sums[0])
        ]
        if wrong:
            raise Wrong(f"{layout}: (count, sum) of {'; '.join(wrong[:5])}")
