"""From mail to trackers, whatever dies on the way: Front, a model that reads it, Ship24 (P46, P47).

Mail makes shipments, each shipment has its number tracked. Processes are killed for real; the three
upstreams are simulators over real HTTP, which count what they were asked.
"""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import attrs
import database_facts as facts
import trio
import trio.testing
from held_answers import HeldAnswers
from processes import Program, Programs, seen
from traps import Step

from syncd.testing import serve
from syncd_front.extraction import occurs_in
from syncd_front.simulator import Company, Front, Model
from syncd_front.simulator import Simulator as FrontSimulator
from syncd_ship24.simulator import API_KEY, PREFIX, Ship24
from syncd_ship24.simulator import Simulator as Ship24Simulator

DEADLINE_SECONDS = 180.0
CONVERSATIONS = 24
TIME_GOES_BY = "UPDATE syncd.effect SET due_at = syncd.clock() WHERE due_at IS NOT NULL"


@attrs.frozen
class Chain:
    """A database, the upstreams, and the process that leads from one to the other."""

    dsn: str
    folder: Path
    programs: Programs
    mail: Company
    model: Model
    endpoint: HeldAnswers
    ship24: Ship24
    tables: str

    def start(self, *, lease: str, at: Step | None = None) -> Program:
        file = self.folder / f"{uuid4().hex}.toml"
        file.write_text(
            f"[database]\nurl = '''{self.dsn}'''\npool_max = 4\n"
            f'[daemon]\nlease = "{lease}"\n{self.tables}'
        )
        return self.programs.start(file, at=at, serves=True)

    async def died(self, program: Program) -> None:
        """See that a process is gone, and let the time go by that its claims have left."""
        assert await program.ended() == -signal.SIGKILL, program.said()
        await facts.left_alone(self.dsn)
        await trio.testing.wait_all_tasks_blocked()  # what it sent last is read, and counted
        facts.execute(self.dsn, TIME_GOES_BY)

    async def finish(self) -> None:
        """Let a process that lives bring everything to its end, and see that it is whole."""
        program = self.start(lease="60s")
        numbers = self.numbers(self.mail.truth())

        def is_whole() -> bool:
            states = facts.rows(self.dsn, "SELECT state FROM syncd.effect")
            return [row["state"] for row in states] == ["delivered"] * len(numbers)

        await seen("every tracker", is_whole, told=program.said, deadline_seconds=90.0)
        scanned = facts.rows(self.dsn, "SELECT conversation_id FROM front.scanned_conversations")
        assert {row["conversation_id"] for row in scanned} == self.mail.conversations.keys()
        assert self.shipments() == self.mail.truth()
        assert sorted(each.number for each in self.ship24.parcels.values()) == sorted(numbers)
        program.send(signal.SIGTERM)
        assert await program.ended() == 0, program.said()

    def shipments(self) -> set[tuple[Any, ...]]:
        there = "SELECT to_regclass('front.shipments') IS NOT NULL AS made"
        if not facts.rows(self.dsn, there)[0]["made"]:
            return set()
        names = "tracking_number, carrier, po_number, conversation_id"
        found = facts.rows(self.dsn, f"SELECT {names} FROM front.shipments")
        return {tuple(row.values()) for row in found}

    @staticmethod
    def numbers(shipments: set[tuple[Any, ...]]) -> set[str]:
        return {number for number, *_ in shipments}

    def repeated(self) -> dict[str, int]:
        """Return the texts that the model was paid for again, and how often."""
        return {text: times - 1 for text, times in self.model.asked.items() if times > 1}

    def repeats_only_what_was_lost(self, committed: set[tuple[Any, ...]]) -> None:
        """See that nothing is paid for a second time whose rows were committed, or a third time."""
        for text, times in self.repeated().items():
            assert times == 1
            assert not any(occurs_in(text, number) for number in self.numbers(committed)), text


@asynccontextmanager
async def chain(
    dsn: str, folder: Path, programs: Programs, *, asks: bool = True, answer_seconds: float = 0.0
) -> AsyncIterator[Chain]:
    newest = datetime.now(UTC).timestamp() - 60
    mail = Company("acme", CONVERSATIONS, newest=newest, share=1.0)
    front, model, ship24 = Front(mail), Model(seconds=answer_seconds), Ship24(limits=False)
    endpoint = HeldAnswers(FrontSimulator(front, model))
    with trio.fail_after(DEADLINE_SECONDS):
        async with (
            serve(FrontSimulator(front)) as mail_url,
            serve(endpoint) as model_url,
            serve(Ship24Simulator(ship24)) as ship24_url,
        ):
            model_table = f'llm_base_url = "{model_url}/v1"\nllm_api_key = "sk-demo"\n'
            tables = f"""
[connectors.front]
base_url = "{mail_url}/front"
register_trackers = true
{model_table if asks else ""}
[connectors.front.quotas.core]
requests = 6000
per = "60s"
[[connectors.front.accounts]]
name = "acme"
token = "front-token"
plan = "enterprise"
[connectors.ship24]
base_url = "{ship24_url}{PREFIX}"
api_key = "{API_KEY}"
[jobs.mail]
connector = "front"
every = "1h"
"""
            yield Chain(dsn, folder, programs, mail, model, endpoint, ship24, tables)
            endpoint.release()


async def test_a_kill_after_the_provider_accepted_makes_no_second_tracker(
    dsn: str, programs: Programs, tmp_path: Path
) -> None:
    async with chain(dsn, tmp_path, programs, asks=False) as it:
        killed = it.start(lease="2s", at=Step("effects_accepted"))
        await it.died(killed)
        made = {each.number for each in it.ship24.parcels.values()}
        assert made
        delivered = "SELECT key FROM syncd.effect WHERE state = 'delivered'"
        assert facts.rows(dsn, delivered) == []

        await it.finish()

        existing = "SELECT key FROM syncd.effect WHERE response->>'itemStatus' = 'existing'"
        assert {row["key"] for row in facts.rows(dsn, existing)} == made


async def test_a_kill_while_the_model_reads_repeats_the_calls_in_flight_and_no_other(
    dsn: str, programs: Programs, tmp_path: Path
) -> None:
    async with chain(dsn, tmp_path, programs) as it:
        it.endpoint.hold(after=CONVERSATIONS // 2)
        killed = it.start(lease="60s")
        await seen("some committed", it.shipments, told=killed.said)
        await seen("some in flight", lambda: it.endpoint.held >= 3, told=killed.said)
        killed.send(signal.SIGKILL)
        await it.died(killed)
        facts.expire_lease(dsn)
        committed, held = it.shipments(), it.endpoint.held
        it.endpoint.release()

        await it.finish()

        it.repeats_only_what_was_lost(committed)
        assert len(it.repeated()) >= held


async def test_a_kill_before_a_commit_repeats_the_calls_of_its_batch_and_those_in_flight(
    dsn: str, programs: Programs, tmp_path: Path
) -> None:
    # The search is committed long before the first answer.
    async with chain(dsn, tmp_path, programs, answer_seconds=0.2) as it:
        step = Step("frontier_written", after="frontier_written")
        killed = it.start(lease="60s", at=step)
        await it.died(killed)
        facts.expire_lease(dsn)
        assert killed.trapped == step
        paid, committed = it.model.calls, it.shipments()

        await it.finish()

        it.repeats_only_what_was_lost(committed)
        assert len(it.repeated()) >= paid - len({each[3] for each in committed}) > 0
