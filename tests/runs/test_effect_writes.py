"""A plugin that writes its rows itself says what follows from them, in the same transaction."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import attrs
import database_facts as facts
import post_office
import psycopg
import pytest
import trio
from post_office import PARCEL, Office, Thing, configuration, open_office
from processes import seen

from syncd import Effect, Writer, Written, background, config, hookimpl
from syncd.asking import written
from syncd.daemon import Process, Root
from syncd.errors import PluginError
from syncd.jobs import run_job
from syncd.observe import Observer
from syncd.plugins import Plugins
from syncd.verdicts import Result

LEDGER = "CREATE TABLE ledger (id int PRIMARY KEY, text text)"
ENTER = "INSERT INTO ledger VALUES (%s, %s) ON CONFLICT DO NOTHING RETURNING id"


@attrs.define
class Scribe:
    """Writes things into a table of its own, and has a parcel sent for each that is new."""

    declares: tuple[str, ...] = (PARCEL.name,)

    @hookimpl
    def write(self) -> Writer:
        return Writer(self.enter, effects=self.declares)

    def enter(self, connection: Any, rows: Sequence[Thing]) -> Written:
        new = [row for row in rows if connection.execute(ENTER, (row.id, row.text)).fetchone()]
        effects = [Effect(PARCEL.name, f"new-{row.id}", {"text": row.text}) for row in new]
        return Written(inserted=len(new), unchanged=len(rows) - len(new), effects=effects)


def thing(number: int, **other: Any) -> dict[str, Any]:
    return {"id": number, "kinds": [], **other}


async def syncing(
    folder: Path, dsn: str, office: Office, scribe: Scribe, main: Callable[..., Awaitable[None]]
) -> None:
    """Do something in a process that delivers; `main` is given what walks the feed once."""
    plugins = Plugins({"office": post_office, "scribe": scribe})
    file = configuration(folder, dsn, office)
    settings = config.structure(config.read(file), plugins.connectors, environment={})

    async def inside(process: Process) -> None:
        async def sync() -> Result:
            job = process.config.jobs["office"]
            (result,) = await run_job(process, job, mode="full", wait_seconds=0.0)
            return result

        async with background.opened(process) as delivering, trio.open_nursery() as nursery:
            nursery.start_soon(delivering.run)
            await main(sync)
            delivering.retire()

    facts.execute(dsn, LEDGER)
    await Root(settings, plugins, Observer()).run(inside)


async def test_what_a_plugin_that_writes_itself_says_follows_is_delivered(
    dsn: str, tmp_path: Path
) -> None:
    async with open_office(thing(1), thing(2, text="b", kinds=["parcel"])) as office:

        async def main(sync: Callable[[], Awaitable[Result]]) -> None:
            assert (await sync()).verdict == "complete"
            await seen("parcels", lambda: set(office.taken) == {"new-1", "new-2", "parcel-2"})
            office.things.append(thing(3))
            assert (await sync()).verdict == "complete"
            await seen("a parcel", lambda: "new-3" in office.taken)

        await syncing(tmp_path, dsn, office, Scribe(), main)

    assert set(office.sent.values()) == {1}, "rows that were there had none"
    assert office.taken["new-2"] == {"text": "b"}
    query = "SELECT source, row_version FROM syncd.effect WHERE key LIKE 'new-%%' GROUP BY 1, 2"
    assert facts.rows(dsn, query) == [{"source": "office.things", "row_version": None}]
    assert facts.rows(dsn, "SELECT sum(inserted) AS n FROM syncd.run") == [{"n": 3}]


async def test_effects_that_a_plugin_does_not_declare_write_nothing(
    dsn: str, tmp_path: Path
) -> None:
    async with open_office(thing(1)) as office:

        async def main(sync: Callable[[], Awaitable[Result]]) -> None:
            result = await sync()
            assert result.verdict == "failed"
            assert (
                "write of stream things: it does not declare effects of kind 'office.parcel'"
                in result.message
            )

        await syncing(tmp_path, dsn, office, Scribe(declares=()), main)

    assert facts.rows(dsn, "SELECT FROM ledger") == []
    assert facts.rows(dsn, "SELECT FROM syncd.effect") == []


@pytest.mark.parametrize(
    ("effect", "said"),
    [
        ("garbage", "str is no Effect"),
        (Effect(PARCEL.name, "", None), "an effect's key is printable text"),
        (Effect(PARCEL.name, "k", object()), "the payload of an effect"),  # type: ignore[arg-type]
        (Effect("office.letter", "k", None), "it does not declare effects of kind"),
    ],
)
def test_effects_that_cannot_be_are_named_as_the_plugins(effect: Any, said: str, dsn: str) -> None:
    writer = Writer(lambda _, __: Written(effects=[effect]), effects=(PARCEL.name,))

    with psycopg.connect(dsn) as connection:
        connection.execute("SELECT 1")  # in a transaction, as a batch is
        with pytest.raises(PluginError, match=said) as error:
            written(writer, connection, [], where="office[default] things", stream="things")

    assert "write of stream things" in error.value.what or "payload" in error.value.what


def test_sums_of_what_was_written_keep_counts_and_effects() -> None:
    one, other = Effect(PARCEL.name, "1", None), Effect(PARCEL.name, "2", None)

    both = Written(1, 2, effects=[one]) + Written(1, 0, 3, 4, effects=[other])

    assert both.counts == {"inserted": 2, "updated": 2, "unchanged": 3, "stale": 4}
    assert list(both.effects) == [one, other]
