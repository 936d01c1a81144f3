"""From the parsed file to the configuration: all of its problems at once, or none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final

import attrs

from syncd.config.admin import Admin
from syncd.config.files import RawConfig
from syncd.config.instances import read_instances
from syncd.config.jobs import read_jobs
from syncd.config.reading import INVALID, Reading
from syncd.config.settings import Config, Daemon, Database, Log, Sharing, VaultKeys
from syncd.config.tables import Table, refuse_unknown
from syncd.config.variables import concurrencies, with_pool
from syncd.errors import InvalidConfig
from syncd.model import Connector

SECTIONS: Final = (
    *("database", "daemon", "log", "quota", "vault", "admin"),
    *("connectors", "jobs"),
)


def structure(
    raw: RawConfig,
    connectors: Mapping[str, Connector],
    *,
    environment: Mapping[str, str],
    installed: Iterable[str] = (),
) -> Config:
    """Turn a parsed file into a configuration; the files of its secrets are read.

    `connectors` are those of the enabled plugins, by name. `installed` names plugins that were
    found, imported or not: they are told to whoever misspells one.

    Raises: `InvalidConfig` with every problem; `HookError` where a connector's settings class
    cannot be configured at all.
    """
    reading = Reading(raw.folder, environment)
    refuse_unknown(raw.values, SECTIONS, "", reading)
    database = with_pool(_section(Database, raw, reading), reading)
    daemon = _section(Daemon, raw, reading)
    log = _section(Log, raw, reading)
    quota = Table(Sharing).read(raw.values.get("quota", {}), "quota", reading)
    vault = Table(VaultKeys).read(raw.values.get("vault", {}), "vault", reading)
    admin = _section(Admin, raw, reading)
    declared = read_instances(
        _tables("connectors", raw, reading), connectors, installed=installed, reading=reading
    )
    jobs = read_jobs(
        _tables("jobs", raw, reading),
        declared,
        concurrencies=concurrencies(connectors.values(), reading),
        reading=reading,
    )
    if quota is INVALID or admin is INVALID or reading.problems:
        raise InvalidConfig(raw.file, reading.problems)
    if database is INVALID or daemon is INVALID or log is INVALID or vault is INVALID:
        raise InvalidConfig(raw.file, reading.problems)
    return Config(
        database=database,
        daemon=attrs.evolve(daemon, data_dir=raw.folder / daemon.data_dir),
        log=log,
        quota=quota,
        vault=vault,
        admin=admin,
        instances=MappingProxyType({n: d.instance for n, d in declared.items() if d.instance}),
        jobs=MappingProxyType(jobs),
        file=raw.file,
        warnings=(*reading.warnings, *_warnings_of_the_file(raw, reading)),
    )


def _section(cls: type[Any], raw: RawConfig, reading: Reading) -> Any:
    name = cls.__name__.lower()
    return Table(cls).read(raw.values.get(name, {}), name, reading)


def _tables(section: str, raw: RawConfig, reading: Reading) -> Mapping[str, Any]:
    tables = raw.values.get(section, {})
    if isinstance(tables, Mapping):
        return tables
    reading.unwanted(section, tables, f"wanted tables [{section}.NAME]")
    return {}


def _warnings_of_the_file(raw: RawConfig, reading: Reading) -> list[str]:
    if not raw.world_readable or not reading.inline_secrets:
        return []
    keys = ", ".join(reading.inline_secrets)
    return [f"{keys}: every user may read {raw.file}, and the secret in it; chmod 600 it"]
