"""`syncd plugins`: what is installed, and what of it a configuration enables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from syncd.cli import columns
from syncd.config import read
from syncd.plugins import found


def enabled_by(file: Path) -> tuple[str, ...]:
    """Return the plugins that a configuration file enables, in its order.

    Raises: `InvalidConfig` where it cannot be read.
    """
    return read(file).plugins


def plugins(enabled: Iterable[str]) -> list[dict[str, Any]]:
    """Return each plugin that is installed or enabled; none is imported."""
    wanted = tuple(enabled)
    installed = {each.name: each.distribution for each in found()}
    return [
        {"name": name, "distribution": installed.get(name), "enabled": name in wanted}
        for name in dict.fromkeys((*installed, *wanted))
    ]


def as_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Write plugins as a table."""
    cells = [(row["name"], row["distribution"] or "not installed", row["enabled"]) for row in rows]
    return columns.table(("plugin", "distribution", "enabled"), cells)
