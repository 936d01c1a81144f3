"""`syncd serve`, and what operators ask of its jobs through the database."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

import trio

from syncd.cli import ending
from syncd.cli.database import with_control_tables
from syncd.cli.invocation import Invocation
from syncd.cli.loading import Loaded, load
from syncd.cli.running import named_jobs
from syncd.cli.screen import attend
from syncd.config import Config
from syncd.daemon import Process, Root, Stopped
from syncd.events import Event
from syncd.lanes import DEAF
from syncd.plugins import Plugins
from syncd.serving import serve
from syncd.store import rounds
from syncd.store.hops import Connection, Hops


def keep(invocation: Invocation, loaded: Loaded) -> int:
    """Run the daemon until it is told to stop; answer with the exit code.

    A drain that was cut, by its deadline or by a second signal, lost nothing that was committed:
    that is a clean end, too.
    """
    attendance = attend(loaded.config, loaded.secrets)
    for warning in loaded.config.warnings:
        attendance.screen.say(f"syncd: warning: {warning}")

    def reload() -> tuple[Config, Plugins]:
        again = load(invocation)
        attendance.observer.protect(again.secrets)
        return again.config, again.plugins

    async def main(process: Process) -> None:
        await serve(process, reload)

    root = Root(loaded.config, loaded.plugins, attendance.observer)
    with attendance.screen.showing(), suppress(Stopped):
        trio.run(root.run, main)
    return ending.TRY_AGAIN if root.drain_reason in {"memory", "threads", DEAF} else ending.FINE


def ask(
    loaded: Loaded, names: Sequence[str], what: Callable[[Connection, str], bool]
) -> dict[str, bool]:
    """Ask something of jobs through the database; answer for each whether it changed anything.

    Raises: `click.UsageError` where one is not configured.
    """
    jobs = named_jobs(loaded, names)

    async def put(hops: Hops) -> dict[str, bool]:
        return {job.name: await hops.run(what, job.name) for job in jobs}

    return trio.run(lambda: with_control_tables(loaded.config, put, emit=_nobody_listens))


def say(invocation: Invocation, name: str, done: dict[str, bool], *, as_json: bool) -> int:
    """Say what became of it; answer with the exit code: 1 where it changed nothing."""
    yes, no = _SAID[name]
    if as_json:
        invocation.print_json({"jobs": done})
    else:
        for job, changed in done.items():
            invocation.print(f"{job}: {yes if changed else no}", err=not changed)
    return ending.FINE if all(done.values()) else ending.FAILED


ASKED = {
    "trigger": rounds.ask,
    "cancel": rounds.cancel,
    "pause": rounds.pause,
    "unpause": rounds.unpause,
}
_SAID = {
    "trigger": (
        "a round begins as soon as a daemon looks",
        "no daemon has kept it yet; start `syncd serve`",
    ),
    "cancel": ("its round is cut short", "no daemon runs a round of it; see `syncd status`"),
    "pause": ("no round begins any more", "it is paused already, or no daemon has kept it yet"),
    "unpause": ("rounds begin again", "it is not paused"),
}


def _nobody_listens(_: Event) -> None:
    """Take an event that none of these commands has a use for."""
