"""A bad configuration changes nothing while a daemon runs, and is refused when it starts (P51)."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import database_facts as facts
import pytest
from console import Running, configured, running
from mall import Mall, configuration
from processes import Programs, seen
from upstream import API_KEY, Shape, serving

from syncd.cli.commands import invoke

SMALL = Shape(cars=20, per_page=20, requests_per_second=100.0)
CANARY = "never-to-be-shown"

# What is done to a sound configuration, and what the operator is told of it.
BAD: dict[str, tuple[Callable[[str], str], tuple[str, ...]]] = {
    "a syntax error": (lambda text: text + "\n[jobs.cars\n", ("line ", "column ")),
    "an unknown key": (lambda text: text + "\n[jobs.more]\nconnektor = 'cars'\n", ("connektor",)),
    "a wrong type": (
        lambda text: text.replace("in_flight = 2", "in_flight = 'two'"),
        ("connectors.cars.in_flight",),
    ),
    "a secret's file that is not there": (
        lambda text: text.replace(f'"{API_KEY}"', '{ file = "gone.key" }'),
        ("connectors.cars.api_key.file", "cannot be read"),
    ),
    "a secret of the wrong kind": (
        lambda text: text.replace(f'"{API_KEY}"', f'["{CANARY}"]'),
        ("connectors.cars.api_key",),
    ),
    "a plugin that is not installed": (
        lambda text: text + "\n[connectors.other]\nplugin = 'nobody'\n",
        ("nobody",),
    ),
    "a job of a connector that is gone": (
        lambda text: text + "\n[jobs.more]\nconnector = 'gone'\n",
        ("jobs.more", "gone"),
    ),
}
# What only opening the tables tells.
UNFIT = "CREATE SCHEMA other; CREATE VIEW other.cars AS SELECT 1 AS id"
SECOND = (
    f"\n[connectors.other]\nplugin = 'cars'\napi_key = '{API_KEY}'\nbase_url = 'http://127.0.0.1:9'\n"
    "[jobs.other]\nconnector = 'other'\nstreams = ['cars']\n"
)


def write(file: Path, text: str) -> None:
    file.write_text(text)


async def rejected(daemon: Running, file: Path, text: str) -> str:
    """Reload with this text; answer with what the daemon said of it."""
    before = len(daemon.now().events("config.rejected"))
    write(file, text)
    daemon.process.send_signal(signal.SIGHUP)
    said = await seen(
        "config.rejected",
        lambda: daemon.now().events("config.rejected")[before:],
        told=lambda: daemon.now().err,
    )
    found: str = said[0]["error"]
    return found


async def test_each_bad_reload_is_told_and_the_old_generation_goes_on(
    dsn: str, tmp_path: Path
) -> None:
    async with serving(SMALL) as upstream:
        file = configured(upstream, tmp_path, dsn)
        sound = file.read_text()
        async with running("-c", file, "serve", folder=tmp_path) as daemon:
            await daemon.event("daemon.ready")
            for name, (spoil, telling) in BAD.items():
                said = await rejected(daemon, file, spoil(sound))
                assert all(part in said for part in telling), (name, said)
                assert spoil(sound) != sound
            moved = await rejected(daemon, file, sound.replace('lease = "30s"', 'lease = "40s"'))
            assert "[daemon]" in moved
            facts.execute(dsn, UNFIT)
            assert "other.cars" in await rejected(daemon, file, sound + SECOND)
            file.unlink()
            daemon.process.send_signal(signal.SIGHUP)
            await seen("the file is missed", lambda: "cannot be read" in daemon.now().err)

            facts.execute(dsn, "UPDATE syncd.job SET asked = 'trigger'")
            await daemon.event("round.finished")
            file.write_text(sound)
            daemon.process.send_signal(signal.SIGHUP)
            await daemon.event("config.reloaded")
            daemon.process.send_signal(signal.SIGTERM)
            ended = await daemon.ended()

    assert ended.code == 0, ended.err
    assert len(ended.events("daemon.ready")) == 1
    assert ended.events("task.restarted") + ended.events("task.failed") == []
    assert CANARY not in ended.out + ended.err
    assert API_KEY not in ended.out + ended.err


@pytest.mark.parametrize("name", BAD)
async def test_a_daemon_does_not_start_with_it(
    name: str, dsn: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with serving(SMALL) as upstream:
        file = configured(upstream, tmp_path, dsn)
    spoil, telling = BAD[name]
    file.write_text(spoil(file.read_text()))

    code = invoke(["-c", str(file), "serve"])

    said = capsys.readouterr().err
    assert code == 78, said
    assert all(part in said for part in telling), said
    assert CANARY not in said
    assert API_KEY not in said


@pytest.mark.parametrize("removed", [0, 5], ids=["at work", "waiting for its turn"])
async def test_an_account_that_is_removed_is_let_go(
    removed: int, dsn: str, programs: Programs, tmp_path: Path
) -> None:
    mall = Mall(6, orders=100_000)
    mall.pause_seconds = 0.05
    stores = list(mall.sold)
    gone = stores[removed]
    async with mall.serve() as url:
        config = configuration(tmp_path, dsn, url, stores=stores)
        daemon = programs.start(config, serves=True)
        await daemon.event("batch.committed", times=8)

        configuration(tmp_path, dsn, url, stores=[s for s in stores if s != gone])
        daemon.send(signal.SIGHUP)
        await daemon.event("config.reloaded")
        mall.sold = dict.fromkeys(stores, 5)  # what runs ends with its next page
        await daemon.event("round.finished")
        facts.execute(dsn, "UPDATE syncd.job SET asked = 'trigger'")
        *_, second = await daemon.event("round.finished", times=2)
        asked = mall.asked[gone, 1]
        facts.execute(dsn, "UPDATE syncd.job SET asked = 'trigger'")
        await daemon.event("round.finished", times=3)
        daemon.send(signal.SIGTERM)

        assert await daemon.ended() == 0, daemon.said()
    assert (second["partitions"], second["status"]) == (5, "complete")
    assert mall.asked[gone, 1] == asked, "nobody asks for it any more"
    kept = facts.rows(dsn, "SELECT 1 FROM mall.orders WHERE account_id = %s", gone)
    assert bool(kept) == (removed == 0), "its rows stay"
    free = "SELECT token, job FROM syncd.partition WHERE account = %s"
    assert facts.rows(dsn, free, gone) == [{"token": None, "job": None}]
    assert daemon.events("task.failed") == []
    runs = facts.rows(dsn, "SELECT 1 FROM syncd.run")
    assert len(runs) < 40, "nor is it claimed again and again"
