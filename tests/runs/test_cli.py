"""The console program as an operator meets it: a process of its own, its exit code, its words."""

from __future__ import annotations

import os
import signal
import subprocess
import termios
import uuid
from contextlib import suppress
from pathlib import Path

import attrs
import click
import msgspec
import psycopg
import pytest
import trio
from console import ENVIRONMENT, SYNCD, closed_port, configured, running, syncd
from processes import DEADLINE_SECONDS, seen
from psycopg.conninfo import make_conninfo
from upstream import API_KEY, Shape, Upstream, serving

from syncd.cli.commands import cli, invoke
from syncd_cars.simulator_faults import Fault, FaultKind

SMALL = Shape(cars=600, per_page=200, requests_per_second=100.0)
SLOW = Shape(cars=600, per_page=20, requests_per_second=10.0)  # 30 pages: three seconds
ENDLESS = attrs.evolve(SLOW, requests_per_second=0.2)  # longer than any test waits


def count(dsn: str, table: str) -> int:
    with psycopg.connect(dsn) as connection:
        row = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
    assert row is not None
    return int(row[0])


def there(dsn: str, table: str) -> bool:
    with psycopg.connect(dsn) as connection:
        row = connection.execute("SELECT to_regclass(%s) IS NOT NULL", (table,)).fetchone()
    assert row is not None
    return bool(row[0])


# --- limits ---------------------------------------------------------------------------------------


async def test_how_a_run_keeps_to_its_quota_is_told_by_any_process(
    dsn: str, tmp_path: Path
) -> None:
    async with serving(ENDLESS) as upstream:
        file = configured(upstream, tmp_path, dsn)
        async with running("-c", file, "run", "cars", folder=tmp_path) as program:
            await seen("a note of it", lambda: there(dsn, "cars.cars") and noted(dsn))
            as_json = await syncd("-c", file, "limits", "--json", folder=tmp_path)
            table = await syncd("-c", file, "limits", folder=tmp_path)
            program.process.send_signal(signal.SIGTERM)
            await program.ended()
        after = await syncd("-c", file, "limits", folder=tmp_path)

    (row,) = as_json.json()
    (window,) = row["windows"]
    assert (row["key"], row["refused"], row["stale"]) == ("cars:account", 0, False)
    assert window["most"] / window["per_seconds"] == ENDLESS.requests_per_second
    assert 0 < row["sent"] < ENDLESS.cars / ENDLESS.per_page
    assert "cars:account" in table.out
    assert "no process" in after.out, "who ends takes its notes along"


def noted(dsn: str) -> bool:
    return bool(count(dsn, "syncd.quota_usage"))


# --- run ------------------------------------------------------------------------------------------


async def test_a_run_walks_everything_and_the_history_knows_it(dsn: str, tmp_path: Path) -> None:
    async with serving(SMALL) as upstream:
        file = configured(upstream, tmp_path, dsn)

        ran = await syncd("-c", file, "run", "cars", "--json", folder=tmp_path)
        text = configured(upstream, tmp_path, dsn, log='format = "text"')
        again = await syncd("-c", text, "run", "cars", "--full", folder=tmp_path)
        known = await syncd("-c", file, "runs", "cars", "--json", folder=tmp_path)
        table = await syncd("-c", file, "runs", "--limit", "1", folder=tmp_path)

    partition = ran.json()["jobs"][0]["partitions"][0]
    assert (ran.code, ran.json()["exit_code"], partition["status"]) == (0, 0, "complete")
    assert partition["inserted"] == count(dsn, "cars.cars") + count(dsn, "cars.lots")
    assert count(dsn, "cars.cars") == SMALL.cars
    assert ran.words() == []  # who reads JSON lines gets nothing in between
    assert ran.events("run.finished")[0]["records"] == partition["records"]
    headings, cells = (line.split() for line in again.out.splitlines())
    row = dict(zip(headings[:9], cells[:9], strict=True))
    assert again.code == 0
    assert (row["status"], row["inserted"], row["updated"]) == ("complete", "0", "0")
    assert "cars.cars: begins full pass 2" in again.err
    assert [run["status"] for run in known.json()] == ["complete", "complete"]
    assert [run["inserted"] for run in known.json()] == [0, partition["inserted"]]
    assert table.out.splitlines()[0].startswith("started")
    assert "full 2" in table.out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_drains_and_the_next_run_goes_on(
    number: signal.Signals, dsn: str, tmp_path: Path
) -> None:
    async with serving(SLOW) as upstream:
        file = configured(upstream, tmp_path, dsn, log='level = "debug"')
        async with running("-c", file, "run", "cars", folder=tmp_path) as program:
            await program.event("batch.committed")
            program.process.send_signal(number)
            drained = await program.ended()
        before = count(dsn, "cars.cars") + count(dsn, "cars.lots")

        rest = await syncd("-c", file, "run", "cars", "--json", folder=tmp_path)

    assert drained.code == 75
    assert drained.events("drain.started")[0]["reason"] == number.name
    assert drained.words() == [
        "syncd: cars.cars: stopped before the end; run it again to go on where it stopped",
    ]
    assert (rest.code, rest.events("run.started")[0]["resumed"]) == (0, True)
    assert count(dsn, "cars.cars") == SLOW.cars
    inserted = rest.json()["jobs"][0]["partitions"][0]["inserted"]
    assert 0 < before == SLOW.cars + count(dsn, "cars.lots") - inserted


async def test_a_second_signal_stops_at_once(dsn: str, tmp_path: Path) -> None:
    async with serving(SMALL) as upstream:
        stalled = upstream.simulator.arm(Fault(kind=FaultKind.STALL, page=2))
        file = configured(upstream, tmp_path, dsn)
        async with running("-c", file, "run", "cars", folder=tmp_path) as program:
            await seen("the stalled page", lambda: stalled.fired)
            program.process.send_signal(signal.SIGINT)
            await program.event("drain.started")
            program.process.send_signal(signal.SIGINT)
            ended = await program.ended()

    assert ended.code == 75
    assert ended.words() == [
        "syncd: stopped at once; what was committed stays; run it again to go on"
    ]


async def test_a_partition_that_another_process_holds_is_waited_for_and_left(
    dsn: str, tmp_path: Path
) -> None:
    async with serving(ENDLESS) as upstream:
        json_file = configured(upstream, tmp_path, dsn)
        async with running("-c", json_file, "run", "cars", folder=tmp_path) as holder:
            await holder.event("run.started")
            text_file = configured(upstream, tmp_path, dsn, log='format = "text"')

            left = await syncd("-c", text_file, "run", "cars", "--wait", "500ms", folder=tmp_path)

    who = f"process {holder.process.pid} on "
    waiting = [line for line in left.words() if "waiting" in line]
    assert left.code == 75
    assert len(waiting) == 1
    assert who in waiting[0]
    assert left.words()[-1].startswith(f"syncd: cars.cars: {who}")
    assert left.words()[-1].endswith("; wait longer with --wait, or stop the other process")


async def test_the_worst_of_several_jobs_is_the_exit_code(dsn: str, tmp_path: Path) -> None:
    async with serving(SMALL) as upstream:
        file = configured(upstream, tmp_path, dsn)
        file.write_text(
            f"{file.read_text()}\n"
            "[connectors.gone]\n"
            'plugin = "cars"\n'
            'api_key = "none"\n'
            f'base_url = "http://127.0.0.1:{closed_port()}"\n'
            'priority_brands = ["Audi"]\n'
            '[jobs.gone]\nconnector = "gone"\nstreams = ["cars", "lots"]\n'
        )

        ran = await syncd("-c", file, "run", "gone", "cars", "--json", folder=tmp_path)

    gone, cars = ran.json()["jobs"]
    assert (gone["exit_code"], cars["exit_code"], ran.code) == (69, 0, 69)
    assert len(ran.words()) == 1
    assert "Connection refused" in ran.words()[0]
    assert count(dsn, "cars.cars") == SMALL.cars


async def test_a_terminal_gets_a_table_that_lives_and_a_summary(dsn: str, tmp_path: Path) -> None:
    async with serving(attrs.evolve(SLOW, requests_per_second=15.0)) as upstream:
        file = configured(upstream, tmp_path, dsn)
        master, slave = os.openpty()
        termios.tcsetwinsize(slave, (30, 140))
        environment = ENVIRONMENT | {"TERM": "xterm"}
        shown = bytearray()
        with trio.fail_after(DEADLINE_SECONDS):
            program = await trio.lowlevel.open_process(
                [SYNCD, "-c", str(file), "run", "cars"],
                stdout=subprocess.PIPE,
                stderr=slave,
                env=environment,
            )
            os.close(slave)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_gather, master, shown)
                assert program.stdout is not None
                out = b"".join([part async for part in program.stdout])
                await program.wait()
                nursery.cancel_scope.cancel()

    assert program.returncode == 0
    for word in ("records/s", "in flight", "cars.cars", "full pass 1"):
        assert word.encode() in shown
    assert b"run.progress" not in shown
    assert out.split()[:2] == [b"partition", b"status"]


async def _gather(terminal: int, into: bytearray) -> None:
    async with trio.lowlevel.FdStream(terminal) as stream:
        with suppress(trio.BrokenResourceError):  # EIO: how Linux says that nobody writes any more
            while part := await stream.receive_some():
                into += part


# --- What is wrong --------------------------------------------------------------------------------


async def test_a_wrong_key_fails_parks_and_is_resumed(dsn: str, tmp_path: Path) -> None:
    wrong = "a-wrong-key-that-nobody-may-see"
    async with serving(SMALL) as upstream:
        file = configured(upstream, tmp_path, dsn)
        text = file.read_text()
        file.write_text(text.replace(API_KEY, wrong))

        checked = await syncd("-c", file, "check", folder=tmp_path)
        ran = await syncd("-c", file, "run", "cars", folder=tmp_path)
        parked = await syncd("-c", file, "run", "cars", folder=tmp_path)
        file.write_text(text)
        resumed = await syncd("-c", file, "resume", "cars", folder=tmp_path)
        mended = await syncd("-c", file, "run", "cars", folder=tmp_path)

    assert (checked.code, ran.code, parked.code) == (1, 1, 1)
    assert [each for each in checked.out.splitlines() if each.startswith("FAILED  account cars")]
    assert len(ran.words()) == 1
    assert "401" in ran.words()[0]
    assert "parked: " in parked.words()[0]
    assert "`syncd resume" in parked.words()[0]
    assert wrong not in "".join(each.out + each.err for each in (checked, ran, parked))
    assert (resumed.code, resumed.out) == (0, "resumed: 1\n")
    assert mended.code == 0


async def test_an_unreachable_database_is_one_line_and_69(tmp_path: Path) -> None:
    port = closed_port()
    dsn = f"postgresql://me:se-cr-et@127.0.0.1:{port}/none"
    async with serving(SMALL) as upstream:
        file = configured(upstream, tmp_path, dsn)

        ran = await syncd("-c", file, "run", "cars", folder=tmp_path)
        checked = await syncd("-c", file, "check", "--json", folder=tmp_path)

    assert (ran.code, checked.code) == (69, 69)
    assert len(ran.words()) == 1
    assert ran.words()[0].startswith("syncd: database: ")
    assert "se-cr-et" not in ran.err + checked.out
    failed = [each["what"] for each in checked.json()["checks"] if not each["ok"]]
    assert failed == ["database"]


def test_all_problems_of_a_configuration_are_listed_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "wrong.toml"
    file.write_text('[daemon]\nlease = "soon"\n[connectors.x]\nplugin = "carz"\n[logg]\n')

    codes = invoke(["-c", str(file), "run", "cars"]), invoke(["-c", str(file), "check"])

    captured = capsys.readouterr()
    assert codes == (78, 78)
    first, *problems = captured.err.splitlines()
    assert first == f"syncd: {file}: 3 problems"
    assert [line.split(":")[0].strip() for line in problems] == [
        "logg",
        "daemon.lease",
        "connectors.x.plugin",
    ]
    assert "did you mean 'cars'?" in problems[2]
    assert len([line for line in captured.out.splitlines() if line.startswith("FAILED")]) == 3


WRONG_USAGE = [
    (["nope"], "No such command"),
    (["run"], "Missing argument"),
    (["run", "carz"], "configured: cars (did you mean 'cars'?)"),
    (["run", "cars", "--wait", "soon"], "wanted a duration"),
    (["runs", "--limit", "0"], "--limit"),
    (["resume", "carz"], "not configured"),
    (["resume", "cars", "--account", "x"], "there: default"),
    (["demo", "--cars", "none"], "--cars"),
    (["psql"], "names a database by url"),
]


@pytest.mark.parametrize(("words", "says"), WRONG_USAGE)
def test_wrong_usage_is_64(
    words: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere = Upstream(None, SMALL, "http://127.0.0.1:1")  # type: ignore[arg-type]  # never asked
    file = configured(nowhere, tmp_path, "host=127.0.0.1 port=1")

    code = invoke(["-c", str(file), *words])

    captured = capsys.readouterr()
    assert (code, captured.out) == (64, "")
    assert says in captured.err


def names_of(group: click.Group) -> list[str]:
    """Return all commands as they are typed."""
    below = [
        f"{name} {inner}"
        for name, command in group.commands.items()
        if isinstance(command, click.Group)
        for inner in command.commands
    ]
    return [*group.commands, *below]


@pytest.mark.parametrize("name", ["", *names_of(cli)])
def test_help_teaches_with_examples(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = invoke([*name.split(), "--help"])

    said = capsys.readouterr().out
    assert code == 0
    assert f"  syncd {name or 'demo'}" in said
    assert all(len(line) <= 100 for line in said.splitlines())


# --- check, migrate, plugins ----------------------------------------------------------------------


async def test_a_check_foresees_everything_and_writes_nothing(dsn: str, tmp_path: Path) -> None:
    async with serving(SMALL) as upstream:
        file = configured(upstream, tmp_path, dsn)

        before = await syncd("-c", file, "check", "--json", folder=tmp_path)
        written = there(dsn, "cars.cars")
        await syncd("-c", file, "run", "cars", folder=tmp_path)
        after = await syncd("-c", file, "check", folder=tmp_path)

    found = {each["what"]: each for each in before.json()["checks"]}
    assert (before.code, after.code, written) == (0, 0, False)
    assert found["table cars.cars"]["details"][0].startswith("CREATE SCHEMA")
    assert found["job cars: cars.cars"]["said"] == (
        "the next pass is full (the first pass of a partition is full)"
    )
    assert "accepted" in found["account cars.default"]["said"]
    assert "enabled" in found["plugin cars"]["said"]
    assert "ok      table cars.cars: fits" in after.out.splitlines()
    assert "the next pass is incremental since " in after.out


async def test_control_tables_are_migrated_only_when_asked(server: str, tmp_path: Path) -> None:
    name = f"bare_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(f'CREATE DATABASE "{name}"')
    bare = make_conninfo(server, dbname=name)
    async with serving(SMALL) as upstream:
        file = configured(upstream, tmp_path, bare)

        ran = await syncd("-c", file, "run", "cars", folder=tmp_path)
        checked = await syncd("-c", file, "check", folder=tmp_path)
        untouched = not there(bare, "syncd.migration")
        migrated = await syncd("-c", file, "migrate", "--json", folder=tmp_path)
        again = await syncd("-c", file, "migrate", folder=tmp_path)

    assert (ran.code, checked.code, untouched) == (78, 78, True)
    assert ran.words()[0].endswith("run `syncd migrate`")
    assert (migrated.code, again.code) == (0, 0)
    assert migrated.json()["applied"][0].startswith("0001 ")
    assert again.out.startswith("nothing to do")
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def test_plugins_are_listed_with_and_without_a_configuration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "some.toml"
    file.write_text('[connectors.a]\nplugin = "cars"\n[connectors.b]\nplugin = "gone"\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SYNCD_CONFIG", raising=False)

    without, table = invoke(["plugins"]), capsys.readouterr().out
    listed, text = invoke(["-c", str(file), "plugins", "--json"]), capsys.readouterr().out
    named = invoke(["-c", "none.toml", "plugins"])

    rows = {row["name"]: row for row in msgspec.json.decode(text)}
    assert (without, listed, named) == (0, 0, 78)
    assert table.splitlines()[1].split() == ["cars", "syncd", "no"]
    assert (rows["cars"]["enabled"], rows["cars"]["distribution"]) == (True, "syncd")
    assert (rows["gone"]["enabled"], rows["gone"]["distribution"]) == (True, None)


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["--version"]) == 0
    assert capsys.readouterr().out.split()[0] == "syncd"
