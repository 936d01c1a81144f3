"""`syncd limits`: how running processes keep to what upstreams allow."""

from __future__ import annotations

import click

from syncd.cli import ending
from syncd.cli.invocation import Invocation
from syncd.cli.options import configuration, json_option


@click.command(
    "limits",
    short_help="Show how quotas stand: allowed, used, locked.",
    epilog="""\b
Examples:
  syncd limits
  syncd limits --json | jq '.[] | select(.refused_share > 0.01)'

\b
Exit codes: 0 fine (also where no process runs); 69 database unavailable; 78 configuration.""",
)
@json_option
@click.pass_obj
def limits(invocation: Invocation, *, as_json: bool) -> int:
    """Show how quotas stand: what is allowed, used, in flight, locked and refused.

    Each process that works on this database notes it every few seconds while something changes.
    """
    from syncd.cli import limiting
    from syncd.cli.database import ask_database
    from syncd.store import usage

    rows = ask_database(configuration(invocation), usage.listed)
    invocation.print_rows(
        rows,
        as_json=as_json,
        table=limiting.as_table,
        none="no process has asked an upstream yet; `syncd serve` or `syncd run` does",
        json=lambda all_: [limiting.as_json(row) for row in all_],
    )
    return ending.FINE
