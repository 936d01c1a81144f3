"""A record that is replayed has the effects that it would have had: with its row, and no others."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import database_facts as facts
import post_office
import pytest
import trio
from post_office import PARCEL, Thing, configuration, open_office

from syncd import Effect, Writer, config, hookimpl
from syncd.cli import ending
from syncd.cli.loading import Loaded
from syncd.cli.replaying import Outcome, as_json, as_text, replay_all
from syncd.daemon import Process, Root
from syncd.jobs import run_job
from syncd.model import Written
from syncd.observe import Observer
from syncd.plugins import Plugins
from syncd.store.selection import Aside


@attrs.define
class Scribe:
    """Writes things into a table of its own, newer ones over older ones, each with a parcel."""

    any_order: bool = True
    breaks: bool = False

    @hookimpl
    def write(self) -> Writer:
        return Writer(self.enter, effects=(PARCEL.name,), any_order=self.any_order)

    def enter(self, connection: Any, rows: Sequence[Thing]) -> Written:
        written = Written()
        for row in rows:
            done = connection.execute(ENTER, (row.id, row.text, row.revision)).fetchone()
            effect = Effect(PARCEL.name, f"entered-{row.id}", {"text": row.text})
            written += Written(inserted=1, effects=[effect]) if done else Written(stale=1)
            if self.breaks:
                connection.execute("SELECT 1 / 0")
        return written


LEDGER = "CREATE TABLE ledger (id int PRIMARY KEY, text text, revision int)"
ENTER = """
    INSERT INTO ledger AS l VALUES (%s, %s, %s) ON CONFLICT (id)
    DO UPDATE SET text = excluded.text, revision = excluded.revision
    WHERE excluded.revision > l.revision RETURNING id"""


def loaded(file: Path, scribe: Scribe | None = None) -> Loaded:
    plugins = Plugins({"office": post_office, **({"scribe": scribe} if scribe else {})})
    settings = config.structure(config.read(file), plugins.connectors, environment={})
    return Loaded(settings, plugins, ())


async def sync(file: Path, scribe: Scribe | None = None) -> None:
    there = loaded(file, scribe)

    async def main(process: Process) -> None:
        job = process.config.jobs["office"]
        results = await run_job(process, job, mode="full", wait_seconds=0.0)
        assert [result.verdict for result in results] == ["complete"], results

    await Root(there.config, there.plugins, Observer()).run(main)


async def replay(file: Path, scribe: Scribe | None = None) -> Outcome:
    """Replay as the console does, which has a Trio of its own."""
    return await trio.to_thread.run_sync(partial(replay_all, loaded(file, scribe), Aside()))


def payloads(dsn: str) -> dict[str, Any]:
    rows = facts.rows(dsn, "SELECT key, payload, row_version FROM syncd.effect")
    return {row["key"]: (row["payload"]["text"], row["row_version"]) for row in rows}


async def test_what_follows_from_rows_that_are_replayed_is_enqueued_with_them(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = [{"id": number, "text": "bad", "revision": 4} for number in (1, 2, 3)]
    async with open_office(*bad, {"id": 4}) as office:
        file = configuration(tmp_path, dsn, office)
        await sync(file)
        assert payloads(dsn) == {"parcel-4": ("", 1)}
        office.things = [{"id": 2, "text": "newer", "revision": 9}]
        await sync(file)
        monkeypatch.setattr(post_office, "BAD", "worse")  # the plugin is mended

        outcome = await replay(file)

    assert outcome.done.written == Written(inserted=2, stale=1)
    assert (outcome.code, outcome.done.enqueued) == (ending.FINE, 2)
    assert payloads(dsn) == {
        "parcel-1": ("bad", 4),
        "parcel-2": ("newer", 9),
        "parcel-3": ("bad", 4),
        "parcel-4": ("", 1),
    }
    assert "2 effects enqueued" in as_text(outcome)
    assert as_json(outcome)["effects"] == {"enqueued": 2, "delivered_otherwise": 0}


async def test_a_record_whose_effects_have_no_addressee_is_not_replayed(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_office({"id": 1, "text": "bad"}) as office:
        file = configuration(tmp_path, dsn, office)
        await sync(file)
        monkeypatch.setattr(post_office, "BAD", "worse")
        twin = f'[connectors.annex]\nplugin = "office"\nbase_url = "{office.public_url}"\n'
        file.write_text(file.read_text() + twin)

        outcome = await replay(file)

    assert "several deliver it: annex, office" in outcome.refused["office.things"]
    assert outcome.code == ending.PARTIAL
    assert facts.rows(dsn, "SELECT repeats FROM syncd.quarantine") == [{"repeats": 0}]
    assert (payloads(dsn), facts.rows(dsn, "SELECT FROM office.things")) == ({}, [])


async def test_what_a_plugin_writes_itself_is_replayed_where_it_says_that_order_does_not_matter(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts.execute(dsn, LEDGER)
    bad: list[dict[str, Any]] = [
        {"id": n, "text": "bad", "revision": 4, "kinds": []} for n in (1, 2)
    ]
    async with open_office(*bad) as office:
        file = configuration(tmp_path, dsn, office)
        await sync(file, Scribe())
        office.things = [{"id": 2, "text": "newer", "revision": 9, "kinds": []}]
        await sync(file, Scribe())
        monkeypatch.setattr(post_office, "BAD", "worse")  # the plugin is mended

        refused = await replay(file, Scribe(any_order=False))
        broken = await replay(file, Scribe(breaks=True))
        before = facts.rows(dsn, "SELECT text FROM ledger")
        left = facts.rows(dsn, "SELECT repeats FROM syncd.quarantine")
        outcome = await replay(file, Scribe())

    assert "does not say that older records may come after newer ones" in _refusal(refused)
    assert "division by zero" in _refusal(broken)
    assert [each.code for each in (refused, broken)] == [ending.PARTIAL] * 2
    assert before == [{"text": "newer"}]
    assert left == [{"repeats": 0}] * 2, "the records are where they were"
    assert outcome.done.written.counts == Written(inserted=1, stale=1).counts
    assert (outcome.code, outcome.done.settled, outcome.done.enqueued) == (ending.FINE, 2, 1)
    ledger = facts.rows(dsn, "SELECT text FROM ledger ORDER BY id")
    assert ledger == [{"text": "bad"}, {"text": "newer"}]
    assert payloads(dsn) == {"entered-1": ("bad", None), "entered-2": ("newer", None)}
    assert facts.rows(dsn, "SELECT FROM syncd.quarantine") == []


def _refusal(outcome: Outcome) -> str:
    return outcome.refused["office.things"]
