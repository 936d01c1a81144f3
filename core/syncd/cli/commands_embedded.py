"""`syncd demo` and `syncd psql`: the embedded PostgreSQL, to see it work and to look into it."""

from __future__ import annotations

from pathlib import Path

import click

from syncd.cli.invocation import Invocation
from syncd.cli.options import configuration, json_option

DEMO_RATE = 20.0  # requests/s: above what two cores can store of 1,000-car pages


@click.command(
    "demo",
    short_help="See it work: simulated upstreams, a database, two full passes.",
    epilog="""\b
Examples:
  syncd demo                             190,000 cars, in under two minutes
  syncd demo --cars 5000                 in seconds
  syncd demo --only tiktok               one connector by itself
  syncd demo --rate 1                    at the pace that the real feed allows
  syncd demo --real-size                 cars as heavy as real ones (1.1 GB in all)""",
)
@click.option("--cars", type=click.IntRange(1), default=190_000, show_default=True)
@click.option(
    "--only",
    multiple=True,
    metavar="CONNECTOR",
    help="Play with this one and no other; may be given again.",
)
@click.option(
    "--rate",
    type=click.FloatRange(0.1, 1000),
    default=DEMO_RATE,
    show_default=True,
    help="Requests a second that the simulator allows; the real feed allows about 1.",
)
@click.option("--real-size", is_flag=True, help="Cars of about 6 KB instead of 1.5 KB.")
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("syncd-data/demo"),
    show_default=True,
    help="Where the demo's database is kept; the next demo there begins by emptying it.",
)
@click.option("--keep", is_flag=True, help="Keep the server up afterwards, until Enter or Ctrl-C.")
@json_option
@click.pass_obj
def demo(
    invocation: Invocation,
    *,
    cars: int,
    only: tuple[str, ...],
    rate: float,
    real_size: bool,
    data_dir: Path,
    keep: bool,
    as_json: bool,
) -> int:
    """See it work, without configuration and without the internet.

    Starts an embedded PostgreSQL and a simulated upstream for each connector on this machine, walks
    all of them, lets 1 % of the records change, walks them once more, and shows what both passes
    did.
    """
    from syncd.cli import demonstrating

    wanted = demonstrating.Wanted(
        cars=cars,
        only=only,
        requests_per_second=rate,
        weight="real" if real_size else "demo",
        data_dir=data_dir,
        keep=keep,
        as_json=as_json,
    )
    return demonstrating.show(invocation, wanted)


@click.command(
    "psql",
    short_help="Open psql on the embedded database.",
    context_settings={"ignore_unknown_options": True},
    epilog="""\b
Examples:
  syncd psql                                    of the configuration's data_dir
  syncd psql --data-dir syncd-data/demo         of the demo
  syncd psql -c 'SELECT * FROM syncd.run'       all that follows goes to psql""",
)
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Instead of the configuration's data_dir.",
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[PSQL ARGUMENTS]...")
@click.pass_obj
def psql_command(invocation: Invocation, data_dir: Path | None, arguments: tuple[str, ...]) -> int:
    """Open psql on the embedded database; its server is started, or joined where it runs.

    Ends with psql's own exit code.
    """
    from syncd.cli.psql import psql

    if data_dir is None:
        config = configuration(invocation)
        if config.database.url is not None:
            raise click.UsageError(
                "the configuration names a database by url: open it with a psql of your own, or "
                "name an embedded one with --data-dir"
            )
        data_dir = config.daemon.data_dir
    return psql(data_dir, arguments)
