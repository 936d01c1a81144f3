"""Keep jobs at full rate over cars that keep changing (`syncd serve`), and see that nothing grows.

    python tests/soak/soak.py --seconds 1200

What grows is found by a line fitted through the samples that were taken after the warm-up: how much
it rises from its beginning to its end is compared with what that much may rise without anything
being kept that should not be. Exit code 0: flat. 1: something grows, or the program broke.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import linear_regression, median
from typing import Any

import attrs
import psycopg
import trio
from psycopg.conninfo import make_conninfo

from syncd import demo
from syncd.embedded import throwaway
from syncd.store.hops import Timeouts, connection_options
from syncd.store.migrations import migrate

SECONDS = 1200.0
CARS = 20_000
PER_PAGE = 100
RATE = 500.0  # requests per second that the upstream allows: more than syncd gets through
API_KEY = "soak"
CHANGES_EVERY_SECONDS = 1.0
CHANGED_SHARE = 0.01
SAMPLE_SECONDS = 1.0

# The first third: connections, threads, caches and the allocator's arenas are filled by then.
WARM_UP_SHARE = 1 / 3
STARTS_WITHIN_SECONDS = 60.0  # up to its first page
ENDS_WITHIN_SECONDS = 40.0  # a drain of 25, and what follows on it

# What may rise without a leak. Memory: the batches that are under way at the moment of a sample
# take a few megabytes, sometimes at the beginning of the line and sometimes at its end; per page
# less than the smallest Python object (48 bytes and its place in a list).
MEMORY_NOISE_BYTES = 16 << 20
MEMORY_PER_PAGE_BYTES = 64
# Connections of the two pools and of the client, and the threads that use them, come and go.
COUNT_NOISE = 6.0
# A run has a dozen tasks, and a short soak may begin between two runs and end amid both jobs'.
TASK_NOISE = 24.0
# Control tables but for history, which a run adds a row to: what is deleted is used again after
# autovacuum has been there, which comes once a minute and lets a fifth of a table be dead.
TABLE_NOISE_BYTES = 8 << 20
HISTORY = {"run", "pass", "round", "turn"}
HISTORY_PER_RUN_BYTES = 4096
# By then autovacuum has come five times. Before, what is dead says nothing.
VACUUMED_SECONDS = 300.0
DEAD_SHARE = 0.25
DEAD_NOISE = 10_000.0


def command_of(config: Path) -> list[str]:
    """Return the command that is put to the test."""
    return [sys.executable, "-m", "syncd", "--config", str(config), "serve"]


@attrs.frozen
class Sample:
    """What was seen at one moment."""

    at: float
    values: Mapping[str, float]


@attrs.frozen
class Finding:
    """How one measure behaved: how much its fitted line rises, and how much it may."""

    name: str
    first: float
    last: float
    rise: float
    allowed: float

    @property
    def flat(self) -> bool:
        return self.rise <= self.allowed

    def __str__(self) -> str:
        verdict = "flat " if self.flat else "GROWS"
        numbers = f"{self.first:>14,.0f} {self.last:>14,.0f} {self.rise:>+14,.0f}"
        return f"{verdict} {self.name:<28} {numbers} {self.allowed:>14,.0f}"


def rise_of(samples: Sequence[Sample], name: str) -> float:
    """Return how much the line fitted through a measure rises over its samples."""
    points = [(each.at, each.values[name]) for each in samples if name in each.values]
    if len(points) < 3:
        return 0.0
    slope, _ = linear_regression([at for at, _ in points], [value for _, value in points])
    return slope * (points[-1][0] - points[0][0])


def judged(samples: Sequence[Sample], *, pages: int, runs: int) -> list[Finding]:
    """Judge samples from after the warm-up, during which so many pages and runs were done."""
    seconds = samples[-1].at - samples[0].at
    names = sorted({name for sample in samples for name in sample.values})
    return [
        Finding(
            name=name,
            first=median(_values(samples[: len(samples) // 3 + 1], name)),
            last=median(_values(samples[-(len(samples) // 3 + 1) :], name)),
            rise=rise_of(samples, name),
            allowed=allowed(name, samples, pages=pages, runs=runs, seconds=seconds),
        )
        for name in names
    ]


def _values(samples: Sequence[Sample], name: str) -> list[float]:
    return [each.values[name] for each in samples if name in each.values] or [0.0]


def allowed(
    name: str, samples: Sequence[Sample], *, pages: int, runs: int, seconds: float
) -> float:
    """Return how much a measure may rise."""
    kind, _, table = name.partition(" ")
    match kind:
        case "resident_bytes":
            return MEMORY_NOISE_BYTES + MEMORY_PER_PAGE_BYTES * pages
        case "size":
            return TABLE_NOISE_BYTES + (HISTORY_PER_RUN_BYTES * runs if table in HISTORY else 0)
        case "dead":
            if seconds < VACUUMED_SECONDS:
                return float("inf")
            return DEAD_NOISE + DEAD_SHARE * max(_values(samples, f"live {table}"))
        case "tasks" if seconds < VACUUMED_SECONDS:
            return TASK_NOISE
        case "live":
            return float("inf")  # what is kept on purpose: its size is what counts
        case _:
            return COUNT_NOISE


# --- Measuring ------------------------------------------------------------------------------------


def of_process(pid: int) -> dict[str, float]:
    """Return what the system says of a process (proc(5))."""
    status = Path(f"/proc/{pid}/status").read_text()
    said = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    return {
        "resident_bytes": float(said["VmRSS"].split()[0]) * 1024,
        "threads": float(said["Threads"]),
        "descriptors": float(len(list(Path(f"/proc/{pid}/fd").iterdir()))),
    }


def of_tables(connection: psycopg.Connection[Any]) -> dict[str, float]:
    """Return sizes and tuples of the control tables."""
    rows = connection.execute(
        "SELECT relname AS name, pg_total_relation_size(relid) AS size, n_dead_tup AS dead,"
        " n_live_tup AS live FROM pg_stat_user_tables WHERE schemaname = 'syncd'"
    ).fetchall()
    return {
        f"{what} {row['name']}": float(row[what])
        for row in rows
        for what in ("size", "dead", "live")
    }


@attrs.define
class Said:
    """What the program's log told so far."""

    tasks: float = 0.0
    pages: int = 0
    runs: int = 0
    troubles: list[str] = attrs.field(factory=list)

    def hear(self, line: bytes) -> None:
        """Take in one line of the log; what is no event is trouble."""
        try:
            event = json.loads(line)
        except ValueError:
            self.troubles.append(line.decode(errors="replace"))
            return
        match event:
            case {"event": "process.vitals", "tasks": tasks}:
                self.tasks = float(tasks)
            case {"event": "batch.committed", "pages": pages}:
                self.pages += int(pages)
            case {"event": "run.finished"}:
                self.runs += 1
            case {"level": "error"}:
                self.troubles.append(line.decode())


@attrs.define
class Soak:
    """One soak: its samples, and how much was done at each of them."""

    seconds: float
    samples: list[Sample] = attrs.field(factory=list)
    said: Said = attrs.field(factory=Said)
    before: tuple[int, int] = (0, 0)  # pages and runs of the warm-up

    async def run(self, command: Sequence[str], dsn: str, upstream: demo.Upstream) -> int:
        """Run the program while its upstream changes; answer with its exit code."""
        process = await trio.lowlevel.open_process(list(command), stderr=subprocess.PIPE)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._listen, process)
                with trio.move_on_after(STARTS_WITHIN_SECONDS) as line:
                    async with trio.open_nursery() as around:
                        around.start_soon(self._change, upstream)
                        around.start_soon(self._sample, process.pid, dsn, line)
                        early = await process.wait()
                        self.said.troubles.append(f"it ended by itself, with code {early}")
                        around.cancel_scope.cancel()
                process.send_signal(signal.SIGTERM)
                with trio.fail_after(ENDS_WITHIN_SECONDS):
                    code = await process.wait()
        finally:
            process.kill()  # nothing where it has ended
        return code

    async def _listen(self, process: trio.Process) -> None:
        assert process.stderr is not None
        unread = b""
        async for part in process.stderr:
            *lines, unread = (unread + part).split(b"\n")
            for line in lines:
                self.said.hear(line)

    async def _change(self, upstream: demo.Upstream) -> None:
        while True:
            await trio.sleep(CHANGES_EVERY_SECONDS)
            await upstream.change(CHANGED_SHARE)

    async def _sample(self, pid: int, dsn: str, line: trio.CancelScope) -> None:
        # A start is no part of the line, however long it takes.
        while not self.said.pages:  # noqa: ASYNC110
            await trio.sleep(SAMPLE_SECONDS / 10)
        line.deadline = trio.current_time() + self.seconds
        options = connection_options(Timeouts(), "soak") | {"autocommit": True}
        began = time.monotonic()
        with psycopg.connect(dsn, **options) as connection:
            while True:
                await trio.sleep(SAMPLE_SECONDS)
                at = time.monotonic() - began
                if at < self.seconds * WARM_UP_SHARE:
                    self.before = (self.said.pages, self.said.runs)
                    continue
                tables = await trio.to_thread.run_sync(of_tables, connection)
                values = {**of_process(pid), "tasks": self.said.tasks, **tables}
                self.samples.append(Sample(at, values))


def configuration(folder: Path, dsn: str, upstream: demo.Upstream) -> Path:
    """Write the configuration of a soak."""
    file = folder / "soak.toml"
    file.write_text(f"""
[database]
url = {json.dumps(dsn)}
pool_max = 6
[connectors.cars]
base_url = "{upstream.base_url}"
api_key = "{API_KEY}"
requests_per_second = {RATE}
per_page = {PER_PAGE}
in_flight = 4
priority_brands = []
[jobs.changes]
connector = "cars"
streams = ["cars", "lots"]
every = "1s"
[jobs.everything]
connector = "cars"
streams = ["cars", "lots"]
mode = "full"
every = "1s"
[log]
level = "debug"
""")
    return file


async def soak(conninfo: str, *, seconds: float, cars: int) -> tuple[Soak, int]:
    """Prepare a database and an upstream, and run the program against both."""
    with psycopg.connect(conninfo, autocommit=True) as admin:
        admin.execute("DROP DATABASE IF EXISTS syncd_soak WITH (FORCE)")
        admin.execute("CREATE DATABASE syncd_soak")
    dsn = make_conninfo(conninfo, dbname="syncd_soak")
    with psycopg.connect(dsn, **connection_options(Timeouts(), "soak")) as connection:
        migrate(connection)
    made = Soak(seconds)
    with tempfile.TemporaryDirectory() as folder:
        options = ["--cars", str(cars), "--rate", str(RATE), "--burst", "4", "--api-key", API_KEY]
        async with demo.simulator("cars", "syncd_cars.simulator", options) as upstream:
            config = configuration(Path(folder), dsn, upstream)
            code = await made.run(command_of(config), dsn, upstream)
    return made, code


def main(arguments: Sequence[str]) -> int:
    """Soak, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--cars", type=int, default=CARS)
    parser.add_argument("--dsn", help="a superuser's; else a server of its own")
    wanted = parser.parse_args(arguments)
    with ExitStack() as stack:
        conninfo = wanted.dsn or stack.enter_context(throwaway()).conninfo
        made, code = trio.run(lambda: soak(conninfo, seconds=wanted.seconds, cars=wanted.cars))
    pages, runs = made.said.pages - made.before[0], made.said.runs - made.before[1]
    findings = judged(made.samples, pages=pages, runs=runs) if made.samples else []
    heads = f"{'first':>14} {'last':>14} {'rise':>14} {'allowed':>14}"
    print(f"{len(made.samples)} samples, {pages} pages, {runs} runs, exit code {code}")
    print(f"      {'':<28} {heads}", *findings, *made.said.troubles, sep="\n")
    fine = pages and code == 0 and not made.said.troubles
    return 0 if fine and findings and all(finding.flat for finding in findings) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
