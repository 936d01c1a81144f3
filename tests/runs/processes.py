"""Processes that tests start, watch, stop and kill; `launcher` and `crash_program` are their side.

Nothing here sleeps and hopes: what is waited for is looked at until it is there, and a test fails
with what the process said where it does not come in time.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import attrs
import msgspec
import trio
from crash_program import Engine, Order, Trapped
from traps import Step

from syncd.events import Event
from syncd.observe import Observer
from syncd.verdicts import Result

T = TypeVar("T")

DEADLINE_SECONDS = 60.0  # of anything a test waits for: many times what it takes
LOOK_SECONDS = 0.02  # many a look is a connection of its own
TICK_SECONDS = 0.02


async def seen(
    what: str,
    look: Callable[[], T | None],
    *,
    told: Callable[[], str] = str,
    deadline_seconds: float = DEADLINE_SECONDS,
) -> T:
    """Wait until `look` answers with something; `told` says more where it does not."""
    with trio.move_on_after(deadline_seconds):
        while True:
            found = look()
            if found:
                return found
            await trio.sleep(LOOK_SECONDS)
    raise AssertionError(f"not seen in {deadline_seconds:.0f} s: {what}\n{told()}")


@attrs.frozen
class Program:
    """One process that runs a job."""

    folder: Path

    # -- what it says ------------------------------------------------------------------------

    def lines(self) -> list[dict[str, Any]]:
        """Return the events it has written so far.

        Raises: `msgspec.DecodeError` for what is no event: a traceback, say.
        """
        whole, _, _ = self._read("events").rpartition(b"\n")
        return [msgspec.json.decode(line) for line in whole.splitlines()]

    def events(self, name: str) -> list[dict[str, Any]]:
        return [line for line in self.lines() if line["event"] == name]

    def result(self) -> dict[str, str]:
        """Return verdict and message of its one partition, once it has ended."""
        (found,) = self.results()
        return found

    def results(self) -> list[dict[str, str]]:
        """Return verdict and message of all of its partitions, once it has ended."""
        return msgspec.json.decode(self._read("output"), type=list[dict[str, str]])

    def said(self) -> str:
        return (self._read("events")[-4000:] + self._read("output")).decode(errors="replace")

    def _read(self, name: str) -> bytes:
        file = self.folder / name
        return file.read_bytes() if file.exists() else b""

    # -- what it does ------------------------------------------------------------------------

    @property
    def pid(self) -> int | None:
        file = self.folder / "pid"
        return int(file.read_text()) if file.exists() else None

    @property
    def code(self) -> int | None:
        """Its exit code, or the number of the signal that ended it below zero."""
        file = self.folder / "exit"
        return int(file.read_text()) if file.exists() else None

    @property
    def trapped(self) -> Step | None:
        """The step at which it sent itself its signal."""
        left = self._read("trapped.json")
        return msgspec.json.decode(left, type=Step) if left else None

    @property
    def stopped(self) -> bool:
        """Whether the system holds all of its threads (proc(5): state T)."""
        try:
            stat = Path(f"/proc/{self.pid}/stat").read_text()
        except FileNotFoundError:
            return False
        return stat.rpartition(") ")[2].startswith("T")

    def send(self, number: signal.Signals) -> None:
        if self.code is None and self.pid is not None:
            with suppress(ProcessLookupError):  # it has ended meanwhile
                os.kill(self.pid, number)

    async def ended(self, *, deadline_seconds: float = DEADLINE_SECONDS) -> int:
        """Wait for its end; answer with its code."""
        await seen(
            f"the end of {self.folder.name}",
            lambda: self.code is not None,
            told=self.said,
            deadline_seconds=deadline_seconds,
        )
        assert self.code is not None
        return self.code

    async def halted(self) -> Step:
        """Wait until it has stopped itself; answer with the step at which it did."""
        await seen(f"{self.folder.name} stopped", lambda: self.stopped, told=self.said)
        assert self.trapped is not None, self.said()
        return self.trapped

    async def event(self, name: str, *, times: int = 1) -> list[dict[str, Any]]:
        """Wait until it has said something so many times."""

        def look() -> list[dict[str, Any]] | None:
            found = self.events(name)
            return found if len(found) >= times else None

        return await seen(f"{name} x {times}", look, told=self.said)


class Programs:
    """Starts processes, and leaves none behind."""

    def __init__(self, launcher: subprocess.Popen[bytes], folder: Path) -> None:
        self._launcher = launcher
        self._folder = folder
        self._started: list[Program] = []

    def start(
        self,
        config: Path,
        *,
        wait_seconds: float = DEADLINE_SECONDS,
        at: Step | None = None,
        sends: signal.Signals = signal.SIGKILL,
        serves: bool = False,
    ) -> Program:
        """Start a process that runs the one job of a configuration.

        `at` a step it `sends` itself a signal. `wait_seconds`: for a partition that another holds.
        `serves`: keep the jobs of the configuration, as a daemon does.
        """
        folder = self._folder / f"process-{len(self._started) + 1}"
        folder.mkdir()
        trapped = None if at is None else Trapped(at, sends)
        order = Order(str(config), wait_seconds, trapped, serves)
        (folder / "order.json").write_bytes(msgspec.json.encode(order))
        assert self._launcher.stdin is not None
        self._launcher.stdin.write(f"{folder}\n".encode())
        self._launcher.stdin.flush()
        program = Program(folder)
        self._started.append(program)
        return program

    def end(self) -> None:
        """Kill what still runs, and see it gone."""
        give_up_at = time.monotonic() + DEADLINE_SECONDS
        for program in self._started:
            while program.code is None:
                program.send(signal.SIGKILL)
                assert time.monotonic() < give_up_at, f"{program.folder} outlives its test"
                time.sleep(LOOK_SECONDS)


@attrs.define
class Stalls:
    """How long this machine stood still: a thread that wakes late tells.

    For a process `pid` also how long it would have run and was not let (proc(5): schedstat).
    """

    pid: int | None = None
    stood_seconds: float = 0.0
    queued_seconds: float = 0.0
    _over: threading.Event = attrs.field(factory=threading.Event)

    @property
    def seconds(self) -> float:
        return self.stood_seconds + self.queued_seconds

    @contextmanager
    def measured(self) -> Iterator[None]:
        thread = threading.Thread(target=self._measure, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()

    def _measure(self) -> None:
        before, queued = time.monotonic(), self._queued(0.0)
        while not self._over.wait(TICK_SECONDS):
            now = time.monotonic()
            self.stood_seconds += max(0.0, now - before - 2 * TICK_SECONDS)
            before = now
            self.queued_seconds = self._queued(queued + self.queued_seconds) - queued

    def _queued(self, last: float) -> float:
        """Return how long the process has waited for a processor; `last` where it is gone."""
        try:
            return int(Path(f"/proc/{self.pid}/schedstat").read_bytes().split()[1]) / 1e9
        except (OSError, IndexError):
            return last


async def run_here(
    config: Path,
    *,
    listener: Callable[[Event], None],
    wait_seconds: float = DEADLINE_SECONDS,
    deadline_seconds: float = DEADLINE_SECONDS,
) -> Result:
    """Run the one job of a configuration in this process, and hand its events to `listener`.

    One at a time: it takes this process's signals.
    """
    observer = Observer()
    observer.listen(listener)
    with trio.fail_after(deadline_seconds):
        (result,) = await Engine.of(config).run(wait_seconds=wait_seconds, observer=observer)
    return result


def launched() -> subprocess.Popen[bytes]:
    """Start the launcher; closing its standard input ends it, and what it started.

    In a session of its own: Ctrl-C is for the tests, which then end it.
    """
    command = [sys.executable, str(Path(__file__).with_name("launcher.py"))]
    return subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
