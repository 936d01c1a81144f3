"""Whole runs of the NPPES connector: the real engine, a real database, its simulator over HTTP.

What is true is read off the simulator's providers, not made by the connector's code.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
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
from syncd.events import CursorFailed, Event, RequestRetried, RunFinished, RunStarted
from syncd.jobs import run_job
from syncd.observe import Observer
from syncd.plugins import Plugins
from syncd.verdicts import Result
from syncd_nppes import plugin
from syncd_nppes.simulator import Registry, Simulator, serve
from syncd_nppes.simulator_providers import Provider, invented

DEADLINE_SECONDS = 120.0  # of one whole test: what hangs must fail, on a busy machine too
INTERNAL = "Internal Medicine"
PLUGINS = Plugins({"nppes": plugin})

E = TypeVar("E", bound=Event)


@attrs.define
class World:
    """One database, one registry, and what was said while a job ran."""

    dsn: str
    registry: Registry
    base_url: str
    events: list[Event] = attrs.field(factory=list)

    def config(self, *streams: str, **settings: Any) -> Config:
        wanted = {"base_url": self.base_url, "requests_per_second": 1000, **settings}
        lines = [f"{name} = {_toml(value)}" for name, value in wanted.items()]
        text = "\n".join(
            [
                f"[database]\nurl = {_toml(self.dsn)}\npool_max = 4\n[connectors.nppes]",
                *lines,
                f'[jobs.all]\nconnector = "nppes"\nstreams = {_toml(list(streams))}\nmode = "full"',
            ]
        )
        raw = parse(text, file="syncd.toml", folder=Path.cwd())
        return structure(raw, PLUGINS.connectors, environment={})

    async def run(self, *streams: str, **settings: Any) -> dict[str, Result]:
        """Walk streams once (`providers`, if none is named); answer with results by search.

        `events` and `registry.asked` are those of this run.
        """
        self.events.clear()
        self.registry.asked.clear()
        config = self.config(*(streams or ("providers",)), **settings)
        observer = Observer()
        observer.listen(self.events.append)

        async def main(process: Process) -> list[Result]:
            return await run_job(process, config.jobs["all"], mode="full", wait_seconds=5.0)

        results = await Root(config, PLUGINS, observer).run(main)
        return {_slice(result.partition): result for result in results}

    def told(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]

    def written(self) -> dict[str, int]:
        """Return what the last run's partitions wrote, all together."""
        names = ("inserted", "updated", "unchanged", "stale", "quarantined", "requests")
        runs = self.told(RunFinished)
        return {name: sum(getattr(run, name) for run in runs) for name in names}

    def query(self, text: str) -> list[dict[str, Any]]:
        with psycopg.connect(self.dsn, row_factory=dict_row, autocommit=True) as connection:
            return connection.execute(text.encode()).fetchall()

    def rows(self) -> dict[str, dict[str, Any]]:
        return {row["npi"]: row for row in self.query("SELECT * FROM nppes.providers")}


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        pairs = ", ".join(f"{name} = {_toml(each)}" for name, each in value.items())
        return f"{{ {pairs} }}"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return msgspec.json.encode(value).decode()  # these values are spelt alike in TOML


def _slice(partition: str) -> str:
    return partition.partition("[")[2].removesuffix("]")


@asynccontextmanager
async def world(
    dsn: str, providers: Sequence[Provider], **options: Any
) -> AsyncIterator[tuple[World, Simulator]]:
    registry = Registry(providers, **options)
    simulator = Simulator(registry)
    with trio.fail_after(DEADLINE_SECONDS):
        async with serve(simulator) as base_url:
            yield World(dsn, registry, base_url), simulator


def some(count: int, *specialties: str) -> list[Provider]:
    return list(invented(count, seed=4, specialties=specialties, states=["TX", "WY"]))


# What is true, read from the registry's documented shape.


def true_of(provider: Provider) -> dict[str, Any]:
    main = provider.taxonomies[0]
    place = _at(provider, "LOCATION")
    return {
        "npi": provider.npi,
        "enumeration_type": provider.kind,
        "last_name": provider.basic.get("last_name"),
        "organization_name": provider.basic.get("organization_name"),
        "credential": _said(provider.basic.get("credential")),
        "sex": provider.basic.get("sex"),
        "status": "A",
        "taxonomy_code": main["code"],
        "taxonomy": main["desc"],
        "license": main["license"],
        "location_city": place.get("city"),
        "location_state": place.get("state"),
        "location_postal_code": place.get("postal_code"),
        "location_address_1": place.get("address_1"),
        "mailing_postal_code": _at(provider, "MAILING").get("postal_code"),
        "created_at": provider.created_at,
        "last_updated_at": provider.updated_at,
        "enumeration_date": provider.created_at.date(),
    }


def _at(provider: Provider, purpose: str) -> Mapping[str, Any]:
    return next((a for a in provider.addresses if a["address_purpose"] == purpose), {})


def _said(value: str | None) -> str | None:
    return None if value == "--" else value


def differences(world: World, true: Mapping[str, Provider]) -> dict[str, Any]:
    """Return where the table differs from what is true: nowhere, if empty."""
    found, wrong = world.rows(), dict[str, Any]()
    for npi in found.keys() | true.keys():
        want = true_of(true[npi]) if npi in true else None
        has = found.get(npi)
        if want is None or has is None:
            wrong[npi] = (has, want)
            continue
        differing = {name: (has[name], value) for name, value in want.items() if has[name] != value}
        lists = [len(has[name]) for name in ("addresses", "taxonomies", "identifiers")]
        sizes = [len(true[npi].addresses), len(true[npi].taxonomies), len(true[npi].identifiers)]
        if differing or lists != sizes:
            wrong[npi] = (differing, lists, sizes)
    return wrong


def of(specialty: str, state: str = "") -> dict[str, str]:
    place = {"state": state} if state else {}
    return {"taxonomy_description": specialty, **place}


async def test_searches_bring_what_they_find_and_bring_no_change_the_second_time(dsn: str) -> None:
    """Also of an NPI without addresses, of two searches' providers, and of secondary taxonomies."""
    providers = some(900, INTERNAL, "Pediatrics")
    providers[7].addresses = []
    searches = [{"specialty": INTERNAL}, {"specialty": "Pediatrics", "state": "TX"}]
    async with world(dsn, providers) as (made, simulator):
        true = made.registry.truth(of(INTERNAL), of("Pediatrics", "TX"))
        results = await made.run(searches=searches)

        assert {name: each.verdict for name, each in results.items()} == {
            INTERNAL: "complete",
            "Pediatrics, TX": "complete",
        }
        assert differences(made, true) == {}
        assert {(each.turn, each.turns) for each in made.told(RunStarted)} == {(1, 2), (2, 2)}
        assert made.written()["inserted"] == len(true)
        counts = [len(made.registry.truth(each)) for each in (of(INTERNAL), of("Pediatrics", "TX"))]
        assert sum(counts) > len(true)  # some were found twice
        assert any(each.taxonomies[0]["desc"] == "Pediatrics" for each in true.values())
        assert simulator.in_flight_max <= 3
        indexes = made.query("SELECT indexdef FROM pg_indexes WHERE schemaname = 'nppes'")
        defined = " ".join(row["indexdef"] for row in indexes)
        assert "(location_state, location_city)" in defined
        assert "(taxonomy_code)" in defined

        moved = next(iter(true.values()))
        moved.change(credential="PHD")
        await made.run(searches=searches)

        written = made.written()
        assert (written["inserted"], written["updated"]) == (0, 1)
        assert written["unchanged"] + 1 >= len(true)
        assert written["requests"] == sum(-(-count // 200) for count in counts)
        assert made.rows()[moved.npi]["credential"] == "PHD"


async def test_no_row_costs_a_statement_of_its_own(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[object] = []
    execute = psycopg.Cursor.execute

    def noted(cursor: Any, query: Any, *args: Any, **more: Any) -> Any:
        sent.append(query)
        return execute(cursor, query, *args, **more)

    monkeypatch.setattr(psycopg.Cursor, "execute", noted)
    counts = []
    async with world(dsn, some(1100, INTERNAL)) as (made, _):
        for _ in range(2):  # the second time nothing is new
            sent.clear()
            await made.run("providers", "leads", specialties=[INTERNAL], leads={"states": ["TX"]})
            assert len(made.rows()) == 1100
            counts.append(len(sent))
        assert len(made.query("SELECT FROM nppes.leads")) > 200

    assert min(counts) > 20
    assert max(counts) < 200


async def test_a_search_of_too_many_is_split_and_loses_nobody(dsn: str) -> None:
    """While the registry answers one request in five as if it had found nothing."""
    providers = some(2100, INTERNAL)
    async with world(dsn, providers, empty_every=5) as (made, _):
        true = made.registry.truth(of(INTERNAL, "TX"), of(INTERNAL, "WY"))
        assert len(made.registry.truth(of(INTERNAL, "TX"))) < 1200  # and all over that
        results = await made.run(specialties=[INTERNAL])

        assert [each.verdict for each in results.values()] == ["complete"]
        assert made.rows().keys() == true.keys()
        assert len(true) == 2100
        asked = made.registry.asked
        assert {query["limit"] for query in asked} == {"200"}
        assert max(int(query.get("skip", 0)) for query in asked) == 1000
        assert {"78*", "82*"} < {query.get("postal_code") for query in asked}


async def test_one_search_in_trouble_stops_no_other(dsn: str) -> None:
    providers = some(300, INTERNAL, "Pediatrics")
    async with world(dsn, providers) as (made, _):

        def of_pediatrics(query: Mapping[str, str]) -> bool:
            return query.get("taxonomy_description") == "Pediatrics"

        made.registry.arm("refused", times=1000, when=of_pediatrics)
        made.registry.arm("html", times=1)
        made.registry.arm("429", times=1)
        results = await made.run(specialties=["Pediatrics", INTERNAL])

        assert results[INTERNAL].verdict == "complete"
        assert results["Pediatrics"].verdict == "waiting"
        assert "search Pediatrics: the registry refuses it: 07" in results["Pediatrics"].message
        assert made.rows().keys() == made.registry.truth(of(INTERNAL)).keys()
        assert {event.reason for event in made.told(RequestRetried)} == {"unavailable", "throttled"}
        assert made.told(CursorFailed)


async def test_maintenance_leaves_everything_for_later_and_nothing_is_taken_for_empty(
    dsn: str,
) -> None:
    providers = some(300, INTERNAL)
    async with world(dsn, providers) as (made, _):
        await made.run(specialties=[INTERNAL])
        made.registry.arm("html as json", times=1000)
        results = await made.run(specialties=[INTERNAL])

        assert results[INTERNAL].verdict in {"unavailable", "waiting"}
        assert "in maintenance" in results[INTERNAL].message
        assert len(made.rows()) == 300
        assert made.query("SELECT state FROM syncd.pass ORDER BY number")[-1]["state"] == "open"


async def test_leads_are_made_of_providers_and_what_callers_noted_stays(dsn: str) -> None:
    """In the job that walks the providers, after their last search, or by themselves."""
    async with world(dsn, some(250, INTERNAL, "Pediatrics")) as (made, _):
        provided = made.registry.truth({})
        provided[next(iter(provided))].basic = {"status": "D"}
        searched = {"specialties": [INTERNAL, "Pediatrics"]}
        leads = {"specialties": ["internal medicine"], "states": ["tx"], "campaign": "spring"}
        await made.run("leads", "providers", **searched)
        assert made.query("SELECT * FROM nppes.leads") == []  # none are configured

        results = await made.run("leads", "providers", **searched, leads=leads)
        wanted = {
            npi
            for npi, row in made.rows().items()
            if (row["taxonomy"], row["location_state"], row["status"]) == (INTERNAL, "TX", "A")
        }
        assert [each.verdict for each in results.values()] == ["complete"] * 3
        found = made.query("SELECT * FROM nppes.leads")
        assert {row["provider_npi"] for row in found} == wanted
        assert 0 < len(wanted) < 250
        assert {(row["campaign"], row["status"]) for row in found} == {("spring", "NEW")}
        indexes = made.query("SELECT indexdef FROM pg_indexes WHERE tablename = 'leads'")
        defined = " ".join(row["indexdef"] for row in indexes)
        assert "(provider_npi, campaign)" in defined
        assert "(provider_npi, status)" in defined
        assert "(updated_at)" in defined

        made.query("UPDATE nppes.leads SET status = 'DO_NOT_CALL', notes = 'no' RETURNING 1")
        before = made.query("SELECT * FROM nppes.leads ORDER BY 1")
        made.query(f"DELETE FROM nppes.leads WHERE provider_npi = '{min(wanted)}' RETURNING 1")
        await made.run("leads", **searched, leads=leads)

        after = {row["provider_npi"]: row for row in made.query("SELECT * FROM nppes.leads")}
        assert (made.written()["inserted"], made.written()["requests"]) == (1, 0)
        assert after.pop(min(wanted))["status"] == "NEW"
        assert list(after.values()) == [r for r in before if r["provider_npi"] != min(wanted)]
