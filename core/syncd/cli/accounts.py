"""`syncd accounts`, and what other commands must know of accounts that the control tables say."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from types import MappingProxyType
from typing import Any

import attrs
import click

from syncd import accounts, vault
from syncd.accounts import Books, Effective, Taken
from syncd.cli import columns, wording
from syncd.cli.database import ask_database
from syncd.cli.invocation import Invocation
from syncd.cli.loading import Loaded
from syncd.cli.options import refuse_unknown
from syncd.cli.sheets import Bad, Line, Sheet
from syncd.config import Config, content
from syncd.config.accounts import Reader, secrets_in
from syncd.config.files import FILE_MAX_BYTES, SECRET_MAX_BYTES
from syncd.config.values import did_you_mean
from syncd.errors import ConfigError
from syncd.model import Instance
from syncd.observe import SecretMask
from syncd.store import accounts as stored
from syncd.store.accounts import Kin, Sealed
from syncd.store.hops import Connection, Hops

Change = Callable[..., list[str]]

MIGRATION = 11  # which gave the control tables accounts of their own


def tenanted(config: Config, name: str) -> Instance[Any]:
    """Return a configured instance that may have accounts.

    Raises: `click.UsageError` where there is none of that name, or it has no accounts.
    """
    refuse_unknown("CONNECTOR", name, config.instances)
    instance = config.instances[name]
    if instance.connector.account_settings is None:
        raise click.UsageError(f"the connector {instance.connector.name!r} has no accounts")
    return instance


def books_of(config: Config, instance: Instance[Any]) -> Books:
    return Books.of(config, instance, vault.opened(config))


# --- Adding ---------------------------------------------------------------------------------------


def typed(words: Sequence[str], reader: Reader) -> tuple[dict[str, Any], list[str]]:
    """Return settings from ``KEY=VALUE``, ``KEY=-`` and ``KEY=@FILE``, and secrets typed in plain.

    Raises: `click.UsageError` for words that are none of these.
    """
    texts: dict[str, str] = {}
    shown = []
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or key not in reader.keys:
            there = ", ".join(reader.keys) or "none"
            near = did_you_mean(key, reader.keys)
            raise click.UsageError(f"{key!r}, wanted KEY=VALUE with a KEY of: {there}{near}")
        if key in texts:
            raise click.UsageError(f"{key!r} is given twice")
        if value == "-":
            texts[key] = _asked(key)
        elif value.startswith("@"):
            texts[key] = _from_file(key, Path(value[1:]))
        else:
            texts[key] = value
            shown += [key] if key in reader.secret else []
    return reader.values(texts), shown


def _asked(key: str) -> str:
    """Read a value from the terminal, unseen, or a line of what is piped in."""
    if sys.stdin.isatty():
        said: str = click.prompt(key, hide_input=True, err=True)
        return said
    return sys.stdin.readline().rstrip("\r\n")


def _from_file(key: str, path: Path) -> str:
    try:
        text = content(path, most_bytes=SECRET_MAX_BYTES).data.decode()
    except (OSError, ValueError) as error:
        why = (error.strerror or "").lower() if isinstance(error, OSError) else "not UTF-8 text"
        raise click.UsageError(f"{key}: {str(path)!r} cannot be read: {why}") from error
    return text.rstrip("\r\n")


def sealed(books: Books, name: str, values: Mapping[str, Any]) -> Sealed:
    """Return one account as the tables keep it.

    Raises: `click.UsageError` with all that is wrong with it; `ConfigError` as `Books.sealed`.
    """
    refuse_standing(books.instance, [name])
    found = books.sealed(name, values)
    if isinstance(found, Sealed):
        return found
    said = [": ".join(filter(None, books.reader.within(name, each))) for each in found]
    raise click.UsageError("\n".join(said))


def refuse_standing(instance: Instance[Any], names: Iterable[str]) -> None:
    """Let pass only names that do not stand in the configuration, which wins.

    Raises: `click.UsageError`.
    """
    for name in names:
        if name.lower() in standing(instance):
            raise click.UsageError(_stands(name))


def standing(instance: Instance[Any]) -> frozenset[str]:
    """Return the accounts that the configuration lists, in lower case."""
    return frozenset(() if instance.implied else (a.name.lower() for a in instance.accounts))


def _stands(name: str) -> str:
    return (
        f"{name!r} stands in the configuration, which wins: change it there, or set it aside with "
        "`syncd park`"
    )


def file_of(path: Path) -> bytes:
    """Read a sheet's bytes.

    Raises: `click.UsageError`.
    """
    try:
        return content(path, most_bytes=FILE_MAX_BYTES).data
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise click.UsageError(f"{str(path)!r} cannot be read: {why}") from error


def judged(books: Books, sheet: Sheet) -> tuple[list[Sealed], list[Bad]]:
    """Return a sheet's accounts as the tables keep them, and all that is wrong, by line.

    Raises: `ConfigError` as `Books.sealed`.
    """
    good: list[Sealed] = []
    bad = list(sheet.bad)
    taken = standing(books.instance)
    for line in sheet.lines:
        if line.name.lower() in taken:
            bad.append(Bad(line.number, "name", _stands(line.name), line.name))
            continue
        found = books.sealed(line.name, books.reader.values(line.texts))
        if isinstance(found, Sealed):
            good.append(found)
        else:
            bad += [_bad(books, line, problem) for problem in found]
    return good, sorted(bad, key=lambda each: each.line)


def _bad(books: Books, line: Line, problem: Any) -> Bad:
    column, what = books.reader.within(line.name, problem)
    return Bad(line.number, column, what, line.name)


def take(config: Config, books: Books, rows: Sequence[Sealed]) -> Taken:
    """Write accounts, all of them or none."""
    return ask_database(config, accounts.take, books, rows)


def said(name: str, taken: Taken) -> str:
    """Say what became of accounts."""
    parts = [
        f"{wording.count(len(names))} {what}"
        for names, what in (
            (taken.added, "added"),
            (taken.changed, "changed"),
            (taken.unchanged, "unchanged"),
        )
        if names
    ]
    text = f"{name}: {', '.join(parts) or 'nothing to do'}"
    if taken.disabled:
        text += f"; disabled, and stays so: {wording.listed(taken.disabled, most=20)}"
    return text


# --- Enabling, disabling, removing ----------------------------------------------------------------


@attrs.frozen
class Outcome:
    """What became of accounts that were named; where one is unknown nothing was done."""

    changed: Sequence[str] = ()
    unknown: Sequence[str] = ()
    there: Sequence[str] = ()


def change(config: Config, instance: Instance[Any], names: Sequence[str], how: Change) -> Outcome:
    """Enable, disable or remove accounts of the table.

    Raises: `click.UsageError` where one of them is not in the table; then nothing was changed.
    """
    more = {} if how is stored.enable else {"standing": _exactly(instance, names)}

    def work(connection: Connection) -> Outcome:
        there = [e.sealed.name for e in stored.locked(connection, instance.name).accounts]
        unknown = [name for name in names if name not in there]
        if unknown:
            return Outcome(unknown=unknown, there=there)
        return Outcome(how(connection, instance.name, names, **more))

    outcome = ask_database(config, work)
    for name in outcome.unknown:
        if name.lower() in standing(instance):
            raise click.UsageError(_stands(name))
        near = did_you_mean(name, outcome.there)
        raise click.UsageError(
            f"{name!r} is no account of {instance.name} in the table{near}; see "
            f"`syncd accounts list {instance.name}`"
        )
    return outcome


def _exactly(instance: Instance[Any], names: Sequence[str]) -> list[str]:
    return [name for name in names if name.lower() in standing(instance)]


# --- Listing --------------------------------------------------------------------------------------


@attrs.frozen
class Listed:
    """One account, as it is listed; of settings only what is no secret, of secrets their keys."""

    instance: str
    account: str
    origin: str
    state: str
    problem: str | None = None
    settings: Mapping[str, Any] = attrs.field(factory=dict)
    secrets: Sequence[str] = ()
    changed_at: str | None = None


def listed(config: Config, names: Sequence[str]) -> list[Listed]:
    """Return the accounts of instances, those of the configuration first."""

    def work(connection: Connection) -> list[tuple[Kin, dict[str, str]]]:
        return [(stored.kept(connection, n), stored.parked(connection, n)) for n in names]

    found = ask_database(config, work)
    seals = _vault_for(config, [kin for kin, _ in found])
    rows: list[Listed] = []
    for name, (kin, parked) in zip(names, found, strict=True):
        books = Books.of(config, config.instances[name], seals)
        rows += [
            Listed(name, a.name, "configuration", _state(parked.get(a.name)), parked.get(a.name))
            for a in books.configured(kin)
        ]
        rows += [_listed(books, each) for each in kin.accounts]
    return rows


def _listed(books: Books, kept: stored.Kept) -> Listed:
    sealed = kept.sealed
    opened = books.opened(sealed)
    state, problem = _state(kept.parked), kept.parked
    if sealed.name.lower() in standing(books.instance):
        state, problem = "hidden", "the configuration has one of this name, which wins"
    elif not kept.enabled:
        state = "disabled"
    elif isinstance(opened, str):
        state, problem = "invalid", opened
    return Listed(
        books.instance.name,
        sealed.name,
        "table",
        state,
        problem,
        sealed.settings,
        _secret_keys(books, sealed),
        kept.changed_at.isoformat(),
    )


def _secret_keys(books: Books, sealed: Sealed) -> list[str]:
    try:
        return sorted(books.values(sealed).keys() - sealed.settings.keys())
    except ConfigError:  # which stands in the note
        return sorted(books.reader.secret)


def _state(parked: str | None) -> str:
    return "ready" if parked is None else "parked"


def as_table(rows: Sequence[Listed], *, width: int | None) -> str:
    """Write one line for each account."""
    headings = ("connector", "account", "from", "state", "settings", "note")
    cells = [
        (r.instance, r.account, r.origin, r.state, _settings(r), wording.cut(r.problem or "", 200))
        for r in rows
    ]
    return columns.table(headings, cells, width=width)


def _settings(row: Listed) -> str:
    plain = [f"{key}={value}" for key, value in row.settings.items()]
    return wording.cut(" ".join([*plain, *(f"{key}=***" for key in row.secrets)]), 80)


# --- For other commands ---------------------------------------------------------------------------


def known_names(config: Config, instance: Instance[Any], glob: str | None) -> list[str]:
    """Return an instance's accounts, those of the table too where no other fits."""
    names = [each.name for each in instance.accounts]
    has_more = instance.connector.account_settings is not None
    if glob is None or not has_more or any(fnmatchcase(name, glob) for name in names):
        return names
    kin = ask_database(config, stored.kept, instance.name)
    return [*names, *(each.sealed.name for each in kin.accounts)]


def of_the_file(loaded: Loaded) -> dict[str, Effective]:
    """Return the accounts of each instance that may have some, as the configuration says."""
    return {
        name: Effective(instance)
        for name, instance in _instances(loaded)
        if instance.connector.account_settings is not None
    }


async def effective(loaded: Loaded, hops: Hops) -> dict[str, Effective]:
    """Return the accounts of each instance that may have some."""
    config = loaded.config
    known: dict[str, Kin] = {}
    for name, instance in config.instances.items():
        if instance.connector.account_settings is not None:
            known[name] = await hops.run(stored.kept, name)
    seals = _vault_for(config, known.values())
    return {
        name: Books.of(config, config.instances[name], seals).effective(kin)
        for name, kin in known.items()
    }


def joined(loaded: Loaded, known: Mapping[str, Effective]) -> Loaded:
    """Return what was loaded with all accounts, and their secrets among those not to be shown."""
    instances = {n: known[n].instance if n in known else i for n, i in _instances(loaded)}
    settings = [a.settings for n in known for a in known[n].instance.accounts]
    return attrs.evolve(
        loaded,
        config=attrs.evolve(loaded.config, instances=MappingProxyType(instances)),
        secrets=(*loaded.secrets, *secrets_in(settings)),
    )


def for_account(invocation: Invocation, loaded: Loaded, name: str, account: str | None) -> Loaded:
    """Add an instance's accounts of the table, where what is asked for is not in the configuration.

    Raises: as `ask_database`; `ConfigError` where there is no account at all.
    """
    instance = loaded.config.instances.get(name)
    if instance is None or instance.connector.account_settings is None:
        return loaded
    names = [each.name for each in instance.accounts]
    if account in names or (account is None and names):
        return loaded
    kin = ask_database(loaded.config, stored.kept, name)
    books = Books.of(loaded.config, instance, _vault_for(loaded.config, [kin]))
    found = books.effective(kin)
    if not found.instance.accounts:
        raise accounts.none_message(instance)
    return hidden(invocation, joined(loaded, {name: found}))


def hidden(invocation: Invocation, loaded: Loaded) -> Loaded:
    """Have no secret of what was loaded printed."""
    invocation.redact = SecretMask(loaded.secrets).text
    return loaded


def _instances(loaded: Loaded) -> Iterable[tuple[str, Instance[Any]]]:
    return loaded.config.instances.items()


def _vault_for(config: Config, known: Iterable[Kin]) -> vault.Vault:
    """Open the vault only where there is something sealed: that may write a file."""
    there = any(each.sealed.secrets is not None for kin in known for each in kin.accounts)
    return vault.opened(config) if there else vault.Vault()
