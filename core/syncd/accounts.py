"""The accounts of an instance: those of the configuration, and those that the control tables say.

An account of the tables is read as one of the file is, each time and by itself: what has become
invalid (its connector wants another setting, no key opens its secrets) hinders that one alone. Its
secret settings are sealed by the vault; they stand nowhere in plain.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import msgspec

from syncd.config import Config
from syncd.config.accounts import Reader
from syncd.errors import ConfigError, Problem, Refused
from syncd.model import Account, Instance
from syncd.sqlstates import repeatable
from syncd.store import accounts as stored
from syncd.store import registry
from syncd.store.accounts import Kin, Sealed
from syncd.store.hops import Connection
from syncd.vault import Vault


@attrs.frozen
class Effective:
    """The accounts of an instance that are worked on, at one revision of those of the tables."""

    instance: Instance[Any]  # with all of them
    refused: Mapping[str, str] = attrs.field(factory=dict)  # of the tables, by name: what is wrong
    revision: int = 0
    known: Mapping[str, tuple[Sealed, Account[Any]]] = attrs.field(factory=dict, repr=False)

    @property
    def settled(self) -> bool:
        """Return whether the configuration alone says them: it lists some, and the table none."""
        tenants = self.instance.connector.account_settings is not None
        listed = bool(self.instance.accounts) and not (tenants and self.instance.implied)
        return listed and not self.known and not self.refused


@attrs.frozen
class Change:
    """What differs between two readings of an instance's accounts."""

    added: int
    removed: int
    changed: int

    @classmethod
    def between(cls, was: Effective, is_now: Effective) -> Change:
        old = {each.name: each for each in was.instance.accounts}
        new = {each.name: each for each in is_now.instance.accounts}
        return cls(
            added=len(new.keys() - old.keys()),
            removed=len(old.keys() - new.keys()),
            changed=sum(old[name] != new[name] for name in old.keys() & new.keys()),
        )


@attrs.frozen
class Books:
    """What accounts of one instance are read and written with."""

    reader: Reader
    vault: Vault

    @classmethod
    def of(cls, config: Config, instance: Instance[Any], vault: Vault) -> Books:
        return cls(Reader(instance, Path(config.file).parent), vault)

    @property
    def instance(self) -> Instance[Any]:
        """Return the instance as it is configured."""
        return self.reader.instance

    # --- Reading --------------------------------------------------------------------------------

    def effective(self, kin: Kin, before: Effective | None = None) -> Effective:
        """Add the accounts of the tables to those of the configuration, which win.

        `before`: what was read then is not read again.
        """
        standing = {each.name.lower() for each in self.configured(kin)}
        known: dict[str, tuple[Sealed, Account[Any]]] = {}
        refused: dict[str, str] = {}
        for each in kin.accounts:
            sealed = each.sealed
            if not each.enabled or sealed.name.lower() in standing:
                continue
            found = self._again(sealed, before) or self.opened(sealed)
            if isinstance(found, Account):
                known[sealed.name] = (sealed, found)
            else:
                refused[sealed.name] = found
        accounts = (*self.configured(kin), *(account for _, account in known.values()))
        instance = attrs.evolve(self.instance, accounts=accounts)
        return Effective(instance, refused, kin.revision, known)

    def configured(self, kin: Kin) -> tuple[Account[Any], ...]:
        """Return the accounts of the configuration that hold beside those of the tables."""
        return () if self.instance.implied and kin.accounts else self.instance.accounts

    def _again(self, sealed: Sealed, before: Effective | None) -> Account[Any] | None:
        known = before.known.get(sealed.name) if before else None
        return known[1] if known and known[0] == sealed else None

    def opened(self, sealed: Sealed) -> Account[Any] | str:
        """Return an account of the tables, or what is wrong with it."""
        try:
            values = self.values(sealed)
        except ConfigError as error:
            return str(error)
        found = self.reader.read(sealed.name, values)
        if isinstance(found, Account):
            return found
        said = "; ".join(f"{problem.key}: {problem.what}" for problem in found)
        return f"{said}; mend it with `syncd accounts add {self.instance.name} {sealed.name} ...`"

    def values(self, sealed: Sealed) -> dict[str, Any]:
        """Return all settings of an account, the secret ones in plain.

        Raises: `ConfigError` where no key opens them.
        """
        if sealed.secrets is None:
            return dict(sealed.settings)
        secrets = self.vault.reveal(sealed.secrets, owner=self._owner(sealed.name))
        return {**sealed.settings, **msgspec.json.decode(secrets.reveal(), type=dict[str, Any])}

    # --- Writing --------------------------------------------------------------------------------

    def sealed(self, name: str, values: Mapping[str, Any]) -> Sealed | list[Problem]:
        """Return an account as the tables keep it, or all that is wrong with it.

        Raises: `ConfigError` where it has secrets and the vault no key.
        """
        found = self.reader.read(name, values)
        if not isinstance(found, Account):
            return found
        secret = {key: value for key, value in values.items() if key in self.reader.secret}
        plain = {key: value for key, value in values.items() if key not in secret}
        text = msgspec.json.encode(secret).decode()
        return Sealed(
            name, plain, self.vault.seal(text, owner=self._owner(name)) if secret else None
        )

    def same(self, one: Sealed, other: Sealed) -> bool:
        """Return whether two rows say the same; what cannot be opened is not the same."""
        try:
            return self.values(one) == self.values(other)
        except ConfigError:
            return False

    def _owner(self, name: str) -> str:
        return owner_of(self.instance.name, name)


def owner_of(instance: str, account: str) -> str:
    """Return what an account's secrets are sealed for."""
    return f"account {instance}/{account}"


@repeatable
def look(connection: Connection, books: Books, before: Effective | None = None) -> Effective:
    """Read the accounts of an instance as they are now."""
    return books.effective(stored.kept(connection, books.instance.name), before)


@attrs.frozen
class Taken:
    """What became of accounts that were handed in."""

    added: Sequence[str] = ()
    changed: Sequence[str] = ()
    unchanged: Sequence[str] = ()
    disabled: Sequence[str] = ()  # of all of these, which stay so


def take(connection: Connection, books: Books, rows: Iterable[Sealed]) -> Taken:
    """Add accounts to the tables, or change them: one transaction, one statement for all.

    Raises: `Refused` where a name differs from one that is there in its case alone.
    """
    name = books.instance.name
    registry.register_instance(connection, books.instance)
    there = {each.sealed.name: each for each in stored.locked(connection, name).accounts}
    given = {row.name: row for row in rows}
    _refuse_twins(name, given, there)
    unchanged = [n for n, r in given.items() if n in there and books.same(r, there[n].sealed)]
    fresh = {n: row for n, row in given.items() if n not in unchanged}
    stored.put(connection, name, list(fresh.values()))
    return Taken(
        added=sorted(fresh.keys() - there.keys()),
        changed=sorted(fresh.keys() & there.keys()),
        unchanged=sorted(unchanged),
        disabled=sorted(n for n in given if n in there and not there[n].enabled),
    )


def _refuse_twins(instance: str, given: Iterable[str], there: Iterable[str]) -> None:
    by_lower = {name.lower(): name for name in there}
    for name in given:
        twin = by_lower.get(name.lower(), name)
        if twin != name:
            raise Refused(
                f"account {instance}.{name}",
                f"there is {twin!r}, which differs in its case alone",
                "write it alike, or remove that one first",
            )


def none_message(instance: Instance[Any]) -> ConfigError:
    """Return what to do where an instance has no account at all."""
    return ConfigError(
        f"connectors.{instance.name}.accounts",
        "there are none, neither in the configuration nor in the table",
        f"add one with `syncd accounts add {instance.name} NAME ...`, or write tables "
        f"[[connectors.{instance.name}.accounts]]",
    )
