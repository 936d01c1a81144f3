"""`syncd limits`: how quotas stand, as rows and in words. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from syncd.cli import columns, wording

_HEADINGS = (
    "quota",
    "process",
    "allowed",
    "used",
    "in flight",
    "at once",
    "rate",
    "waiting",
    "locked until",
    "sent",
    "refused",
    "note",
)


def as_json(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row as JSON has it: moments in ISO 8601."""
    return {n: v.isoformat() if isinstance(v, datetime) else v for n, v in row.items()}


def as_table(rows: Sequence[Mapping[str, Any]], *, width: int | None) -> str:
    """Write one line for each quota of each process."""
    return columns.table(_HEADINGS, [_cells(row) for row in rows], width=width)


def _cells(row: Mapping[str, Any]) -> list[Any]:
    windows = row["windows"]
    allowed = [
        wording.window(each["form"], each["most"], each["per_seconds"], each["unit"])
        for each in windows
    ]
    notes = [f"{origin} is left alone" for origin in row["broken_origins"]]
    if row["stale"]:
        notes.append(f"stale: the process was last heard of at {wording.moment(row['seen_at'])}")
    return [
        row["key"],
        f"{row['host']}:{row['pid']}",
        ", ".join(allowed),
        ", ".join(f"{each['used']:g}" for each in windows),
        row["in_flight"],
        f"{row['ceiling']} (adaptive)" if row["adaptive"] else row["ceiling"],
        None if row["rate"] is None else f"{row['rate']:.3g}/s",
        row["waiting"],
        wording.moment(row["locked_until"]),
        row["sent"],
        f"{row['refused_share']:.1%}",
        "; ".join(notes),
    ]
