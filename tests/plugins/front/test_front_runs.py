"""Whole runs of the Front connector: its simulators over real HTTP, real PostgreSQL."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import attrs
import psycopg
import pytest
import trio
from psycopg.rows import dict_row

from syncd.config import parse, structure
from syncd.daemon import Process, Root
from syncd.events import CursorFailed, Event, RunFinished, RunPaid
from syncd.jobs import run_job
from syncd.model import Mode
from syncd.observe import Observer
from syncd.plugins import Plugins
from syncd.testing import Reply, serve
from syncd.verdicts import Result
from syncd_front import found, plugin
from syncd_front.extraction import FIRST_TEST_VERSION
from syncd_front.simulator import Call, Company, Front, Model, Simulator
from syncd_ship24 import plugin as ship24_plugin

DEADLINE_SECONDS = 120.0
PLUGINS = Plugins({"front": plugin, "ship24": ship24_plugin})
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
    settings: str = ""  # further ones
    accounts: Mapping[str, str] = attrs.field(factory=lambda: {"acme": "front-token"})

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
{self.settings}
[connectors.front.quotas.core]
requests = 6000
per = "60s"
{"".join(map(self.company, self.accounts))}
[jobs.mail]
connector = "front"
"""

    def company(self, name: str) -> str:
        token = self.accounts[name]
        table = "[[connectors.front.accounts]]"
        return f'{table}\nname = "{name}"\ntoken = "{token}"\nplan = "enterprise"\n'

    async def run(self, mode: Mode = "incremental", *, asks: bool = True) -> Result:
        """Run the job once, as a process of its own would."""
        (result,) = await self.run_all(mode, asks=asks)
        return result

    async def run_all(self, mode: Mode = "incremental", *, asks: bool = True) -> list[Result]:
        """Do the same for several accounts."""
        self.events.clear()
        raw = parse(self.text(asks=asks), file="syncd.toml", folder=Path.cwd())
        config = structure(raw, PLUGINS.connectors, environment={})
        observer = Observer()
        observer.listen(self.events.append)

        async def main(process: Process) -> list[Result]:
            return await run_job(process, config.jobs["mail"], mode=mode, wait_seconds=2.0)

        return await Root(config, PLUGINS, observer).run(main)

    def total(self, name: str) -> int:
        return sum(getattr(e, name) for e in self.events if isinstance(e, RunFinished))

    def paid(self) -> dict[str, int]:
        """Return what the last run cost, by unit."""
        return {e.unit: e.paid for e in self.events if isinstance(e, RunPaid)}

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


@attrs.define
class Companies:
    """Several companies behind one address: a token tells whose mail is meant."""

    fronts: Mapping[str, Front]

    def answer(self, call: Call) -> Reply:
        """Answer one request."""
        return self.fronts[call.headers["authorization"].removeprefix("Bearer ")].answer(call)


@asynccontextmanager
async def world(
    dsn: str, conversations: int, *, upstream: Mapping[str, Any] | None = None, **options: Any
) -> AsyncIterator[World]:
    front = Front(Company("acme", conversations, newest=now() - 60), **(upstream or {}))
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


async def test_a_name_or_how_sure_a_model_must_be_asks_about_nothing_again(dsn: str) -> None:
    async with world(dsn, 6) as it:
        await it.run()
        paid = it.model.calls
        assert paid > 0

        for conversation in it.mail.conversations.values():
            conversation.contact = "Another Name"
        it.settings = "confidence_least = 0.99"
        assert (await it.run("full")).verdict == "complete"
        assert it.model.calls == paid
        assert it.paid() == {}
        assert it.shipments() == it.mail.truth(), "what was found stays"

        it.mail.write(at=now() - 30, parcels=1)
        assert (await it.run("full")).verdict == "complete"
        assert it.model.calls == paid + 1
        assert len(it.shipments()) == len(it.mail.truth()) - 1


async def test_what_the_first_test_called_silent_is_looked_at_again_by_another_one(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(dsn, 0) as it:
        silent = it.mail.write(at=now() - 30, text="Shall we have lunch?").id
        it.mail.write(at=now() - 30, text=f"PO 4711 shipped: {UPS}")
        await it.run()
        assert (it.scanned()[silent]["outcome"], it.model.calls) == ("silent", 1)

        monkeypatch.setattr(found, "speaks_of_shipment", bool)
        await it.run("full")
        assert (it.scanned()[silent]["outcome"], it.model.calls) == ("silent", 1)

        monkeypatch.setattr(plugin, "FIRST_TEST_VERSION", FIRST_TEST_VERSION + 1)
        await it.run("full")
        assert (it.scanned()[silent]["outcome"], it.model.calls) == ("extracted", 3)


async def test_trackers_switched_on_ask_about_all_mail_again_and_bring_those_of_before(
    dsn: str,
) -> None:
    async with world(dsn, 6) as it:
        await it.run()
        paid = it.model.calls
        delivers = '[connectors.ship24]\nbase_url = "http://127.0.0.1:9"\napi_key = "unused"'
        it.settings = f"register_trackers = true\n{delivers}"
        assert (await it.run("full")).verdict == "complete"

        assert it.model.calls == 2 * paid
        queued = it.query("SELECT key FROM syncd.effect")
        assert {row["key"] for row in queued} == {number for number, *_ in it.shipments()}


async def test_two_companies_that_are_told_of_one_parcel_have_a_row_each_and_one_tracker(
    dsn: str,
) -> None:
    fronts = {f"{name}-token": Front(Company(name), token=f"{name}-token") for name in ("a", "b")}
    for front in fronts.values():
        front.company.write(at=now() - 60, text=f"PO 4711 shipped: {UPS}")
    async with world(dsn, 0) as it, serve(Simulator(cast("Any", Companies(fronts)))) as url:
        it.front_url = url
        delivers = '[connectors.ship24]\nbase_url = "http://127.0.0.1:9"\napi_key = "unused"'
        it.settings = f"register_trackers = true\n{delivers}"
        it.accounts = {"a": "a-token", "b": "b-token"}
        results = await it.run_all(asks=False)

        assert [each.verdict for each in results] == ["complete"] * 2
        rows = it.query("SELECT account_id, tracking_number FROM front.shipments ORDER BY 1")
        assert [tuple(row.values()) for row in rows] == [("a", UPS), ("b", UPS)]
        queued = it.query("SELECT key FROM syncd.effect")
        assert [row["key"] for row in queued] == [UPS]


async def test_whatever_was_paid_for_is_told_be_it_of_use_or_not(dsn: str) -> None:
    async with world(dsn, 12) as it:
        it.settings = "llm_part_characters = 1000"
        words = " ".join(f"word{place}" for place in range(400))
        for fault in ("garbled", "refusal", "filtered", "cut", "too long", "broken"):
            it.mail.write(at=now() - 30, text=f"shipped, it is {fault} {UPS}")
            it.mail.write(at=now() - 30, text=f"shipped {words} is {fault} at its end")
            it.model.faulty[f"is {fault}"] = fault
        await it.run()
        model = it.model

        assert model.calls > len(it.scanned())
        told = it.paid()
        assert (told["answers"], told["tokens"]) == (model.calls, model.tokens)
        assert told["prompt_tokens"] + told["completion_tokens"] == model.tokens
        once = {text: calls for text, calls in model.asked.items() if "is garbled" not in text}
        assert max(calls for text, calls in once.items() if "is cut" not in text) == 1
        assert max(once.values()) == 2, "a cut answer is asked for once more, by both streams"


async def test_a_question_whose_answer_is_too_late_is_sent_once_a_try_and_told_as_lost(
    dsn: str,
) -> None:
    async with world(dsn, 0) as it:
        it.mail.write(at=now() - 30, text="PO 4712 shipped: RB123456785GB")
        assert (await it.run()).verdict == "complete"
        assert (it.paid()["answers"], it.model.calls) == (1, 1)

        late = it.mail.write(at=now() - 30, text=f"PO 4711 shipped, by the late one: {UPS}").id
        it.model.faulty["the late one"] = "slow"  # its answers come after the run
        it.settings = 'llm_timeout = "500ms"'
        await it.run()

        tries = sum(isinstance(each, CursorFailed) for each in it.events)
        # Fewer are lost where one was late before it was sent, and fewer are read by the endpoint.
        assert it.paid().keys() == {"lost"}
        assert 1 <= it.paid()["lost"] <= tries
        assert it.model.calls <= 1 + tries
        assert it.scanned().keys() == it.mail.conversations.keys() - {late}


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


async def test_an_odd_conversation_of_a_search_costs_one_record_and_no_mail_that_can_be_had(
    dsn: str,
) -> None:
    async with world(dsn, 12) as it:
        odd: dict[str, Any] = {
            "cnv_000001": {"id": None},
            "cnv_000003": {"id": "c" * 9_000},
            "cnv_000005": {"id": ""},
            "cnv_000007": {"updated_at": "yesterday"},
            "cnv_000009": {"updated_at": 1e306},
            "cnv_000011": {"id": "cnv_\0"},  # which no database keeps
            "cnv_000013": {"id": ".."},  # which leads elsewhere
            "cnv_000015": {"id": "cnv_1\n"},
        }
        assert set(odd) < it.mail.conversations.keys()
        it.front.told = lambda told: {**told, **odd.get(told["id"], {})}
        assert (await it.run(asks=False)).verdict == "complete"

        unnamed = {key for key, told in odd.items() if "id" in told}
        assert it.scanned().keys() == it.mail.conversations.keys() - unnamed
        rows = it.query("SELECT conversation_id FROM front.conversations")
        assert {row["conversation_id"] for row in rows} == it.mail.conversations.keys() - set(odd)
        aside = it.query("SELECT stream, reason FROM syncd.quarantine")
        assert [row["stream"] for row in aside] == ["conversations"] * 8


async def test_an_odd_message_costs_no_other_of_its_conversation_and_is_named(dsn: str) -> None:
    async with world(dsn, 2) as it:
        it.mail.reply("cnv_000001", at=now() - 3, text=f"UPS {UPS}")
        odd = it.mail.reply("cnv_000001", at=now() - 2, text="and more")
        it.mail.reply("cnv_000001", at=now() - 1, text="UPS RB123456785GB")
        wrong = {odd.id: {"created_at": "yesterday"}}
        it.front.written = lambda told: {**told, **wrong.get(told["id"], {})}
        assert (await it.run(asks=False)).verdict == "complete"

        row = it.scanned()["cnv_000001"]
        said = "Expected `float | null`, got `str` - at `$.created_at`"
        assert row["problem"] == f"message {odd.id} was not read: {said}"
        assert {UPS, "RB123456785GB"} <= {number for number, *_ in it.shipments()}

        wrong.clear()  # it is read once its conversation is active again
        it.mail.reply("cnv_000001", at=now(), text="thanks")
        assert (await it.run(asks=False)).verdict == "complete"
        after = it.scanned()["cnv_000001"]
        assert (after["problem"], after["messages"]) == (None, row["messages"] + 2)


async def test_messages_that_are_all_odd_leave_their_conversation_unscanned(dsn: str) -> None:
    async with world(dsn, 2) as it:
        it.front.written = lambda told: {**told, "created_at": "yesterday"}
        assert (await it.run(asks=False)).verdict == "waiting"

        assert it.scanned() == {}
        owed = it.query("SELECT last_error FROM syncd.frontier WHERE last_error IS NOT NULL")
        assert len(owed) == 2
        said = "none of 1 messages can be read: Expected `float | null`, got `str`"
        assert all(said in each["last_error"] for each in owed)


async def test_a_merge_while_a_pass_is_under_way_loses_none_of_the_mail(dsn: str) -> None:
    async with world(dsn, 0) as it:
        one = it.mail.write(at=now() - 60, text=f"PO 4711 shipped: {UPS}").id
        other = it.mail.write(at=now() - 30, text="PO 4712 shipped: RB123456785GB").id

        def merge(read: str) -> None:
            """Merge into whichever was read first the one that was not."""
            it.front.after_messages = None
            it.mail.merge(other if read == one else one, read, at=now() - 10)

        it.front.after_messages = merge
        assert (await it.run(asks=False)).verdict == "complete"

        (kept,) = it.mail.active()
        (gone,) = {one, other} - {kept.id}
        named = {number: conversation for number, _, _, conversation in it.shipments()}
        assert named == {UPS: kept.id, "RB123456785GB": kept.id}
        assert it.scanned()[gone]["merged_into"] == kept.id
        assert (it.scanned()[kept.id]["outcome"], it.scanned()[kept.id]["messages"]) == (
            "extracted",
            2,
        )


@pytest.mark.parametrize("is_deleted", [True, False])
async def test_what_moves_up_when_others_are_merged_or_deleted_is_in_the_pass(
    dsn: str, *, is_deleted: bool
) -> None:
    async with world(dsn, 30, upstream={"page_max": 1}) as it:
        names = [each.id for each in it.mail.active()]
        pages = 0

        def lose() -> None:
            nonlocal pages
            pages += 1
            if pages != 15:
                return
            if is_deleted:
                it.mail.delete(names[3])
            else:
                it.mail.merge(names[3], names[5], at=now())

        it.front.after_page = lose
        assert (await it.run(asks=False)).verdict == "complete"

        standing = {each.id for each in it.mail.active()}
        assert standing <= it.scanned().keys()
        assert it.shipments() >= it.mail.truth()
        assert len(it.front.searches) == 29 + 29
        read = Counter(e.path for e in it.front.asked if e.path.endswith("/messages"))
        assert read.most_common()[1][1] == 1  # but for the one that has other mail by now


async def test_conversations_that_were_merged_into_each_other_end_their_pass(dsn: str) -> None:
    async with world(dsn, 2) as it:
        one, other = it.mail.conversations.values()

        def tangle() -> None:
            one.merged_into, other.merged_into = other.id, one.id

        it.front.after_page = tangle
        for _ in range(2):
            assert (await it.run("full", asks=False)).verdict == "complete"

        outcomes = {row["outcome"] for row in it.scanned().values()}
        read = [each for each in it.front.asked if each.path.endswith("/messages")]
        assert (outcomes, len(read)) == ({"merged"}, 4)


async def test_a_conversation_that_is_merged_after_it_was_read_keeps_its_row_and_not_its_shipments(
    dsn: str,
) -> None:
    async with world(dsn, 0) as it:
        one = it.mail.write(at=now() - 60, text=f"PO 4711 shipped: {UPS}").id
        other = it.mail.write(at=now() - 30, text="PO 4712 shipped: RB123456785GB").id
        await it.run(asks=False)

        it.mail.merge(one, other, at=now() - 10)
        await it.run(asks=False)

        assert {conversation for *_, conversation in it.shipments()} == {other}
        assert {name: row["outcome"] for name, row in it.scanned().items()} == {
            one: "extracted",
            other: "extracted",
        }


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


async def test_a_long_thread_is_read_at_the_pace_of_one_conversation(dsn: str) -> None:
    """Front takes five calls a second of one resource, whatever the company has left."""
    async with world(dsn, 1, upstream={"calls": 200, "page_max": 2}) as it:
        (name,) = it.mail.conversations
        for _ in range(20):
            it.mail.reply(name, at=now())

        assert (await it.run(asks=False)).verdict == "complete"

        asked = [each.status for each in it.front.asked if each.path.endswith("/messages")]
        assert len(asked) > 10
        assert asked.count(200) > 10
        assert asked.count(429) <= 1, "none was refused, but where two came late and at once"
