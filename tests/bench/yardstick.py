"""The yardstick: what a competent user would write by hand. Nothing of syncd is imported.

python yardstick.py ORDER TOLD

Eight pages at once; each page is decoded by orjson, copied into a temporary table of its connection
and upserted by key, every column set, in one transaction. No restart, no second daemon, no limits.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Iterable
from datetime import date, datetime
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import car_rows
import orjson
from layouts import TABLES, Layout

AT_ONCE = 8

Rows = tuple[tuple[Layout, list[tuple[Any, ...]]], ...]


def plain_row(record: dict[str, Any]) -> tuple[Any, ...]:
    """Make a row of a flat record."""
    published = record["published_at"]
    return (
        record["id"],
        record["sku"],
        record["name"],
        record["description"],
        record["brand"],
        record["category"],
        record["status"],
        record["colour"],
        record["size"],
        record["supplier"],
        record["country"],
        record["currency"],
        record["warehouse"],
        record["ean"],
        record["stock"],
        record["reserved"],
        record["sold"],
        record["rating_count"],
        record["weight_grams"],
        Decimal(record["price"]),
        Decimal(record["cost"]),
        Decimal(record["list_price"]),
        record["active"],
        record["featured"],
        datetime.fromisoformat(record["created_at"]),
        datetime.fromisoformat(record["updated_at"]),
        datetime.fromisoformat(published) if published else None,
        date.fromisoformat(record["available_on"]),
        orjson.dumps(record["tags"]).decode(),
    )


def rows_of(shape: str, records: list[dict[str, Any]]) -> Rows:
    """Make the rows of a page, table by table."""
    tables = TABLES[shape]
    match shape:
        case "cars":
            cars = [car_rows.car_row(car) for car in records]
            lots = [row for car in records for row in car_rows.lot_rows(car)]
            return (tables[0], cars), (tables[1], lots)
        case "viewed":
            return ((tables[0], [(*plain_row(record), record["views"]) for record in records]),)
        case _:
            return ((tables[0], [plain_row(record) for record in records]),)


def upsert(table: Layout, *, distinct: bool) -> str:
    """Write the statement that takes the rows over from the temporary table."""
    others = [name for name in table.names if name not in table.key]
    names = ", ".join(f'"{name}"' for name in table.names)
    changes = ", ".join(f'"{name}" = excluded."{name}"' for name in others)
    differs = ""
    if distinct:
        mine = ", ".join(f't."{name}"' for name in others)
        theirs = ", ".join(f'excluded."{name}"' for name in others)
        differs = f" WHERE ({mine}) IS DISTINCT FROM ({theirs})"
    return (
        f"INSERT INTO {table} AS t ({names}) SELECT {names} FROM incoming_{table.name} "
        f"ON CONFLICT ({', '.join(table.key)}) DO UPDATE SET {changes}{differs}"
    )


async def make_tables(dsn: dict[str, Any], tables: Iterable[Layout]) -> None:
    """Make the tables where they are not there."""
    connection = await asyncpg.connect(**dsn)
    for table in tables:
        columns = ", ".join(f'"{name}" {sql}' for name, sql in table.columns)
        await connection.execute(f'CREATE SCHEMA IF NOT EXISTS "{table.schema}"')
        await connection.execute(
            f"CREATE TABLE IF NOT EXISTS {table} ({columns}, PRIMARY KEY ({', '.join(table.key)}))"
        )
        for index in INDEXES.get(table.name, ()):
            await connection.execute(f"CREATE INDEX IF NOT EXISTS {index}")
    await connection.close()


INDEXES = {
    "cars": (
        'cars_vin ON "cars"."cars" (vin)',
        'cars_manufacturer ON "cars"."cars" (manufacturer_id)',
    ),
    "lots": ('lots_car ON "cars"."lots" (car_id)', 'lots_id ON "cars"."lots" (id)'),
}
"""The connector's tables have them, so these have them too."""


class Load:
    """One walk through all pages."""

    def __init__(self, order: dict[str, Any], pool: Any, http: aiohttp.ClientSession) -> None:
        self._order = order
        self._pool = pool
        self._http = http
        distinct = order["distinct"]
        self._upserts = {t.name: upsert(t, distinct=distinct) for t in TABLES[order["shape"]]}
        self._numbers = count(1)
        self._last: int | None = None
        self.first_request = 0.0
        self.last_commit = 0.0

    async def work(self) -> None:
        """Take pages until one is the last; a connection is kept all the while."""
        async with self._pool.acquire() as connection:
            for number in self._numbers:
                if self._last is not None and number > self._last:
                    return
                await self._page(number, connection)

    async def _page(self, number: int, connection: Any) -> None:
        order = self._order
        self.first_request = self.first_request or time.monotonic()
        params = {"page": number, "per_page": order["per_page"]}
        async with self._http.get(order["url"], params=params) as response:
            response.raise_for_status()
            page = orjson.loads(await response.read())
        if page["links"]["next"] is None and self._last is None:
            self._last = number
        if page["data"]:
            await self._write(connection, rows_of(order["shape"], page["data"]))

    async def _write(self, connection: Any, rows: Rows) -> None:
        async with connection.transaction():
            for table, records in rows:
                await connection.copy_records_to_table(
                    f"incoming_{table.name}", records=records, columns=table.names
                )
                await connection.execute(self._upserts[table.name])
        self.last_commit = time.monotonic()


async def main(order: dict[str, Any]) -> float:
    """Load everything; answer with the seconds from the first request to the last commit."""
    tables = TABLES[order["shape"]]
    await make_tables(order["dsn"], tables)

    async def prepare(connection: Any) -> None:
        for table in tables:
            await connection.execute(
                f"CREATE TEMP TABLE incoming_{table.name} (LIKE {table}) ON COMMIT DELETE ROWS"
            )

    async with (
        asyncpg.create_pool(
            **order["dsn"], min_size=AT_ONCE, max_size=AT_ONCE, init=prepare
        ) as pool,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=AT_ONCE)) as http,
    ):
        load = Load(order, pool, http)
        await asyncio.gather(*(load.work() for _ in range(AT_ONCE)))
    return load.last_commit - load.first_request


if __name__ == "__main__":
    own = asyncio.run(main(json.loads(Path(sys.argv[1]).read_text())))
    Path(sys.argv[2]).write_text(json.dumps({"own_seconds": own}))
