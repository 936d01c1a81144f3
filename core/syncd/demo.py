"""The parts of `syncd demo`: a simulated upstream, a database to play in, two full passes.

Nothing here is a shortcut: the configuration is text that is parsed like any operator's, and jobs
run as `syncd run` runs them. The simulator is found by its name, as a program of its own.
"""

from __future__ import annotations

import fcntl
import importlib.util
import json
import secrets
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import IO, Final, Literal

import attrs
import trio

from syncd.daemon import Process
from syncd.embedded.place import make_home
from syncd.errors import ConfigError, StoreUnavailable, Unavailable
from syncd.jobs import run_job
from syncd.store.hops import Connection
from syncd.verdicts import Result

INSTANCE: Final = "cars"
JOB: Final = "cars"
CHANGED_SHARE: Final = 0.01

SIMULATOR: Final = "syncd_cars.simulator"
BURST: Final = 4  # as many as the connector has in flight: it need not be punctual to 1/100 s
LISTEN_SECONDS: Final = 30.0  # it makes its cars before it listens: 190,000 take under a second
CHANGE_SECONDS: Final = 60.0
END_SECONDS: Final = 5.0
WAIT_SECONDS: Final = 30.0  # for pages that must wait; nobody else holds the partition

_LOCK: Final = "demo.lock"  # also the mark that the database beside it is a demo's


def config_text(
    *,
    base_url: str,
    api_key: str,
    data_dir: Path,
    requests_per_second: float,
    log_format: Literal["auto", "text"],
) -> str:
    """Write the configuration of the demo as an operator would."""
    return f"""\
[daemon]
data_dir = {_toml(str(data_dir))}

[log]
format = "{log_format}"

[connectors.{INSTANCE}]
base_url = {_toml(base_url)}
api_key = {_toml(api_key)}
requests_per_second = {requests_per_second!r}
totals = true
priority_brands = []

[jobs.{JOB}]
connector = "{INSTANCE}"
streams = ["cars", "lots"]
"""


def _toml(text: str) -> str:
    """Write a text as TOML; `${` would begin a variable."""
    return json.dumps(text.replace("${", "$${"), ensure_ascii=False)


# --- The upstream ---------------------------------------------------------------------------------


@attrs.frozen
class Upstream:
    """A simulator that runs, and the key that it accepts."""

    base_url: str
    api_key: str

    def change(self, share: float) -> int:
        """Change a share of the cars; answer with how many. Blocking.

        Raises: `Unavailable` where the simulator does not do it.
        """
        request = urllib.request.Request(  # noqa: S310  # our own simulator's address
            f"{self.base_url}/_simulator/change",
            data=json.dumps({"share": share}).encode(),
            headers={"x-api-key": self.api_key, "content-type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=CHANGE_SECONDS) as answer:  # noqa: S310
                return len(json.load(answer)["ids"])
        except OSError as error:
            raise Unavailable(
                "the simulator", f"did not change its cars: {error}", "run the demo again"
            ) from error


@asynccontextmanager
async def simulator(
    *, cars: int, requests_per_second: float, weight: Literal["demo", "real"]
) -> AsyncIterator[Upstream]:
    """Run the simulated upstream as a process of its own, for as long as the block lasts.

    It ends with us, however we end: it reads our end of a pipe.

    Raises: `ConfigError` where it is not installed, `Unavailable` where it does not listen.
    """
    if importlib.util.find_spec(SIMULATOR.partition(".")[0]) is None:
        raise ConfigError(
            "syncd demo",
            f"the simulator {SIMULATOR} is not installed",
            "install syncd with its bundled plugins",
        )
    api_key = secrets.token_hex(16)
    command = [sys.executable, "-m", SIMULATOR, "--port", "0", "--seed", "1"]
    command += ["--cars", str(cars), "--rate", repr(requests_per_second), "--weight", weight]
    command += ["--burst", str(BURST), "--api-key", api_key, "--control", "--exit-with-parent"]
    with tempfile.TemporaryFile() as complaints:
        process = await trio.lowlevel.open_process(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=complaints,
            start_new_session=True,  # a Ctrl-C drains us, and a drain still fetches
        )
        try:
            yield Upstream(await _base_url(process, complaints), api_key)
        finally:
            with trio.move_on_after(2 * END_SECONDS, shield=True):
                await _end(process)


async def _base_url(process: trio.Process, complaints: IO[bytes]) -> str:
    """Wait for the line that says where it listens."""
    assert process.stdout is not None
    line = b""
    with trio.move_on_after(LISTEN_SECONDS):
        async for part in process.stdout:
            line += part
            if b"\n" in line:
                address: str = json.loads(line)["base_url"]
                return address
    complaints.seek(0)
    said = complaints.read().decode(errors="replace").strip().splitlines()
    raise Unavailable(
        "the simulator",
        f"does not listen: {said[-1] if said else 'it said nothing'}",
        f"try `{sys.executable} -m {SIMULATOR} --api-key demo`",
    )


async def _end(process: trio.Process) -> None:
    """Stop it: by the end of its input, and after a while for good."""
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            await stream.aclose()
    with trio.move_on_after(END_SECONDS):
        await process.wait()
    if process.returncode is None:
        process.kill()
        await process.wait()


# --- The database ---------------------------------------------------------------------------------


@contextmanager
def playground(data_dir: Path) -> Iterator[Path]:
    """Have a data directory for ourselves, and make sure that nothing in it is anyone's but ours.

    Raises: `ConfigError` where it holds a database that no demo made, `StoreUnavailable` where
    another demo uses it.
    """
    taken = data_dir / "postgresql"
    if taken.exists() and not (data_dir / _LOCK).exists():
        raise ConfigError(
            "syncd demo",
            f"{taken} was not made by a demo, which would empty it",
            "name another directory with --data-dir",
        )
    make_home(data_dir)
    with (data_dir / _LOCK).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StoreUnavailable(
                "syncd demo",
                f"another demo is running in {data_dir}",
                "wait for it, or name another directory with --data-dir",
            ) from error
        yield data_dir.resolve()


def empty(connection: Connection) -> bool:
    """Drop what an earlier demo left; say whether there was anything."""
    there = connection.execute(
        "SELECT 1 AS one FROM pg_namespace WHERE nspname IN ('syncd', %s)", (INSTANCE,)
    ).fetchone()
    connection.execute(f'DROP SCHEMA IF EXISTS "{INSTANCE}", syncd CASCADE')
    return there is not None


# --- The passes -----------------------------------------------------------------------------------


async def full_pass(process: Process) -> list[Result]:
    """Walk everything, as `syncd run --full` does."""
    job = process.config.jobs[JOB]
    return await run_job(process, job, mode="full", wait_seconds=WAIT_SECONDS)


async def change(upstream: Upstream) -> int:
    """Let the upstream change, as it does between two passes; answer with how many cars."""
    return await trio.to_thread.run_sync(upstream.change, CHANGED_SHARE)
