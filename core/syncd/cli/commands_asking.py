"""`syncd status`, `preview`, `schema` and `after-restore`: what is, what would be, what holds."""

from __future__ import annotations

import json

import click

from syncd.cli import ending
from syncd.cli.invocation import Invocation
from syncd.cli.options import configuration, json_option


@click.command(
    "status",
    short_help="Show what goes on, what is wrong, and what to do.",
    epilog="""\b
Examples:
  syncd status
  syncd status --json

\b
Exit codes: 0 nothing stands still; 1 something is parked and waits for you; 69 database
unavailable; 78 configuration.""",
)
@click.option(
    "--limit",
    type=click.IntRange(1, 10_000),
    default=20,
    show_default=True,
    help="Passes and troubled partitions shown one by one.",
)
@json_option
@click.pass_obj
def status(invocation: Invocation, *, limit: int, as_json: bool) -> int:
    """Show what goes on, what is wrong, and what to do.

    For each feed how many partitions are ready, due, leased, parked and failing, how late the
    oldest is, and what ran last; who works here; open passes; sizes; and what waits for you, with
    the command that helps.
    """
    from syncd.cli import status as drawn
    from syncd.cli.database import ask_database
    from syncd.store import overview

    config = configuration(invocation)
    known, mark = config.instances.values(), config.daemon.effects_max
    seen = ask_database(config, overview.overview, most=limit, configured=known, effects_max=mark)
    if as_json:
        invocation.print_json(drawn.as_json(seen))
    else:
        invocation.print(drawn.as_text(seen, width=invocation.width))
    return drawn.exit_code(seen)


@click.command(
    "preview",
    short_help="Fetch and transform some records; write nothing.",
    epilog="""\b
Examples:
  syncd preview cars.lots --limit 20
  syncd preview shop.orders --account hanoi-3 --json

\b
Exit codes: 0 shown, whatever would be set aside; 1 the credential is refused, or the plugin has a
bug; 64 there is no such stream; 69 upstream unavailable; 75 throttled; 78 configuration.""",
)
@click.argument("stream", metavar="CONNECTOR.STREAM")
@click.option(
    "--limit",
    type=click.IntRange(1, 100_000),
    default=10,
    show_default=True,
    help="Records that rows are made of.",
)
@click.option("--account", help="Of this account; the first one by default.")
@click.option("--slice", help="Of this slice; '' is the whole feed, and the default.")
@click.option(
    "--pages",
    type=click.IntRange(1, 10_000),
    default=20,
    show_default=True,
    help="Pages fetched at most, where records of the stream are far between.",
)
@json_option
@click.pass_obj
def preview(
    invocation: Invocation,
    *,
    stream: str,
    limit: int,
    account: str | None,
    slice: str | None,  # noqa: A002  # the word of the model
    pages: int,
    as_json: bool,
) -> int:
    """Fetch and transform some records of a stream as a full pass would, and show their rows.

    Writes nothing, and needs no database, but for an account that only the control tables have;
    the upstream's limits are kept. Records that would be set aside are shown with their reason;
    what only PostgreSQL can refuse is not foreseen. Of a derived stream the select is run, in a
    transaction that cannot write. --json prints one document with rows and quarantined records.
    """
    from syncd.cli import accounts, previewing
    from syncd.cli.loading import load

    loaded = accounts.for_account(invocation, load(invocation), stream.rpartition(".")[0], account)
    asked = previewing.wanted(
        loaded, stream, account=account, slice=slice, records_max=limit, pages_max=pages
    )
    found = previewing.preview(loaded, asked, as_json=as_json)
    if as_json:
        invocation.print_json(previewing.as_json(found))
    else:
        invocation.print(previewing.as_text(found, width=invocation.width))
    return ending.FINE


@click.command(
    "schema",
    short_help="Print the JSON Schema of the configuration, or of log lines.",
    epilog="""\b
Examples:
  syncd schema > syncd.schema.json
  syncd schema --plugin cars      and what [connectors.cars] may hold
  syncd schema --events

\b
Exit codes: 0 fine; 64 there is no such plugin; 78 a plugin cannot be used.""",
)
@click.option("--events", is_flag=True, help="Of the lines that syncd logs.")
@click.option(
    "--plugin", "plugins", multiple=True, help="With the settings of this plugin; may be repeated."
)
def schema(*, events: bool, plugins: tuple[str, ...]) -> int:
    """Print the JSON Schema (2020-12) of the configuration, for editors and checks.

    Needs no configuration. Only plugins that are named are imported.
    """
    from syncd import event_schema
    from syncd.cli.options import refuse_unknown
    from syncd.config import schema as config_schema
    from syncd.plugins import Plugins, found

    if events:
        if plugins:
            raise click.UsageError("--events and --plugin: give one of them")
        described = event_schema.generate()
    else:
        for name in plugins:
            refuse_unknown("--plugin", name, [each.name for each in found()])
        described = config_schema.generate(Plugins.load(plugins).connectors)
    click.echo(json.dumps(described, indent=2, ensure_ascii=False))
    return ending.FINE


@click.command(
    "after-restore",
    short_help="After a backup was restored: fence off what is lost.",
    epilog="""\b
Examples:
  syncd after-restore
  syncd after-restore --json

\b
Exit codes: 0 done; 75 processes give signs of life on this database; 69 database unavailable;
78 configuration.""",
)
@click.option("--yes", is_flag=True, help="Also while processes give signs of life here.")
@json_option
@click.pass_obj
def after_restore(invocation: Invocation, *, yes: bool, as_json: bool) -> int:
    """Make a restored database safe to work on; run it before any daemon starts.

    Raises every partition's epoch and takes every lease, so that a process of the time line that is
    lost can write nothing; marks runs that were going on as lost; forgets signs of life, and what
    unchanged pages are known by. Says what the backup cannot know. May be run again.
    """
    from syncd.cli import restoring

    found = restoring.after_restore(configuration(invocation), although_alive=yes)
    if as_json:
        invocation.print_json(restoring.as_json(found))
    else:
        invocation.print(restoring.as_text(found, width=invocation.width))
    return ending.FINE
