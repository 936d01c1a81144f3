"""Whole runs of the cars connector: its simulator over real HTTP, real PostgreSQL, real plugins."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from decimal import Decimal
from email.utils import format_datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlencode

import attrs
import msgspec
import psycopg
import trio
from psycopg.rows import dict_row
from starlette.types import Receive, Scope, Send

from syncd.config import Config, parse, structure
from syncd.daemon import Process, Root
from syncd.events import Event
from syncd.jobs import run_job
from syncd.model import Mode
from syncd.observe import Observer
from syncd.plugins import Plugins
from syncd.progress import Bounds
from syncd.verdicts import Result
from syncd_cars.simulator import Inventory, Simulator
from syncd_cars.simulator_answers import JSON, Reply
from syncd_cars.simulator_counts import LogEntry
from syncd_cars.simulator_pages import Question, understand
from syncd_cars.simulator_serving import serve

KEY = "an-invented-key"
PER_PAGE = 50
DEADLINE_SECONDS = 60.0  # of one whole test: what hangs must fail, on a busy machine too

E = TypeVar("E", bound=Event)

_TOML = """
[database]
url = {url}
pool_max = 4

[connectors.cars]
{settings}

[jobs.cars]
connector = "cars"
streams = ["cars", "lots"]

[jobs.manufacturers]
connector = "cars"
streams = ["manufacturers"]
mode = "full"
"""


@attrs.frozen
class Answer:
    """One answer in place of the simulator's."""

    body: bytes
    status: int = 200
    content_type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()

    @classmethod
    def json(cls, value: Any, status: int = 200) -> Answer:
        return cls(msgspec.json.encode(value), status)


@attrs.frozen
class Asked:
    """One request, and how often its like came before: 1 is the first time."""

    path: str
    query: Mapping[str, str]
    time: int

    @property
    def page(self) -> int:
        return int(self.query.get("page", "1"))


class Scripted(Simulator):
    """A simulator that lets a test answer some requests; `None` leaves one to the simulator."""

    script: Callable[[Asked], Answer | None] | None = None

    def __init__(self, inventory: Inventory, **options: Any) -> None:
        super().__init__(inventory, api_key=KEY, **options)
        self._times: dict[tuple[str, str], int] = {}

    def genuine(self, asked: Asked) -> Any:
        """Return the page that the simulator would answer with, decoded, for a test to alter."""
        question = understand(asked.path, urlencode(asked.query))
        assert isinstance(question, Question)
        return msgspec.json.decode(self._page(question))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self.script is not None:
            path, query = scope["path"], scope["query_string"].decode()
            time = self._times[path, query] = self._times.get((path, query), 0) + 1
            answer = self.script(Asked(path, dict(parse_qsl(query)), time))
            if answer is not None:
                self.counts.answered(path, query, answer.status)
                reply = Reply(send, date=format_datetime(self.inventory.now(), usegmt=True))
                await reply.whole(
                    answer.status,
                    answer.body,
                    content_type=answer.content_type,
                    headers=answer.headers,
                )
                return
        await super().__call__(scope, receive, send)


@attrs.define
class World:
    """One database, one upstream, and what was said while jobs ran."""

    dsn: str
    simulator: Scripted
    base_url: str
    events: list[Event] = attrs.field(factory=list)
    listeners: list[Callable[[Event], None]] = attrs.field(factory=list)

    def config(self, *, key: str = KEY, **settings: Any) -> Config:
        """Build a configuration; `settings` are the connector's."""
        wanted: dict[str, Any] = {
            "base_url": self.base_url,
            "api_key": key,
            "priority_brands": [],
            "per_page": PER_PAGE,
            "requests_per_second": 1000.0,
        }
        lines = [f"{name} = {_toml(value)}" for name, value in (wanted | settings).items()]
        text = _TOML.format(url=_toml(self.dsn), settings="\n".join(lines))
        raw = parse(text, file="syncd.toml", folder=Path.cwd())
        return structure(raw, Plugins.load(("cars",)).connectors, environment={})

    async def run(
        self,
        job: str = "cars",
        *,
        mode: Mode = "full",
        wait_seconds: float = 5.0,
        bounds: Bounds | None = None,
        **settings: Any,
    ) -> list[Result]:
        """Run a job once in a process of its own kind; `events` are those of this run."""
        self.events.clear()
        config = self.config(**settings)
        observer = Observer()
        observer.listen(self.events.append)
        for listener in self.listeners:
            observer.listen(listener)

        async def main(process: Process) -> list[Result]:
            return await run_job(
                process, config.jobs[job], mode=mode, wait_seconds=wait_seconds, bounds=bounds
            )

        return await Root(config, Plugins.load(("cars",)), observer).run(main)

    def told(self, kind: type[E]) -> list[E]:
        """Return the last run's events of one kind."""
        return [event for event in self.events if isinstance(event, kind)]

    def query(self, text: str, parameters: Sequence[Any] = ()) -> list[dict[str, Any]]:
        with psycopg.connect(self.dsn, row_factory=dict_row, autocommit=True) as connection:
            return connection.execute(text, parameters).fetchall()

    def execute(self, statement: str) -> None:
        """Do something by hand."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute(statement)

    def rows(self, table: str, *key: str) -> dict[Any, dict[str, Any]]:
        """Return a table's own columns by key."""
        found = {}
        if not self.query("SELECT 1 WHERE to_regclass(%s) IS NOT NULL", (f"cars.{table}",)):
            return {}  # nothing was ever written
        for row in self.query(f"SELECT * FROM cars.{table}"):
            own = {name: value for name, value in row.items() if not name.startswith("_syncd")}
            found[tuple(own[name] for name in key)] = own
        return found

    def committed(self) -> tuple[set[Any], set[Any]]:
        """Return the keys of all rows."""
        return set(self.rows("cars", "id")), set(self.rows("lots", "domain_id", "lot"))

    def differences(self) -> dict[Any, Any]:
        """Return where `cars` and `lots` differ from what is true upstream: nowhere, if empty."""
        cars, lots = truth(self.simulator.inventory.cars())
        return differing(self.rows("cars", "id"), cars) | differing(
            self.rows("lots", "domain_id", "lot"), lots
        )

    def let_waits_pass(self) -> None:
        """Let what must wait be due: time passes in the database, and not in the test."""
        self.query("UPDATE syncd.frontier SET not_before = '-infinity' RETURNING 1")

    def log(self, path: str = "/cars") -> list[tuple[LogEntry, dict[str, str]]]:
        """Return what the upstream was asked, with its parameters."""
        entries = [entry for entry in self.simulator.counts.log if entry.path == path]
        return [(entry, dict(parse_qsl(entry.query))) for entry in entries]


# What is true, read from the upstream's documented shape and not by the connector's own reading.

Rows = dict[Any, dict[str, Any]]

_PRICES = ("bid", "buy_now", "final_bid", "estimate_repair_price", "actual_cash_value")
_NAMED_BY_A_LOT = ("status", "condition", "seller", "seller_type", "auction_type")
_NAMED_BY_A_CAR = (
    "manufacturer", "model", "generation", "body_type", "vehicle_type", "color", "engine",
    "transmission", "drive_wheel", "fuel",
)  # fmt: skip


def truth(cars: Iterable[Mapping[str, Any]]) -> tuple[Rows, Rows]:
    """Return the rows that these cars of the upstream stand for; lots without a key are none."""
    by_id, by_number = dict[Any, dict[str, Any]](), dict[Any, dict[str, Any]]()
    for car in cars:
        by_id[(car["id"],)] = _true_car(car)
        for lot in car["lots"]:
            row = _true_lot(lot) | {"car_id": car["id"]}
            if row["domain_id"] is not None and row["lot"] is not None:
                by_number[row["domain_id"], row["lot"]] = row
    return by_id, by_number


def differing(found: Rows, true: Rows) -> dict[Any, Any]:
    keys = found.keys() | true.keys()
    return {key: (found.get(key), true.get(key)) for key in keys if found.get(key) != true.get(key)}


def _at(value: Any, *path: str) -> Any:
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _name(value: Any) -> Any:
    return value if isinstance(value, str) else _at(value, "name")


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%f%z")


def _true_car(car: Mapping[str, Any]) -> dict[str, Any]:
    plain = {name: car.get(name) for name in ("id", "vin", "title", "year", "cylinders")}
    ids = {
        f"{name}_id": _at(car.get(name), "id") for name in ("manufacturer", "model", "generation")
    }
    return plain | ids | {name: _name(car.get(name)) for name in _NAMED_BY_A_CAR}


def _true_lot(lot: Mapping[str, Any]) -> dict[str, Any]:
    images = lot.get("images") or {}
    kept = [images[size][0] for size in ("downloaded", "big", "normal") if images.get(size)]
    moments = ("sale_date", "archived_at", "created_at", "updated_at")
    return {
        **{name: _name(lot.get(name)) for name in _NAMED_BY_A_LOT},
        **{name: None if lot[name] is None else Decimal(lot[name]) for name in _PRICES},
        **{name: _moment(lot[name]) for name in moments},
        "id": lot["id"],
        "lot": None if lot["lot"] is None else str(lot["lot"]),
        "domain_id": _at(lot.get("domain"), "id"),
        "domain": _at(lot.get("domain"), "name"),
        "external_id": lot["external_id"],
        "odometer_km": _at(lot.get("odometer"), "km"),
        "damage_main": _at(lot.get("damage"), "main", "name"),
        "damage_second": _at(lot.get("damage"), "second", "name"),
        "title_document": _name(lot.get("title")),
        "country": _at(lot.get("location"), "country", "iso"),
        "state": _at(lot.get("location"), "state", "code"),
        "city": _at(lot.get("location"), "city", "name"),
        "image_url": kept[0] if kept else None,
        "archived": lot["archived"],
    }


def _toml(value: Any) -> str:
    return msgspec.json.encode(value).decode()  # these values are spelt alike in TOML


@asynccontextmanager
async def world(dsn: str, *, cars: int = 300, **options: Any) -> AsyncIterator[World]:
    """Serve an upstream of so many cars for jobs that write to this database."""
    simulator = Scripted(Inventory(cars, seed=1), **options)
    with trio.fail_after(DEADLINE_SECONDS):
        async with serve(simulator) as base_url:
            yield World(dsn, simulator, base_url)
