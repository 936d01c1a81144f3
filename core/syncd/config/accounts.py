"""Accounts that stand elsewhere than in the file: read as the file's are, told of in its words."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import attrs

from syncd.config.instances import read_account
from syncd.config.kinds import FLAG, Choice, FilePath, Hidden, Kind, Many, Named, Text
from syncd.config.quotas import refuse_unfit
from syncd.config.reading import INVALID, Reading
from syncd.config.settings import AccountTable
from syncd.config.tables import Setting, Table, settings_of
from syncd.config.values import dotted
from syncd.errors import Problem
from syncd.model import Account, Instance, Secret

NAME_KEY: Final = "name"


@attrs.frozen
class Reader:
    """Reads accounts of one instance; paths in their settings are relative to `folder`."""

    instance: Instance[Any]
    folder: Path

    @property
    def keys(self) -> tuple[str, ...]:
        """Return the keys of an account beside its name, the connector's first."""
        return tuple(setting.key for setting in self._settings)

    @property
    def required(self) -> tuple[str, ...]:
        return tuple(setting.key for setting in self._settings if setting.required)

    @property
    def secret(self) -> frozenset[str]:
        """Return the keys whose values are, or hold, secrets."""
        return frozenset(s.key for s in self._settings if _holds_a_secret(s.kind))

    def values(self, texts: Mapping[str, str]) -> dict[str, Any]:
        """Turn what was typed into what would stand in the file; what does not fit is left."""
        kinds = {setting.key: setting.kind for setting in self._settings}
        return {key: _value(kinds.get(key), text) for key, text in texts.items()}

    def read(self, name: str, values: Mapping[str, Any]) -> Account[Any] | list[Problem]:
        """Return an account, or all that is wrong with it, by key."""
        reading = Reading(self.folder, {}, literal=True)
        item = {**values, NAME_KEY: name}
        key = self.key(name)
        found = read_account(self._cls, item, key, reading)
        if found is INVALID:
            return reading.problems
        upstream = reading.foreign(lambda: self.instance.upstream(found), key)
        return reading.problems if upstream is INVALID else found

    def key(self, name: str) -> str:
        """Return the key of an account in problems."""
        return dotted("connectors", self.instance.name, "accounts", name)

    def within(self, name: str, problem: Problem) -> tuple[str, str]:
        """Return the key of a setting, empty for the whole account, and what is wrong with it."""
        return problem.key.removeprefix(self.key(name)).removeprefix("."), problem.what

    @property
    def _settings(self) -> tuple[Setting, ...]:
        common = (each for each in settings_of(AccountTable) if each.key != NAME_KEY)
        return (*settings_of(self._cls), *common)

    @property
    def _cls(self) -> type[Any]:
        cls = self.instance.connector.account_settings
        assert cls is not None, "whoever has no tenants has no use for a reader"
        return cls


def unfit_quotas(instance: Instance[Any]) -> list[Problem]:
    """Return what is wrong with the quotas of the file, once there are accounts to tell it."""
    reading = Reading(Path(), {})
    if instance.quotas and instance.accounts:
        refuse_unfit(
            instance.quotas,  # type: ignore[arg-type]  # they come from a file
            dotted("connectors", instance.name, "quotas"),
            reading,
            connector=instance.connector,
            settings=instance.settings,
            accounts=instance.accounts,
        )
    return reading.problems


def secrets_in(value: Any) -> Iterator[Secret]:
    """Yield the secrets in settings: in fields, and in lists and mappings of such."""
    if isinstance(value, Secret):
        yield value
    elif attrs.has(type(value)):
        for field in attrs.fields(type(value)):
            yield from secrets_in(getattr(value, field.name))
    elif isinstance(value, dict):
        for each in value.values():
            yield from secrets_in(each)
    elif isinstance(value, list | tuple | set | frozenset):
        for each in value:
            yield from secrets_in(each)


def _holds_a_secret(kind: Kind) -> bool:
    match kind:
        case Hidden():
            return True
        case Many(of=inner) | Named(of=inner):
            return _holds_a_secret(inner)
        case Table(cls=cls):
            return any(_holds_a_secret(setting.kind) for setting in settings_of(cls))
        case _:
            return False


def _value(kind: Kind | None, text: str) -> Any:
    """Return what was typed as TOML would have it, where the kind wants no text."""
    if kind is None or isinstance(kind, Text | Hidden | FilePath):
        return text
    if isinstance(kind, Choice) and text in kind.values:
        return text
    try:
        # Spreadsheets write TRUE and FALSE.
        found = tomllib.loads(f"it = {text.lower() if kind is FLAG else text}")
    except tomllib.TOMLDecodeError:
        return text
    return found["it"] if found.keys() == {"it"} else text
