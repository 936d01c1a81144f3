"""`syncd credentials`: what is seen of credentials, bringing them, and changing the keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import attrs

from syncd import sealing, vault
from syncd.cli import columns, ending, wording
from syncd.cli.credential_rows import read_rows
from syncd.cli.database import with_control_tables
from syncd.config import Config
from syncd.events import Event
from syncd.model import Credential, Instance
from syncd.sealing import REAUTH
from syncd.store import credentials as store
from syncd.store import resealing
from syncd.store.credentials import Owner
from syncd.store.hops import Connection, Hops
from syncd.store.resealing import SEALED
from syncd.vault import Vault

NAMED_MAX = 20  # that are named one by one; `--json` names all


# --- list -----------------------------------------------------------------------------------------


def as_table(rows: Sequence[Mapping[str, Any]], *, width: int | None) -> str:
    """Write one line per credential."""
    headings = ["instance", "account", "state", "access until", "refresh until", "version", "since"]
    cells = [
        [
            row["instance"],
            row["account"],
            _state(row),
            wording.moment(row["access_expires_at"]),
            wording.moment(row["refresh_expires_at"]) if row["renewable"] else "no refresh token",
            str(row["version"]),
            wording.moment(row["stored_at"]),
        ]
        for row in rows
    ]
    refused = [
        f"{row['instance']}.{row['account']}: {wording.visible(row['reason'])}; "
        f"run `syncd credentials import {row['instance']} FILE.csv` with another"
        for row in rows
        if row["state"] == REAUTH
    ]
    return "\n\n".join([columns.table(headings, cells, width=width), *refused])


def _state(row: Mapping[str, Any]) -> str:
    return f"{row['state']}, parked" if row["parked"] else str(row["state"])


# --- import ---------------------------------------------------------------------------------------


@attrs.frozen
class Imported:
    """What a file brought: all of it, or its problems and nothing."""

    accounts: Sequence[str] = ()
    resumed: Sequence[str] = ()  # that were parked since their credential was refused
    problems: Sequence[str] = ()

    @property
    def code(self) -> int:
        return ending.FAILED if self.problems else ending.FINE


def bring(connection: Connection, instance: Instance[Any], content: bytes, keys: Vault) -> Imported:
    """Store the credentials of a file, all or none. One transaction."""
    rows = read_rows(content, known=store.known_accounts(connection, instance))
    if rows.problems:
        return Imported(problems=rows.problems)
    sealed = {name: _sealed(keys, instance, name, each) for name, each in rows.credentials.items()}
    resumed = store.bring(connection, instance, sealed)
    return Imported(sorted(sealed), resumed)


def _sealed(keys: Vault, instance: Instance[Any], account: str, new: Credential) -> store.Sealed:
    return sealing.sealed(keys, Owner(instance.name, account), new)


def keeps_none(instance: Instance[Any]) -> bool:
    """Say whether an instance's connector has no use for credentials in the vault."""
    accounts = instance.accounts
    return bool(accounts) and all(instance.upstream(a).authorize is None for a in accounts)


def said(imported: Imported) -> str:
    """Say what was imported."""
    lines = [f"imported {wording.counted(len(imported.accounts), 'credential')}"]
    if imported.resumed:
        names = wording.listed(imported.resumed, most=NAMED_MAX)
        lines.append(f"resumed {wording.counted(len(imported.resumed), 'account')}: {names}")
    return "\n".join(lines)


# --- reencrypt ------------------------------------------------------------------------------------


@attrs.frozen
class Reencrypted:
    """How many rows are sealed with the first key now, by table, and which no key opens."""

    rows: Mapping[str, int]
    unreadable: Sequence[str]

    @property
    def code(self) -> int:
        return ending.CONFIGURATION if self.unreadable else ending.FINE


async def reencrypt(config: Config) -> Reencrypted:
    """Seal everything anew with the first key, some rows at a time.

    Raises: `ConfigError` where there is no key; what the database raises.
    """
    keys = vault.opened(config)
    keys.seal("", owner="")  # no key at all is said before anything is looked at

    async def main(hops: Hops) -> Reencrypted:
        counts: dict[str, int] = {}
        unreadable: list[str] = []
        for where in SEALED:
            counts[where.table] = 0
            after: tuple[str, str] | None = ("", "")
            while after is not None:
                step = await hops.run(
                    resealing.reseal, where, after, lambda b, o: _anew(keys, b, o)
                )
                counts[where.table] += step.rows
                unreadable += step.unreadable
                after = step.last
        return Reencrypted(counts, unreadable)

    return await with_control_tables(config, main, emit=_nobody_listens)


def _anew(keys: Vault, blob: bytes, owner: str) -> bytes:
    return keys.seal_anew(blob, owner=owner)


def _nobody_listens(_: Event) -> None:
    """Take an event that this command has no use for."""


def reencrypted(done: Reencrypted) -> str:
    """Say what was sealed anew."""
    lines = [
        f"{table}: {wording.counted(count, 'row')} sealed with the first key"
        for table, count in done.rows.items()
    ]
    if done.unreadable:
        names = wording.listed(done.unreadable, most=NAMED_MAX)
        lines.append(f"no key opens: {names}; give back the key they were sealed with")
    return "\n".join(lines)


def as_json(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return what `list --json` prints: moments as ISO 8601, and never a token."""
    return [
        {name: value.isoformat() if isinstance(value, datetime) else value for name, value in each}
        for each in (row.items() for row in rows)
    ]
