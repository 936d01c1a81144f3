"""`syncd demo`: the story it tells, from an empty database to the summary of two passes."""

from __future__ import annotations

import shlex
import shutil
import signal
import sys
import time
from collections.abc import Collection, Sequence
from contextlib import AsyncExitStack
from itertools import chain
from pathlib import Path
from typing import Literal

import attrs
import click
import msgspec
import trio

from syncd import background, demo
from syncd.admin.opening import opened
from syncd.background import Background
from syncd.cli import acts, credentials, ending, summary, wording
from syncd.cli.acts import Act, Heard
from syncd.cli.database import with_database
from syncd.cli.invocation import Invocation
from syncd.cli.loading import Loaded, take
from syncd.cli.screen import Attendance, attend
from syncd.cli.summary import JobEnd
from syncd.config import parse
from syncd.daemon import Process, Root
from syncd.embedded import EmbeddedServer
from syncd.embedded.serving import serving
from syncd.events import Event
from syncd.store.hops import Hops

BURST = 4  # as many as the connector has in flight: it need not be punctual to 1/100 s
REAL_RATE = "the real feed allows about 1 request/s"

# By the connectors whose tables they look at.
LOOKS = {
    ("cars",): "SELECT title, vin FROM cars.cars LIMIT 5",
    ("front", "ship24"): (
        "SELECT tracking_number, carrier, status_milestone"
        " FROM front.shipments JOIN ship24.trackers USING (tracking_number) LIMIT 5"
    ),
}


@attrs.frozen
class Wanted:
    """What the options of `syncd demo` say."""

    cars: int
    only: tuple[str, ...]  # connectors; without a word all of them
    requests_per_second: float
    weight: Literal["demo", "real"]
    data_dir: Path
    keep: bool
    as_json: bool

    def options(self, name: str, playing: Collection[str]) -> list[str]:
        """Return what the program of a simulator is told; without a word it is what it is."""
        if name == "front":
            return ["--model", *(["--register-trackers"] if "ship24" in playing else [])]
        if name != "cars":
            return []
        options = ["--cars", str(self.cars), "--weight", self.weight]
        return [*options, "--rate", repr(self.requests_per_second), "--burst", str(BURST)]


def show(invocation: Invocation, wanted: Wanted) -> int:
    """Play the demo; answer with the exit code."""
    return trio.run(_Story(invocation, wanted).tell)


class _Story:
    def __init__(self, invocation: Invocation, wanted: Wanted) -> None:
        self._invocation = invocation
        self._wanted = wanted
        self._began = time.monotonic()
        self._acts: list[Act] = []
        self._heard = Heard()
        self._stopped = False  # by a signal: whoever sent it wants no server to stay

    async def tell(self) -> int:
        """Open the stage, walk the passes, show what became of them."""
        wanted = self._wanted
        with demo.playground(wanted.data_dir) as data_dir:
            async with AsyncExitStack() as stack:
                server = await stack.enter_async_context(serving(data_dir))
                playing = demo.simulators(wanted.only)
                upstreams = [
                    await stack.enter_async_context(
                        demo.simulator(name, module, wanted.options(name, playing))
                    )
                    for name, module in playing.items()
                ]
                loaded = self._configured(upstreams, data_dir)
                attendance = attend(loaded.config, loaded.secrets, by_job=True)
                await self._prepare(loaded, server, attendance)
                attendance.observer.listen(self._note)
                await self._play(loaded, upstreams, attendance)
                code = ending.worst(act.code for act in self._acts)
                if self._stopped and code == ending.FINE:  # between two passes
                    click.echo("syncd: demo: stopped before the end; run it again", err=True)
                    code = ending.TRY_AGAIN
                self._print(data_dir, code, playing)
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
        say(f"simulated upstreams: {', '.join(instances)}")
        if "cars" in instances:
            size = "6 KB each, as real ones" if wanted.weight == "real" else "1.5 KB each"
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
            async with background.beside(process) as lanes:
                screen.say("first full pass, into empty tables")
                await self._pass("first full pass", process, lanes)
                if self._stopped or self._acts[-1].code != ending.FINE:
                    return
                changed = [await upstream.change(demo.CHANGED_SHARE) for upstream in upstreams]
                screen.say(f"{wording.counted(sum(changed), 'record')} changed; second full pass")
                screen.clear()
                await self._pass("second full pass", process, lanes)
                if not self._stopped:
                    await self._hear(process, upstreams)

        with screen.showing():
            await Root(loaded.config, loaded.plugins, attendance.observer).run(main)

    async def _pass(self, title: str, process: Process, lanes: Background) -> None:
        """Walk everything, and let what follows from rows be delivered behind it."""
        act = Act(title=title)
        self._acts.append(act)
        results = await demo.full_passes(process)
        act.ends = [JobEnd(job, tuple(each)) for job, each in sorted(results.items())]
        act.left = await lanes.settled(demo.WAIT_SECONDS)
        self._stopped = process.draining.is_set()

    async def _hear(self, process: Process, upstreams: Sequence[demo.Upstream]) -> None:
        """Take webhooks in, as `syncd serve` does."""
        async with opened(process) as desk:
            desk.open = True
            base_url = f"http://{self._heard.address}"
            for upstream in upstreams:
                said = await upstream.post(base_url)
                self._heard.posted += said.posted
                self._heard.heard += said.heard

    async def _bring(self, process: Process, upstreams: Sequence[demo.Upstream]) -> None:
        """Store the credentials that upstreams let us in by, as `credentials import` does."""
        for upstream in upstreams:
            if upstream.credentials:
                instance = process.config.instances[upstream.name]
                content = upstream.credentials_file()
                await process.hops.run(credentials.bring, instance, content, process.vault)

    def _note(self, event: Event) -> None:
        self._heard.note(event)
        if self._acts:
            self._acts[-1].note(event)

    def _print(self, data_dir: Path, code: int, playing: Collection[str]) -> None:
        seconds = time.monotonic() - self._began
        for act in self._acts:
            for sentence in chain.from_iterable(map(summary.sentences, act.ends)):
                click.echo(self._invocation.redact(f"syncd: {sentence}"), err=True)
        if self._wanted.as_json:
            told = acts.as_json(self._acts, self._heard, seconds=seconds, code=code)
            text = msgspec.json.encode(told).decode()
            click.echo(msgspec.json.format(text, indent=2))
            return
        click.echo(f"\n{acts.as_table(self._acts, width=self._invocation.width)}\n")
        for sentence in acts.sentences(self._acts, self._heard):
            click.echo(sentence)
        click.echo(f"all of it took {wording.seconds(seconds)}\n")
        click.echo("look at the tables (one schema for each connector; syncd.run, syncd.pass):")
        click.echo(f"  {psql_command(data_dir)}")
        for needed, look in LOOKS.items():
            if set(needed) <= set(playing):
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
