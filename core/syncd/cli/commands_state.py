"""`syncd state`: how far partitions are, and setting it by hand."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

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
    from syncd.store.partitions import Changed
    from syncd.store.selection import Selection

MOST = 10_000  # partitions that are listed one by one
NAMED_MAX = 10  # in one line

_limit = click.option(
    "--limit",
    type=click.IntRange(1, MOST),
    default=1000,
    show_default=True,
    help="At most so many.",
)


def _moment(_: click.Context, __: click.Parameter, value: str) -> datetime:
    """Read a moment that says which zone it is of."""
    try:
        moment = datetime.fromisoformat(value)
    except ValueError as error:
        said = f"found {value!r}, wanted a moment such as 2026-01-31T06:00:00Z"
        raise click.BadParameter(said) from error
    if moment.tzinfo is None:
        raise click.BadParameter(f"found {value!r}, which has no zone: add Z for UTC, or +01:00")
    return moment


@click.group(
    "state",
    short_help="Show how far partitions are, and set it by hand.",
    epilog="""\b
Examples:
  syncd state list
  syncd state show --instance cars --slice ''
  syncd state set --instance cars --watermark 2026-01-31T06:00:00Z
  syncd state clear --instance 'shop-*' --account hanoi-3 --yes""",
)
def state() -> None:
    """Show how far partitions are, and set it by hand.

    Filters take globs: `*` is any text, `?` one character. Whatever changes something refuses while
    a process holds a lease on one of the partitions, and changes all of them or none.
    """


@state.command(
    "list",
    short_help="List partitions as they stand.",
    epilog="""\b
Examples:
  syncd state list --instance cars
  syncd state list --account 'hanoi-*' --json

\b
Exit codes: 0 fine (also where nothing matches); 69 database unavailable; 78 configuration.""",
)
@selecting
@_limit
@json_option
@click.pass_obj
def list_(invocation: Invocation, *, which: Selection, limit: int, as_json: bool) -> int:
    """List partitions as they stand: watermark, when they are due, who holds them."""
    from syncd.cli import standings
    from syncd.cli.database import ask_database
    from syncd.store import partitions

    config = configuration(invocation)
    rows = ask_database(config, partitions.standing, which, most=limit)
    if as_json:
        invocation.print_json([standings.as_json(row) for row in rows])
    elif rows:
        invocation.print(standings.as_table(rows, width=invocation.width))
        if len(rows) == limit:
            invocation.print("there may be more; see them with --limit")
    else:
        invocation.print("no partition matches; the first run of a job makes its partitions known")
    return ending.FINE


@state.command(
    "show",
    short_help="Show everything about one partition.",
    epilog="""\b
Examples:
  syncd state show --instance cars --feed cars --slice ''
  syncd state show --instance shop --account hanoi-3 --json

\b
Exit codes: 0 fine; 64 none or several match; 69 database unavailable; 78 configuration.""",
)
@selecting
@json_option
@click.pass_obj
def show(invocation: Invocation, *, which: Selection, as_json: bool) -> int:
    """Show everything about one partition.

    Its watermark, fingerprints, epoch and lease, the open pass with its cursors by state, what is
    owed from earlier passes, the last run and the last error.
    """
    from syncd.cli import standings, wording
    from syncd.cli.database import ask_database
    from syncd.store import partitions

    config = configuration(invocation)
    rows = ask_database(config, partitions.standing, which, most=MOST)
    if not rows:
        raise click.UsageError("no partition matches; `syncd state list` shows them")
    if len(rows) > 1:
        names = wording.listed([partitions.name_of(row) for row in rows], most=NAMED_MAX)
        raise click.UsageError(f"{len(rows)} partitions match ({names}); narrow the filters")
    details = ask_database(config, partitions.details, rows[0]["id"])
    if as_json:
        invocation.print_json(standings.as_json(rows[0]) | details)
    else:
        invocation.print(standings.as_lines(rows[0], details))
    return ending.FINE


@state.command(
    "set",
    short_help="Set the watermark: what the next incremental pass starts from.",
    epilog="""\b
Examples:
  syncd state set --instance cars --watermark 2026-01-31T06:00:00Z
  syncd state set --instance shop --account 'hanoi-*' --watermark 2026-01-31T06:00+07:00 --yes

\b
Exit codes: 0 done; 1 you said no, or the moment lies in the future; 64 nothing matches;
75 a process holds one of them; 69 database unavailable; 78 configuration.""",
)
@selecting
@click.option(
    "--watermark",
    required=True,
    callback=_moment,
    metavar="MOMENT",
    help="In ISO 8601, with its zone.",
)
@yes_option
@json_option
@click.pass_obj
def set_(
    invocation: Invocation, *, which: Selection, watermark: datetime, yes: bool, as_json: bool
) -> int:
    """Set the watermark: what the next incremental pass starts from.

    Open passes are set aside, since they started elsewhere. A process that still believes in a
    lease that has run out can write nothing afterwards.
    """
    from syncd.store import partitions

    moment = watermark.isoformat()
    return _change(
        invocation,
        which,
        partitions.set_watermark,
        watermark,
        question=f"Set the watermark to {moment}",
        done=f"watermark set to {moment}",
        yes=yes,
        as_json=as_json,
    )


@state.command(
    "clear",
    short_help="Forget how far partitions are: the next pass is full.",
    epilog="""\b
Examples:
  syncd state clear --instance cars --slice ''
  syncd state clear --instance shop --account hanoi-3 --yes

\b
Exit codes: 0 done; 1 you said no; 64 nothing matches; 75 a process holds one of them;
69 database unavailable; 78 configuration.""",
)
@selecting
@yes_option
@json_option
@click.pass_obj
def clear(invocation: Invocation, *, which: Selection, yes: bool, as_json: bool) -> int:
    """Forget how far partitions are: the next pass is full.

    Watermark, fingerprints, the open pass, and what unchanged pages are known by are forgotten.
    Rows, history and failed items stay.
    """
    from syncd.store import partitions

    return _change(
        invocation,
        which,
        partitions.clear,
        question="Forget watermark, fingerprints and open pass",
        done="cleared",
        yes=yes,
        as_json=as_json,
    )


def _change(
    invocation: Invocation,
    which: Selection,
    change: Callable[..., Changed],
    *given: Any,
    question: str,
    done: str,
    yes: bool,
    as_json: bool,
) -> int:
    """Show what matches, ask, change it, and say what was done."""
    import attrs

    from syncd.cli import standings, wording
    from syncd.cli.database import ask_database
    from syncd.store import partitions

    refuse_everything(which)
    config = configuration(invocation)
    if not yes:
        rows = ask_database(config, partitions.standing, which, most=MOST)
        names = wording.listed([partitions.name_of(row) for row in rows], most=NAMED_MAX)
        if rows and not confirmed(f"{question} of {names}?", yes=yes):
            invocation.print("nothing was changed", err=True)
            return ending.FAILED
    changed = ask_database(config, change, which, *given)
    if not changed.partitions:
        raise click.UsageError(f"no partition matches {which}; `syncd state list` shows them")
    if as_json:
        invocation.print_json(attrs.asdict(changed))
    else:
        invocation.print(standings.changed(done, changed))
    return ending.FINE
