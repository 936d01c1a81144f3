"""The commands around the daemon: `serve`, and what is asked of its jobs."""

from __future__ import annotations

import click

from syncd.cli.invocation import Invocation
from syncd.cli.options import json_option


@click.command(
    "serve",
    short_help="Keep all jobs on their schedules, for months.",
    epilog="""\b
Examples:
  syncd serve
  syncd --config /etc/syncd.toml serve
  kill -HUP PID                     read the configuration anew, all of it or nothing
  kill PID                          stop: what is fetched is committed; a second one stops at once

\b
Exit codes: 0 stopped as asked; 69 database unavailable, or the address of [admin] taken, at
the start; 75 it asks to be started anew (memory, lost threads); 78 configuration;
70 internal error.""",
)
@click.pass_obj
def serve(invocation: Invocation) -> int:
    """Keep all jobs of the configuration on their schedules.

    When a job is due (every, cron, after another job, or `syncd trigger`), a round of it begins:
    each of its partitions has a turn. Any number of daemons may share one database: a partition is
    run by one of them at a time, and when one dies the others go on where it was, once its leases
    have run out.
    """
    from syncd.cli import keeping, loading

    return keeping.keep(invocation, loading.load(invocation))


def _asks(name: str, short: str, text: str) -> click.Command:
    """Make a command that asks something of jobs through the database."""

    @click.argument("jobs", nargs=-1, required=True, metavar="JOB...")
    @json_option
    @click.pass_obj
    def command(invocation: Invocation, jobs: tuple[str, ...], as_json: bool) -> int:
        from syncd.cli import keeping, loading

        done = keeping.ask(loading.load(invocation), jobs, keeping.ASKED[name])
        return keeping.say(invocation, name, done, as_json=as_json)

    epilog = f"""\b
Example:
  syncd {name} cars

\b
Exit codes: 0 done; 1 it changed nothing, and stderr says why; 64 no such job;
69 database unavailable; 78 configuration."""
    return click.command(name, short_help=short, help=text, epilog=epilog)(command)


trigger = _asks(
    "trigger",
    "Let a round of jobs begin now, in any daemon.",
    "Let a round of jobs begin now; the schedule goes on as planned.\n\nAny daemon that keeps the "
    "job obeys, within a second or two. While a round runs, another one follows it. `syncd run` "
    "does the work itself instead.",
)
cancel = _asks(
    "cancel",
    "Cut the running round of jobs short.",
    "Cut the running round of jobs short, in all daemons.\n\nWhat is committed stays, passes stay "
    "open, and the next round goes on with them.",
)
pause = _asks(
    "pause",
    "Let no round of jobs begin any more.",
    "Let no round of jobs begin any more; one that runs goes on to its end.\n\nMoments of the "
    "schedule pass by meanwhile; what was triggered waits. `syncd unpause` is the way back.",
)
unpause = _asks(
    "unpause",
    "Let rounds of paused jobs begin again.",
    "Let rounds of paused jobs begin again, at their next moments.",
)
