"""`syncd credentials`: the tokens by which accounts are let in, where those are renewed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from syncd.cli import ending
from syncd.cli.invocation import Invocation
from syncd.cli.options import configuration, json_option, refuse_unknown

if TYPE_CHECKING:
    from typing import BinaryIO


@click.group(
    "credentials",
    short_help="Look at OAuth credentials, import them, change the keys they are sealed with.",
    epilog="""\b
Examples:
  syncd credentials list
  syncd credentials import tiktok stores.csv
  syncd credentials new-key

\b
To change the key: put a new one first in [vault] keys, leave the old one second, and restart;
then `syncd credentials reencrypt`; then take the old one out.""",
)
def credentials() -> None:
    """Look at OAuth credentials, import them, change the keys they are sealed with.

    Where an API lets accounts in by tokens that expire, syncd renews them by itself and keeps them
    in the database, sealed with a key of [vault] keys. No command ever shows a token.
    """


@credentials.command(
    "list",
    short_help="Show how each account's credential stands.",
    epilog="""\b
Examples:
  syncd credentials list
  syncd credentials list --json

\b
Exit codes: 0 fine (also where there are none); 69 database unavailable; 78 configuration.""",
)
@json_option
@click.pass_obj
def list_(invocation: Invocation, *, as_json: bool) -> int:
    """Show how each account's credential stands: until when, since when, and whether it is taken.

    State reauth_required: the provider takes the refresh token no more, and the account is parked
    until another credential is imported. The others go on.
    """
    from syncd.cli import credentials as drawn
    from syncd.cli.database import ask_database
    from syncd.store import credentials as store

    rows = ask_database(configuration(invocation), store.listed)
    invocation.print_rows(
        rows,
        as_json=as_json,
        table=drawn.as_table,
        none="no credentials; `syncd credentials import` brings some",
        json=drawn.as_json,
    )
    return ending.FINE


@credentials.command(
    "import",
    short_help="Store credentials that a file brings.",
    epilog="""\b
The file's first line names its columns; their order is free:
  account             as in the configuration, or in `syncd accounts list`
  access_token        what requests are let in by
  refresh_token       what is traded for the next ones; may be left out
  access_expires_at   ISO 8601 with a zone (2027-03-01T12:00:00Z) or unix seconds; may be left out
  refresh_expires_at  likewise
  anything else       details that the connector wants beside them, such as open_id
Between columns stands a comma or a semicolon.

\b
Examples:
  syncd credentials import tiktok stores.csv
  consent-tool --csv | syncd credentials import tiktok -

\b
Exit codes: 0 all imported; 1 a row is wrong, and none was imported; 64 no such connector;
69 database unavailable; 78 configuration, or there is no key.""",
)
@click.argument("connector")
@click.argument("file", type=click.File("rb"))
@json_option
@click.pass_obj
def import_(invocation: Invocation, *, connector: str, file: BinaryIO, as_json: bool) -> int:
    """Store the credentials that FILE (CSV; - is stdin) brings for accounts of CONNECTOR.

    All rows, or none where one is wrong. What was stored of these accounts is replaced, and an
    account that was parked since its credential was refused is resumed, in a running daemon too.
    Delete the file afterwards: it holds tokens in plain.
    """
    import attrs

    from syncd import vault
    from syncd.cli import credentials as doing
    from syncd.cli.credential_rows import FILE_MAX_BYTES
    from syncd.cli.database import ask_database

    config = configuration(invocation)
    refuse_unknown("CONNECTOR", connector, config.instances)
    instance = config.instances[connector]
    if doing.keeps_none(instance):
        said = f"{connector!r} has its credentials in the configuration, and none in the vault"
        raise click.BadParameter(said, param_hint="CONNECTOR")
    content = file.read(FILE_MAX_BYTES + 1)
    if len(content) > FILE_MAX_BYTES:
        raise click.BadParameter(f"has over {FILE_MAX_BYTES >> 20} MiB", param_hint="FILE")
    done = ask_database(config, doing.bring, instance, content, vault.opened(config))
    if as_json:
        invocation.print_json({"exit_code": done.code, **attrs.asdict(done)})
    elif done.problems:
        invocation.print("\n".join([*done.problems, "nothing was imported"]), err=True)
    else:
        invocation.print(doing.said(done))
    return done.code


@credentials.command(
    "reencrypt",
    short_help="Seal everything anew with the first key.",
    epilog="""\b
Example:
  syncd credentials reencrypt

\b
Exit codes: 0 done; 78 there is no key, or none that opens some rows (the others are done);
69 database unavailable.""",
)
@json_option
@click.pass_obj
def reencrypt(invocation: Invocation, *, as_json: bool) -> int:
    """Seal everything that is sealed in the database anew, with the first of [vault] keys.

    Afterwards the other keys may be taken out. Daemons may go on meanwhile, as long as they have
    both keys. Done again, it does no harm.
    """
    import attrs
    import trio

    from syncd.cli import credentials as doing

    done = trio.run(doing.reencrypt, configuration(invocation))
    if as_json:
        invocation.print_json({"exit_code": done.code, **attrs.asdict(done)})
    else:
        invocation.print(doing.reencrypted(done))
    return done.code


@credentials.command(
    "new-key",
    short_help="Draw a key, and print it.",
    epilog="""\b
Example:
  syncd credentials new-key > /etc/syncd/vault.key && chmod 600 /etc/syncd/vault.key
and in the configuration:
  [vault]
  keys = [{ file = "/etc/syncd/vault.key" }]""",
)
def new_key() -> int:
    """Draw a key for [vault] keys, and print it: the only time that it is seen.

    Keep it apart from backups of the database: whoever has both can read the credentials. Where it
    is lost, every account must be let in anew.
    """
    from syncd.vault import new_key as drawn

    click.echo(drawn().reveal())
    return ending.FINE
