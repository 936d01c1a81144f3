"""`syncd demo`: the story it tells, from an empty database to the summary of two passes."""

from __future__ import annotations

import shlex
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import attrs
import click
import msgspec
import trio

from syncd import demo
from syncd.cli import columns, credentials, ending, summary, wording
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

BURST = 4  # as many as the connector has in flight: it need not be punctual to 1/100 s
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

    def options(self, name: str) -> list[str]:
        """Return what the program of a simulator is told; without a word it is what it is."""
        if name != "cars":
            return []
        options = ["--cars", str(self.cars), "--weight", self.weight]
        return [*options, "--rate", repr(self.requests_per_second), "--burst", str(BURST)]


@attrs.define
class Act:
    """One full pass of every job: what became of it, and its runs."""

    title: str
    results: dict[str, list[Result]] = attrs.field(factory=dict)  # by job
    runs: list[RunFinished] = attrs.field(factory=list)

    @property
    def ends(self) -> list[JobEnd]:
        return [JobEnd(job, tuple(results)) for job, results in sorted(self.results.items())]

    @property
    def code(self) -> int:
        return ending.worst(end.code for end in self.ends)

    @property
    def tallies(self) -> list[summary.Tally]:
        """Return what each job did."""
        return [self._tally(end) for end in self.ends]

    def _tally(self, end: JobEnd) -> summary.Tally:
        verdicts = ", ".join(dict.fromkeys(result.verdict for result in end.results))
        runs = [run for run in self.runs if run.job == end.job]
        return summary.tallied(end.job, verdicts, runs)


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
                upstreams = [
                    await stack.enter_async_context(
                        demo.simulator(name, module, wanted.options(name))
                    )
                    for name, module in demo.simulators().items()
                ]
                loaded = self._configured(upstreams, data_dir)
                attendance = attend(loaded.config, loaded.secrets, by_job=True)
                await self._prepare(loaded, server, attendance)
                attendance.observer.listen(self._note)
                await self._play(loaded, upstreams, attendance)
                code = ending.worst(act.code for act in self._acts)
                self._print(data_dir, code)
                if wanted.keep and not self._stopped:
                    await self._stay(server.psql_command)
        return code

    def _configured(self, upstreams: Sequence[demo.Upstream], data_dir: Path) -> Loaded:
        text = demo.config_text(
            upstreams,
            data_dir=data_dir,
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

        instances = list(loaded.config.instances)

        async def empty(hops: Hops) -> bool:
            return await hops.run(demo.empty, instances)

        if await with_database(loaded.config, empty, emit=attendance.observer.emit):
            say("what an earlier demo left there is dropped")
        size = "6 KB each, as real ones" if wanted.weight == "real" else "1.5 KB each"
        say(f"simulated upstreams: {', '.join(instances)}")
        say(
            f"{wording.count(wanted.cars)} cars ({size}), "
            f"{wanted.requests_per_second:g} requests/s allowed ({REAL_RATE})"
        )

    async def _play(
        self, loaded: Loaded, upstreams: Sequence[demo.Upstream], attendance: Attendance
    ) -> None:
        screen = attendance.screen

        async def main(process: Process) -> None:
            await self._bring(process, upstreams)
            self._acts.append(Act("first full pass"))
            screen.say("first full pass, into empty tables")
            self._acts[-1].results = await demo.full_passes(process)
            self._stopped = process.draining.is_set()
            if self._stopped or self._acts[-1].code != ending.FINE:
                return
            changed = [await upstream.change(demo.CHANGED_SHARE) for upstream in upstreams]
            screen.say(f"{wording.counted(sum(changed), 'record')} changed; second full pass")
            screen.clear()
            self._acts.append(Act("second full pass"))
            self._acts[-1].results = await demo.full_passes(process)
            self._stopped = process.draining.is_set()

        with screen.showing():
            await Root(loaded.config, loaded.plugins, attendance.observer).run(main)

    async def _bring(self, process: Process, upstreams: Sequence[demo.Upstream]) -> None:
        """Store the credentials that upstreams let us in by, as `credentials import` does."""
        for upstream in upstreams:
            if upstream.credentials:
                instance = process.config.instances[upstream.name]
                content = upstream.credentials_file()
                await process.hops.run(credentials.bring, instance, content, process.vault)

    def _note(self, event: Event) -> None:
        if isinstance(event, RunFinished):
            self._acts[-1].runs.append(event)

    def _print(self, data_dir: Path, code: int) -> None:
        seconds = time.monotonic() - self._began
        for act in self._acts:
            for sentence in chain.from_iterable(map(summary.sentences, act.ends)):
                click.echo(self._invocation.redact(f"syncd: {sentence}"), err=True)
        if self._wanted.as_json:
            text = msgspec.json.encode(as_json(self._acts, seconds, code)).decode()
            click.echo(msgspec.json.format(text, indent=2))
            return
        look = "SELECT title, vin FROM cars.cars LIMIT 5"
        click.echo(f"\n{as_table(self._acts, width=self._invocation.width)}\n")
        click.echo(f"all of it took {wording.seconds(seconds)}\n")
        click.echo("look at the tables (one schema for each connector; syncd.run, syncd.pass):")
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


def as_table(acts: list[Act], *, width: int | None = None) -> str:
    """Write the passes one after the other, with a line for each job."""
    heading = ["", "job", *summary.HEADINGS[1:]]
    rows = [
        [act.title if number == 0 else "", *tally.cells()]
        for act in acts
        for number, tally in enumerate(act.tallies)
    ]
    return columns.table(heading, rows, width=width)


def as_json(acts: list[Act], seconds: float, code: int) -> dict[str, Any]:
    """Return what `--json` prints."""
    passes = [
        {
            "title": act.title,
            "jobs": {
                end.job: attrs.asdict(tally, filter=_is_no_name)
                | {"rows_per_second": tally.rows_per_second}
                for end, tally in zip(act.ends, act.tallies, strict=True)
            },
        }
        for act in acts
    ]
    return {"exit_code": code, "seconds": round(seconds, 1), "passes": passes}


def _is_no_name(attribute: Any, _: object) -> bool:
    return bool(attribute.name != "partition")
