"""`syncd effects`: what is to be done at other systems because of rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from syncd.cli import ending
from syncd.cli.invocation import Invocation
from syncd.cli.options import (
    configuration,
    confirmed,
    json_option,
    refuse_everything,
    selecting_effects,
    yes_option,
)

if TYPE_CHECKING:
    from syncd.store.selection import Outgoing


@click.group(
    "effects",
    short_help="Look at what rows cause elsewhere, and retry what failed.",
    epilog="""\b
Examples:
  syncd effects stats
  syncd effects list --kind ship24.register_tracker --state dead
  syncd effects retry --state dead
  syncd effects discard --id 17""",
)
def effects() -> None:
    """Look at effects: what is to be done at other systems because of rows.

    They are enqueued in the transaction that writes their row, and `syncd serve` delivers them
    beside all else. One that failed too often, or was refused for good, is dead until it is retried
    or discarded. Filters take globs: `*` is any text, `?` one character.
    """


@effects.command(
    "list",
    short_help="List effects, and why they wait.",
    epilog="""\b
Examples:
  syncd effects list --state pending --state dead
  syncd effects list --key '1Z*' --json

\b
Exit codes: 0 fine (also where there are none); 69 database unavailable; 78 configuration.""",
)
@selecting_effects
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True)
@json_option
@click.pass_obj
def list_(invocation: Invocation, *, which: Outgoing, limit: int, as_json: bool) -> int:
    """List effects, the newest first; with --json, payloads and answers too.

    One that waits for its account says why: nobody has it (unknown), it is disabled or parked.
    """
    from syncd.cli import effects as drawn
    from syncd.cli.database import ask_database
    from syncd.store import effects as store

    config = configuration(invocation)
    known = config.instances.values()
    rows = ask_database(config, store.listed, which, configured=known, most=limit)
    invocation.print_rows(
        rows, as_json=as_json, table=drawn.as_table, none="no effects", json=drawn.listed_as_json
    )
    return ending.FINE


@effects.command(
    "stats",
    short_help="Count effects by kind and state.",
    epilog="""\b
Example:
  syncd effects stats --json

\b
Exit codes: 0 fine; 69 database unavailable; 78 configuration.""",
)
@json_option
@click.pass_obj
def stats(invocation: Invocation, *, as_json: bool) -> int:
    """Count effects by kind and state, and say how long the oldest open one has waited."""
    from syncd.cli import effects as drawn
    from syncd.cli.database import ask_database
    from syncd.store import effects as store

    rows = ask_database(configuration(invocation), store.stats)
    invocation.print_rows(rows, as_json=as_json, table=drawn.stats_as_table, none="no effects")
    return ending.FINE


@effects.command(
    "retry",
    short_help="Let dead or discarded effects be tried again.",
    epilog="""\b
Examples:
  syncd effects retry --state dead
  syncd effects retry --id 17 --id 18

\b
Exit codes: 0 done, or none match; 64 no filter; 69 database unavailable; 78 configuration.""",
)
@selecting_effects
@json_option
@click.pass_obj
def retry(invocation: Invocation, *, which: Outgoing, as_json: bool) -> int:
    """Let dead or discarded effects be tried again, as if they had just been enqueued."""
    from syncd.cli.database import ask_database
    from syncd.store import effects as store

    refuse_everything(which)
    count = ask_database(configuration(invocation), store.retry, which)
    if as_json:
        invocation.print_json({"retried": count})
    else:
        invocation.print(f"to be tried again: {count}" if count else "no dead effect matches")
    return ending.FINE


@effects.command(
    "discard",
    short_help="Let effects never be delivered.",
    epilog="""\b
Examples:
  syncd effects discard --id 17
  syncd effects discard --state dead --yes

\b
Exit codes: 0 done, or none match; 1 you said no; 64 no filter; 69 database unavailable;
78 configuration.""",
)
@selecting_effects
@yes_option
@json_option
@click.pass_obj
def discard(invocation: Invocation, *, which: Outgoing, yes: bool, as_json: bool) -> int:
    """Let effects that are pending or dead never be delivered; those behind them go on.

    One that is being delivered just now is left alone. A row that asks for another payload enqueues
    it again.
    """
    from syncd.cli.database import ask_database
    from syncd.store import effects as store

    refuse_everything(which)
    config = configuration(invocation)
    if not yes:
        rows = ask_database(config, store.listed, which, configured=(), most=1)
        matching = rows[0]["matching"] if rows else 0
        if matching and not confirmed(f"Discard up to {matching} effects?", yes=yes):
            invocation.print("nothing was changed", err=True)
            return ending.FAILED
    count = ask_database(config, store.discard, which)
    if as_json:
        invocation.print_json({"discarded": count})
    else:
        invocation.print(f"discarded: {count}" if count else "no pending or dead effect matches")
    return ending.FINE
