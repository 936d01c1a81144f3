"""`syncd quarantine`: records that were set aside, and putting them back."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import click

from syncd.cli import ending
from syncd.cli.invocation import Invocation
from syncd.cli.options import (
    configuration,
    confirmed,
    json_option,
    refuse_everything,
    selecting_records,
    yes_option,
)

if TYPE_CHECKING:
    from syncd.store.selection import Aside


@click.group(
    "quarantine",
    short_help="Look at records that were set aside, and put them back.",
    epilog="""\b
Examples:
  syncd quarantine list --stream lots --reason key
  syncd quarantine show 17
  syncd quarantine replay --instance cars
  syncd quarantine discard --instance cars --reason decode --yes""",
)
def quarantine() -> None:
    """Look at records that were set aside, and put them back.

    A record that cannot be decoded, transformed or stored waits here with its reason, its bytes and
    how often it came; the others of its page are written. It leaves when it is replayed or
    discarded. Filters take globs: `*` is any text, `?` one character.
    """


@quarantine.command(
    "list",
    short_help="List records with their reasons.",
    epilog="""\b
Examples:
  syncd quarantine list --instance cars --reason key
  syncd quarantine list --limit 1000 --json

\b
Exit codes: 0 fine (also where there are none); 69 database unavailable; 78 configuration.""",
)
@selecting_records
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True)
@json_option
@click.pass_obj
def list_(invocation: Invocation, *, which: Aside, limit: int, as_json: bool) -> int:
    """List records with their reasons, those that came last first."""
    from syncd.cli import quarantine as drawn
    from syncd.cli.database import ask_database
    from syncd.store import quarantined

    rows = ask_database(configuration(invocation), quarantined.listed, which, most=limit)
    invocation.print_rows(
        rows, as_json=as_json, table=drawn.as_table, none="no records", json=drawn.listed_as_json
    )
    return ending.FINE


@quarantine.command(
    "show",
    short_help="Show records whole, with their bytes.",
    epilog="""\b
Examples:
  syncd quarantine show 17
  syncd quarantine show 17 18 --json

\b
Exit codes: 0 fine; 64 there is no such record; 69 database unavailable; 78 configuration.""",
)
@click.argument("ids", nargs=-1, required=True, type=int, metavar="ID...")
@json_option
@click.pass_obj
def show(invocation: Invocation, *, ids: tuple[int, ...], as_json: bool) -> int:
    """Show records whole, with their bytes as far as they can be read."""
    from syncd.cli import quarantine as drawn
    from syncd.cli.database import ask_database
    from syncd.store import quarantined

    rows = ask_database(configuration(invocation), quarantined.shown, ids)
    if missing := sorted(set(ids) - {row["id"] for row in rows}):
        names = ", ".join(map(str, missing))
        raise click.UsageError(f"no record {names}; `syncd quarantine list` shows them")
    if as_json:
        invocation.print_json([drawn.as_json(row) for row in rows])
    else:
        invocation.print("\n\n".join(drawn.as_lines(row) for row in rows))
    return ending.FINE


@quarantine.command(
    "replay",
    short_help="Make rows of records again, and write them.",
    epilog="""\b
Examples:
  syncd quarantine replay --id 17
  syncd quarantine replay --instance cars --reason transform

\b
Exit codes: 0 all replayed, or none match; 3 some stay: they failed again, or cannot be replayed;
64 no filter; 69 database unavailable; 78 configuration.""",
)
@selecting_records
@json_option
@click.pass_obj
def replay(invocation: Invocation, *, which: Aside, as_json: bool) -> int:
    """Make rows of records again with the plugin as it is now, and write them.

    What is written leaves the quarantine in the same transaction; what fails again stays, counted
    up. A row that came in the meantime in a newer state is never overwritten. Records of which only
    the first 64 KiB were kept cannot be replayed: a full pass brings them again. What follows from
    the rows is enqueued with them; where a transform awaits another API, that is asked once more.
    """
    from syncd.cli import accounts, replaying
    from syncd.cli.loading import load

    refuse_everything(which)
    hide = partial(accounts.hidden, invocation)
    outcome = replaying.replay_all(load(invocation), which, hide=hide)
    if as_json:
        invocation.print_json(replaying.as_json(outcome))
    else:
        invocation.print(replaying.as_text(outcome))
    return outcome.code


@quarantine.command(
    "discard",
    short_help="Forget records for good.",
    epilog="""\b
Examples:
  syncd quarantine discard --id 17
  syncd quarantine discard --instance cars --reason key --yes

\b
Exit codes: 0 done, or none match; 1 you said no; 64 no filter; 69 database unavailable;
78 configuration.""",
)
@selecting_records
@yes_option
@json_option
@click.pass_obj
def discard(invocation: Invocation, *, which: Aside, yes: bool, as_json: bool) -> int:
    """Forget records for good; one that comes again is set aside again."""
    from syncd.cli.database import ask_database
    from syncd.store import quarantined

    refuse_everything(which)
    config = configuration(invocation)
    if not yes:
        rows = ask_database(config, quarantined.listed, which, most=1)
        matching = rows[0]["matching"] if rows else 0
        if matching and not confirmed(f"Forget {matching} records?", yes=yes):
            invocation.print("nothing was changed", err=True)
            return ending.FAILED
    count = ask_database(config, quarantined.discard, which)
    if as_json:
        invocation.print_json({"discarded": count})
    else:
        invocation.print(f"discarded: {count}" if count else "no record matches")
    return ending.FINE
