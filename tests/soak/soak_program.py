"""A process that runs the jobs of a configuration again and again, until it is told to stop.

python soak_program.py CONFIG
"""

from __future__ import annotations

import sys
from itertools import count
from pathlib import Path

import trio

from syncd import config
from syncd.daemon import Process, Root
from syncd.jobs import run_job
from syncd.model import Mode
from syncd.observe import Observer
from syncd.plugins import Plugins
from syncd_cars import plugin as cars

FULL_EVERY = 4  # passes: the others ask for what changed
TRY_AGAIN = 75


def main(file: Path) -> int:
    """Run until a signal; every pass is a job run of its own."""
    raw = config.read(file)
    plugins = Plugins({"cars": cars})
    settings = config.structure(raw, plugins.connectors, environment={})
    observer = Observer(stream=sys.stderr, level="debug")

    async def again_and_again(process: Process) -> None:
        for number in count():
            for job in settings.jobs.values():
                mode: Mode = "incremental" if number % FULL_EVERY else "full"
                await run_job(process, job, mode=mode, wait_seconds=5.0)
            if process.draining.is_set():
                return

    trio.run(Root(settings, plugins, observer).run, again_and_again)
    return TRY_AGAIN


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
