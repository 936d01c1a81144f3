"""A process that runs a job, or serves, and is killed or stopped at a named step: for tests only.

Production code has no switch for this: the program arms `syncd.faults` itself. It reads its order
from `order.json` in a folder, and leaves there, before it sends itself the signal, `trapped.json`
with the step that was reached. Events go to standard error, what became of the partitions to
standard output; the exit code is that of `syncd run`.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import census
import clinic
import courier
import library
import mall
import msgspec
import post_office
import saboteur
import sightings
import trio
from traps import Step, Trap

from syncd import config, faults, jobs, serving, verdicts
from syncd.daemon import Process, Root, Stopped
from syncd.observe import Observer
from syncd.plugins import Plugins
from syncd_cars import plugin as cars
from syncd_front import plugin as front
from syncd_ship24 import plugin as ship24

STOPPED = 75  # as `syncd run` exits when a signal cut it


@attrs.frozen
class Trapped:
    """Send ourselves `signal` at `step`."""

    step: Step
    signal: int


@attrs.frozen
class Order:
    """What a process is to do. `wait_seconds`: for partitions that another one holds."""

    config: str
    wait_seconds: float
    trapped: Trapped | None = None
    serves: bool = False


@attrs.frozen
class Engine:
    """A configured engine, as `syncd run` has it."""

    settings: config.Config
    plugins: Plugins

    @classmethod
    def of(cls, file: Path) -> Engine:
        """Read a configuration; the plugins it enables are bundled ones and the tests' own."""
        raw = config.read(file)
        known: dict[str, Any] = {
            "cars": cars,
            "census": census.PLUGIN,
            "clinic": clinic.PLUGIN,
            "courier": courier.PLUGIN,
            "front": front,
            "library": library.PLUGIN,
            "mall": mall.PLUGIN,
            "office": post_office,
            "saboteur": saboteur,
            "ship24": ship24,
            "sightings": sightings,
        }
        plugins = Plugins({name: known[name] for name in raw.plugins})
        return cls(config.structure(raw, plugins.connectors, environment={}), plugins)

    async def run(self, *, wait_seconds: float, observer: Observer) -> list[verdicts.Result]:
        """Run its one job once."""
        (job,) = self.settings.jobs.values()

        async def main(process: Process) -> list[verdicts.Result]:
            return await jobs.run_job(process, job, mode=job.mode, wait_seconds=wait_seconds)

        return await Root(self.settings, self.plugins, observer).run(main)

    async def serve(self, file: Path, observer: Observer) -> None:
        """Keep its jobs until it is told to stop."""

        def reload() -> tuple[config.Config, Plugins]:
            again = Engine.of(file)
            return again.settings, again.plugins

        async def main(process: Process) -> None:
            await serving.serve(process, reload)

        await Root(self.settings, self.plugins, observer).run(main)


def main(folder: Path) -> int:
    """Carry out the order that stands in a folder."""
    order = msgspec.json.decode((folder / "order.json").read_bytes(), type=Order)
    observer = Observer(stream=sys.stderr, level="debug")
    if order.trapped is not None:
        faults.arm(Trap(order.trapped.step, partial(spring, order.trapped, folder, observer)))
    engine = Engine.of(Path(order.config))
    if order.serves:
        with suppress(Stopped):
            trio.run(engine.serve, Path(order.config), observer)
        return 0
    run = partial(engine.run, wait_seconds=order.wait_seconds, observer=observer)
    try:
        results = trio.run(run)
    except Stopped:
        return STOPPED
    said = [{"verdict": each.verdict, "message": each.message} for each in results]
    print(msgspec.json.encode(said).decode(), flush=True)
    (job,) = engine.settings.jobs.values()
    return verdicts.exit_code(results, job.thresholds)


def spring(trapped: Trapped, folder: Path, observer: Observer) -> None:
    """Leave word that the step was reached, and send ourselves the signal."""
    observer.flush()  # what was said before it was said
    left = folder / "trapped.part"
    left.write_bytes(msgspec.json.encode(trapped.step))
    left.rename(folder / "trapped.json")
    os.kill(os.getpid(), trapped.signal)
