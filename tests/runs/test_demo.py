"""`syncd demo` and `syncd psql`, from the command line to the tables they leave."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from processes import DEADLINE_SECONDS, seen

from syncd import demo
from syncd.cli.demonstrating import Wanted
from syncd.config import parse
from syncd.embedded import unprivileged
from syncd.errors import ConfigError, Unavailable

SYNCD = str(Path(sys.executable).with_name("syncd"))
ENVIRONMENT = {
    name: value for name, value in os.environ.items() if name in {"PATH", "LANG", "PYTHONPATH"}
}
CARS = 3000
ALONE = [SYNCD, "demo", "--only", "cars"]


@pytest.fixture(scope="module")
def data_dir() -> Iterator[Path]:
    """A directory that the embedded server's user can reach, also where root runs the tests."""
    folder = Path(tempfile.mkdtemp(prefix="syncd-demo-"))
    if os.geteuid() == 0:
        unprivileged.give(folder, unprivileged.choose(folder))
    yield folder
    shutil.rmtree(folder)


def syncd(*words: str | Path) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [SYNCD, *map(str, words)],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        timeout=DEADLINE_SECONDS * 3,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return done


def asked(data_dir: Path, query: str) -> Any:
    """Ask the demo's database, through `syncd psql`."""
    done = syncd("psql", "--data-dir", data_dir, "-Atc", query)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def nobody_serves(data_dir: Path, cars: int) -> bool:
    """Whether the embedded server has ended, and the simulator of so many cars with it."""
    sockets = (data_dir / "postgresql" / "socket").glob(".s.PGSQL.*")
    simulator = f"--cars\0{cars}\0".encode()
    return not any(sockets) and not any(
        simulator in command_of(each) for each in Path("/proc").glob("[0-9]*/cmdline")
    )


def command_of(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except (FileNotFoundError, ProcessLookupError):  # it has ended since it was listed
        return b""


def test_the_demo_tells_its_story_and_leaves_its_tables(data_dir: Path) -> None:
    done = syncd("demo", "--cars", str(CARS), "--data-dir", data_dir, "--json")

    told = msgspec.json.decode(done.stdout)["passes"]
    first, second = (each["jobs"]["cars"] for each in told)
    assert (done.returncode, first["status"], second["status"]) == (0, "complete", "complete")
    assert (first["updated"], first["unchanged"]) == (0, 0)
    assert first["inserted"] == int(
        asked(
            data_dir, "SELECT (SELECT count(*) FROM cars.cars) + (SELECT count(*) FROM cars.lots)"
        )
    )
    assert second["inserted"] == 0
    assert CARS / 200 < second["updated"] < CARS / 25  # 1 % of the cars, and lots of theirs
    assert second["updated"] + second["unchanged"] == first["inserted"]
    assert first["requests"] >= CARS / 1000
    assert all(
        each["status"] == "complete" and each["records"]
        for act in told
        for each in act["jobs"].values()
    )
    registered = [act["effects"]["ship24.register_tracker"] for act in told]
    shipments = int(asked(data_dir, "SELECT count(*) FROM front.shipments"))
    assert sum(each["enqueued"] for each in registered) == shipments > 100
    assert all(each["delivered"] == each["enqueued"] for each in registered)
    assert all((each["dead"], each["left_open"]) == (0, 0) for each in registered)
    tracked = (
        "SELECT count(*) FROM ship24.trackers t JOIN front.shipments s USING (tracking_number)"
    )
    known = int(asked(data_dir, tracked))
    assert registered[0]["delivered"] <= known <= shipments, "the second pass pulls them"
    webhooks = msgspec.json.decode(done.stdout)["webhooks"]
    assert webhooks["posted"] == webhooks["heard"] > webhooks["repeated"] > 0
    assert webhooks["inserted"] > 0, "an event that nobody has pulled yet"
    assert f"simulated upstreams: {', '.join(demo.simulators())}" in done.stderr
    assert f"{CARS:,} cars" in done.stderr
    assert "requests/s allowed (the real feed allows about 1 request/s)" in done.stderr
    assert nobody_serves(data_dir, CARS)


async def test_a_second_demo_begins_anew_and_keeps_its_server_up(data_dir: Path) -> None:
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        program = await trio.lowlevel.open_process(
            [*ALONE, "--cars", "1500", "--keep", "--data-dir", str(data_dir)],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            env=ENVIRONMENT,
        )
        await seen("its stay", lambda: b"Ctrl-C ends it" in os.pread(err.fileno(), 100_000, 0))
        kept = await trio.to_thread.run_sync(asked, data_dir, "SELECT count(*) FROM cars.cars")
        program.send_signal(signal.SIGINT)
        with trio.fail_after(DEADLINE_SECONDS):
            await program.wait()
        text, told = (os.pread(each.fileno(), 100_000, 0).decode() for each in (out, err))

    assert (program.returncode, kept) == (0, "1500")
    assert "what an earlier demo left there is dropped" in told
    assert text.index("first full pass") < text.index("second full pass")
    assert f"psql --data-dir {data_dir}" in text
    assert nobody_serves(data_dir, 1500)


async def test_ctrl_c_drains_the_demo_and_leaves_nothing_running(data_dir: Path) -> None:
    cars = 30_001  # of which 4 pages may leave at once: the others take a minute
    with tempfile.TemporaryFile() as err:
        program = await trio.lowlevel.open_process(
            [*ALONE, "--cars", str(cars), "--rate", "0.5", "--data-dir", str(data_dir)],
            stdout=subprocess.DEVNULL,
            stderr=err,
            env=ENVIRONMENT,
            start_new_session=True,
        )

        def said(words: bytes) -> bool:
            return words in os.pread(err.fileno(), 100_000, 0)

        await seen("the first pass", lambda: said(b"begins full pass 1"))
        assert not nobody_serves(data_dir, cars)
        refused = await trio.to_thread.run_sync(syncd, "demo", "--data-dir", data_dir)
        os.killpg(program.pid, signal.SIGINT)  # as a terminal does it: to all at once
        with trio.fail_after(DEADLINE_SECONDS):
            await program.wait()

        assert program.returncode == 75
        assert said(b"SIGINT: stopping")
        assert said(b"stopped before the end; run it again")
        assert not said(b"Traceback")
    assert refused.returncode == 69
    assert refused.stderr.startswith(f"syncd: syncd demo: another demo is running in {data_dir}; ")
    assert len(refused.stderr.splitlines()) == 1
    await seen("the end of the servers", lambda: nobody_serves(data_dir, cars))


def test_a_database_that_no_demo_made_is_never_emptied(tmp_path: Path) -> None:
    (tmp_path / "postgresql").mkdir()

    done = syncd("demo", "--data-dir", tmp_path)

    assert done.returncode == 78
    assert "was not made by a demo" in done.stderr
    assert list(tmp_path.iterdir()) == [tmp_path / "postgresql"]


def test_psql_says_where_there_is_no_database(tmp_path: Path) -> None:
    done = syncd("psql", "--data-dir", tmp_path)

    assert done.returncode == 78
    assert done.stderr.startswith(f"syncd: syncd psql: there is no embedded database in {tmp_path}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("folder", ["/a b/c", "/quo'te\"s", "/${HOME}/x", "/a\\b", "/ü"])
def test_the_demo_s_configuration_survives_any_directory(folder: str, tmp_path: Path) -> None:
    text = demo.config_text([], data_dir=Path(folder), log_format="text")

    raw = parse(text, file="demo", folder=tmp_path)

    written = raw.values["daemon"]["data_dir"]
    assert written.replace("$${", "${") == folder


def test_without_a_simulator_there_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "SIMULATORS", "syncd.simulators.of.nobody")

    with pytest.raises(ConfigError, match="no simulator is installed"):
        demo.simulators()


def test_one_connector_plays_alone_and_no_other_name_is_taken() -> None:
    assert [*demo.simulators(["ship24", "front", "ship24"])] == ["front", "ship24"]

    with pytest.raises(ConfigError, match=r"no simulator of carz is installed; there are cars, "):
        demo.simulators(["cars", "carz"])


def test_mail_registers_trackers_only_where_somebody_takes_them(tmp_path: Path) -> None:
    wanted = Wanted(
        cars=1,
        only=(),
        requests_per_second=1.0,
        weight="demo",
        data_dir=tmp_path,
        keep=False,
        as_json=False,
    )

    assert "--register-trackers" in wanted.options("front", {"front", "ship24"})
    assert "--register-trackers" not in wanted.options("front", {"front"})


async def test_a_simulator_that_cannot_start_says_why() -> None:
    with pytest.raises(Unavailable, match=r"the simulator of x: does not listen: .*No module"):
        async with demo.simulator("x", "syncd_of_nobody.simulator", []):
            pass


async def test_a_simulator_that_is_gone_does_not_change() -> None:
    async with demo.simulator("cars", "syncd_cars.simulator", ["--cars", "300"]) as upstream:
        assert await upstream.change(0.01) == 3
        upstream._process.kill()
        await upstream._process.wait()

        with pytest.raises(Unavailable, match="does not do as it is told: change"):
            await upstream.change(0.01)
