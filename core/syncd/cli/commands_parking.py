"""`syncd park` and `syncd resume`: setting accounts and partitions aside, and taking them up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from syncd.cli import ending
from syncd.cli.invocation import Invocation
from syncd.cli.options import configuration, json_option, refuse_unknown

if TYPE_CHECKING:
    from syncd.config import Config

_account = click.option("--account", metavar="GLOB", help="Only this account, or these.")
_feed = click.option("--feed", metavar="GLOB", help="Only partitions of this feed.")
_slice = click.option("--slice", metavar="GLOB", help="Only this slice; '' is the whole feed.")


def _instance_of(config: Config, instance: str, account: str | None, feed: str | None) -> None:
    """Let pass only what is configured; globs that fit something of it are."""
    from fnmatch import fnmatchcase

    from syncd.cli.accounts import known_names

    refuse_unknown("INSTANCE", instance, config.instances)
    configured = config.instances[instance]
    for what, glob, known in (
        ("--account", account, known_names(config, configured, account)),
        ("--feed", feed, [each.name for each in configured.connector.feeds]),
    ):
        if glob is not None and not any(fnmatchcase(name, glob) for name in known):
            refuse_unknown(what, glob, known)


@click.command(
    "park",
    short_help="Set accounts or partitions aside until they are resumed.",
    epilog="""\b
Examples:
  syncd park cars --reason 'their maintenance, until Monday'
  syncd park stores --account 'hanoi-*' --reason 'contract ended'
  syncd park cars --feed cars --slice priority --reason 'too slow'

\b
Exit codes: 0 done, or all of it was parked already; 64 nothing of that name is known;
69 database unavailable; 78 configuration.""",
)
@click.argument("instance")
@_account
@_feed
@_slice
@click.option("--reason", required=True, metavar="TEXT", help="Why; `syncd status` shows it.")
@json_option
@click.pass_obj
def park(
    invocation: Invocation,
    *,
    instance: str,
    account: str | None,
    feed: str | None,
    slice: str | None,  # noqa: A002  # the word of the model
    reason: str,
    as_json: bool,
) -> int:
    """Set what is of INSTANCE (a table [connectors.INSTANCE]) aside until it is resumed.

    Without --feed and --slice whole accounts, with them partitions. What is being run goes on to
    the end of its run, and is not claimed again.
    """
    import attrs

    from syncd.cli import parking
    from syncd.cli.database import ask_database

    config = configuration(invocation)
    _instance_of(config, instance, account, feed)
    if not reason.strip():
        raise click.BadParameter("say why", param_hint="--reason")
    asked = parking.Asked(config.instances[instance], account, feed, slice, reason.strip())
    parked = ask_database(config, parking.park, asked)
    if as_json:
        invocation.print_json(attrs.asdict(parked))
    else:
        invocation.print(parking.said(parked))
    return ending.FINE


@click.command(
    "resume",
    short_help="Let parked accounts and partitions be run again.",
    epilog="""\b
Examples:
  syncd resume cars
  syncd resume stores --account hanoi-3
  syncd resume cars --feed cars --slice priority

\b
Exit codes: 0 done, or nothing was parked; 64 nothing of that name is configured;
69 database unavailable; 78 configuration.""",
)
@click.argument("instance")
@_account
@_feed
@_slice
@json_option
@click.pass_obj
def resume(
    invocation: Invocation,
    *,
    instance: str,
    account: str | None,
    feed: str | None,
    slice: str | None,  # noqa: A002  # the word of the model
    as_json: bool,
) -> int:
    """Let what is parked of INSTANCE (a table [connectors.INSTANCE]) be run again.

    An account is parked when its credential is refused, a partition when running it again would
    only do harm, either by `syncd park`. Mend the cause first: `syncd check` says what it is.
    With --feed or --slice only partitions are resumed.
    """
    from syncd.cli.database import ask_database
    from syncd.store import parking

    config = configuration(invocation)
    _instance_of(config, instance, account, feed)
    resumed = ask_database(config, parking.resume, instance, account, feed=feed, slice=slice)
    still = ask_database(config, parking.still_parked, instance, account)
    if as_json:
        invocation.print_json({"resumed": resumed, "accounts_still_parked": still})
        return ending.FINE
    invocation.print(f"resumed: {resumed}" if resumed else "nothing was parked")
    if still:
        which = ", ".join(still)
        invocation.print(
            f"still parked as a whole: {which}; run `syncd resume {instance}` without --feed and "
            "--slice",
            err=True,
        )
    return ending.FINE
