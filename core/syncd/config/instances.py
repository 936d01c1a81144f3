"""The tables of connectors: which plugin, its settings, its accounts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import attrs

from syncd.config.quotas import read_quotas
from syncd.config.reading import INVALID, Invalid, Reading
from syncd.config.settings import AccountTable, ConnectorTable
from syncd.config.tables import Table, settings_of
from syncd.config.values import did_you_mean, dotted
from syncd.errors import HookError
from syncd.model import Account, Connector, Instance

# An instance names a PostgreSQL schema; what is reserved are PostgreSQL's schemas and our own.
INSTANCE_NAME: Final = r"[a-z][a-z0-9_-]{0,40}"
RESERVED_NAME: Final = r"syncd|public|information_schema|pg_.*"
NAME: Final = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}"  # of an account, or of a job
NAME_WANTED: Final = "wanted a letter or digit, then at most 62 letters, digits, '_', '-' or '.'"


@attrs.frozen
class Declared:
    """A connector table as far as others refer to it, even where something in it is wrong."""

    connector: Connector | None  # none: its plugin is not there
    instance: Instance[Any] | None  # none: it has problems


def read_instances(
    tables: Mapping[str, Any],
    connectors: Mapping[str, Connector],
    *,
    installed: Iterable[str],
    reading: Reading,
) -> dict[str, Declared]:
    """Read ``[connectors.*]``."""
    for connector in connectors.values():
        _refuse_reserved(connector.settings, ConnectorTable)
        if connector.account_settings is not None:
            _refuse_reserved(connector.account_settings, AccountTable)
    known = sorted({*connectors, *installed})
    declared = {}
    for name, table in tables.items():
        key = f"connectors.{dotted(name)}"
        _check_name(name, key, reading)
        if not isinstance(table, Mapping):
            reading.unwanted(key, table, "wanted a table")
            declared[name] = Declared(None, None)
            continue
        plugin = _plugin(name, table, key, known=known, connectors=connectors, reading=reading)
        declared[name] = _declared(name, table, key, connector=plugin, reading=reading)
    return declared


def _check_name(name: str, key: str, reading: Reading) -> None:
    if re.fullmatch(RESERVED_NAME, name):
        reading.problem(key, f"the name {name!r} is reserved, since it names a PostgreSQL schema")
    elif not re.fullmatch(INSTANCE_NAME, name):
        reading.problem(
            key,
            "the name of a connector names a PostgreSQL schema: wanted a lower-case letter, then "
            "at most 40 letters, digits, '_' or '-'",
        )


def _plugin(
    name: str,
    table: Mapping[str, Any],
    key: str,
    *,
    known: list[str],
    connectors: Mapping[str, Connector],
    reading: Reading,
) -> Connector | None:
    plugin = table.get("plugin", name)
    where = f"{key}.plugin" if "plugin" in table else key
    if not isinstance(plugin, str):
        reading.unwanted(where, plugin, "wanted the name of a plugin")
        return None
    if plugin in connectors:
        return connectors[plugin]
    if plugin in known:
        reading.problem(where, f"the plugin {plugin!r} announces no connector of this name")
        return None
    found = ", ".join(known) or "none"
    near = did_you_mean(plugin, known)
    reading.problem(where, f"no plugin named {plugin!r} is installed; found: {found}{near}")
    return None


def _declared(
    name: str,
    table: Mapping[str, Any],
    key: str,
    *,
    connector: Connector | None,
    reading: Reading,
) -> Declared:
    if connector is None:
        return Declared(None, None)
    also = tuple(setting.key for setting in settings_of(ConnectorTable))
    settings = Table(connector.settings, also).read(table, key, reading)
    accounts = _accounts(connector, table, key, reading)
    common = _common(table, key, reading)
    _refuse_strange_streams(table, connector, key, reading)
    if settings is INVALID or accounts is INVALID or common is INVALID:
        return Declared(connector, None)
    quotas = read_quotas(
        table.get("quotas", {}),
        f"{key}.quotas",
        reading,
        connector=connector,
        settings=settings,
        accounts=accounts,
    )
    if quotas is INVALID:
        return Declared(connector, None)
    return Declared(
        connector,
        Instance(
            name,
            connector,
            settings,
            accounts,
            quotas=quotas,
            private_network=common.private_network,
            on_absent={n: s.on_absent for n, s in common.streams.items() if s.on_absent},
            implied="accounts" not in table,
        ),
    )


def _refuse_strange_streams(
    table: Mapping[str, Any], connector: Connector, key: str, reading: Reading
) -> None:
    known = [stream.name for feed in connector.feeds for stream in feed.streams]
    streams = table.get("streams")
    for name in streams if isinstance(streams, Mapping) else ():
        if name not in known:
            wanted = f"no such stream of {connector.name!r}; there: {', '.join(known)}"
            hint = did_you_mean(name, known)
            reading.problem(f"{key}.streams.{dotted(name)}", wanted + hint)


def _common(table: Mapping[str, Any], key: str, reading: Reading) -> ConnectorTable | Invalid:
    """Read the keys that every connector has, but for those that others read by themselves."""
    elsewhere = {"plugin", "accounts", "quotas"}
    own = {s.key for s in settings_of(ConnectorTable)} - elsewhere
    given = {name: value for name, value in table.items() if name in own}
    common: ConnectorTable | Invalid = Table(ConnectorTable).read(given, key, reading)
    return common


def _accounts(
    connector: Connector, table: Mapping[str, Any], key: str, reading: Reading
) -> tuple[Account[Any], ...] | Invalid:
    where = f"{key}.accounts"
    listed = table.get("accounts")
    if listed is None:
        return _default_account(connector, where, reading)
    if not isinstance(listed, list) or not all(isinstance(item, Mapping) for item in listed):
        return reading.unwanted(where, listed, f"wanted tables [[{where}]]")
    if connector.account_settings is None:
        return reading.problem(where, f"the connector {connector.name!r} has no accounts")
    if not listed:
        return reading.problem(where, f"empty; wanted tables [[{where}]]")
    read = [
        _account(connector.account_settings, item, f"{where}[{n}]", reading)
        for n, item in enumerate(listed)
    ]
    _refuse_twins([INVALID if n is INVALID else n.name for n, _ in read], where, reading)
    accounts = [
        Account(named.name, settings, named.weight)
        for named, settings in read
        if named is not INVALID and settings is not INVALID
    ]
    return tuple(accounts) if len(accounts) == len(read) else INVALID


def _default_account(
    connector: Connector, where: str, reading: Reading
) -> tuple[Account[Any], ...] | Invalid:
    if connector.account_settings is None:
        return (Account("default", None),)
    if any(setting.required for setting in settings_of(connector.account_settings)):
        return ()  # the control tables may have some: whoever wants to work on them looks there
    settings = Table(connector.account_settings).read({}, where, reading)
    return INVALID if settings is INVALID else (Account("default", settings),)


def read_account(
    cls: type[Any], item: Mapping[str, Any], key: str, reading: Reading
) -> Account[Any] | Invalid:
    """Read one account: what every account has, and what the connector defines."""
    named, settings = _account(cls, item, key, reading)
    if named is INVALID or settings is INVALID:
        return INVALID
    return Account(named.name, settings, named.weight)


def _account(
    cls: type[Any], item: Mapping[str, Any], key: str, reading: Reading
) -> tuple[AccountTable | Invalid, Any]:
    """Read what every account has, its name above all, and its settings."""
    common = tuple(setting.key for setting in settings_of(AccountTable))
    settings = Table(cls, common).read(item, key, reading)
    given = {k: v for k, v in item.items() if k in common}
    named: AccountTable | Invalid = Table(AccountTable).read(given, key, reading)
    if named is INVALID or re.fullmatch(NAME, named.name):
        return named, settings
    return reading.unwanted(f"{key}.name", item["name"], NAME_WANTED), settings


def _refuse_twins(names: Sequence[str | Invalid], where: str, reading: Reading) -> None:
    first: dict[str, int] = {}
    for n, name in enumerate(names):
        before = n if name is INVALID else first.setdefault(name.lower(), n)
        if before != n:
            reading.problem(
                f"{where}[{n}].name", f"{where}[{before}] has this name, in whatever case"
            )


def _refuse_reserved(cls: type[Any], reserved: type[Any]) -> None:
    taken = {s.key for s in settings_of(cls)} & {s.key for s in settings_of(reserved)}
    if taken:
        raise HookError(
            f"settings class {cls.__module__}.{cls.__qualname__}",
            f"the key {min(taken)!r} is read by syncd itself",
            "name the field otherwise",
        )
