"""The parts of `syncd demo`: simulated upstreams, a database to play in, two full passes.

Nothing here is a shortcut: the configuration is text that is parsed like any operator's, and jobs
run as `syncd run` runs them. Simulators are entry points, and run as programs of their own
(`syncd.testing.run_simulator` says how they are spoken with).
"""

from __future__ import annotations

import csv
import fcntl
import importlib.util
import io
import json
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from importlib import metadata
from pathlib import Path
from typing import IO, Final, Literal

import attrs
import trio

from syncd.config import Job
from syncd.daemon import Process
from syncd.embedded.place import make_home
from syncd.errors import ConfigError, StoreUnavailable, Unavailable
from syncd.jobs import run_job
from syncd.store.hops import Connection
from syncd.testing import Posted
from syncd.verdicts import Result

CHANGED_SHARE: Final = 0.01

SIMULATORS: Final = "syncd.simulators"  # the group of entry points
LISTEN_SECONDS: Final = 30.0  # it makes its records before it listens: 190,000 cars take a second
CHANGE_SECONDS: Final = 60.0
END_SECONDS: Final = 5.0
WAIT_SECONDS: Final = 30.0  # for pages that must wait; nobody else holds the partitions

_LOCK: Final = "demo.lock"  # also the mark that the database beside it is a demo's


def config_text(
    upstreams: Iterable[Upstream], *, data_dir: Path, log_format: Literal["auto", "text"]
) -> str:
    """Write the configuration of the demo as an operator would."""
    head = f"""\
[daemon]
data_dir = {_toml(str(data_dir))}

[admin]
listen = "127.0.0.1:0"

[log]
format = "{log_format}"
"""
    return "\n".join([head, *(upstream.configuration for upstream in upstreams)])


def _toml(text: str) -> str:
    """Write a text as TOML; `${` would begin a variable."""
    return json.dumps(text.replace("${", "$${"), ensure_ascii=False)


# --- The upstreams --------------------------------------------------------------------------------


def simulators(only: Collection[str] = ()) -> dict[str, str]:
    """Return the modules of the simulators that are installed, or of these alone, by their names.

    Raises: `ConfigError` where there is none, or not each that is named.
    """
    found = {
        point.name: point.value
        for point in metadata.entry_points(group=SIMULATORS)
        if importlib.util.find_spec(point.value.partition(".")[0]) is not None
    }
    if not found:
        raise ConfigError(
            "syncd demo", "no simulator is installed", "install syncd with its bundled plugins"
        )
    if unknown := sorted(set(only) - found.keys()):
        said = f"no simulator of {', '.join(unknown)} is installed"
        raise ConfigError("syncd demo", said, f"there are {', '.join(sorted(found))}")
    return {name: found[name] for name in sorted({*only} or found)}


@attrs.frozen
class Upstream:
    """A simulator that runs, and how syncd is set up to ask it."""

    name: str
    base_url: str
    configuration: str
    credentials: Sequence[Mapping[str, str]]
    _process: trio.Process

    def credentials_file(self) -> bytes:
        """Write its credentials as `syncd credentials import` takes them."""
        names = list(self.credentials[0]) if self.credentials else []
        file = io.StringIO()
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(self.credentials)
        return file.getvalue().encode()

    async def change(self, share: float) -> int:
        """Change a share of the records; answer with how many.

        Raises: `Unavailable` where the simulator does not do it.
        """
        changed: int = (await self._told(f"change {share!r}"))["changed"]
        return changed

    async def post(self, base_url: str) -> Posted:
        """Send what webhooks are due to a daemon at a base URL.

        Raises: `Unavailable` where the simulator does not do it.
        """
        return Posted(**await self._told(f"post {base_url}"))

    async def _told(self, line: str) -> dict[str, int]:
        assert self._process.stdin is not None
        try:
            await self._process.stdin.send_all(f"{line}\n".encode())
            said = await _line(self._process, within_seconds=CHANGE_SECONDS)
        except trio.BrokenResourceError:
            said = b""
        if not said:
            what = f"does not do as it is told: {line}"
            raise Unavailable(f"the simulator of {self.name}", what, "run the demo again")
        answer: dict[str, int] = json.loads(said)
        return answer


@asynccontextmanager
async def simulator(name: str, module: str, options: Sequence[str]) -> AsyncIterator[Upstream]:
    """Run a simulated upstream as a process of its own, for as long as the block lasts.

    It ends with us, however we end: it reads our end of a pipe.

    Raises: `Unavailable` where it does not listen.
    """
    command = [sys.executable, "-m", module, "--exit-with-parent", *options]
    with tempfile.TemporaryFile() as complaints:
        process = await trio.lowlevel.open_process(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=complaints,
            start_new_session=True,  # a Ctrl-C drains us, and a drain still fetches
        )
        try:
            said = await _line(process, within_seconds=LISTEN_SECONDS)
            if not said:
                raise _silent(name, module, complaints)
            told = json.loads(said)
            yield Upstream(name, process=process, **told)
        finally:
            with trio.move_on_after(2 * END_SECONDS, shield=True):
                await _end(process)


async def _line(process: trio.Process, *, within_seconds: float) -> bytes:
    """Wait for a line of a simulator; none where it ends, or says nothing for so long."""
    assert process.stdout is not None
    line = b""
    with trio.move_on_after(within_seconds):
        async for part in process.stdout:
            line += part
            if line.endswith(b"\n"):
                return line
    return b""


def _silent(name: str, module: str, complaints: IO[bytes]) -> Unavailable:
    complaints.seek(0)
    said = complaints.read().decode(errors="replace").strip().splitlines()
    return Unavailable(
        f"the simulator of {name}",
        f"does not listen: {said[-1] if said else 'it said nothing'}",
        f"try `{sys.executable} -m {module}`",
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


def empty(connection: Connection, instances: Sequence[str]) -> bool:
    """Drop what an earlier demo left; say whether there was anything."""
    names = ["syncd", *instances]
    there = connection.execute(
        "SELECT 1 AS one FROM pg_namespace WHERE nspname = ANY (%s)", (names,)
    ).fetchone()
    schemas = ", ".join(f'"{name}"' for name in names)
    connection.execute(f"DROP SCHEMA IF EXISTS {schemas} CASCADE".encode())
    return there is not None


# --- The passes -----------------------------------------------------------------------------------


async def full_passes(process: Process) -> dict[str, list[Result]]:
    """Walk everything, as `syncd run --full` does, all jobs side by side; answer by job."""
    results: dict[str, list[Result]] = {}

    async def walk(job: Job) -> None:
        results[job.name] = await run_job(process, job, mode="full", wait_seconds=WAIT_SECONDS)

    async with trio.open_nursery() as jobs:
        for job in process.config.jobs.values():
            jobs.start_soon(walk, job)
    return results
