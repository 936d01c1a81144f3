"""Carry loads out: pages, databases, programs, verification, one line of results for each."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import attrs
import msgspec
import pages
import programs
import totals
from layouts import TABLES, VOLATILE
from loads import Finished, Load, Plan, seconds_left
from pages import Pages, Truth
from programs import Bench

ROOT = Path(__file__).parents[2]
TOO_MANY_TO_KEEP = 1_000_000  # pages of so many records are not kept for the next time

_BESIDE_SECONDS = 2.5  # settling and verifying, measured with 190,000 records
_NOT_MEASURED = {"run.py", "report.py", "test_bench.py", "peers.py"}


def code_version() -> str:
    """Return a name that changes with whatever is measured, committed or not."""
    digest = hashlib.sha256((ROOT / "constraints.txt").read_bytes())
    files = [*(ROOT / "core").rglob("*.py"), *(ROOT / "plugins").rglob("*.py")]
    files += [file for file in Path(__file__).parent.glob("*.py") if file.name not in _NOT_MEASURED]
    for file in sorted(files):
        digest.update(str(file.relative_to(ROOT)).encode() + file.read_bytes())
    return digest.hexdigest()[:12]


def commit_of(root: Path) -> str:
    """Return the commit that is checked out, for whoever reads the results."""
    command = ["git", "-C", str(root), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


class Results:
    """The file of what is finished: one JSON line each."""

    def __init__(self, file: Path) -> None:
        self._file = file
        lines = file.read_bytes().splitlines() if file.exists() else []
        self.finished = [msgspec.json.decode(line, type=Finished) for line in lines]

    def of(self, load: Load, code: str) -> Finished | None:
        """Return the newest result of a load for a version of the code."""
        found = (each for each in reversed(self.finished) if (each.load, each.code) == (load, code))
        return next(found, None)

    def add(self, finished: Finished) -> None:
        self.finished.append(finished)
        with self._file.open("ab") as file:
            file.write(msgspec.json.encode(finished) + b"\n")


@attrs.define
class Runner:
    """Runs loads one after the other."""

    bench: Bench
    results: Results
    say: Callable[[str], None]
    resume: bool = False
    profile: Path | None = None
    code: str = attrs.field(factory=code_version)
    commit: str = attrs.field(factory=lambda: commit_of(ROOT))

    def run(self, plans: Sequence[Plan]) -> list[Finished]:
        """Run plans; answer with what each load took, those that were known included."""
        done: list[Finished] = []
        left = [load for plan in plans for load in plan.loads()]
        for plan in plans:
            needed = [load for load in plan.loads() if self._known(load) is None]
            truths = {
                load.generation: pages.truth_of(_pages_of(load), self._pages, say=self.say)
                for load in needed
            }
            for load in plan.loads():
                left.remove(load)
                known = self._known(load)
                finished = known or self._load(load, plan, truths)
                done.append(finished)
                self._tell(finished, done, left, known=known is not None)
            if plan.records >= TOO_MANY_TO_KEEP:
                for load in needed:
                    pages.forget(_pages_of(load), self._pages)
        return done

    @property
    def _pages(self) -> Path:
        return self.bench.folder / "pages"

    def _known(self, load: Load) -> Finished | None:
        return self.results.of(load, self.code) if self.resume else None

    def _load(self, load: Load, plan: Plan, truths: dict[int, Truth]) -> Finished:
        """Bring a load's database to where it begins, and run it."""
        before = plan.phases[: plan.phases.index(load.phase)]
        database = self.bench.database
        if not before or database.marked(load.sequence) != before:
            database.make(load.sequence, control=load.program == "syncd")
            for phase in before:
                again = msgspec.structs.replace(load, phase=phase)
                truth = pages.truth_of(_pages_of(again), self._pages, say=self.say)
                self._measure(again, truth)
        finished = self._measure(load, truths[load.generation])
        self.results.add(finished)
        database.mark(load.sequence, [*before, load.phase])
        if load.phase == plan.phases[-1]:
            database.drop(load.sequence)
        return finished

    def _measure(self, load: Load, truth: Truth) -> Finished:
        database, tables = self.bench.database, TABLES[load.shape]
        database.settle(load.sequence)
        before = database.written(load.sequence, tables)
        ran = programs.run(self.bench, load, _pages_of(load).name, profile=self.profile)
        after = database.written(load.sequence, tables)
        with database.verifiable(load.sequence) as connection:
            # syncd need not write a row again of which nothing but such a field has changed.
            again = load.program == "syncd" and load.phase != "first"
            volatile = VOLATILE.get(load.shape, ()) if again else ()
            totals.verify(connection, tables, truth.totals, volatile=volatile)
        database.settle(load.sequence)  # or autovacuum does while another program is measured
        return Finished(
            load=load,
            code=self.code,
            commit=self.commit,
            at=datetime.now(UTC).isoformat(timespec="seconds"),
            wall_seconds=ran.cost.wall_seconds,
            own_seconds=ran.told["own_seconds"],
            cpu_seconds=ran.cost.cpu_seconds,
            database_seconds=ran.cost.database_seconds,
            server_seconds=ran.cost.server_seconds,
            others_seconds=ran.cost.others_seconds,
            peak_bytes=ran.cost.peak_bytes,
            database_peak_bytes=ran.cost.database_peak_bytes,
            inserted=after.inserted - before.inserted,
            updated=after.updated - before.updated,
            dead=after.dead,
            rolled_back=after.rolled_back - before.rolled_back,
            wal_bytes=after.wal_bytes - before.wal_bytes,
            page_server=self.bench.pages.kind,
            database=database.version,
        )

    def _tell(
        self, last: Finished, done: Sequence[Finished], left: Sequence[Load], *, known: bool
    ) -> None:
        still = [load for load in left if self._known(load) is None]
        seconds = seconds_left(done, still, beside=_BESIDE_SECONDS)
        how = "known" if known else f"{last.wall_seconds:.2f} s"
        rate = f"{last.rows_per_second:,.0f} rows/s"
        self.say(f"{last.load}: {how}, {rate}; {len(still)} loads, {seconds / 60:.0f} min left")


def _pages_of(load: Load) -> Pages:
    return Pages(load.shape, load.records, load.per_page, load.generation)


def progress(started_at: float) -> Callable[[str], None]:
    """Return what says how far we are, on standard error."""

    def say(text: str) -> None:
        print(f"[{time.monotonic() - started_at:6.0f} s] {text}", file=sys.stderr, flush=True)

    return say
