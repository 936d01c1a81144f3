"""What is gone upstream is marked or deleted, and nothing that is merely not to be seen."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import attrs
import database_facts as facts
import psycopg
import pytest
import trio
from census import STREAM, Bureau, Census, Plugin, configuration, person
from database import connect
from processes import Programs
from traps import Step

from syncd import Slice, absences, bulk
from syncd import run as runs
from syncd.absences import REMOVE_AT_ONCE, is_too_much
from syncd.conditional import Conditional
from syncd.embedded import throwaway
from syncd.errors import ConfigError, LeaseLost
from syncd.events import RecordsQuarantined, RunFinished
from syncd.model import Feed
from syncd.store import leases
from syncd.store.hops import Connection
from syncd.store.migrations import migrate

DEADLINE_SECONDS = 90.0
TEN = [[1, 2, 3, 4], [5, 6, 7], [8, 9, 10]]
NUMBERED = {"paging": "numbered"}


@asynccontextmanager
async def census(dsn: str, plugin: Plugin | None = None, **towns: Any) -> AsyncIterator[Census]:
    bureau = Bureau(**(towns or {"north": TEN}))
    with trio.fail_after(DEADLINE_SECONDS):
        async with bureau.serve() as base_url:
            yield Census(dsn, bureau, base_url, plugin or Plugin())


def stream(**options: Any) -> Plugin:
    return Plugin(attrs.evolve(STREAM, **options))


async def settled(there: Census, *, runs: int = 1) -> None:
    """Walk everything while it is all there."""
    for _ in range(runs):
        result = await there.run()
        assert (result.verdict, result.message) == ("complete", "")
        assert (there.gone, there.refused) == ([], [])


# who goes


async def test_a_record_that_vanished_takes_its_row_with_it(dsn: str) -> None:
    async with census(dsn) as there:
        await settled(there)
        there.bureau.towns["north"][1].remove(6)

        result = await there.run()

        assert (result.verdict, result.message) == ("complete", "")
        assert there.ids() == [1, 2, 3, 4, 5, 7, 8, 9, 10]
        assert there.gone == [("delete", 1, 10)]
        await there.run()
        assert there.gone == []


async def test_a_stream_that_keeps_its_rows_notes_no_keys(dsn: str) -> None:
    async with census(dsn, stream(on_absent="keep")) as there:
        await settled(there)
        there.bureau.towns["north"][1].remove(6)
        await settled(there)

        assert len(there.ids()) == 10
        assert there.rows("SELECT 1 FROM syncd.seen") == []


async def test_an_operator_says_what_becomes_of_rows_whose_records_are_gone(dsn: str) -> None:
    async with census(dsn, stream(on_absent="keep")) as there:
        there.further = '[connectors.census.streams.people]\non_absent = "mark"\n'
        await settled(there)
        there.bureau.towns["north"][1].remove(6)
        await there.run()
        assert (there.gone, list(there.marked())) == ([("mark", 1, 10)], [6])
        there.further = there.further.replace("mark", "keep")
        there.bureau.towns["north"][1].remove(5)

        await there.run()

        assert (there.gone, len(there.ids())) == ([], 10)


async def test_a_marked_row_stays_until_its_record_is_back_unchanged(dsn: str) -> None:
    async with census(dsn, stream(on_absent="mark")) as there:
        await settled(there)
        there.bureau.towns["north"][1].remove(6)
        await there.run()
        assert there.gone == [("mark", 1, 10)]
        (first,) = there.marked().items()
        await there.run()

        assert (there.gone, tuple(there.marked().items())) == ([], (first,))
        assert first[0] == 6
        assert len(there.ids()) == 10
        there.bureau.towns["north"][2].append(6)
        await there.run()

        assert there.marked() == {}
        (finished,) = [each for each in there.events if isinstance(each, RunFinished)]
        assert (finished.updated, finished.unchanged) == (1, 9)


async def test_a_marked_row_whose_record_is_back_in_an_older_state_is_unmarked(dsn: str) -> None:
    async with census(dsn, stream(on_absent="mark")) as there:
        there.bureau.towns["north"][1][1] = person(6, revision=7)
        await settled(there)
        there.bureau.towns["north"][1].pop(1)
        await there.run()
        assert list(there.marked()) == [6]
        there.bureau.towns["north"][1].append(person(6, name="before", revision=5))

        await there.run()

        assert there.marked() == {}
        query = "SELECT name, revision FROM census.people WHERE id = 6"
        assert there.rows(query) == [{"name": "person 6", "revision": 7}]


@pytest.mark.parametrize("shortcut", ["values", "off"])
async def test_it_does_not_matter_how_unchanged_records_are_known(dsn: str, shortcut: Any) -> None:
    async with census(dsn, stream(shortcut=shortcut)) as there:
        await settled(there)
        there.bureau.towns["north"][0].remove(2)

        await there.run()

        assert there.ids() == [1, 3, 4, 5, 6, 7, 8, 9, 10]


# who stays


async def test_an_empty_answer_takes_nobody_for_gone(dsn: str) -> None:
    async with census(dsn) as there:
        await settled(there)
        there.bureau.towns["north"] = [[]]

        result = await there.run()

        assert result.verdict == "complete"
        assert "people: 10 of 10 rows (100 %) have no record" in result.message
        assert there.refused == [result.message.removeprefix("people: ")]
        assert len(there.ids()) == 10
        there.bureau.towns["north"] = TEN
        await settled(there)


async def test_a_third_of_what_there_was_takes_nobody_for_gone(dsn: str) -> None:
    async with census(dsn) as there:
        await settled(there)
        there.bureau.towns["north"] = TEN[:1][:3]

        result = await there.run()

        assert "6 of 10 rows (60 %)" in result.message
        assert len(there.ids()) == 10


@pytest.mark.parametrize(
    ("absent", "rows", "too_much"),
    [(0, 0, False), (1, 5, False), (1, 4, True), (20, 100, False), (21, 100, True), (9, 9, True)],
)
def test_one_in_five_may_go(absent: int, rows: int, too_much: bool) -> None:
    assert is_too_much(absent, rows) == too_much


@pytest.mark.parametrize("shortcut", ["raw", "values"])
@pytest.mark.parametrize(
    "bad",
    [
        person(6, name=5),  # cannot be decoded, but its key can be read
        person(6, name="nul \x00"),  # cannot be sent
        person(6, name="dropped"),
        person(6, name="broken"),  # its transform raises
        person(6, name="forbidden"),  # the table refuses it
        person(6, name="older", revision=-5),  # stale
    ],
    ids=["undecodable", "unsendable", "dropped", "raising", "refused", "stale"],
)
async def test_whatever_becomes_of_a_record_it_is_there(dsn: str, bad: Any, shortcut: Any) -> None:
    def change(each: Any) -> Any:
        if each.name == "broken":
            raise ValueError("no")
        return None if each.name == "dropped" else each

    plugin = Plugin(attrs.evolve(STREAM, shortcut=shortcut), change=change)
    async with census(dsn, plugin) as there:
        await settled(there)
        there.execute("ALTER TABLE census.people ADD CHECK (name <> 'forbidden')")
        there.bureau.towns["north"][1][1] = bad
        there.bureau.towns["north"][0].remove(1)

        result = await there.run()

        assert (result.verdict, result.message) == ("complete", "")
        assert there.ids() == [2, 3, 4, 5, 6, 7, 8, 9, 10]
        assert there.gone == [("delete", 1, 10)]


@pytest.mark.parametrize(
    "bad", [{"id": "6", "name": "text"}, {"name": "nobody"}, [], None], ids=str
)
async def test_where_a_record_could_be_anybodys_nobody_is_judged(dsn: str, bad: Any) -> None:
    async with census(dsn) as there:
        await settled(there)
        there.bureau.towns["north"][1][1] = bad
        there.bureau.towns["north"][0].remove(1)

        result = await there.run()

        assert result.verdict == "complete"
        assert "not all of its keys are known" in result.message
        assert [e.count for e in there.events if isinstance(e, RecordsQuarantined)] == [1]
        assert len(there.ids()) == 10
        there.bureau.towns["north"][1][1] = 6
        await there.run()
        assert there.gone == [("delete", 1, 10)]


async def test_a_key_that_no_row_can_have_hinders_nobody(dsn: str) -> None:
    async with census(dsn) as there:
        await settled(there)
        there.bureau.towns["north"][1].append(person(2**70))
        there.bureau.towns["north"][0].remove(1)

        result = await there.run()

        assert result.verdict == "complete"
        assert (there.gone, there.refused) == ([("delete", 1, 10)], [])


async def test_a_pass_that_judges_asks_for_every_page(dsn: str) -> None:
    plugin = Plugin(feed_options={"conditional": True, "lasting_cursors": False})
    async with census(dsn, plugin) as there:
        await settled(there, runs=2)

        assert len(there.bureau.asked) == 3
        assert not any(conditional for _, _, conditional in there.bureau.asked)
        assert len(there.ids()) == 10


async def test_a_page_that_was_not_sent_names_nobody(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Should a judging pass meet a 304 after all, it judges nobody."""
    plugin = Plugin(feed_options={"conditional": True, **NUMBERED})
    async with census(dsn, plugin) as there:
        await settled(there, runs=2)
        there.bureau.towns["north"][1].remove(6)
        await settled(there)

        def asking(*means: Any, **how: Any) -> Conditional:
            assert not how["asks"]
            return Conditional(*means, **how | {"asks": True})

        monkeypatch.setattr(runs, "Conditional", asking)
        result = await there.run()

        assert any(conditional for _, _, conditional in there.bureau.asked)
        assert "not all of its keys are known" in result.message
        assert len(there.ids()) == 10


async def test_rows_that_others_wrote_meanwhile_are_not_judged(dsn: str) -> None:
    async with census(dsn) as there:
        await settled(there)
        there.bureau.towns["north"][1].remove(6)
        there.execute("UPDATE census.people SET _syncd_written_at = now() + interval '1 h'")

        await there.run()

        assert len(there.ids()) == 10
        assert (there.gone, there.refused) == ([], [])


async def test_a_pass_that_is_not_complete_judges_nobody(dsn: str) -> None:
    async with census(dsn) as there:
        await settled(there)
        there.bureau.towns["north"][0].remove(1)
        there.bureau.answers["north", 3] = b"{half"

        assert (await there.run()).verdict == "waiting"

        assert len(there.ids()) == 10
        there.bureau.answers.clear()
        there.execute("UPDATE syncd.frontier SET not_before = '-infinity'")
        assert (await there.run()).verdict == "complete"
        assert there.ids() == [2, 3, 4, 5, 6, 7, 8, 9, 10]


# whose


async def test_each_account_is_judged_by_its_own_pass(dsn: str) -> None:
    async with census(dsn, north=TEN, south=TEN) as there:
        await there.run_towns("north", "south")
        there.bureau.towns["north"][1].remove(6)
        there.bureau.answers["south", 1] = json.dumps({"people": [], "next": None}).encode()

        results = await there.run_towns("north", "south")

        assert {result.verdict for result in results} == {"complete"}
        assert there.ids("north") == [1, 2, 3, 4, 5, 7, 8, 9, 10]
        assert len(there.ids("south")) == 10
        assert len(there.refused) == 1


async def test_accounts_that_share_rows_cannot_judge_them(dsn: str) -> None:
    async with census(dsn, stream(per_account=False), north=TEN, south=TEN) as there:
        with pytest.raises(ConfigError, match="which rows are another's"):
            await there.run_towns("north", "south")


async def test_a_slice_that_is_a_part_judges_nobody(dsn: str) -> None:
    plugin = Plugin(slices=[Slice("first", {})])
    async with census(dsn, plugin) as there:
        await settled(there)
        there.bureau.towns["north"][1].remove(6)
        await settled(there)
        assert len(there.ids()) == 10
        assert there.rows("SELECT 1 FROM syncd.seen") == []
        plugin.slices = [Slice("first", {}, covers="all")]

        await there.run()  # its open cursors mean the same; from the next pass on it notes keys
        await there.run()

        assert len(there.ids()) == 9


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"mode": "insert-only", "version": None, "shortcut": "off"}, "on_absent is not 'keep'"),
        ({"key": ("elsewhere",), "row": "row", "shortcut": "values"}, "has no field for elsewhere"),
    ],
)
async def test_what_cannot_be_told_is_refused_before_any_run(
    dsn: str, options: dict[str, Any], says: str
) -> None:
    @attrs.define
    class Row:
        elsewhere: int
        revision: int = 1

    if options.get("row"):
        options = options | {"row": Row}
    async with census(dsn, stream(**options)) as there:
        with pytest.raises(ConfigError, match=says):
            await there.run()


# pages that shift


@pytest.mark.parametrize("options", [NUMBERED, {"lasting_cursors": True}], ids=["pages", "offset"])
async def test_pages_that_shift_tell_only_by_two_passes_in_a_row(
    dsn: str, options: dict[str, Any]
) -> None:
    async with census(dsn, Plugin(feed_options=options)) as there:
        await settled(there, runs=2)
        there.bureau.towns["north"][1].remove(6)
        await settled(there)  # it may have moved to a page that was read already
        assert len(there.ids()) == 10

        await there.run()

        assert there.gone == [("delete", 1, 10)]
        assert there.ids() == [1, 2, 3, 4, 5, 7, 8, 9, 10]


async def test_who_was_missed_once_stays(dsn: str) -> None:
    async with census(dsn, Plugin(feed_options=NUMBERED)) as there:
        await settled(there, runs=2)
        for _ in range(3):
            there.bureau.towns["north"][1].remove(6)
            await settled(there)
            there.bureau.towns["north"][1].append(6)
            await settled(there)

        assert len(there.ids()) == 10


async def test_a_pass_in_between_that_saw_it_speaks_for_it(dsn: str) -> None:
    plugin = Plugin(feed_options={"paging": "numbered", "incremental": True})
    async with census(dsn, plugin) as there:
        await settled(there, runs=2)
        there.bureau.towns["north"][1][:] = [7]  # 5 and 6 are gone
        await settled(there)
        there.bureau.towns["north"][1][:] = [6, 7]
        assert (await there.run(mode="incremental")).verdict == "complete"
        there.bureau.towns["north"][1][:] = [7]

        assert (await there.run()).verdict == "complete"

        assert there.ids() == [1, 2, 3, 4, 6, 7, 8, 9, 10]
        assert there.gone == [("delete", 1, 10)]


async def test_a_full_pass_in_between_that_came_to_no_end_breaks_the_row(dsn: str) -> None:
    async with census(dsn, Plugin(feed_options=NUMBERED)) as there:
        await settled(there, runs=2)
        there.bureau.towns["north"][1].remove(6)
        await settled(there)
        there.bureau.answers["north", 2] = b"{half"
        await there.run()
        there.execute(
            "UPDATE syncd.pass SET connector_version = '0', request_fingerprint = 'x'"
            " WHERE state = 'open'"
        )
        there.bureau.answers.clear()
        there.bureau.towns["north"][1].append(6)
        there.bureau.towns["north"][1].remove(6)

        await settled(there)
        assert len(there.ids()) == 10
        await there.run()
        assert len(there.ids()) == 9


async def test_what_was_noted_is_forgotten_when_it_tells_nothing_any_more(dsn: str) -> None:
    async with census(dsn) as once:
        await settled(once, runs=3)
        assert once.rows("SELECT 1 FROM syncd.seen") == []

        once.plugin = Plugin(feed_options=NUMBERED)
        await settled(once, runs=4)
        (row,) = once.rows("SELECT count(DISTINCT pass_id) AS n, count(*) AS keys FROM syncd.seen")
        assert row == {"n": 1, "keys": 11}, "the last pass is the first of the next two"

        once.plugin = stream(on_absent="keep")
        await settled(once)
        assert Feed("f", (), quota="q").shifts is False


# what breaks in between


@pytest.mark.parametrize("nth", [1, 2])
@pytest.mark.parametrize("point", ["before_commit", "after_commit"])
async def test_a_kill_in_the_middle_is_made_good_before_the_next_pass(
    dsn: str, programs: Programs, tmp_path: Path, point: str,
    nth: int,
) -> None:  # fmt: skip
    everybody = list(range(1, 5 * REMOVE_AT_ONCE + 601))
    bureau = Bureau(north=[everybody])
    file = tmp_path / "census.toml"
    with trio.fail_after(3 * DEADLINE_SECONDS):
        async with bureau.serve() as base_url:
            file.write_text(configuration(dsn, base_url, "north"))
            whole = programs.start(file)
            assert await whole.ended() == 0, whole.said()
            bureau.towns["north"] = [everybody[REMOVE_AT_ONCE + 100 :]]
            file.write_text(configuration(dsn, base_url, "north", lease="2s"))
            step = Step(point, of="absent_removed", nth=nth)
            killed = programs.start(file, at=step, sends=signal.SIGKILL)
            assert await killed.ended() == -signal.SIGKILL, killed.said()
            await facts.left_alone(dsn)
            left = facts.rows(dsn, "SELECT count(*) AS n FROM census.people")[0]["n"]
            chunks = nth if point == "after_commit" else nth - 1
            gone = min(chunks * REMOVE_AT_ONCE, REMOVE_AT_ONCE + 100)
            assert left == len(everybody) - gone
            bureau.towns["north"] = [everybody[REMOVE_AT_ONCE - 900 :]]  # a thousand are back
            file.write_text(configuration(dsn, base_url, "north"))
            restarted = programs.start(file)
            assert await restarted.ended() == 0, restarted.said()

    ids = [row["id"] for row in facts.rows(dsn, "SELECT id FROM census.people ORDER BY id")]
    assert ids == everybody[REMOVE_AT_ONCE - 900 :]
    assert facts.passes(dsn) == ["complete"] * 3
    told = restarted.events("rows.absent")
    assert sum(each["count"] for each in told) == REMOVE_AT_ONCE + 100 - gone
    inserted = sum(each["inserted"] for each in restarted.events("batch.committed"))
    assert inserted == 1000, "all that were gone went before the pass that met them again"


async def test_who_has_lost_the_lease_takes_nobody_for_gone(dsn: str) -> None:
    async with census(dsn) as there:
        await settled(there)
        (part,) = there.rows("SELECT id FROM syncd.partition")
        table = bulk.table_of("census", STREAM)
        judged = bulk.Judged(
            [part["id"]], "north", [99], [99], before=datetime.max.replace(tzinfo=UTC)
        )
        with connect(dsn) as connection:
            lease = claimed(connection, part["id"])
            connection.commit()
            there.execute("UPDATE syncd.partition SET epoch = epoch + 1")

            for change in (absences.remove, absences.unmark):
                with pytest.raises(LeaseLost):
                    change(connection, lease, table, judged)
                connection.rollback()
            there.execute("UPDATE syncd.partition SET epoch = epoch - 1")
            assert absences.remove(connection, lease, table, judged) == 10
            connection.rollback()
        assert len(there.ids()) == 10


def claimed(connection: Connection, partition_id: int) -> leases.Lease:
    (lease,) = leases.claim(
        connection, owner=uuid4(), token=uuid4(), job="census", lease_seconds=60, free=1,
        ids=[partition_id], early=True,
    )  # fmt: skip
    return lease


async def test_a_pass_that_did_not_note_its_keys_all_along_is_begun_anew(dsn: str) -> None:
    """Switched off and on again while a pass is open: its keys would have a hole."""
    async with census(dsn) as there:
        await settled(there)
        there.bureau.answers["north", 2] = b"{half"
        assert (await there.run()).verdict == "waiting"
        there.plugin = stream(on_absent="keep")
        there.bureau.answers = {("north", 3): b"{half"}
        there.execute("UPDATE syncd.frontier SET not_before = '-infinity'")
        assert (await there.run()).verdict == "waiting"
        there.plugin = Plugin()
        there.bureau.answers.clear()
        there.execute("UPDATE syncd.frontier SET not_before = '-infinity'")

        await settled(there)

        assert len(there.ids()) == 10


async def test_after_a_crash_of_the_database_the_pass_that_it_met_judges_nobody() -> None:
    """A server of its own: a backend that is killed makes PostgreSQL recover from a crash."""
    with throwaway() as server:
        with connect(server.conninfo) as connection:
            migrate(connection)
        async with census(server.conninfo) as there:
            await settled(there)
            there.bureau.towns["north"][0].remove(1)
            there.bureau.answers["north", 3] = b"{half"
            assert (await there.run()).verdict == "waiting"
            (noted,) = there.rows("SELECT count(*) AS n FROM syncd.seen")
            assert noted["n"] == 1 + 6

            await crashed(there)
            there.bureau.answers.clear()
            there.execute("UPDATE syncd.frontier SET not_before = '-infinity'")
            result = await there.run()

            assert result.verdict == "complete"
            assert "PostgreSQL crashed meanwhile" in result.message
            assert len(there.ids()) == 10
            await there.run()
            assert there.gone == [("delete", 1, 10)]


async def crashed(there: Census) -> None:
    """Kill a backend, and wait until the server has recovered."""
    there.execute("CHECKPOINT")  # a throwaway server does not write each commit at once
    with connect(there.dsn) as victim:
        os.kill(victim.info.backend_pid, signal.SIGKILL)
    with trio.fail_after(DEADLINE_SECONDS):
        while True:
            try:
                (left,) = there.rows("SELECT count(*) AS n FROM syncd.seen")
            except psycopg.OperationalError:
                await trio.sleep(0.05)
            else:
                break
    assert left["n"] == 0
