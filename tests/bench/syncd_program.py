"""A process that runs one job once, as `syncd run --full` does, and says how long it took.

python syncd_program.py CONFIG TOLD

The plugin of the plain shapes is nobody's to install, so the configuration is built here; engine,
connectors and defaults are the shipped ones.
"""

from __future__ import annotations

import json
import sys
import time
from importlib import import_module
from pathlib import Path

import trio

from syncd import config, jobs, verdicts
from syncd.daemon import Process, Root
from syncd.events import BatchCommitted, Event, PageFetched
from syncd.observe import Observer
from syncd.plugins import Plugins

MODULES = {
    "cars": "syncd_cars.plugin",
    "caused": "effect_plugin",
    "plain": "plain_plugin",
    "viewed": "plain_plugin",
}
WAIT_SECONDS = 30.0  # for pages that must wait: there should be none


class Noting:
    """Notes when the first request left, and when the last batch was committed."""

    def __init__(self) -> None:
        self.first_request = 0.0
        self.last_commit = 0.0
        self.counts = dict.fromkeys(("inserted", "updated", "unchanged", "quarantined"), 0)

    def note(self, event: Event) -> None:
        match event:
            case PageFetched(duration_seconds=took):
                self.first_request = self.first_request or time.monotonic() - took
            case BatchCommitted():
                self.last_commit = time.monotonic()
                for name in self.counts:
                    self.counts[name] += getattr(event, name)
            case _:
                pass


def main(file: Path, told: Path) -> int:
    raw = config.read(file)
    plugins = Plugins({name: import_module(MODULES[name]) for name in raw.plugins})
    settings = config.structure(raw, plugins.connectors, environment={})
    noting = Noting()
    observer = Observer(stream=sys.stderr)
    observer.listen(noting.note)
    (job,) = settings.jobs.values()

    async def run(process: Process) -> list[verdicts.Result]:
        return await jobs.run_job(process, job, mode="full", wait_seconds=WAIT_SECONDS)

    results = trio.run(Root(settings, plugins, observer).run, run)
    for result in results:
        print(f"{result.partition}: {result.verdict}; {result.message}", file=sys.stderr)
    own = noting.last_commit - noting.first_request
    told.write_text(json.dumps({"own_seconds": own, "counts": noting.counts}))
    return verdicts.exit_code(results)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
