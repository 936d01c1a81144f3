"""Whole runs of the Front connector: its simulators over real HTTP, real PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs
import psycopg
import trio
from psycopg.rows import dict_row

from syncd.config import parse, structure
from syncd.daemon import Process, Root
from syncd.events import Event, RunFinished
from syncd.jobs import run_job
from syncd.model import Mode
from syncd.observe import Observer
from syncd.plugins import Plugins
from syncd.testing import serve
from syncd.verdicts import Result
from syncd_front import plugin
from syncd_front.simulator import Company, Front, Model, Simulator

DEADLINE_SECONDS = 120.0
PLUGINS = Plugins({"front": plugin})
UPS, UPS_MISREAD = "1Z999AA10123456784", "1Z999AA10123456785"


def now() -> float:
    return datetime.now(UTC).timestamp()


@attrs.define
class World:
    """A database, both upstreams, and what was said in the last run."""

    dsn: str
    front: Front
    model: Model
    front_url: str
    model_url: str
    events: list[Event] = attrs.field(factory=list)

    @property
    def mail(self) -> Company:
        return self.front.company

    def text(self, *, asks: bool) -> str:
        model = f'llm_base_url = "{self.model_url}/v1"\nllm_api_key = "sk-demo"' if asks else ""
        return f"""
[database]
url = '''{self.dsn}'''
pool_max = 4
[connectors.front]
base_url = "{self.front_url}/front"
{model}
[connectors.front.quotas.core]
requests = 6000
per = "60s"
[[connectors.front.accounts]]
name = "acme"
token = "front-token"
plan = "enterprise"
[jobs.mail]
connector = "front"
"""

    async def run(self, mode: Mode = "incremental", *, asks: bool = True) -> Result:
        """Run the job once, as a process of its own would."""
        self.events.clear()
        raw = parse(self.text(asks=asks), file="syncd.toml", folder=Path.cwd())
        config = structure(raw, PLUGINS.connectors, environment={})
        observer = Observer()
        observer.listen(self.events.append)

        async def main(process: Process) -> list[Result]:
            return await run_job(process, config.jobs["mail"], mode=mode, wait_seconds=2.0)

        (result,) = await Root(config, PLUGINS, observer).run(main)
        return result

    def total(self, name: str) -> int:
        return sum(getattr(e, name) for e in self.events if isinstance(e, RunFinished))

    def query(self, text: str) -> list[dict[str, Any]]:
        with psycopg.connect(self.dsn, row_factory=dict_row, autocommit=True) as connection:
            return connection.execute(text.encode()).fetchall()

    def shipments(self) -> set[tuple[str, str, str, str]]:
        rows = self.query("SELECT * FROM front.shipments")
        return {
            (row["tracking_number"], row["carrier"], row["po_number"], row["conversation_id"])
            for row in rows
        }

    def scanned(self) -> dict[str, dict[str, Any]]:
        rows = self.query("SELECT * FROM front.scanned_conversations")
        return {row["conversation_id"]: row for row in rows}


@asynccontextmanager
async def world(dsn: str, conversations: int, **options: Any) -> AsyncIterator[World]:
    front = Front(Company("acme", conversations, newest=now() - 60))
    model = Model(**options)
    with trio.fail_after(DEADLINE_SECONDS):
        async with serve(Simulator(front)) as url, serve(Simulator(front, model)) as other:
            yield World(dsn, front, model, url, other)


async def test_by_patterns_every_shipment_is_found_and_a_second_run_changes_nothing(
    dsn: str,
) -> None:
    async with world(dsn, 60) as it:
        assert (await it.run(asks=False)).verdict == "complete"

        assert it.shipments() == it.mail.truth()
        assert it.scanned().keys() == it.mail.conversations.keys()
        rows = it.query("SELECT count(*) AS n FROM front.conversations")
        assert rows[0]["n"] == 60
        assert it.model.calls == 0

        assert (await it.run("full", asks=False)).verdict == "complete"
        assert (it.total("inserted"), it.total("updated")) == (0, 0)


async def test_what_is_committed_is_never_paid_for_again_and_new_mail_is(dsn: str) -> None:
    async with world(dsn, 30) as it:
        assert (await it.run()).verdict == "complete"
        paid = it.model.calls
        assert it.shipments() == it.mail.truth()
        assert paid == sum(row["calls"] for row in it.scanned().values()) > 0
        assert set(it.model.asked.values()) == {1}

        first = it.mail.active()[-1].id
        it.mail.touch(first, at=now())
        assert (await it.run("full")).verdict == "complete"
        assert it.model.calls == paid

        it.mail.reply(first, at=now(), parcels=2)
        assert (await it.run("full")).verdict == "complete"
        assert it.model.calls == paid + 1
        assert it.shipments() == it.mail.truth()


async def test_a_model_that_fails_for_one_thread_leaves_that_one_unscanned_until_it_answers(
    dsn: str,
) -> None:
    async with world(dsn, 8) as it:
        late = it.mail.write(at=now() - 30, text=f"PO 4711 shipped, by the late one: {UPS}").id
        it.model.faulty["the late one"] = "garbled"
        await it.run()

        assert it.scanned().keys() == it.mail.conversations.keys() - {late}
        assert UPS not in {number for number, *_ in it.shipments()}

        it.model.faulty.clear()
        it.query("UPDATE syncd.frontier SET not_before = '-infinity' RETURNING 1")
        await it.run()
        assert late in it.scanned()
        assert UPS in {number for number, *_ in it.shipments()}


async def test_a_number_that_is_none_is_kept_as_such_and_harms_no_other_of_its_conversation(
    dsn: str,
) -> None:
    async with world(dsn, 0, also=[UPS_MISREAD]) as it:
        it.mail.write(at=now() - 30, text=f"PO 4711 shipped: {UPS}, {UPS_MISREAD}, RB123456785GB")
        await it.run()

        rows = it.query("SELECT tracking_number, problem FROM front.shipments")
        assert {row["tracking_number"]: row["problem"] for row in rows} == {
            UPS: None,
            UPS_MISREAD: "looks like ups-1z, and its check digit is wrong",
            "RB123456785GB": None,
        }
        (row,) = it.scanned().values()
        assert row["shipments_found"] == 2
        assert it.total("quarantined") == 0


async def test_a_quota_that_is_used_up_parks_the_account_and_keeps_what_was_scanned(
    dsn: str,
) -> None:
    async with world(dsn, 0) as it:
        it.mail.write(at=now() - 60, text="Shall we meet?")
        it.mail.write(at=now() - 30, text=f"shipped: {UPS}")
        it.model.faulty["shipped"] = "used up"
        await it.run()

        (account,) = it.query("SELECT state FROM syncd.account WHERE name = 'acme'")
        assert account["state"] == "parked"
        assert not it.shipments()
        asked = len(it.front.asked)
        await it.run()
        assert len(it.front.asked) == asked
