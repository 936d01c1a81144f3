"""The upstream of these tests: the cars simulator over loopback, what is true, who asked for what.

What is true is read off the simulator's own records, not made by the connector's code.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import lru_cache
from math import ceil
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl
from uuid import uuid4

import attrs

from syncd_cars.inventory import Inventory
from syncd_cars.simulator import Simulator
from syncd_cars.simulator_serving import serve

API_KEY = "of-no-value-anywhere"


@attrs.frozen
class Shape:
    """How many cars there are, how they are paged, and how fast pages may be asked for.

    A batch gathers what comes within 50 ms: a slow rate makes many small transactions.
    """

    cars: int
    per_page: int = 50
    requests_per_second: float = 30.0

    @property
    def pages(self) -> range:
        return range(1, ceil(self.cars / self.per_page) + 1)


@attrs.frozen
class Upstream:
    """A simulator that is being served."""

    simulator: Simulator
    shape: Shape
    url: str

    def asked(self, *, full: bool = True) -> Counter[int]:
        """Count by page what was asked for in full passes, or in the others."""
        found: Counter[int] = Counter()
        for entry in self.simulator.counts.log:
            query = dict(parse_qsl(entry.query))
            if entry.path == "/cars" and ("minutes" not in query) == full:
                found[int(query["page"])] += 1
        return found

    @property
    def ids(self) -> list[int]:
        """Return the ids of all cars."""
        return sorted(car["id"] for car in self.simulator.inventory.cars())

    def configuration(
        self,
        folder: Path,
        dsn: str,
        *,
        connector: str,
        lease: str,
        drain_timeout: str = "20s",
        database: str = "",
        pool_max: int = 4,
    ) -> Path:
        """Write a configuration with one job of one partition; `database`: more lines of that."""
        whole = "priority_brands = []" if connector == "cars" else ""
        file = folder / f"{uuid4().hex}.toml"
        file.write_text(f"""
            [database]
            url = '''{dsn}'''
            pool_max = {pool_max}
            {database}
            [daemon]
            lease = "{lease}"
            drain_timeout = "{drain_timeout}"
            [connectors.{connector}]
            api_key = "{API_KEY}"
            base_url = "{self.url}"
            per_page = {self.shape.per_page}
            requests_per_second = {self.shape.requests_per_second}
            in_flight = 2
            {whole}
            [jobs.{connector}]
            connector = "{connector}"
            streams = {STREAMS[connector]}
        """)
        return file


STREAMS = {"cars": ["cars", "lots"], "sightings": ["sightings"]}


@asynccontextmanager
async def serving(shape: Shape) -> AsyncIterator[Upstream]:
    """Serve cars that never change, the same ones each time.

    A process that follows one that was killed is given another server: requests of the dead may
    still be on their way.
    """
    simulator = Simulator(frozen(shape.cars), api_key=API_KEY)
    async with serve(simulator) as url:
        yield Upstream(simulator, shape, url)


@lru_cache
def frozen(cars: int) -> Inventory:
    """Make cars once for all tests: nobody moves them."""
    return Inventory(cars, seed=7)


@lru_cache
def true_rows(inventory: Inventory) -> dict[str, list[tuple[Any, ...]]]:
    """Return what the tables must hold of an inventory that does not move any more, by key.

    A lot without a number, or of no site, has no key: it must have been set aside, once.
    """
    cars, lots, aside = [], [], []
    for car in inventory.cars():
        names = [name_of(car.get(field)) for field in ("manufacturer", "model", "color")]
        cars.append((car["id"], car["vin"], car["title"], car["year"], *names))
        for lot in car["lots"]:
            if lot["domain"] is None or lot["lot"] is None:
                aside.append((lot["id"], "key", 0))
                continue
            key = (lot["domain"]["id"], str(lot["lot"]))
            said = (name_of(lot.get("status")), lot["bid"], lot["updated_at"])
            lots.append((*key, car["id"], *said))
    return {"cars": sorted(cars), "lots": sorted(lots), "aside": sorted(aside)}


def name_of(reference: Any) -> Any:
    return reference["name"] if isinstance(reference, dict) else reference
