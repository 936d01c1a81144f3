"""`syncd demo`: the story it tells, from an empty database to the summary of two passes."""

from __future__ import annotations

import shlex
import shutil
import signal
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Literal

import attrs
import click
import msgspec
import trio

from syncd import demo
from syncd.cli import columns, ending, summary, wording
from syncd.cli.database import with_database
from syncd.cli.invocation import Invocation
from syncd.cli.loading import Loaded, take
from syncd.cli.screen import Attendance, attend
from syncd.cli.summary import JobEnd
from syncd.config import parse
from syncd.daemon import Process, Root
from syncd.embedded import EmbeddedServer
from syncd.embedded.serving import serving
from syncd.events import Event, RunFinished
from syncd.store.hops import Hops
from syncd.verdicts import Result

REAL_RATE = "the real feed allows about 1 request/s"


@attrs.frozen
class Wanted:
    """What the options of `syncd demo` say."""

    cars: int
    requests_per_second: float
    weight: Literal["demo", "real"]
    data_dir: Path
    keep: bool
    as_json: bool


@attrs.define
class Act:
    """One full pass of the demo: what became of it, and its runs."""

    title: str
    results: list[Result] = attrs.field(factory=list)
    runs: list[RunFinished] = attrs.field(factory=list)

    @property
    def end(self) -> JobEnd:
        return JobEnd(demo.JOB, tuple(self.results))

    @property
    def tally(self) -> summary.Tally:
        verdicts = dict.fromkeys(result.verdict for result in self.results)
        return summary.tallied(self.title, ", ".join(verdicts), self.runs)


def show(invocation: Invocation, wanted: Wanted) -> int:
    """Play the demo; answer with the exit code."""
    return trio.run(_Story(invocation, wanted).tell)


class _Story:
    def __init__(self, invocation: Invocation, wanted: Wanted) -> None:
        self._invocation = invocation
        self._wanted = wanted
        self._began = time.monotonic()
        self._acts: list[Act] = []
        self._stopped = False  # by a signal: whoever sent it wants no server to stay

    async def tell(self) -> int:
        """Open the stage, walk the passes, show what became of them."""
        wanted = self._wanted
        with demo.playground(wanted.data_dir) as data_dir:
            async with AsyncExitStack() as stack:
                server = await stack.enter_async_context(serving(data_dir))
                upstream = await stack.enter_async_context(
                    demo.simulator(
                        cars=wanted.cars,
                        requests_per_second=wanted.requests_per_second,
                        weight=wanted.weight,
                    )
                )
                loaded = self._configured(upstream, data_dir)
                attendance = attend(loaded.config, loaded.secrets)
                await self._prepare(loaded, server, attendance)
                attendance.observer.listen(self._note)
                await self._play(loaded, upstream, attendance)
                code = ending.worst(act.end.code for act in self._acts)
                self._print(data_dir, code)
                if wanted.keep and not self._stopped:
                    await self._stay(server.psql_command)
        return code

    def _configured(self, upstream: demo.Upstream, data_dir: Path) -> Loaded:
        text = demo.config_text(
            base_url=upstream.base_url,
            api_key=upstream.api_key,
            data_dir=data_dir,
            requests_per_second=self._wanted.requests_per_second,
            # On a terminal the live table is enough; whoever reads a file wants lines, not JSON.
            log_format="auto" if sys.stderr.isatty() else "text",
        )
        raw = parse(text, file="the demo's configuration", folder=data_dir)
        return take(self._invocation, raw)

    async def _prepare(
        self, loaded: Loaded, server: EmbeddedServer, attendance: Attendance
    ) -> None:
        """Say what there is to see, and begin with empty tables."""
        say, wanted = attendance.screen.say, self._wanted
        say(f"embedded postgresql {server.version} in {server.data_dir}")

        async def empty(hops: Hops) -> bool:
            return await hops.run(demo.empty)

        if await with_database(loaded.config, empty, emit=attendance.observer.emit):
            say("what an earlier demo left there is dropped")
        size = "6 KB each, as real ones" if wanted.weight == "real" else "1.5 KB each"
        say(
            f"simulated upstream: {wording.count(wanted.cars)} cars ({size}), "
            f"{wanted.requests_per_second:g} requests/s allowed ({REAL_RATE})"
        )

    async def _play(self, loaded: Loaded, upstream: demo.Upstream, attendance: Attendance) -> None:
        screen = attendance.screen

        async def main(process: Process) -> None:
            self._acts.append(Act("first full pass"))
            screen.say("first full pass, into empty tables")
            self._acts[-1].results = await demo.full_pass(process)
            self._stopped = process.draining.is_set()
            if self._stopped or self._acts[-1].end.code != ending.FINE:
                return
            changed = await demo.change(upstream)
            screen.say(f"the upstream changed {wording.count(changed)} cars; second full pass")
            screen.clear()
            self._acts.append(Act("second full pass"))
            self._acts[-1].results = await demo.full_pass(process)
            self._stopped = process.draining.is_set()

        with screen.showing():
            await Root(loaded.config, loaded.plugins, attendance.observer).run(main)

    def _note(self, event: Event) -> None:
        if isinstance(event, RunFinished):
            self._acts[-1].runs.append(event)

    def _print(self, data_dir: Path, code: int) -> None:
        seconds = time.monotonic() - self._began
        for act in self._acts:
            for sentence in summary.sentences(act.end):
                click.echo(self._invocation.redact(f"syncd: {sentence}"), err=True)
        if self._wanted.as_json:
            text = msgspec.json.encode(as_json(self._acts, seconds, code)).decode()
            click.echo(msgspec.json.format(text, indent=2))
            return
        look = "SELECT title, vin FROM cars.cars LIMIT 5"
        click.echo(f"\n{as_table(self._acts)}\n")
        click.echo(f"all of it took {wording.seconds(seconds)}\n")
        click.echo("look at the tables (cars.cars, cars.lots, syncd.run, syncd.pass):")
        click.echo(f"  {psql_command(data_dir)}")
        click.echo(f"  {psql_command(data_dir)} -c {shlex.quote(look)}")

    async def _stay(self, command: str) -> None:
        """Keep the server up until Enter, or until a signal."""
        click.echo(f"\nthe server stays up; from elsewhere:\n  {command}", err=True)
        typed = sys.stdin.isatty()
        click.echo("Enter or Ctrl-C ends it" if typed else "Ctrl-C ends it", err=True)
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async with trio.open_nursery() as nursery:
                if typed:
                    nursery.start_soon(_enter, nursery.cancel_scope)
                await anext(aiter(signals))
                nursery.cancel_scope.cancel()


async def _enter(scope: trio.CancelScope) -> None:
    await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True)
    scope.cancel()


def psql_command(data_dir: Path) -> str:
    """Return the words that open psql on the demo's database, now or next week."""
    if shutil.which("syncd"):
        program = ["syncd"]
    elif Path(sys.argv[0]).name == "syncd":
        program = [sys.argv[0]]
    else:
        program = [sys.executable, "-m", "syncd"]
    return shlex.join([*program, "psql", "--data-dir", str(data_dir)])


def as_table(acts: list[Act]) -> str:
    """Write the passes side by side."""
    names = ["status", *summary.COUNTS, "throttled s", "seconds", "rows/s"]
    tallies = [act.tally.cells()[1:] for act in acts]
    rows = [[name, *values] for name, *values in zip(names, *tallies, strict=True)]
    return columns.table(["", *(act.title for act in acts)], rows)


def as_json(acts: list[Act], seconds: float, code: int) -> dict[str, Any]:
    """Return what `--json` prints."""
    passes = [
        attrs.asdict(act.tally) | {"rows_per_second": act.tally.rows_per_second} for act in acts
    ]
    return {"exit_code": code, "seconds": round(seconds, 1), "passes": passes}
