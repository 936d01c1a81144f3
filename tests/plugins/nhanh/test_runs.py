"""Whole runs over stores of Nhanh: real HTTP, the real engine, a real PostgreSQL."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import attrs
import msgspec
import psycopg
import pytest
import trio
from psycopg.rows import dict_row

from syncd.config import Config, parse, structure
from syncd.daemon import Process, Root
from syncd.events import (
    CredentialExpiring,
    Event,
    FieldUnknown,
    PageFetched,
    PassFinished,
    RunFinished,
)
from syncd.jobs import run_job
from syncd.model import Mode
from syncd.observe import Observer
from syncd.plugins import Plugins
from syncd.testing import serve
from syncd.verdicts import Result
from syncd_nhanh import plugin
from syncd_nhanh.simulator import APP_ID, Fault, Limit, Nhanh, Simulator
from syncd_nhanh.simulator_customers import Customers, with_holes

DEADLINE_SECONDS = 120.0  # what hangs must fail, on a busy machine too
E = TypeVar("E", bound=Event)

PLUGINS = Plugins({"nhanh": plugin})
STORE, OTHER, THIRD = 110_001, 110_002, 110_003


@attrs.define
class World:
    """A database, the upstream of some stores, and what was said while a job ran."""

    dsn: str
    simulator: Simulator
    base_url: str
    events: list[Event] = attrs.field(factory=list)

    @property
    def nhanh(self) -> Nhanh:
        return self.simulator.nhanh

    def customers(self, store: int = STORE) -> Customers:
        return self.nhanh.businesses[store].customers

    def config(
        self, *, stores: Mapping[int, str], of_each: str, more: str, **settings: Any
    ) -> Config:
        lines = [
            f"{name} = {msgspec.json.encode(value).decode()}" for name, value in settings.items()
        ]
        accounts = "".join(
            f'[[connectors.nhanh.accounts]]\nname = "shop-{store}"\n'
            f'business_id = {store}\ntoken = "{token}"\n{of_each}\n'
            for store, token in stores.items()
        )
        text = (
            f"[database]\nurl = '''{self.dsn}'''\npool_max = 4\n"
            f'[connectors.nhanh]\nbase_url = "{self.base_url}"\napp_id = {APP_ID}\n'
            + "\n".join(lines)
            + f"\n{more}\n{accounts}"
            '[jobs.customers]\nconnector = "nhanh"\npartitions_per_account = 4\n'
        )
        raw = parse(text, file="syncd.toml", folder=Path.cwd())
        return structure(raw, PLUGINS.connectors, environment={})

    async def run(
        self,
        mode: Mode = "incremental",
        *,
        stores: Mapping[int, str] | None = None,
        wait_seconds: float = 5.0,
        of_each: str = "",
        more: str = "",
        **settings: Any,
    ) -> dict[str, Result]:
        """Run the job once; answer with the results by partition.

        `of_each` stands in each account's table, `more` and `settings` in the connector's. The
        weekly pass, due at some moment of each week, is one of ten years, unless that is said.
        """
        settings = {"full_every": "87600h", **settings}
        self.events.clear()
        self.simulator.log.clear()
        tokens = {store: f"token-{store}" for store in self.nhanh.businesses}
        config = self.config(stores=stores or tokens, of_each=of_each, more=more, **settings)
        observer = Observer()
        observer.listen(self.events.append)

        async def main(process: Process) -> list[Result]:
            job = config.jobs["customers"]
            return await run_job(process, job, mode=mode, wait_seconds=wait_seconds)

        results = await Root(config, PLUGINS, observer).run(main)
        return {each.partition: each for each in results}

    def told(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]

    def total(self, name: str) -> int:
        """Sum a count over the last runs."""
        return sum(getattr(run, name) for run in self.told(RunFinished))

    def query(self, text: str) -> list[dict[str, Any]]:
        with psycopg.connect(self.dsn, row_factory=dict_row, autocommit=True) as connection:
            return connection.execute(text.encode()).fetchall()

    def rows(self) -> dict[Any, dict[str, Any]]:
        found = {}
        for row in self.query("SELECT * FROM nhanh.customers"):
            own = {name: value for name, value in row.items() if not name.startswith("_syncd")}
            found[own["account_id"], own["id"]] = own
        return found

    def truth(self, which: Callable[[Customers, int], bool] = lambda _, __: True) -> Any:
        """Return the rows that the upstream's customers stand for, where they can be rows."""
        return {
            (f"shop-{store}", each.customers.id_of(place)): true_row(store, each.customers, place)
            for store, each in self.nhanh.businesses.items()
            for place in each.customers.living
            if not each.customers.has_nul(place) and which(each.customers, place)
        }

    def filters(self) -> list[dict[str, int]]:
        """Return what the calls of the last run were narrowed to."""
        return [msgspec.json.decode(asked.body)["filters"] for asked in self.simulator.log]


def true_row(store: int, customers: Customers, place: int) -> dict[str, Any]:
    """Make a row of what the upstream sends, by the documentation and not by the connector."""
    sent = customers.record(place)

    def of(*path: str) -> Any:
        value: Any = sent
        for name in path:
            value = value.get(name) if isinstance(value, dict) else None
        return None if value == "" else value

    birthday, updated = of("birthday"), of("updatedAt")
    is_date = birthday and birthday != "0000-00-00"
    started = of("startedDate")
    texts = {"name": "name", "mobile": "mobile", "code": "code", "address": "address"} | {
        "email": "email",
        "sale_name": "saleName",
        "tax_code": "taxCode",
    }
    undocumented = ("note", "frequency_bought", "total_spent", "city_name")
    return {
        **{column: of(field) for column, field in texts.items()},
        **dict.fromkeys((*undocumented, "district_name", "ward_name")),
        "account_id": f"shop-{store}",
        "business_id": store,
        "id": sent["id"],
        "type": of("type"),
        "gender": of("gender"),
        "birthday": date.fromisoformat(birthday) if is_date else None,
        "points": int(sent["points"]),
        "started_date": date.fromisoformat(started) if started else None,
        "city_id": of("locations", "cityId"),
        "district_id": of("locations", "districtId"),
        "ward_id": of("locations", "wardId"),
        "city2_id": of("location", "cityId"),
        "ward2_id": of("location", "wardId"),
        "business_name": of("business", "name"),
        "business_address": of("business", "address"),
        "level_id": of("level", "id"),
        "level_name": of("level", "name"),
        "group_id": of("group", "id"),
        "group_name": of("group", "name"),
        "total_amount": Decimal(str(sent["totalAmount"])).quantize(Decimal("0.01")),
        "updated_at": datetime.fromtimestamp(updated, UTC) if updated else None,
    }


def is_dated(customers: Customers, place: int) -> bool:
    return "updatedAt" in customers.record(place)


@asynccontextmanager
async def world(
    dsn: str, customers: Mapping[int, Customers], **options: Any
) -> AsyncIterator[World]:
    nhanh = Nhanh(customers, at=time.time(), gate=Limit(None), **options)
    simulator = Simulator(nhanh)
    with trio.fail_after(DEADLINE_SECONDS):
        async with serve(simulator) as base_url:
            yield World(dsn, simulator, base_url)


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Count the statements of all cursors; nothing else changes."""
    said: list[str] = []
    execute, copy = psycopg.Cursor.execute, psycopg.Cursor.copy

    def counting(cursor: Any, query: Any, *args: Any, **kwargs: Any) -> Any:
        said.append(str(query)[:60])
        return execute(cursor, query, *args, **kwargs)

    def copying(cursor: Any, statement: Any, *args: Any, **kwargs: Any) -> Any:
        said.append("copy")
        return copy(cursor, statement, *args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(psycopg.Cursor, "execute", counting)
        patched.setattr(psycopg.Cursor, "copy", copying)
        yield said


async def test_the_first_pass_brings_what_is_true_and_the_next_ones_what_changed(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores = {
        STORE: Customers(700, seed=1, gone=with_holes(700)),
        OTHER: Customers(120, seed=2),
    }
    async with world(dsn, stores) as there:
        with counted(monkeypatch) as said:
            results = await there.run(of_each=f'expires_at = "{int(time.time()) + 86400}"')

        assert {each.verdict for each in results.values()} == {"complete"}
        assert {event.mode for event in there.told(PassFinished)} == {"full"}
        assert there.rows() == there.truth()
        assert len(said) < 820 / 3  # no query per row
        assert [event.records for event in there.told(PageFetched) if event.records in {0, 60}]
        aside = there.query("SELECT reason, key FROM syncd.quarantine")
        assert (there.total("quarantined"), {row["reason"] for row in aside}) == (1, {"dump"})
        assert there.told(FieldUnknown) == []
        ends = {each.account: each.seconds_left for each in there.told(CredentialExpiring)}
        assert {account: 0 < seconds <= 86400 for account, seconds in ends.items()} == {
            f"shop-{STORE}": True,
            f"shop-{OTHER}": True,
        }

        at = time.time()
        noticed, unnoticed, undated, new = 5, 6, 49, there.customers().add(at)
        there.customers().change(noticed, at)
        for place in (unnoticed, undated):
            there.customers().change(place, None)
        await there.run()

        assert {event.mode for event in there.told(PassFinished)} == {"incremental"}
        assert (there.total("inserted"), there.total("updated")) == (1, 1)
        key = ("shop-110001", there.customers().id_of(new))
        assert there.rows()[key] == there.truth()[key]

        # Points move without `updatedAt`, too: everything is walked, and no version is in the way.
        with counted(monkeypatch) as said:
            await there.run("full")

        assert (there.total("updated"), there.total("inserted")) == (2, 0)
        assert there.rows() == there.truth()
        assert len(said) < 820 / 3


async def test_windows_hold_what_the_whole_holds_and_everything_holds_the_rest(dsn: str) -> None:
    async with world(dsn, {STORE: Customers(400, seed=3)}) as there:
        edges = [str(there.customers().record(place)["updatedAt"]) for place in (100, 250)]

        alone = await there.run(windows=edges, full_every="0s")

        assert len(alone) == 3
        assert there.rows() == there.truth(is_dated) != there.truth()

        beside = await there.run(windows=edges)

        fresh = [name for name in beside if "everything" in name]
        assert (len(beside), len(fresh)) == (4, 1)
        assert {each.verdict for each in beside.values()} == {"complete"}
        assert there.rows() == there.truth()
        assert sum(filters == {} for filters in there.filters()) == 4

        there.customers().change(7, time.time())
        await there.run(windows=edges)

        assert [sorted(filters) for filters in there.filters()] == [["updatedAtFrom"]]
        assert (there.total("updated"), there.rows() == there.truth()) == (1, True)


async def test_the_weekly_pass_comes_by_itself_and_alone_tells_who_is_gone(dsn: str) -> None:
    marks = '[connectors.nhanh.streams.customers]\non_absent = "mark"'
    gone = "SELECT id FROM nhanh.customers WHERE _syncd_absent_at IS NOT NULL"
    async with world(dsn, {STORE: Customers(150, seed=4)}) as there:
        await there.run(more=marks)
        there.customers().gone.add(20)
        there.customers().change(49, None)  # one without `updatedAt`
        await there.run(more=marks)
        assert (there.total("updated"), there.query(gone)) == (0, [])

        await there.run(more=marks, full_every="1s")

        assert [event.mode for event in there.told(PassFinished)] == ["full"]
        assert there.total("updated") == 1
        assert there.query(gone) == [{"id": there.customers().id_of(20)}]


async def test_who_moves_between_two_pages_is_there_after_the_next_pass(dsn: str) -> None:
    def move(_: int, customers: Customers) -> None:
        at = time.time()
        for place in (1, 148, 248):
            customers.change(place, at)
        customers.add(at)

    async with world(dsn, {STORE: Customers(250, seed=5)}, after_page=move) as there:
        await there.run()
        there.nhanh.after_page = None
        await there.run()

        assert there.rows() == there.truth()


async def test_a_dead_token_and_a_store_of_web_pages_cost_the_others_nothing(dsn: str) -> None:
    stores = {number: Customers(120, seed=number) for number in (STORE, OTHER, THIRD)}
    async with world(dsn, stores) as there:
        there.nhanh.faults.append(Fault("html", OTHER))
        tokens = {STORE: f"token-{STORE}", OTHER: f"token-{OTHER}", THIRD: "token-that-died"}
        results = await there.run(stores=tokens, wait_seconds=0.0)

        verdicts = {name: each.verdict for name, each in results.items()}
        assert verdicts.pop(f"nhanh.customers[shop-{STORE}]") == "complete"
        assert verdicts == {
            f"nhanh.customers[shop-{OTHER}]": "waiting",
            f"nhanh.customers[shop-{THIRD}]": "failed",
        }
        said = {name: each.message for name, each in results.items()}
        assert "text/html" in said[f"nhanh.customers[shop-{OTHER}]"]
        assert "ERR_INVALID_ACCESS_TOKEN" in said[f"nhanh.customers[shop-{THIRD}]"]
        assert not any("token-that-died" in repr(event) for event in there.events)
        parked = there.query("SELECT name FROM syncd.account WHERE state = 'parked'")
        assert parked == [{"name": f"shop-{THIRD}"}]
        assert {account for account, _ in there.rows()} == {f"shop-{STORE}"}

        there.nhanh.faults.clear()
        there.query("UPDATE syncd.frontier SET not_before = '-infinity' RETURNING 1")
        await there.run(stores={OTHER: tokens[OTHER]})
        assert {account for account, _ in there.rows()} == {f"shop-{STORE}", f"shop-{OTHER}"}
