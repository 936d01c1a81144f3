"""How each program is told what to load, and run."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import attrs
import measure
from databases import Server
from layouts import PATHS
from loads import Load
from measure import Cost
from page_server import PageServer

HERE = Path(__file__).parent
PEERS = HERE.parents[1] / ".venv-peers" / "bin" / "python"
TIMEOUT_SECONDS = 1800.0  # 1,000,000 records at 600 a second
TIMES_IN_FLIGHT = 8  # as many as the yardstick has
PROFILE_SECONDS = 30.0  # for the profiler to write what it saw, once the program has ended
# The connector paces by the account's limit; this one allows whatever comes.
UNLIMITED = 1_000_000.0


class Failed(Exception):
    """A program did not end well."""


@attrs.frozen
class Ran:
    """What a program cost, and what it told of itself."""

    cost: Cost
    told: dict[str, Any]


@attrs.frozen
class Bench:
    """Where everything is."""

    folder: Path
    database: Server
    pages: PageServer


def run(bench: Bench, load: Load, pages_name: str, *, profile: Path | None = None) -> Ran:
    """Run the program of a load to its end.

    Raises: `Failed` with the end of what it said.
    """
    folder = bench.folder / "programs"
    folder.mkdir(parents=True, exist_ok=True)
    told, said = folder / f"{load.program}.told", folder / f"{load.program}.said"
    told.unlink(missing_ok=True)
    url = f"{bench.pages.url}/{pages_name}"
    order = folder / f"{load.program}.order"
    python, program = sys.executable, HERE / "yardstick.py"
    if load.program == "syncd":
        order, program = order.with_suffix(".toml"), HERE / "syncd_program.py"
        order.write_text(configuration(load, url, bench.database.dsn(load.sequence)))
    elif load.program == "dlt":
        if not PEERS.exists():
            raise Failed(f"{PEERS} is missing; `make bench-peers` makes it")
        python, program = str(PEERS), HERE / "peer_dlt.py"
        order.write_text(json.dumps(peer_order(load, url, bench)))
    else:
        order.write_text(json.dumps(yardstick_order(load, url, bench.database)))
    with ExitStack() as stack:
        beside = None
        if profile is not None and load.program == "syncd":
            beside = stack.enter_context(Profiler(profile)).watch
        cost = measure.run(
            [python, str(program), str(order), str(told)],
            said=said,
            database=bench.database.postmaster,
            server=bench.pages.pid,
            timeout_seconds=TIMEOUT_SECONDS,
            beside=beside,
        )
    if cost.code != 0 or not told.exists():
        raise Failed(f"{load}: exit code {cost.code}\n{said.read_text()[-4000:]}")
    return Ran(cost, json.loads(told.read_text()))


def configuration(load: Load, url: str, dsn: str) -> str:
    """Write syncd's configuration as an operator would: what is not said has its default."""
    own = ""
    if load.shape == "cars":
        own = f'api_key = "of-no-value"\nrequests_per_second = {UNLIMITED}\npriority_brands = []\n'
    return f"""
[database]
url = '''{dsn}'''
[connectors.{load.shape}]
base_url = "{url}"
per_page = {load.per_page}
in_flight = {TIMES_IN_FLIGHT}
{own}
[jobs.{load.shape}]
connector = "{load.shape}"
mode = "full"
streams = {json.dumps(STREAMS[load.shape])}
"""


STREAMS = {"plain": ["records"], "viewed": ["records"], "cars": ["cars", "lots"]}


def yardstick_order(load: Load, url: str, database: Server) -> dict[str, Any]:
    """Say what the yardstick is to do."""
    return {
        "url": f"{url}/{PATHS[load.shape]}",
        "shape": load.shape,
        "per_page": load.per_page,
        "dsn": database.options(load.sequence),
        "distinct": load.program.endswith("-distinct"),
    }


def peer_order(load: Load, url: str, bench: Bench) -> dict[str, Any]:
    """Say what another program is to do, and where it may keep its state."""
    return yardstick_order(load, url, bench.database) | {
        "phase": load.phase,
        "folder": str(bench.folder / "dlt" / load.sequence),
    }


class Profiler:
    """Records the stacks of a process until it ends, as collapsed text."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._process: subprocess.Popen[bytes] | None = None

    def watch(self, pid: int) -> None:
        py_spy = str(Path(sys.executable).with_name("py-spy"))
        if not Path(py_spy).exists():
            raise Failed(f"{py_spy} is missing; install the group bench")
        command = [py_spy, "record", "--format", "raw", "--rate", "200", "--gil"]
        self._process = subprocess.Popen(
            [*command, "--output", str(self._file), "--pid", str(pid)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is None:
            return
        try:
            self._process.wait(PROFILE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
