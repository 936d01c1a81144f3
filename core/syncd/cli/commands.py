"""The commands, their options and what `--help` teaches; the operator's stand in `commands_*`.

Each command imports what it does when it is called: the help, the version and a wrong command line
are told without the engine, and the commands that only ask without an HTTP client.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from syncd.cli import ending
from syncd.cli.commands_accounts import accounts
from syncd.cli.commands_asking import after_restore, preview, schema, status
from syncd.cli.commands_credentials import credentials
from syncd.cli.commands_cursors import cursors
from syncd.cli.commands_daemon import cancel, pause, serve, trigger, unpause
from syncd.cli.commands_effects import effects
from syncd.cli.commands_embedded import demo, psql_command
from syncd.cli.commands_limits import limits
from syncd.cli.commands_parking import park, resume
from syncd.cli.commands_quarantine import quarantine
from syncd.cli.commands_running import backfill, run
from syncd.cli.commands_state import state
from syncd.cli.invocation import Invocation
from syncd.cli.options import configuration, json_option

_CODES = "\n".join(f"  {code:>2}  {meaning}" for code, meaning in ending.MEANINGS.items())


def invoke(arguments: Sequence[str]) -> int:
    """Run one command; answer with the exit code. Every error has become a line on stderr."""
    invocation = Invocation()
    try:
        code = cli.main(list(arguments), prog_name="syncd", standalone_mode=False, obj=invocation)
        sys.stdout.flush()
    except click.Abort:
        return _ended(invocation, KeyboardInterrupt())
    except click.ClickException as error:
        error.show()
        return ending.USAGE
    except BrokenPipeError:  # `syncd runs | head`: who reads has seen enough
        sys.stdout = None  # or Python flushes it once more, and complains
        return ending.FINE
    except (Exception, KeyboardInterrupt, BaseExceptionGroup) as error:  # noqa: BLE001
        # The border: whatever ends a command ends as a line and an exit code.
        return _ended(invocation, error)
    return int(code or 0)


def _ended(invocation: Invocation, error: BaseException) -> int:
    end = ending.ending_of(error)
    invocation.print(end.text, err=True)
    return end.code


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=f"""\b
Exit codes:
{_CODES}

\b
Begin with:
  syncd demo              see it work: a simulated upstream, a database, two passes
  syncd check             is my configuration right, does everything answer?
  syncd preview C.STREAM  what would its rows look like?
  syncd run JOB           run a job now
  syncd status            what goes on, what is wrong, what do I do?""",
)
@click.option(
    "-c",
    "--config",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("syncd.toml"),
    show_default=True,
    envvar="SYNCD_CONFIG",
    show_envvar=True,
    help="The configuration file.",
)
@click.version_option(None, "-V", "--version", package_name="syncd", message="%(prog)s %(version)s")
@click.pass_obj
def cli(invocation: Invocation, file: Path) -> None:
    """Keep PostgreSQL tables in step with HTTP APIs."""
    invocation.file = file


@cli.command(
    "check",
    short_help="Ask everything that can be asked without writing.",
    epilog="""\b
Examples:
  syncd check
  syncd --config /etc/syncd.toml check --json

\b
Exit codes: 0 all is well; 78 configuration; 69 database or upstream unavailable;
1 a credential is refused, or something is parked.""",
)
@json_option
@click.pass_obj
def check(invocation: Invocation, as_json: bool) -> int:
    """Check configuration, plugins, database, tables and credentials; write nothing.

    Lists all problems of the configuration at once, says what DDL the next run would apply, which
    pass each partition would walk and why, and puts each plugin's own question to its upstream.
    """
    from syncd.cli import checking, findings

    result = checking.check(invocation)
    if as_json:
        invocation.print_json(findings.as_json(result))
    else:
        invocation.print(findings.as_text(result))
    return findings.exit_code(result)


@cli.command(
    "migrate",
    short_help="Bring the control tables to this program's version.",
    epilog="""\b
Example:
  syncd migrate

\b
Exit codes: 0 done, or nothing to do; 78 the tables are newer than this program, or may not be
changed; 69 database unavailable.""",
)
@json_option
@click.pass_obj
def migrate(invocation: Invocation, as_json: bool) -> int:
    """Bring the control tables (schema syncd) to this program's version.

    Needed for a database that was configured by url. The embedded one is migrated by itself.
    """
    from syncd.cli import history

    names = history.migrate(configuration(invocation))
    if as_json:
        invocation.print_json({"applied": names})
        return ending.FINE
    for name in names:
        click.echo(f"applied {name}")
    if not names:
        click.echo("nothing to do: the control tables are of this program's version")
    return ending.FINE


@cli.command(
    "runs",
    short_help="Show the history of runs.",
    epilog="""\b
Examples:
  syncd runs
  syncd runs cars --limit 5 --json""",
)
@click.argument("job", required=False)
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True)
@json_option
@click.pass_obj
def runs(invocation: Invocation, job: str | None, limit: int, as_json: bool) -> int:
    """Show the history of runs, the newest first; with JOB, of that job alone."""
    from syncd.cli import history

    rows = history.runs(configuration(invocation), job=job, most=limit)
    invocation.print_rows(rows, as_json=as_json, table=history.as_table, none="no runs yet")
    return ending.FINE


@cli.command(
    "plugins",
    short_help="Show which plugins are installed and enabled.",
    epilog="""\b
Example:
  syncd plugins --json""",
)
@json_option
@click.pass_context
def plugins(ctx: click.Context, as_json: bool) -> int:
    """Show which plugins are installed, and which of them the configuration enables.

    Only plugins that the configuration enables are ever imported; this command imports none.
    """
    from syncd.cli import listing

    invocation: Invocation = ctx.obj
    parent = ctx.parent or ctx
    by_default = parent.get_parameter_source("file") == click.core.ParameterSource.DEFAULT
    missing = by_default and not invocation.file.exists()
    rows = listing.plugins(() if missing else listing.enabled_by(invocation.file))
    if as_json:
        invocation.print_json(rows)
    else:
        click.echo(listing.as_table(rows))
    return ending.FINE


for command in (
    run,
    backfill,
    serve,
    trigger,
    cancel,
    pause,
    unpause,
    status,
    limits,
    preview,
    state,
    cursors,
    quarantine,
    effects,
    accounts,
    park,
    resume,
    credentials,
    schema,
    after_restore,
    demo,
    psql_command,
):
    cli.add_command(command)
