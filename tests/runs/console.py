"""The console program as a process of its own: started, waited for, and what it said."""

from __future__ import annotations

import os
import socket
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import msgspec
import trio
from processes import DEADLINE_SECONDS, seen
from upstream import API_KEY, Upstream

SYNCD = str(Path(sys.executable).with_name("syncd"))
ENVIRONMENT = {
    name: value for name, value in os.environ.items() if name in {"PATH", "LANG", "PYTHONPATH"}
}


@attrs.frozen
class Ended:
    """What a command left: its exit code and what it said."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        return msgspec.json.decode(self.out)

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return its log lines of one event; lines for people are none."""
        lines = [line for line in self.err.splitlines() if line.startswith("{")]
        return [line for line in map(msgspec.json.decode, lines) if line["event"] == name]

    def words(self) -> list[str]:
        """Return what stderr says to people."""
        return [line for line in self.err.splitlines() if not line.startswith("{")]


async def syncd(*arguments: str | Path, folder: Path) -> Ended:
    """Run a command to its end; its key never shows."""
    with trio.fail_after(DEADLINE_SECONDS * 2):
        done = await trio.run_process(
            [SYNCD, *map(str, arguments)],
            capture_stdout=True,
            capture_stderr=True,
            check=False,
            cwd=folder,
            env=ENVIRONMENT,
        )
    ended = Ended(done.returncode, done.stdout.decode(), done.stderr.decode())
    assert API_KEY not in ended.out + ended.err
    assert "Traceback" not in ended.err
    return ended


@attrs.frozen
class Running:
    """A command that runs, and the files that it writes to."""

    process: trio.Process
    folder: Path

    def now(self) -> Ended:
        out, err = ((self.folder / name).read_text() for name in ("out", "err"))
        code = self.process.returncode
        return Ended(-1 if code is None else code, out, err[: err.rfind("\n") + 1])

    async def event(self, name: str) -> None:
        await seen(name, lambda: self.now().events(name), told=lambda: self.now().err)

    async def ended(self) -> Ended:
        with trio.fail_after(DEADLINE_SECONDS):
            await self.process.wait()
        assert "Traceback" not in self.now().err
        return self.now()


@asynccontextmanager
async def running(*arguments: str | Path, folder: Path) -> AsyncIterator[Running]:
    """Start a command; kill it where the test leaves it running."""
    own = folder / uuid.uuid4().hex
    own.mkdir()
    with (own / "out").open("wb") as out, (own / "err").open("wb") as err:
        process = await trio.lowlevel.open_process(
            [SYNCD, *map(str, arguments)], stdout=out, stderr=err, cwd=folder, env=ENVIRONMENT
        )
    try:
        yield Running(process, own)
    finally:
        process.kill()  # nothing where it has ended
        with trio.CancelScope(shield=True), trio.fail_after(DEADLINE_SECONDS):
            await process.wait()


def configured(upstream: Upstream, folder: Path, dsn: str, *, log: str = "") -> Path:
    """Write the configuration of the job `cars`; `log` are lines of its table."""
    file = upstream.configuration(folder, dsn, connector="cars", lease="30s")
    file.write_text(f"{file.read_text()}\n[log]\n{log}\n")
    return file


def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port
