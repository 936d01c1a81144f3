"""The connector's hooks over its simulators, by HTTP: what is asked, and which rows come of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import attrs
import msgspec
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from syncd import (
    Account,
    AsyncTransform,
    Context,
    Cursor,
    Done,
    Instance,
    Later,
    Page,
    Partition,
    Quarantined,
    Queued,
    Request,
    Secret,
    Slice,
    Transform,
    Unauthorized,
    Unintelligible,
    WithEffects,
)
from syncd.events import Event
from syncd.http import Client, Limiters
from syncd.testing import serve
from syncd_front import plugin
from syncd_front.extracting import Extractions, Part
from syncd_front.found import SHIPMENTS_MAX, problem_of
from syncd_front.plugin import CONNECTOR, CONVERSATIONS, FEED, SCANNED, SHIPMENTS
from syncd_front.records import Conversation, ScannedConversation, Shipment
from syncd_front.settings import Company as CompanySettings
from syncd_front.settings import Settings
from syncd_front.settings import upstream as upstream_of
from syncd_front.simulator import Company, Front, Model, Simulator
from syncd_front.threads import CHARACTERS_MAX
from syncd_ship24 import registering

DEADLINE_SECONDS = 60.0
UPS = "1Z999AA10123456784"
TOKEN = "front-token"


@attrs.define
class World:
    """Both upstreams, served; and what came of the last walk."""

    front: Front
    model: Model
    ctx: Context[Settings, Extractions]
    limiters: Limiters
    conversations: dict[str, Conversation] = attrs.field(factory=dict)
    scanned: dict[str, ScannedConversation] = attrs.field(factory=dict)
    shipments: dict[str, Shipment] = attrs.field(factory=dict)
    effects: list[Any] = attrs.field(factory=list)
    later: dict[str, Later] = attrs.field(factory=dict)  # by conversation
    quarantined: list[str] = attrs.field(factory=list)
    items: dict[str, int] = attrs.field(factory=dict)  # by conversation, how often it was fetched

    @property
    def mail(self) -> Company:
        return self.front.company

    @property
    def instance(self) -> Instance[Any]:
        return Instance("front", CONNECTOR, self.ctx.settings, (self.ctx.account,))

    async def walk(self, request: Request | None = None, slice_: Slice | None = None) -> None:
        """Walk a pass as the core does: each cursor once, or at a higher version."""
        where = Partition("front", "acme", FEED.name, slice_ or Slice(covers="part"))
        began = plugin.begin(self.instance, FEED)(where, request or self.ctx.request, now())
        waiting = list(began.cursors)
        seen: dict[str, int] = {}
        while waiting:
            cursor = waiting.pop()
            if (version := cursor.version or 0) <= seen.get(repr(cursor.value), -1):
                continue
            seen[repr(cursor.value)] = version
            await self.take(cursor, waiting)

    async def take(self, cursor: Cursor, waiting: list[Cursor]) -> None:
        value: Any = cursor.value
        page: Page = await plugin.conversations(self.ctx, cursor)
        if "conversation" in value:
            self.items[value["conversation"]] = self.items.get(value["conversation"], 0) + 1
        waiting += page.opens
        for stream in (CONVERSATIONS, SCANNED, SHIPMENTS):
            for record in page.records.get(stream.name, ()):
                await self.store(stream, record, value)

    async def store(self, stream: Any, record: Any, value: Mapping[str, Any]) -> None:
        made: list[Any] = [msgspec.json.decode(record.raw, type=stream.record)]
        answer = plugin.transform(self.instance, stream)
        transforms = answer if isinstance(answer, Sequence) else [answer]
        for transform in sorted(transforms, key=lambda each: each.order if each else 0):
            if isinstance(transform, AsyncTransform):
                (result,) = await transform.function(self.ctx, made)
                match result:
                    case Later():
                        self.later[value["conversation"]] = result
                        return
                    case Quarantined(reason=reason):
                        self.quarantined.append(reason)
                        return
                    case Done(value=done):
                        made = done if isinstance(done, list) else [done]
            elif isinstance(transform, Transform):
                made = [row for each in made for row in self.transformed(transform, each)]
        for row in made:
            self.keep(row)

    def transformed(self, transform: Transform, each: Any) -> list[Any]:
        try:
            row = transform.function(each)
        except ValueError as error:
            self.quarantined.append(str(error))
            return []
        if isinstance(row, WithEffects):
            self.effects += row.effects
            row = row.row
        return [] if row is None else [row]

    def keep(self, row: Any) -> None:
        match row:
            case Conversation():
                self.conversations[row.conversation_id] = row
            case ScannedConversation():
                self.scanned[row.conversation_id] = row
            case Shipment():
                known = self.shipments.get(row.tracking_number)
                if known is None or known.mentioned_at <= row.mentioned_at:
                    self.shipments[row.tracking_number] = row

    def truth(self) -> set[tuple[str, str, str, str]]:
        return {
            (row.tracking_number, row.carrier, row.po_number or "", row.conversation_id)
            for row in self.shipments.values()
        }


def now() -> datetime:
    return datetime.now(UTC)


@asynccontextmanager
async def world(
    mail: Company | int = 0,
    *,
    asks: bool = False,
    model: Mapping[str, Any] | None = None,
    front: Mapping[str, Any] | None = None,
    **settings: Any,
) -> AsyncIterator[World]:
    company = Company("acme", mail, newest=now().timestamp()) if isinstance(mail, int) else mail
    upstream, endpoint = Front(company, **(front or {})), Model(**(model or {}))
    with trio.fail_after(DEADLINE_SECONDS):
        async with (
            serve(Simulator(upstream)) as base_url,
            serve(Simulator(upstream, endpoint)) as other,
        ):
            asked = (
                {"llm_base_url": f"{other}/v1", "llm_api_key": Secret("sk-demo")} if asks else {}
            )
            given: dict[str, Any] = asked | settings
            chosen = Settings(base_url=f"{base_url}/front", **given)
            account = Account("acme", CompanySettings(Secret(TOKEN), "enterprise"))
            events: list[Event] = []
            limiters = Limiters(random=Random(0))
            client = Client(
                "front[acme]",
                upstream_of(chosen, account.settings),
                limiters=limiters,
                emit=events.append,
                clock=now,
                random=Random(0),
                throttle_patience_seconds=5.0,
            )
            where = Partition("front", "acme", FEED.name)
            request = Request("full", None, now())
            async with client:
                http = client.for_fetch()
                ctx = Context(http, account, chosen, Extractions(), where, request)
                yield World(upstream, endpoint, ctx, limiters)


# --- Walks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("asks", [False, True])
async def test_a_walk_finds_every_shipment_and_links_it_to_its_conversation(asks: bool) -> None:
    async with world(130, asks=asks) as it:
        await it.walk()

        assert it.truth() == it.mail.truth()
        assert it.conversations.keys() == it.scanned.keys() == it.mail.conversations.keys()
        found = sum(row.shipments_found for row in it.scanned.values())
        assert found == len(it.shipments) > 50
        assert not it.later
        assert not it.quarantined
        assert [each.path for each in it.front.asked if "search" in each.path][1:]  # two pages


async def test_only_threads_that_speak_of_a_shipment_are_paid_for_and_each_once() -> None:
    async with world(40, asks=True) as it:
        await it.walk()

        assert set(it.model.asked.values()) == {1}
        silent = [row for row in it.scanned.values() if row.outcome == "silent"]
        paid = [row for row in it.scanned.values() if row.outcome == "extracted"]
        assert silent
        assert it.model.calls == len(paid) == sum(row.calls for row in paid)
        told = sum(row.prompt_tokens + row.completion_tokens for row in paid)
        assert it.model.tokens == told > 0
        assert {row.calls + row.prompt_tokens for row in silent} == {0}


async def test_without_the_first_test_every_thread_with_a_text_is_asked_about() -> None:
    async with world(6, asks=True, prefilter=False) as it:
        it.mail.discuss(at=now().timestamp())
        it.mail.write(at=now().timestamp(), text="Shall we have lunch?")
        await it.walk()

        assert it.model.calls == 7
        assert [row.outcome for row in it.scanned.values()].count("silent") == 1


@pytest.mark.parametrize("asks", [False, True])
async def test_of_a_long_list_of_shipments_none_is_lost_without_a_word(asks: bool) -> None:
    async with world(0, asks=asks, llm_completion_tokens=8_000) as it:
        it.mail.write(at=now().timestamp() - 9, parcels=50)
        await it.walk()
        assert it.truth() == it.mail.truth()
        (row,) = it.scanned.values()
        assert (row.shipments_found, row.problem) == (
            50,
            "an answer named as many shipments as it may; there may be more" if asks else None,
        )


async def test_what_is_cut_off_a_list_is_told() -> None:
    async with world(0) as it:
        it.mail.write(at=now().timestamp() - 9, parcels=SHIPMENTS_MAX + 9)
        await it.walk()
        assert len(it.shipments) == SHIPMENTS_MAX
        (row,) = it.scanned.values()
        assert row.shipments_found == SHIPMENTS_MAX
        assert row.problem == "it names more than 500 shipments; those beyond are left out"


async def test_a_tag_makes_no_new_question_and_a_message_does() -> None:
    async with world(1, asks=True) as it:
        it.mail.reply("cnv_000001", at=now().timestamp(), text=f"It has shipped: {UPS}")
        await it.walk()
        it.mail.touch("cnv_000001", at=now().timestamp())
        await it.walk()
        assert it.model.calls == 1
        assert it.conversations["cnv_000001"].tags == ["Seen"]

        it.mail.reply("cnv_000001", at=now().timestamp(), text="And RB123456785GB")
        await it.walk()
        assert it.model.calls == 2
        assert it.shipments.keys() == {UPS, "RB123456785GB"}


async def test_a_later_walk_asks_for_what_was_active_since_less_the_overlap() -> None:
    async with world(6) as it:
        since = now() - timedelta(days=2)
        await it.walk(Request("incremental", since, now()))

        (query,) = it.front.searches
        assert query == f"after:{int(since.timestamp()) - 600}"
        assert 0 < len(it.scanned) < 6


async def test_a_full_walk_looks_back_as_far_as_it_is_told() -> None:
    async with world(1, history_seconds=0.0) as it:
        await it.walk()
        assert it.front.searches == ["after:0"]
    async with world(1, history_seconds=86400.0) as it:
        before = now().timestamp() - 86400
        await it.walk()
        after = int(it.front.searches[0].removeprefix("after:"))
        assert before - 1 <= after <= before + DEADLINE_SECONDS


async def test_an_inbox_is_a_partition_of_its_own() -> None:
    async with world(9) as it:
        company = CompanySettings(Secret(TOKEN), inboxes=("inb_1", "inb_2"), search="is:open")
        ctx = attrs.evolve(it.ctx, account=Account("acme", company))
        first, second = await plugin.partitions(it.instance, FEED)(ctx)
        assert (first.name, second.name) == ("inb_1", "inb_2")
        assert first.covers == "part"

        await it.walk(slice_=Slice("inb_1", {"inbox": "inb_1"}))
        assert it.front.searches[0].startswith("inbox:inb_1 after:")
        inboxes = {it.mail.conversations[name].inbox for name in it.scanned}
        assert inboxes == {"inb_1"}


async def test_a_search_is_counted_as_one_and_reading_messages_is_not() -> None:
    async with world(130) as it:
        await it.walk()

        (usage,) = it.limiters.usages()
        used = {each.unit: each.used for each in usage.windows}
        assert used == {"requests": 132, "searches": 2}
        assert len(it.front.searches) == 2


# --- Pages ----------------------------------------------------------------------------------------


async def test_a_page_that_holds_nothing_and_names_a_next_one_ends_nothing() -> None:
    async with world(130, front={"empty_every": 2}) as it:
        await it.walk()
        assert it.scanned.keys() == it.mail.conversations.keys()


async def test_mail_that_comes_between_two_pages_hides_no_other_and_reopens_its_conversation() -> (
    None
):
    async with world(150) as it:
        newest, fifth = it.mail.active()[0].id, it.mail.active()[4].id

        def mail_comes() -> None:
            if len(it.front.searches) == 1:
                it.mail.write(at=now().timestamp(), text="hello")
                it.mail.reply(fifth, at=now().timestamp(), text=f"UPS {UPS}")

        it.front.after_page = mail_comes
        await it.walk()

        # What is new came to the head of a page that was read: the next pass begins before that.
        late = it.mail.conversations.keys() - it.scanned.keys()
        assert late == {it.mail.active()[1].id} != {newest}
        assert UPS in it.shipments


async def test_a_next_link_at_a_host_that_is_not_listed_is_asked_for_at_the_own_one() -> None:
    async with world(120, front={"next_base": "https://evil.example"}) as it:
        await it.walk()
        assert len(it.scanned) == 120


async def test_a_next_link_at_a_listed_host_is_followed_there() -> None:
    mail = Company("acme", 120, newest=now().timestamp())
    company_host = Front(mail)
    with trio.fail_after(DEADLINE_SECONDS):
        async with serve(Simulator(company_host)) as other:
            front = {"next_base": f"{other}/front"}
            async with world(mail, front=front, next_origins=(other,)) as it:
                await it.walk()

                assert len(it.scanned) == 120
                assert [each.path for each in company_host.asked] == [
                    each.path for each in company_host.asked if "search" in each.path
                ]
                assert len(company_host.asked) == 1
                assert len(it.front.searches) == 1


async def test_all_pages_of_a_thread_are_read_drafts_left_out_and_html_understood() -> None:
    async with world(1, front={"page_max": 3}) as it:
        at = now().timestamp()
        for place in range(7):
            it.mail.reply("cnv_000001", at=at + place, text=f"mail {place}")
        it.mail.reply(
            "cnv_000001", at=at - 50, text=f"Shipped <b>by</b> UPS & co: {UPS}", html=True
        )
        it.mail.reply("cnv_000001", at=at + 60, text="shipped: RB123456785GB", draft=True)
        await it.walk()

        row = it.scanned["cnv_000001"]
        assert row.messages == 9
        assert row.last_message_at is not None
        assert abs(row.last_message_at.timestamp() - (at + 6)) < 0.001
        assert it.shipments.keys() == {UPS}


async def test_of_a_thread_without_end_the_newest_mail_is_read_and_no_page_beyond() -> None:
    async with world(1, front={"page_max": 2}) as it:
        said = (CHARACTERS_MAX // 3) * "x"  # with their subjects, three are more than is read
        for place in range(9):
            it.mail.reply("cnv_000001", at=now().timestamp() + place, text=f"{said} {place}")
        await it.walk()

        row = it.scanned["cnv_000001"]
        assert row.messages == 3
        assert row.problem == "of its mail the newest 1,000,000 characters were read"
        read = [each for each in it.front.asked if each.path.endswith("/messages")]
        assert len(read) == 2


# --- What happens to conversations ----------------------------------------------------------------


async def test_a_conversation_that_was_merged_leads_to_the_one_that_has_its_mail() -> None:
    async with world(2) as it:
        it.mail.reply("cnv_000001", at=now().timestamp(), text=f"UPS {UPS}")
        await it.walk()
        assert it.shipments[UPS].conversation_id == "cnv_000001"

        third = it.mail.write(at=now().timestamp() - 9e6, text="hello")
        assert third.id in it.mail.conversations
        source, target = "cnv_000001", third.id
        it.front.after_page = lambda: it.mail.merge(source, target, at=now().timestamp())
        await it.walk()

        assert it.scanned[source].outcome == "merged"
        assert it.scanned[source].merged_into == target
        assert it.scanned[target].messages >= 2
        assert it.shipments[UPS].conversation_id == target


async def test_a_conversation_that_is_gone_since_it_was_named_is_no_failure() -> None:
    async with world(2) as it:

        def deleted() -> None:
            it.mail.conversations.pop("cnv_000001", None)

        it.front.after_page = deleted
        await it.walk()
        assert len(it.scanned) == 1


@pytest.mark.parametrize(("status", "error"), [(400, Unintelligible), (403, Unauthorized)])
async def test_a_refusal_is_raised_and_no_page_is_empty_instead(
    status: int, error: type[Exception]
) -> None:
    async with world(2) as it:
        it.front.faults += [status]
        with pytest.raises(error):
            await it.walk()


async def test_a_429_is_waited_for_as_it_asks_and_nothing_is_lost() -> None:
    async with world(3) as it:
        it.front.faults += [429, 503]
        await it.walk()
        assert len(it.scanned) == 3


async def test_a_check_says_which_company_and_model_answer() -> None:
    async with world(1) as it:
        assert "acme (cmp_1); shipments are found by patterns" in await plugin.whose(it.ctx)
    async with world(1, asks=True) as it:
        assert "gpt-4o-mini is asked at" in await plugin.whose(it.ctx)
    async with world(1, asks=True, model={"key": "another"}) as it:
        with pytest.raises(Unauthorized):
            await plugin.whose(it.ctx)


# --- Models ---------------------------------------------------------------------------------------


async def asked(fault: str | None, **options: Any) -> World:
    """Let one conversation of one shipment be extracted by a model that fails so."""
    async with world(1, asks=True, **options) as it:
        it.mail.reply("cnv_000001", at=now().timestamp(), text=f"PO 4711 shipped: {UPS}")
        if fault is not None:
            it.model.faulty["shipped"] = fault  # type: ignore[assignment]
        await it.walk()
        return it


@pytest.mark.parametrize("fault", ["overloaded", "broken", "garbled"])
async def test_what_may_pass_later_leaves_its_conversation_unscanned(fault: str) -> None:
    it = await asked(fault)
    assert it.later.keys() == {"cnv_000001"}
    assert not it.scanned
    assert not it.shipments


@pytest.mark.parametrize("fault", ["refusal", "filtered", "too long"])
async def test_what_is_refused_waits_in_quarantine_and_is_not_asked_again(fault: str) -> None:
    it = await asked(fault)
    assert it.quarantined
    assert not it.scanned
    assert not it.later
    assert len(set(it.quarantined)) == 1, "both streams get the same answer"
    assert len(it.quarantined) == 2
    assert it.model.calls == (0 if fault == "too long" else 1)
    told = f"paid for: {it.model.calls} answers, {it.model.tokens} tokens"
    assert told in it.quarantined[0]


async def test_an_answer_that_was_cut_is_asked_for_once_more_with_more_room() -> None:
    async with world(1, asks=True) as it:
        it.mail.reply("cnv_000001", at=now().timestamp(), text=f"PO 4711 shipped: {UPS}")
        it.model.faults.append("cut")
        await it.walk()
        assert it.shipments.keys() == {UPS}
        assert it.scanned["cnv_000001"].calls == 2 == it.model.calls

    it = await asked("cut")
    assert "was cut, with room for 3200 tokens" in it.quarantined[0]
    assert it.model.calls == 2
    assert f"{it.model.tokens} tokens" in it.quarantined[1]


async def test_of_a_text_whose_last_part_fails_no_part_is_paid_for_again() -> None:
    async with world(1, asks=True, llm_part_characters=1000) as it:
        text = f"shipped {UPS} {filler(600)} the last one RB123456785GB"
        it.mail.reply("cnv_000001", at=now().timestamp(), text=text)
        it.model.faulty["the last one"] = "garbled"
        await it.walk()
        parts = len(it.model.asked)
        assert parts > 3
        assert it.later.keys() == {"cnv_000001"}
        failures = max(it.model.asked.values())

        it.model.faulty.clear()
        await it.walk()
        assert it.shipments.keys() == {UPS, "RB123456785GB"}
        assert sorted(it.model.asked.values()) == [1] * (parts - 1) + [failures + 1]
        row = it.scanned["cnv_000001"]
        assert row.calls == it.model.calls
        assert row.prompt_tokens + row.completion_tokens == it.model.tokens


async def test_what_was_said_before_is_not_paid_for_again_when_a_long_thread_goes_on() -> None:
    async with world(1, asks=True, llm_part_characters=1000) as it:
        it.mail.reply("cnv_000001", at=now().timestamp(), text=f"shipped {UPS} {filler(600)}")
        await it.walk()
        before = it.model.calls
        it.mail.reply("cnv_000001", at=now().timestamp(), text="and RB123456785GB")
        await it.walk()
        assert it.model.calls == before + 1
        assert it.shipments.keys() == {UPS, "RB123456785GB"}


async def test_what_is_remembered_of_parts_is_bounded() -> None:
    extractions = Extractions(2)
    asked: list[bytes] = []

    async def tell(key: bytes) -> None:
        async def ask(part: Part) -> None:
            asked.append(key)
            part.told = ()

        await extractions.once(key, ask)

    for key in (b"1", b"2", b"1", b"3", b"1", b"2"):
        await tell(key)
    assert asked == [b"1", b"2", b"3", b"2"]


@pytest.mark.parametrize("fault", ["used up", "without credit"])
async def test_a_quota_that_is_used_up_is_not_asked_again_and_parks_the_account(
    fault: str,
) -> None:
    with pytest.raises(Unauthorized, match="what was paid for is used up"):
        await asked(fault)


async def test_a_model_that_tells_no_usage_is_believed_and_its_tokens_are_unknown() -> None:
    it = await asked("tells no usage")
    assert it.shipments.keys() == {UPS}
    row = it.scanned["cnv_000001"]
    assert (row.calls, row.prompt_tokens, row.completion_tokens) == (1, 0, 0)


async def test_numbers_that_a_model_copies_cut_or_wrong_are_no_shipments() -> None:
    for size in (1_000, 24_000):
        async with world(
            30, asks=True, model={"copies_badly": True}, llm_part_characters=size
        ) as it:
            text = "mail " * 170 + f"shipped {UPS} today, call 1234567890 " + "mail " * 400
            it.mail.reply("cnv_000001", at=now().timestamp(), text=text)
            await it.walk()
            assert it.model.calls > 10
            assert not it.shipments
            assert {row.shipments_found for row in it.scanned.values()} == {0}


async def test_how_sure_a_model_must_be_is_no_matter_of_what_it_is_asked() -> None:
    async with world(1, confidence_least=0.99, asks=True) as it:
        it.mail.reply("cnv_000001", at=now().timestamp(), text=f"shipped: {UPS}")
        await it.walk()
        assert not it.shipments
        assert it.scanned["cnv_000001"].shipments_found == 0
        for stream in (SCANNED, SHIPMENTS):
            asking, *_ = plugin.transform(it.instance, stream)  # type: ignore[misc]
            assert isinstance(asking, AsyncTransform)
            assert asking.settings == ("llm_part_characters", "prefilter")


async def test_discussions_and_conversations_without_times_are_taken_as_they_are() -> None:
    async with world(3) as it:
        discussion = it.mail.discuss(at=now().timestamp())
        undated = it.mail.write(at=now().timestamp(), text=f"shipped: {UPS}")
        undated.dated = False
        await it.walk()

        assert it.conversations[discussion.id].type == "discussion"
        assert it.conversations[undated.id].updated_at is None
        row = it.scanned[discussion.id]
        assert (row.outcome, row.messages, row.last_message_at) == ("silent", 0, None)
        assert it.shipments[UPS].conversation_id == undated.id


async def test_a_model_that_is_not_there_parks_the_account() -> None:
    with pytest.raises(Unauthorized, match="there is no such model"):
        await asked(None, llm_model="gpt-unheard-of")


async def test_a_model_that_is_too_slow_is_asked_once_and_leaves_its_conversation_unscanned() -> (
    None
):
    it = await asked("slow", llm_timeout_seconds=0.3)
    assert it.later.keys() == {"cnv_000001"}
    assert "no complete answer within 0.3 s; not sent again" in it.later["cnv_000001"].reason
    # By each stream here; in a run the first one's failure is its page's. Fewer, where it was late
    # before the endpoint had read it.
    assert it.model.calls <= 2
    assert (Settings().llm_timeout_seconds, asking(it).deadline_seconds) == (300.0, 900.0)
    patient = attrs.evolve(it, ctx=attrs.evolve(it.ctx, settings=Settings(llm_timeout_seconds=900)))
    assert asking(patient).deadline_seconds == 2700.0


def asking(it: World) -> AsyncTransform:
    """Return the transform that asks."""
    first, *_ = plugin.transform(it.instance, SCANNED)  # type: ignore[misc]
    assert isinstance(first, AsyncTransform)
    return first


@pytest.mark.parametrize("fault", ["busy", "busy, says not how long"])
async def test_a_429_of_the_model_is_waited_for(fault: Any) -> None:
    async with world(1, asks=True) as it:
        it.mail.reply("cnv_000001", at=now().timestamp(), text=f"PO 4711 shipped: {UPS}")
        it.model.faults += [fault]
        await it.walk()
        assert it.shipments.keys() == {UPS}


async def test_a_model_that_asks_to_slow_down_for_minutes_is_left_alone_until_then() -> None:
    it = await asked("slow down")
    (later,) = it.later.values()
    assert later.seconds is not None
    assert 50.0 < later.seconds <= 60.0


async def test_what_a_model_invents_is_no_shipment() -> None:
    it = await asked(None, model={"also": ["1Z5R89390357567127"]})
    assert it.shipments.keys() == {UPS}
    async with world(1, asks=True, model={"also": ["1Z5R89390357567127"]}) as it:
        it.mail.reply("cnv_000001", at=now().timestamp(), text="PO 4711 has shipped")
        await it.walk()
        assert not it.shipments
        assert it.scanned["cnv_000001"].shipments_found == 0


def filler(words: int) -> str:
    """Write so many words, of which no two parts are alike."""
    return " ".join(f"word{place}" for place in range(words))


async def test_a_long_thread_is_asked_about_in_parts() -> None:
    async with world(1, asks=True, llm_part_characters=1000) as it:
        text = f"shipped {UPS} {filler(600)} RB123456785GB"
        it.mail.reply("cnv_000001", at=now().timestamp(), text=text)
        await it.walk()
        assert it.shipments.keys() == {UPS, "RB123456785GB"}
        assert it.scanned["cnv_000001"].calls == it.model.calls > 3


async def test_neither_upstream_is_shown_the_other_s_credential() -> None:
    async with world(1, asks=True, model={"key": "another"}) as it:
        it.mail.reply("cnv_000001", at=now().timestamp(), text=f"PO 4711 shipped: {UPS}")
        with pytest.raises(Unauthorized) as caught:
            await it.walk()
        assert TOKEN not in str(caught.value)
        assert "sk-demo" not in str(caught.value)


async def test_a_number_that_ship24_would_refuse_has_a_problem_and_no_tracker() -> None:
    odd = "ABC#12345678"
    async with world(0, asks=True, model={"also": [odd]}, register_trackers=True) as it:
        it.mail.write(at=now().timestamp() - 9, text=f"shipped: {odd} and {UPS}")
        await it.walk()

        assert it.shipments.keys() == {odd, UPS}
        assert "other characters" in (it.shipments[odd].problem or "")
        assert [each.key for each in it.effects] == [UPS]


@given(st.text("ABZ019#é１ -_/.", min_size=1, max_size=50))
def test_whatever_has_no_problem_is_registered(number: str) -> None:
    wanted, _ = registering.read([Queued(1, number, {"trackingNumber": number})])
    assert wanted or problem_of(number) is not None


# --- Effects --------------------------------------------------------------------------------------


async def test_each_shipment_brings_one_tracker_along_known_by_its_number_alone() -> None:
    async with world(10, register_trackers=True) as it:
        await it.walk()
        assert {each.key for each in it.effects} == it.shipments.keys()
        assert {each.kind for each in it.effects} == {"ship24.register_tracker"}
        assert all(each.payload == {"trackingNumber": each.key} for each in it.effects)
        *_, making = plugin.transform(it.instance, SHIPMENTS)  # type: ignore[misc]
        assert making.effects == ("ship24.register_tracker",)
