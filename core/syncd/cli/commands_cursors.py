"""`syncd cursors`: items that could not be had in their pass, and what is to become of them."""

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
    selecting,
    yes_option,
)

if TYPE_CHECKING:
    from syncd.store.selection import Selection

_cursor = click.option(
    "--cursor", metavar="GLOB", help="Only cursors with such a key, as `cursors failed` shows it."
)


@click.group(
    "cursors",
    short_help="Look after items that could not be had.",
    epilog="""\b
Examples:
  syncd cursors failed
  syncd cursors retry --instance shop
  syncd cursors discard --instance shop --cursor 1f00* --yes""",
)
def cursors() -> None:
    """Look after items that could not be had.

    An item (a conversation, say) that failed for an hour is given up in its pass and becomes debt
    of its partition: later passes try it again, with growing waits.
    """


@cursors.command(
    "failed",
    short_help="List failed items.",
    epilog="""\b
Examples:
  syncd cursors failed --instance shop --account 'hanoi-*'
  syncd cursors failed --json

\b
Exit codes: 0 fine (also where there are none); 69 database unavailable; 78 configuration.""",
)
@selecting
@_cursor
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True)
@json_option
@click.pass_obj
def failed(
    invocation: Invocation, *, which: Selection, cursor: str | None, limit: int, as_json: bool
) -> int:
    """List failed items with their last error, what is due first."""
    from syncd.cli import debts as drawn
    from syncd.cli.database import ask_database
    from syncd.store import debts

    config = configuration(invocation)
    rows = ask_database(config, debts.failed, which, cursor=cursor, most=limit)
    invocation.print_rows(
        rows,
        as_json=as_json,
        table=drawn.as_table,
        none="no failed items",
        json=lambda all_: [drawn.as_json(row) for row in all_],
    )
    return ending.FINE


@cursors.command(
    "retry",
    short_help="Let failed items be tried again by the next pass.",
    epilog="""\b
Examples:
  syncd cursors retry --instance shop
  syncd cursors retry --instance shop --cursor 1f00*

\b
Exit codes: 0 done, or nothing waited; 64 no filter; 69 database unavailable; 78 configuration.""",
)
@selecting
@_cursor
@json_option
@click.pass_obj
def retry(invocation: Invocation, *, which: Selection, cursor: str | None, as_json: bool) -> int:
    """Let failed items be tried again by the next pass, without waiting any longer."""
    from syncd.cli.database import ask_database
    from syncd.store import debts

    refuse_everything(which)
    count = ask_database(configuration(invocation), debts.retry, which, cursor=cursor)
    if as_json:
        invocation.print_json({"due": count})
    else:
        said = f"due now: {count}; the next pass of their partitions tries them"
        invocation.print(said if count else "nothing waited")
    return ending.FINE


@cursors.command(
    "discard",
    short_help="Give failed items up for good.",
    epilog="""\b
Examples:
  syncd cursors discard --instance shop --cursor 1f00*
  syncd cursors discard --instance shop --yes

\b
Exit codes: 0 done, or there were none; 1 you said no; 64 no filter; 69 database unavailable;
78 configuration.""",
)
@selecting
@_cursor
@yes_option
@json_option
@click.pass_obj
def discard(
    invocation: Invocation, *, which: Selection, cursor: str | None, yes: bool, as_json: bool
) -> int:
    """Give failed items up: no pass tries them again unless the upstream names them again."""
    from syncd.cli.database import ask_database
    from syncd.store import debts

    refuse_everything(which)
    config = configuration(invocation)
    if not yes:
        rows = ask_database(config, debts.failed, which, cursor=cursor, most=10_000)
        if rows and not confirmed(f"Give up {len(rows)} failed items?", yes=yes):
            invocation.print("nothing was changed", err=True)
            return ending.FAILED
    count = ask_database(config, debts.discard, which, cursor=cursor)
    if as_json:
        invocation.print_json({"discarded": count})
    else:
        invocation.print(f"discarded: {count}" if count else "no failed items")
    return ending.FINE
