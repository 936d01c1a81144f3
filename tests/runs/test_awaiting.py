"""Another API is asked about a record once: not lost, not half done, not paid for again."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio
from reading_room import (
    LETTERS,
    NEVER,
    NOT_NOW,
    READ,
    Letter,
    Plugin,
    Reading,
    letters,
    open_room,
)

from syncd import (
    AsyncTransform,
    Done,
    Later,
    Quarantined,
    Quota,
    SourceError,
    Transform,
    Unauthorized,
    Unavailable,
    Unintelligible,
    faults,
    replay,
)
from syncd.cli import ending
from syncd.cli.replaying import as_text
from syncd.errors import ConfigError, HookError
from syncd.events import BatchCommitted, CursorFailed, Event
from syncd.model import Written


@pytest.mark.parametrize("finished", [False, True])
async def test_an_unchanged_record_is_not_asked_about_again(dsn: str, finished: bool) -> None:
    plugin = Plugin(finished=finished)
    async with open_room(dsn, letters("a", "b"), letters("c", "", "d|e", first=5)) as room:
        assert (await room.run(plugin)).verdict == "complete"
        assert sorted(room.reader.asked) == ["", "a", "b", "c", "d|e"]
        assert room.rows() == {1: "A", 2: "B", 5: "C", 7: "D", 107: "E"}

        room.pages[0][0]["seen"] = 7  # it differs at every look, and says nothing
        assert (await room.run(plugin)).verdict == "complete"

        assert not room.reader.asked
        assert room.written == Written(unchanged=5)
        assert room.rows() == {1: "A", 2: "B", 5: "C", 7: "D", 107: "E"}


async def test_a_changed_record_is_asked_about_alone_and_back_again_once_more(dsn: str) -> None:
    async with open_room(dsn, letters("a", "b", "c")) as room:
        await room.run()
        for text in ("z", "b"):
            room.pages[0][1]["text"] = text
            await room.run()

            assert room.reader.asked == {text: 1}
            assert room.rows() == {1: "A", 2: text.upper(), 3: "C"}


async def test_what_changes_how_rows_are_made_asks_again(dsn: str) -> None:
    def louder(row: Reading) -> Reading:
        return attrs.evolve(row, answer=f"{row.answer}!")

    async with open_room(dsn, letters("a")) as room:
        await room.run()
        await room.run(Plugin(transforms=(attrs.evolve(READ, version=2),)))
        assert room.reader.asked == {"a": 1}
        room.language = "fr"
        await room.run(Plugin(transforms=(attrs.evolve(READ, version=2),)))
        assert room.reader.asked == {"a": 1}
        await room.run(Plugin(transforms=(READ, Transform("louder", 1, louder, order=1))))
        assert (room.reader.asked, room.rows()) == ({"a": 1}, {1: "A!"})


async def test_verifying_asks_about_everything_and_heals(dsn: str) -> None:
    async with open_room(dsn, letters("a", "b")) as room:
        await room.run()
        room.execute("UPDATE room.readings SET answer = 'by hand' WHERE id = 1")
        await room.run()
        assert (len(room.reader.asked), room.rows()[1]) == (0, "by hand")

        await room.run(verify=True)
        assert (room.reader.asked, room.rows()[1]) == ({"a": 1, "b": 1}, "A")


async def test_an_emptied_table_is_filled_again(dsn: str) -> None:
    async with open_room(dsn, letters("a", "")) as room:
        await room.run()
        room.execute("TRUNCATE room.readings")
        await room.run()

    assert (room.reader.asked, room.rows()) == ({"a": 1}, {1: "A"})


async def test_transforms_of_a_lower_order_run_before_and_the_others_after(dsn: str) -> None:
    def halves(letter: Letter) -> list[Letter] | None:
        if letter.text == "drop":
            return None
        return [attrs.evolve(letter, id=letter.id * 10 + n, text=letter.text[n]) for n in (0, 1)]

    def refuse_x(row: Reading) -> Reading:
        if row.answer == "X":
            raise ValueError("no such row")
        return row

    before, after = Transform("halves", 1, halves, order=-1), Transform("x", 1, refuse_x, order=1)
    plugin = Plugin(transforms=(before, READ, after))
    async with open_room(dsn, letters("ab", "cx", "drop")) as room:
        await room.run(plugin)
        assert sorted(room.reader.asked) == ["a", "b", "c", "x"]
        assert room.rows() == {10: "A", 11: "B", 20: "C"}
        assert room.select("SELECT message FROM syncd.quarantine") == ["x: ValueError: no such row"]

        room.pages[0][0]["text"] = "az"
        await room.run(plugin)

        # What failed behind its answer may be mended by now, and is asked about once more.
        assert room.reader.asked == {"z": 1, "x": 1}
        assert room.rows() == {10: "A", 11: "Z", 20: "C"}


async def test_a_refused_record_waits_in_quarantine_and_is_not_asked_about_again(dsn: str) -> None:
    async with open_room(dsn, letters("a", "b")) as room:
        room.reader.statuses["a"] = NEVER
        assert (await room.run()).verdict == "complete"
        assert (room.rows(), room.written) == ({2: "B"}, Written(inserted=1))
        found = room.select("SELECT reason || ' ' || message FROM syncd.quarantine")
        assert found == ["transform read: the reader will not"]

        await room.run()
        assert not room.reader.asked


async def test_a_refused_record_waits_once_in_its_newest_state(dsn: str) -> None:
    async with open_room(dsn, letters("a", "b")) as room:
        room.reader.statuses = {"a": NEVER, "z": NEVER, "b": NEVER}
        await room.run()
        room.pages[0][0]["text"] = "z"
        await room.run()

        found = room.select("SELECT key || ' ' || convert_from(raw, 'UTF8') FROM syncd.quarantine")
        assert sorted(found) == ['{"id": 1} {"id":1,"text":"z"}', '{"id": 2} {"id":2,"text":"b"}']


async def test_a_row_that_the_table_refuses_is_not_taken_for_answered(dsn: str) -> None:
    async with open_room(dsn, letters("a", "b")) as room:
        await room.run()
        room.execute("ALTER TABLE room.readings ADD CHECK (answer <> 'Z')")
        room.pages[0][0]["text"] = "z"
        for _ in range(2):
            await room.run()
            assert (room.reader.asked, room.rows()[1]) == ({"z": 1}, "A")
        room.pages[0][0]["text"] = "a"
        await room.run()
        assert (room.reader.asked, room.rows()[1]) == ({"a": 1}, "A")


async def test_later_keeps_the_whole_page_open_and_it_comes_again(dsn: str) -> None:
    async with open_room(dsn, letters("a", "b"), letters("c", first=5)) as room:
        room.reader.statuses["b"] = NOT_NOW

        def mend(event: Event) -> None:
            if isinstance(event, CursorFailed):
                failures.append(event)
                if len(failures) == 2:
                    room.reader.statuses.clear()

        failures: list[CursorFailed] = []
        room.said = mend
        result = await room.run(wait_seconds=60.0)

    assert result.verdict == "complete"
    assert [event.attempts for event in failures] == [1, 2]
    assert "the reader is busy" in failures[0].error
    assert room.rows() == {1: "A", 2: "B", 5: "C"}
    # What was answered on the page that failed is not paid for a second time.
    assert room.reader.asked == {"a": 1, "b": 3, "c": 1}


async def test_a_wait_that_is_named_is_kept_and_nothing_is_lost(dsn: str) -> None:
    async def busy(_: Any, records: Any) -> list[Any]:
        return [Later("busy", seconds=500.0) for _ in records]

    async with open_room(dsn, letters("a", "b")) as room:
        result = await room.run(Plugin(transforms=(attrs.evolve(READ, function=busy),)))

        assert result.verdict == "waiting"
        (failure,) = [event for event in room.events if isinstance(event, CursorFailed)]
        assert failure.retry_in_seconds == 500.0
        assert room.select("SELECT state FROM syncd.frontier") == ["open"]
        room.execute("UPDATE syncd.frontier SET not_before = '-infinity'")
        assert (await room.run()).verdict == "complete"
        assert room.rows() == {1: "A", 2: "B"}


async def test_an_outage_of_the_other_api_parks_nothing_however_many_records_wait(
    dsn: str,
) -> None:
    async def away(_: Any, records: Any) -> list[Any]:
        return [Later("no connection", seconds=500.0) for _ in records]

    pages = [letters(text, first=number) for number, text in enumerate("abc", 1)]
    async with open_room(dsn, *pages, job="failed_items_max = 0") as room:
        absent = Plugin(transforms=(attrs.evolve(READ, function=away),))
        await room.run(absent)
        room.execute("UPDATE syncd.frontier SET attempts = 4, not_before = '-infinity'")
        room.execute("UPDATE syncd.frontier SET failing_since = now() - interval '2 hours'")
        partial = await room.run(absent)
        failed = room.select("SELECT state FROM syncd.frontier")
        room.execute("UPDATE syncd.frontier SET not_before = '-infinity'")

        assert (partial.verdict, failed) == ("partial", ["failed"] * 3)
        assert room.select("SELECT parked_reason FROM syncd.partition") == [None]
        assert (await room.run()).verdict == "complete"
        assert room.rows() == {1: "A", 2: "B", 3: "C"}


@pytest.mark.parametrize("error", [Unintelligible, Unauthorized, Unavailable, None])
async def test_whatever_an_answer_holds_its_failure_can_be_noted(
    dsn: str, error: type[SourceError] | None
) -> None:
    """PostgreSQL's text has no NUL, and UTF-8 no lone surrogate; JSON may have both."""
    quoted = "unknown field 'a\0b\ud800'"

    async def strange(_: Any, records: Any) -> list[Any]:
        if error is not None:
            raise error("reader", quoted)
        return [Later(quoted, seconds=500.0) for _ in records]

    async with open_room(dsn, letters("a")) as room:
        result = await room.run(Plugin(transforms=(attrs.evolve(READ, function=strange),)))
        kept = room.select("SELECT last_error FROM syncd.frontier WHERE last_error IS NOT NULL")
        kept += room.select("SELECT parked_reason FROM syncd.account WHERE state = 'parked'")

    assert result.verdict in {"waiting", "failed", "parked"}
    assert "unknown field 'a\\x00b\\ud800'" in kept[0]


class Crash(Exception):
    """The process is gone."""


async def test_a_crash_repeats_what_was_not_committed_and_nothing_else(dsn: str) -> None:
    committed = trio.Event()
    async with open_room(dsn, letters("a", "b"), letters("c", first=5)) as room:

        async def third_waits(text: str) -> None:
            if text == "c":
                await committed.wait()

        def hear(event: Event) -> None:
            if isinstance(event, BatchCommitted):
                committed.set()

        def crash(point: str) -> None:
            if point == "frontier_written" and committed.is_set():
                raise Crash

        room.reader.before, room.said = third_waits, hear
        faults.arm(crash)
        try:
            with pytest.RaisesGroup(Crash, flatten_subgroups=True):
                await room.run()
        finally:
            faults.arm(None)
        assert (room.reader.asked, room.rows()) == ({"a": 1, "b": 1, "c": 1}, {1: "A", 2: "B"})

        room.execute("UPDATE syncd.frontier SET not_before = '-infinity'")
        assert (await room.run()).verdict == "complete"

    assert (room.reader.asked, room.rows()) == ({"c": 1}, {1: "A", 2: "B", 5: "C"})


async def test_pages_wait_side_by_side_and_take_no_place_from_those_that_are_fetched(
    dsn: str,
) -> None:
    """The upstream may be asked for one page at a time; all eight wait for the reader at once."""
    pages = [letters(str(number), first=number) for number in range(8)]
    quotas = (Quota("letters", concurrency=8), Quota("reader", concurrency=8))
    everybody = trio.Event()
    async with open_room(dsn, *pages) as room:

        async def all_of_them(_: str) -> None:
            if room.reader.asked.total() == len(pages):
                everybody.set()
            await everybody.wait()

        room.reader.before = all_of_them
        result = await room.run(Plugin(quotas=quotas))

    assert (result.verdict, len(room.rows())) == ("complete", 8)


async def test_a_function_that_hangs_is_cut_at_its_deadline_and_blamed(dsn: str) -> None:
    async def hang(_: Any, records: Any) -> list[Any]:
        await trio.sleep_forever()
        return []

    hanging = attrs.evolve(READ, function=hang, deadline_seconds=0.1)
    async with open_room(dsn, letters("a")) as room:

        def mend(event: Event) -> None:
            if isinstance(event, CursorFailed):
                plugin.transforms = (READ,)

        plugin = Plugin(transforms=(hanging,))
        result = await room.run(plugin)

    assert result.verdict == "waiting"
    said = [event.error for event in room.events if isinstance(event, CursorFailed)]
    assert "transform read took over 0.1 s" in said[0]


@pytest.mark.parametrize(
    ("answers", "says"),
    [
        ([], "answered for 0 of 1 records"),
        (["A"], "answered with str"),
        (None, "TypeError"),
        (ZeroDivisionError("oh"), "ZeroDivisionError: oh"),
    ],
    ids=str,
)
async def test_what_is_no_answer_is_the_plugins_bug(dsn: str, answers: Any, says: str) -> None:
    async def wrong(_: Any, records: Any) -> Any:
        if isinstance(answers, Exception):
            raise answers
        return answers

    async with open_room(dsn, letters("a")) as room:
        await room.run(Plugin(transforms=(attrs.evolve(READ, function=wrong),)))

    said = [event.error for event in room.events if isinstance(event, CursorFailed)]
    assert says in said[0]
    assert "transform read" in said[0]


async def test_what_the_function_raises_of_an_upstream_is_as_if_fetch_raised_it(dsn: str) -> None:
    async def refused(_: Any, records: Any) -> Any:
        raise Unauthorized("reader", "there is nothing left to pay with", "top it up")

    async with open_room(dsn, letters("a")) as room:
        await room.run(Plugin(transforms=(attrs.evolve(READ, function=refused),)))
        assert room.select("SELECT state FROM syncd.account") == ["parked"]


async def test_a_record_without_the_fields_it_is_known_by_is_refused_with_a_word(dsn: str) -> None:
    async with open_room(dsn, letters("a")) as room:
        unnamed = attrs.evolve(READ, key=("number",))
        await room.run(Plugin(transforms=(unnamed,)))
        said = [event.error for event in room.events if isinstance(event, CursorFailed)]
        assert "cannot tell records apart" in said[0]


@pytest.mark.parametrize(
    ("plugin", "says"),
    [
        (Plugin(stream=attrs.evolve(LETTERS, shortcut="raw", volatile=())), "say 'values'"),
        (Plugin(stream=attrs.evolve(LETTERS, on_absent="delete")), "say 'mark'"),
        (Plugin(transforms=(attrs.evolve(READ, settings=("tongue",)),)), "tongue"),
    ],
    ids=["raw", "delete", "settings"],
)
async def test_what_cannot_be_had_is_refused(dsn: str, plugin: Plugin, says: str) -> None:
    async with open_room(dsn, letters("a")) as room:
        with pytest.raises(ConfigError, match=says):
            await room.run(plugin)


async def test_two_that_await_are_refused(dsn: str) -> None:
    other: AsyncTransform = attrs.evolve(READ, name="other")
    async with open_room(dsn, letters("a")) as room:
        with pytest.raises(HookError, match="other and read await"):
            await room.run(Plugin(transforms=(READ, other)))


async def test_a_marked_row_comes_back_unasked(dsn: str) -> None:
    plugin = Plugin(stream=attrs.evolve(LETTERS, on_absent="mark"))
    many = letters(*"abcdefghij")
    async with open_room(dsn, many) as room:
        await room.run(plugin)
        room.pages[0] = many[:-1]
        await room.run(plugin)
        gone = "SELECT id FROM room.readings WHERE _syncd_absent_at IS NOT NULL"
        assert room.select(gone) == [10]
        room.pages[0] = many
        await room.run(plugin)

        assert (room.select(gone), dict(room.reader.asked)) == ([], {})


def test_done_may_say_anything_and_is_a_value() -> None:
    assert (Done(None), Quarantined("no")) == (Done(None), Quarantined("no"))


async def test_a_preview_asks_about_what_it_shows(dsn: str) -> None:
    async with open_room(dsn, letters("a", "b", "c")) as room:
        room.reader.statuses["b"] = NEVER
        shown = await room.preview(records_max=2)

    assert room.reader.asked == {"a": 1, "b": 1}
    assert [row["answer"] for row in shown.rows] == ["A"]
    assert [each.message for each in shown.rejected] == ["read: the reader will not"]


async def test_what_is_set_aside_of_such_a_stream_is_asked_about_by_its_replay(dsn: str) -> None:
    async with open_room(dsn, letters("a", "b|c", "d", "e")) as room:
        room.reader.statuses = dict.fromkeys(("b|c", "d", "e"), NEVER)
        await room.run()
        assert room.rows() == {1: "A"}
        room.reader.asked.clear()
        room.reader.statuses = {"d": NOT_NOW, "e": NEVER}

        outcome = await room.replay()

        assert (outcome.done.settled, outcome.done.written) == (1, Written(inserted=2))
        assert room.rows() == {1: "A", 2: "B", 102: "C"}
        assert room.reader.asked == {"b|c": 1, "d": 1, "e": 1}, "and not about what stands"
        assert list(outcome.done.later.values()) == ["the reader is busy"]
        assert list(outcome.done.failed.values()) == [("transform", "read: the reader will not")]
        assert outcome.code == ending.PARTIAL
        said = as_text(outcome)
        assert "later: the reader is busy; replay it again" in said
        assert room.select("SELECT repeats FROM syncd.quarantine ORDER BY repeats") == [0, 1]

        room.reader.statuses = {}
        assert (await room.replay()).code == ending.FINE
        assert room.rows() == {1: "A", 2: "B", 102: "C", 3: "D", 4: "E"}


@pytest.mark.parametrize(
    ("status", "told"), [(401, "room.readings of default"), (404, "room.readings")]
)
async def test_what_was_answered_before_the_asking_failed_is_replayed(
    status: int, told: str, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "ASKED_AT_ONCE", 1)
    async with open_room(dsn, letters("a", "b", "c")) as room:
        room.reader.statuses = dict.fromkeys("abc", NEVER)
        await room.run()
        room.reader.statuses = {}
        room.reader.asked.clear()

        async def fail_all_but_one(text: str) -> None:
            if room.reader.asked.total() > 1:
                room.reader.statuses[text] = status

        room.reader.before = fail_all_but_one
        outcome = await room.replay()

    assert str(status) in outcome.refused[told]
    assert (outcome.done.settled, len(room.rows())) == (1, 1)
    assert room.reader.asked.total() == 2, "nothing else is asked"
    assert room.select("SELECT repeats FROM syncd.quarantine") == [0, 0]


async def test_of_several_that_are_answered_for_one_record_each_goes_by_itself(dsn: str) -> None:
    def refuse_x(row: Reading) -> Reading:
        if row.answer == "X":
            raise ValueError("no such row")
        return row

    after = Transform("x", 1, refuse_x, order=1)
    async with open_room(dsn, letters("a|x|b|x")) as room:
        await room.run(Plugin(transforms=(READ, after)))

        assert room.rows() == {1: "A", 201: "B"}
        assert room.select("SELECT repeats FROM syncd.quarantine") == [1]
