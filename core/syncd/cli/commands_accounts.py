"""`syncd accounts`: those that stand in the control tables, beside the configuration's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from syncd.cli import ending
from syncd.cli.invocation import Invocation
from syncd.cli.options import configuration, confirmed, json_option, yes_option

if TYPE_CHECKING:
    from syncd.accounts import Taken
    from syncd.cli.accounts import Change

_FOLLOWS = "Running daemons follow within seconds, without a restart."
_CODES = "64 the command line is wrong; 69 database unavailable; 78 configuration"
_names = click.argument("names", nargs=-1, required=True, metavar="NAME...")


@click.group(
    "accounts",
    short_help="Show, add, import, disable and remove accounts.",
    epilog="""\b
Examples:
  syncd accounts list
  syncd accounts add stores hanoi-3 business_id=77 token=-
  syncd accounts import stores stores.csv
  syncd accounts disable stores hanoi-3""",
)
def accounts() -> None:
    """Show and change accounts: tenants of an upstream, each with its settings and credentials.

    An account stands in the configuration ([[connectors.NAME.accounts]]), which wins, or in the
    table syncd.account, which these commands keep. What is secret in its settings is sealed there
    by the keys of [vault]. CONNECTOR is the NAME of a table [connectors.NAME].
    """


@accounts.command(
    "list",
    short_help="Show accounts, where they come from, and how they stand.",
    epilog="""\b
Examples:
  syncd accounts list
  syncd accounts list stores --json | jq '.[] | select(.state != "ready")'

\b
Exit codes: 0 fine; 1 an account of the table is invalid;
"""
    + _CODES
    + ".",
)
@click.argument("connector", required=False)
@json_option
@click.pass_obj
def list_(invocation: Invocation, *, connector: str | None, as_json: bool) -> int:
    """Show accounts of CONNECTOR, or of all connectors that may have some.

    States: ready; parked (`syncd resume`); disabled; invalid (the note says why; it is not worked
    on, the others are); hidden (the configuration has one of this name). No secret is shown.
    """
    import attrs

    from syncd.cli import accounts as kept

    config = configuration(invocation)
    if connector is not None:
        kept.tenanted(config, connector)
    tenanted = [n for n, i in config.instances.items() if i.connector.account_settings is not None]
    rows = kept.listed(config, tenanted if connector is None else [connector])
    invocation.print_rows(
        rows,
        as_json=as_json,
        table=kept.as_table,
        none="no accounts; `syncd accounts add CONNECTOR NAME ...` adds one",
        json=lambda all_: [attrs.asdict(row) for row in all_],
    )
    return ending.FAILED if any(row.state == "invalid" for row in rows) else ending.FINE


@accounts.command(
    "add",
    short_help="Add an account, or change one.",
    epilog=f"""\b
Examples:
  syncd accounts add stores hanoi-3 business_id=77 token=-        asks for the token
  syncd accounts add stores hanoi-3 business_id=77 token=@hanoi.token
  pass show hanoi | syncd accounts add stores hanoi-3 business_id=77 token=-

\b
Exit codes: 0 added, changed, or as it was;
{_CODES}, or no key of the vault.""",
)
@click.argument("connector")
@click.argument("name")
@click.argument("settings", nargs=-1, metavar="KEY=VALUE...")
@json_option
@click.pass_obj
def add(
    invocation: Invocation, *, connector: str, name: str, settings: tuple[str, ...], as_json: bool
) -> int:
    """Add the account NAME to CONNECTOR, or give it these settings in place of those it has.

    KEY is a setting of the connector's accounts (`syncd schema --plugin PLUGIN` lists them), VALUE
    as it would stand in the configuration, without quotes. KEY=- reads it from stdin, or asks for
    it unseen at a terminal; KEY=@FILE reads it from a file: so no secret need stand on a command
    line, where others see it. Variables are not filled in. An account that was parked because its
    credential was refused goes on with the new one.
    """
    from syncd.cli import accounts as kept

    config = configuration(invocation)
    books = kept.books_of(config, kept.tenanted(config, connector))
    values, shown = kept.typed(settings, books.reader)
    taken = kept.take(config, books, [kept.sealed(books, name, values)])
    for key in shown:
        what = f"syncd: warning: {key} stood on the command line, where others may see it"
        invocation.print(f"{what}; write {key}=- or {key}=@FILE", err=True)
    return _say_taken(invocation, connector, taken, as_json=as_json)


@accounts.command(
    "import",
    short_help="Add or change accounts by the hundreds, from a CSV file.",
    epilog=f"""\b
Examples:
  syncd accounts import stores stores.csv
  syncd accounts import stores stores.csv --skip-bad --json

\b
  name;business_id;token            a file, as a spreadsheet writes it
  hanoi-1;77;an-invented-token
  hanoi-2;78;another-one

\b
Exit codes: 0 imported; 1 lines are bad, and nothing was imported; 3 the others were (--skip-bad);
{_CODES}, or no key of the vault.""",
)
@click.argument("connector")
@click.argument("file", metavar="FILE.csv", type=click.Path(path_type=Path))
@click.option("--skip-bad", is_flag=True, help="Import the good lines where some are bad.")
@json_option
@click.pass_obj
def import_(
    invocation: Invocation, *, connector: str, file: Path, skip_bad: bool, as_json: bool
) -> int:
    """Add the accounts of FILE.csv to CONNECTOR, or change them: all of them, or none.

    The first line names the columns: name, and keys of settings; each line below is an account. An
    empty cell leaves its setting out. Every line is looked at first, and what is bad is told with
    its line, column and reason. Accounts that the file does not name stay as they are.
    """
    import attrs

    from syncd.accounts import Taken
    from syncd.cli import accounts as kept
    from syncd.cli import sheets, wording

    config = configuration(invocation)
    books = kept.books_of(config, kept.tenanted(config, connector))
    reader = books.reader
    sheet = sheets.read(kept.file_of(file), known=reader.keys, required=reader.required)
    rows, bad = kept.judged(books, sheet)
    fine = not bad or (skip_bad and bool(rows))
    taken = kept.take(config, books, rows) if fine else Taken()
    told = {"bad": [attrs.asdict(each) for each in bad]}
    for each in [] if as_json else bad:
        invocation.print(f"{file}: {each}", err=True)
    if not fine:
        lines = wording.counted(len({each.line for each in bad}), "line")
        if as_json:
            invocation.print_json({**attrs.asdict(taken), **told})
        else:
            what = f"{lines} of {file} to mend; nothing was imported"
            invocation.print(what, err=True)
        return ending.FAILED
    _say_taken(invocation, connector, taken, as_json=as_json, more=told)
    return ending.PARTIAL if bad else ending.FINE


@accounts.command(
    "disable",
    short_help="Work on accounts no more, until they are enabled.",
    epilog=f"""\b
Example:
  syncd accounts disable stores hanoi-3 hanoi-4

\b
Exit codes: 0 done, or they were;
{_CODES}.""",
)
@click.argument("connector")
@_names
@json_option
@click.pass_obj
def disable(
    invocation: Invocation, *, connector: str, names: tuple[str, ...], as_json: bool
) -> int:
    """Let accounts of the table be worked on no more.

    A run that goes on commits what it has fetched, and ends; none of their partitions is claimed
    again. Where they stand is kept: once enabled, they go on there.
    """
    from syncd.store import accounts as stored

    return _change(invocation, connector, names, stored.disable, "disabled", as_json=as_json)


@accounts.command(
    "enable",
    short_help="Work on disabled accounts again.",
    epilog=f"""\b
Example:
  syncd accounts enable stores hanoi-3

\b
Exit codes: 0 done, or they were;
{_CODES}.""",
)
@click.argument("connector")
@_names
@json_option
@click.pass_obj
def enable(invocation: Invocation, *, connector: str, names: tuple[str, ...], as_json: bool) -> int:
    """Let disabled accounts be worked on again, from the next round of each job on."""
    from syncd.store import accounts as stored

    return _change(invocation, connector, names, stored.enable, "enabled", as_json=as_json)


@accounts.command(
    "remove",
    short_help="Remove accounts from the table, with their secrets.",
    epilog=f"""\b
Example:
  syncd accounts remove stores hanoi-3 --yes

\b
Exit codes: 0 done;
{_CODES}.""",
)
@click.argument("connector")
@_names
@yes_option
@json_option
@click.pass_obj
def remove(
    invocation: Invocation, *, connector: str, names: tuple[str, ...], yes: bool, as_json: bool
) -> int:
    """Remove accounts from the table, with their settings and secrets.

    Their rows in data tables stay, and so does their history; their partitions are claimed no
    more. One that is added again under its name goes on where it stood.
    """
    from syncd.cli import wording
    from syncd.store import accounts as stored

    which = wording.counted(len(names), "account")
    question = f"Remove {which} of {connector}, with their secrets? Rows in data tables stay."
    if not confirmed(question, yes=yes):
        return ending.FAILED
    return _change(invocation, connector, names, stored.remove, "removed", as_json=as_json)


def _change(
    invocation: Invocation,
    connector: str,
    names: tuple[str, ...],
    how: Change,
    done: str,
    *,
    as_json: bool,
) -> int:
    from syncd.cli import accounts as kept
    from syncd.cli import wording

    config = configuration(invocation)
    outcome = kept.change(config, kept.tenanted(config, connector), list(dict.fromkeys(names)), how)
    if as_json:
        invocation.print_json({done: outcome.changed})
    elif outcome.changed:
        which = wording.listed(outcome.changed, most=20)
        invocation.print(f"{connector}: {done} {which}. {_FOLLOWS}")
        if done == "removed":
            invocation.print("rows in data tables stay; their partitions are claimed no more")
    else:
        invocation.print(f"{connector}: nothing to do, they were {done} already")
    return ending.FINE


def _say_taken(
    invocation: Invocation,
    connector: str,
    taken: Taken,
    *,
    as_json: bool,
    more: Mapping[str, object] | None = None,
) -> int:
    import attrs

    from syncd.cli import accounts as kept

    if as_json:
        invocation.print_json({**attrs.asdict(taken), **(more or {})})
        return ending.FINE
    follows = f". {_FOLLOWS}" if taken.added or taken.changed else ""
    invocation.print(kept.said(connector, taken) + follows)
    return ending.FINE
