"""Whole runs of the Ship24 connector: its simulator over real HTTP, real PostgreSQL."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import attrs
import httpx
import pytest
import trio
from database import connect

from syncd.admin.opening import opened
from syncd.config import Config, parse, structure
from syncd.daemon import Process, Root
from syncd.events import AdminListening, Event, RunFinished
from syncd.jobs import run_job
from syncd.model import Mode
from syncd.observe import Observer
from syncd.plugins import Plugins
from syncd.testing import serve
from syncd.verdicts import Result
from syncd_ship24 import plugin
from syncd_ship24.simulator import API_KEY, JOURNEY, PREFIX, WEBHOOK_SECRET, Ship24, Simulator

DEADLINE_SECONDS = 90.0  # what hangs must fail, on a busy machine too
PLUGINS = Plugins({"ship24": plugin})


@attrs.define
class World:
    """A database, the upstream, and what was said in the last run."""

    dsn: str
    upstream: Ship24
    base_url: str
    settings: str = ""
    events: list[Event] = attrs.field(factory=list)

    def config(self) -> Config:
        text = f"""
            [database]
            url = "{self.dsn}"
            pool_max = 4
            [admin]
            listen = "127.0.0.1:0"
            [connectors.ship24]
            base_url = "{self.base_url}{PREFIX}"
            api_key = "{API_KEY}"
            webhook_secret = "{WEBHOOK_SECRET}"
            {self.settings}
            [jobs.ship24]
            connector = "ship24"
        """
        raw = parse(text, file="syncd.toml", folder=Path.cwd())
        return structure(raw, PLUGINS.connectors, environment={})

    async def run(self, mode: Mode = "incremental") -> Result:
        """Pull once; answer with what became of it."""
        self.events.clear()
        self.upstream.asked.clear()
        config = self.config()
        observer = Observer()
        observer.listen(self.events.append)

        async def main(process: Process) -> list[Result]:
            return await run_job(process, config.jobs["ship24"], mode=mode, wait_seconds=2.0)

        (result,) = await Root(config, PLUGINS, observer).run(main)
        return result

    def rows(self, query: str) -> set[tuple[Any, ...]]:
        with connect(self.dsn) as connection:
            return {tuple(row.values()) for row in connection.execute(query.encode())}

    def asked(self) -> Counter[str]:
        return Counter(each.endpoint for each in self.upstream.asked)

    def counted(self) -> Counter[str]:
        """Sum what the last job's runs did."""
        names = ("inserted", "updated", "quarantined")
        told = [event for event in self.events if isinstance(event, RunFinished)]
        return Counter({name: sum(getattr(run, name) for run in told) for name in names})

    @property
    def trackers(self) -> set[tuple[Any, ...]]:
        return self.rows(
            "SELECT tracker_id, tracking_number, shipment_reference, status_milestone,"
            " status_code, signed_by, delivered_text FROM ship24.trackers"
        )

    @property
    def true_trackers(self) -> set[tuple[Any, ...]]:
        found = set()
        for each in self.upstream.parcels.values():
            told = each.tracking()
            shipment, since = told["shipment"], told["statistics"]["timestamps"]
            found.add((
                each.tracker_id, each.number, each.asked.get("shipmentReference"),
                shipment["statusMilestone"], shipment["statusCode"],
                shipment["delivery"]["signedBy"], since["deliveredDatetime"],
            ))  # fmt: skip
        return found

    @property
    def tracking_events(self) -> set[tuple[Any, ...]]:
        return self.rows(
            "SELECT event_id, tracker_id, occurrence_text, order_no, status_text, status_milestone,"
            " location FROM ship24.tracking_events"
        )

    @property
    def true_events(self) -> set[tuple[Any, ...]]:
        names = ("occurrenceDatetime", "order", "status", "statusMilestone", "location")
        return {
            (event["eventId"], each.tracker_id, *(event[name] for name in names))
            for each in self.upstream.parcels.values()
            for event in each.tracking()["events"]
        }


@asynccontextmanager
async def world(
    dsn: str, parcels: int, *, settings: str = "", **options: Any
) -> AsyncIterator[World]:
    """Serve an upstream of parcels that are under way, each a step further than the one before."""
    upstream = Ship24(limits=False, **options)
    for place in range(parcels):
        number, reference = f"1Z999AA1{place:010}", f"PO {place}"
        body = {"trackingNumber": number, "shipmentReference": reference}
        upstream.happen(upstream.register(body)[0], place % (len(JOURNEY) + 1))
    with trio.fail_after(DEADLINE_SECONDS):
        async with serve(Simulator(upstream)) as base_url:
            yield World(dsn, upstream, base_url, settings=settings)


async def test_a_pull_brings_trackers_with_their_events_and_the_next_one_what_changed(
    dsn: str,
) -> None:
    async with world(dsn, 30, settings="per_page = 12") as there:
        assert (await there.run("full")).verdict == "complete"

        assert there.trackers == there.true_trackers
        assert there.tracking_events == there.true_events
        assert there.asked() == {"list": 4, "results": 30}
        known = "SELECT DISTINCT occurrence_at IS NULL FROM ship24.tracking_events"
        assert there.rows(known) == {(True,), (False,)}

        assert (await there.run()).verdict == "complete"
        assert there.counted() == {"inserted": 0, "updated": 0, "quarantined": 0}

        moved = there.upstream.move(0.5)
        new, _ = there.upstream.register({"trackingNumber": "NEW-ONE-1"})
        assert (await there.run()).verdict == "complete"

        assert there.trackers == there.true_trackers
        assert there.tracking_events == there.true_events
        assert there.counted() == {"inserted": moved + 1, "updated": moved, "quarantined": 0}
        assert new.tracker_id in {row[0] for row in there.trackers}


async def test_an_incremental_pull_asks_for_trackers_while_they_are_followed(dsn: str) -> None:
    async with world(dsn, 20, settings='per_page = 10\nfollow = "30d"') as there:
        await there.run("full")
        for parcel in list(there.upstream.parcels.values())[:16]:
            parcel.created_at = datetime.now(UTC) - timedelta(days=31)
        await there.run()
        assert there.asked() == {"list": 1, "results": 4}

        await there.run("full")
        assert there.asked() == {"list": 3, "results": 20}


async def test_a_tracker_that_is_gone_or_refuses_costs_the_others_nothing(dsn: str) -> None:
    async with world(dsn, 6) as there:
        upstream = there.upstream
        gone = next(iter(upstream.parcels))
        listed = upstream.answer

        def answer(call: Any) -> Any:
            reply = listed(call)
            if call.path == "/trackers":  # it goes after it was listed
                upstream.parcels.pop(gone, None)
            return reply

        upstream.answer = answer  # type: ignore[method-assign]
        assert (await there.run("full")).verdict == "complete"
        assert there.trackers == there.true_trackers
        assert len(there.trackers) == 5


async def test_what_the_api_says_of_itself_is_waited_for(dsn: str) -> None:
    async with world(dsn, 8) as there:
        there.upstream.refusals.extend([(500, "internal_error"), (409, "request_conflict")])
        assert (await there.run("full")).verdict == "complete"
        assert there.trackers == there.true_trackers


async def test_a_refused_key_parks_the_account(dsn: str) -> None:
    async with world(dsn, 3) as there:
        there.upstream.refusals.extend([(400, "auth_invalid_header")] * 5)
        result = await there.run("full")

        assert result.verdict == "failed"
        assert "auth_invalid_header" in result.message
        parked = "SELECT name FROM syncd.account WHERE state = 'parked'"
        assert there.rows(parked) == {("default",)}
        assert not [each for each in there.events if API_KEY in repr(each)]


# --- Webhooks -------------------------------------------------------------------------------------


async def posted(there: World, *, secret: str | None = None) -> Counter[int]:
    """Let a daemon listen, and post what is due until all is heard; count the statuses."""
    statuses = Counter[int]()
    told = there.upstream.webhooks
    config, observer = there.config(), Observer()
    observer.listen(there.events.append)

    async def main(process: Process) -> None:
        async with opened(process), httpx.AsyncClient(trust_env=False) as client:
            listening = [each for each in there.events if isinstance(each, AdminListening)]
            url = f"http://{listening[-1].address}/plugins/ship24/webhook"
            while len(told):
                for each in told.due():
                    headers = dict(each.headers)
                    if secret is not None:
                        headers["authorization"] = f"Bearer {secret}"
                    said = await client.post(url, content=each.body, headers=headers, timeout=60)
                    told.answered(each, said.status_code, said.content)
                    statuses[said.status_code] += 1
                if secret is not None:
                    return

    await Root(config, PLUGINS, observer).run(main)
    return statuses


@pytest.mark.parametrize("times", ["zoned", "mixed"])
async def test_messages_in_no_order_and_twice_make_the_rows_that_are_true(
    dsn: str, times: str
) -> None:
    async with world(dsn, 8, times=times) as there:
        there.upstream.odd.pod = True
        statuses = await posted(there)

        assert set(statuses) == {200}
        assert statuses[200] > len(there.true_events)
        assert there.tracking_events == there.true_events
        told = {row for row in there.true_trackers if row[3] != "pending"}
        assert there.trackers == told

        there.upstream.move(1.0)
        await posted(there)
        assert there.tracking_events == there.true_events
        assert there.trackers == there.true_trackers


async def test_a_message_that_comes_after_the_pull_that_knew_it_takes_nothing_back(
    dsn: str,
) -> None:
    async with world(dsn, 12) as there:  # times in all shapes
        await there.run("full")
        await posted(there)
        assert there.trackers == there.true_trackers
        assert there.tracking_events == there.true_events

        there.upstream.move(1.0)
        await posted(there)
        assert there.tracking_events == there.true_events
        assert there.trackers == there.true_trackers
        await there.run()
        assert there.trackers == there.true_trackers
        assert there.counted()["updated"] == 0, "the pull has nothing to mend"
        repeated = [each for each in there.events if isinstance(each, RunFinished)]
        assert [each.quarantined for each in repeated] == [0]


async def test_a_message_from_the_future_is_written_and_wins_over_nothing_that_comes_after(
    dsn: str,
) -> None:
    async with world(dsn, 3) as there:
        first, second, third = there.upstream.parcels.values()
        there.upstream.odd.ahead = timedelta(days=26_000)
        for parcel in (first, second, third):
            there.upstream.happen(parcel)
        there.upstream.odd.ahead = timedelta()
        await posted(there)
        assert there.tracking_events == there.true_events
        assert there.trackers == there.true_trackers

        there.upstream.happen(first)
        await posted(there)
        second.happened += 1  # and nobody tells of it
        await there.run("full")
        assert there.trackers == there.true_trackers
        assert there.tracking_events == there.true_events


async def test_who_does_not_know_the_secret_writes_nothing(dsn: str) -> None:
    async with world(dsn, 4) as there:
        statuses = await posted(there, secret="another-secret")

        assert set(statuses) == {401}
        assert there.rows("SELECT to_regclass('ship24.trackers') IS NULL") == {(True,)}
        assert there.rows("SELECT count(*) FROM syncd.event") == {(0,)}
