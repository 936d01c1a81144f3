"""All keys on one page, from the classes that read them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

from syncd.config.admin import Admin
from syncd.config.kinds import Many, Named
from syncd.config.quotas import QuotaTable
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
from syncd.config.tables import Setting, Table, first_sentence, settings_of
from syncd.model import Connector

_NONE: Final[Mapping[str, Connector]] = MappingProxyType({})


def reference(connectors: Mapping[str, Connector] = _NONE) -> str:
    """Write every key with its type, default and meaning: Markdown, a table for each TOML table.

    With `connectors`, their own settings too.
    """
    tables: list[tuple[str, type[Any]]] = [
        ("[database]", Database),
        ("[daemon]", Daemon),
        ("[log]", Log),
        ("[quota]", Sharing),
        ("[vault]", VaultKeys),
        ("[admin]", Admin),
        ("[connectors.NAME]", ConnectorTable),
        ("[[connectors.NAME.accounts]]", AccountTable),
        ("[connectors.NAME.quotas.KEY]", QuotaTable),
    ]
    for name, connector in connectors.items():
        tables.append((f'[connectors.NAME] plugin = "{name}"', connector.settings))
        if connector.account_settings is not None:
            of_account = f'[[connectors.NAME.accounts]] plugin = "{name}"'
            tables.append((of_account, connector.account_settings))
    tables.append(("[jobs.NAME]", Job))
    return "\n".join([*(_table(heading, cls) for heading, cls in tables), _effects(connectors)])


def _effects(connectors: Mapping[str, Connector]) -> str:
    """Write the one table whose keys are kinds of effects; of connectors, those they deliver."""
    deliver: dict[str, list[str]] = {}
    for name, connector in connectors.items():
        for kind in connector.effects:
            deliver.setdefault(kind.name, []).append(name)
    rows = [
        _row_of(f'"{kind}"', f"{ABOUT_EFFECTS}; plugins that deliver it: {', '.join(names)}")
        for kind, names in sorted(deliver.items())
    ]
    return _headed(
        "[effects]",
        "Who delivers what follows from rows, by kind.",
        rows or [_row_of('"KIND"', ABOUT_EFFECTS)],
    )


def _table(heading: str, cls: type[Any]) -> str:
    return _headed(heading, first_sentence(cls), _rows(cls))


def _row_of(kind: str, about: str) -> str:
    return f"| `{kind}` | text | who alone delivers it | {about} |"


def _headed(heading: str, sentence: str, rows: Iterable[str]) -> str:
    return "\n".join(
        [
            f"`{heading}`" + (f": {sentence}" if sentence else ""),
            "",
            "| key | type | default | meaning |",
            "|---|---|---|---|",
            *rows,
            "",
        ]
    )


def _rows(cls: type[Any], prefix: str = "") -> Iterator[str]:
    for setting in settings_of(cls):
        key = prefix + setting.key
        yield _row(key, setting)
        match setting.kind:
            case Table(cls=inner):
                yield from _rows(inner, f"{key}.")
            case Named(of=Table(cls=inner)):
                yield from _rows(inner, f"{key}.NAME.")
            case Many(of=Table(cls=inner)) if inner is not AccountTable:
                yield from _rows(inner, f"{key}[].")


def _row(key: str, setting: Setting) -> str:
    cells = (f"`{key}`", setting.kind.wanted, _default(setting), setting.about)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _default(setting: Setting) -> str:
    if setting.required:
        return "required"
    match setting.default:
        case None:
            return ""
        case bool(flag):
            return f"`{str(flag).lower()}`"
        case str(text):
            return f'`"{text}"`'
        case other:
            return f"`{other}`"
