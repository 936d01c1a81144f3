"""The JSON Schema (2020-12) of the file, for editors: it refuses nothing that syncd accepts."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from syncd.config.admin import Admin
from syncd.config.instances import INSTANCE_NAME, NAME, RESERVED_NAME
from syncd.config.kinds import DEFINITIONS
from syncd.config.settings import (
    ABOUT_EFFECTS,
    AccountTable,
    ConnectorTable,
    Daemon,
    Database,
    Job,
    Log,
    Sharing,
    VaultKeys,
)
from syncd.config.tables import Table, settings_of
from syncd.model import Connector

_NONE: Final[Mapping[str, Connector]] = MappingProxyType({})


def generate(connectors: Mapping[str, Connector] = _NONE) -> dict[str, Any]:
    """Describe the file; without `connectors`, their tables stand open for any further key.

    Raises: `HookError` where a connector's settings class cannot be configured.
    """
    own = {f"connectors.{name}": _connector(c) for name, c in connectors.items()}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "syncd",
        "description": "Configuration of syncd.",
        "type": "object",
        "properties": {
            "database": Table(Database).schema(),
            "daemon": Table(Daemon).schema(),
            "log": Table(Log).schema(),
            "quota": Table(Sharing).schema(),
            "vault": Table(VaultKeys).schema(),
            "effects": {
                "type": "object",
                "description": f"By kind of effect: {ABOUT_EFFECTS}.",
                "additionalProperties": {"type": "string"},
            },
            "admin": Table(Admin).schema(),
            "connectors": _connectors(connectors),
            "jobs": {
                "type": "object",
                "propertyNames": {"pattern": f"^{NAME}$"},
                "additionalProperties": Table(Job).schema()
                | {"not": {"required": ["every", "cron"]}},
            },
        },
        "additionalProperties": False,
        "$defs": DEFINITIONS | own,
    }


def _connectors(connectors: Mapping[str, Connector]) -> dict[str, Any]:
    one = _open(ConnectorTable)
    one["properties"]["accounts"]["items"] = _open(AccountTable)
    one["properties"]["accounts"] |= {"minItems": 1}
    if connectors:
        one["allOf"] = [_where_plugin_is(name) for name in connectors]
    by_name = {
        name: {"if": {"not": {"required": ["plugin"]}}, "then": _reference(name)}
        for name in connectors
    }
    return {
        "type": "object",
        "propertyNames": {
            "pattern": f"^{INSTANCE_NAME}$",
            "not": {"pattern": f"^(?:{RESERVED_NAME})$"},
        },
        "patternProperties": {"": one},
    } | ({"properties": by_name} if by_name else {})


def _open(cls: type[Any]) -> dict[str, Any]:
    return Table(cls).schema() | {"additionalProperties": True}


def _where_plugin_is(name: str) -> dict[str, Any]:
    plugin = {"properties": {"plugin": {"const": name}}, "required": ["plugin"]}
    return {"if": plugin, "then": _reference(name)}


def _reference(name: str) -> dict[str, str]:
    return {"$ref": f"#/$defs/connectors.{name}"}


def _connector(connector: Connector) -> dict[str, Any]:
    """Describe one connector's table, closed: its own keys and those that syncd reads."""
    schema = Table(connector.settings).schema()
    schema["properties"] |= {s.key: {} for s in settings_of(ConnectorTable)}
    if connector.account_settings is None:
        schema["properties"]["accounts"] = False
        return schema
    account = Table(connector.account_settings).schema()
    account["properties"] |= {"name": {}}
    schema["properties"]["accounts"] = {"type": "array", "items": account}
    return schema


def main() -> None:
    """Print the schema of what no connector defines, as it is committed."""
    sys.stdout.write(json.dumps(generate(), indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
