"""Effects as tables and as JSON. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from syncd.cli import columns, wording

Row = Mapping[str, Any]

HEADINGS = (
    "id",
    "kind",
    "to",
    "key",
    "state",
    "attempts",
    "enqueued",
    "due or ended",
    "last error",
)
STATS = ("kind", "to", "pending", "delivering", "delivered", "dead", "discarded", "oldest open")
COUNTS = ("pending", "delivering", "delivered", "dead", "discarded")
TEXT_CHARACTERS_MAX = 60  # `--json` has all of it


def as_table(rows: Sequence[Row], *, width: int | None = None) -> str:
    """Write a line for each effect, and how many more there are."""
    written = columns.table(HEADINGS, [_cells(row) for row in rows], width=width)
    more = rows[0]["matching"] - len(rows)
    if not more:
        return written
    return f"{written}\n{wording.counted(more, 'more effect')}; see them with --limit"


def _cells(row: Row) -> list[Any]:
    state = row["state"]
    if row["unknown"]:
        state = "unknown"  # its process died with it, or fell silent: it is tried again
    elif row["blocked_by"] is not None:
        state = f"behind {row['blocked_by']}"
    elif row["account_is"] is not None:
        state = f"account {row['account_is']}"
    return [
        str(row["id"]),
        row["kind"],
        f"{row['instance']}.{row['account']}",
        wording.cut(row["key"], TEXT_CHARACTERS_MAX),
        state,
        row["attempts"],
        wording.moment(row["enqueued_at"]),
        wording.moment(row["due_at"] or row["ended_at"]),
        wording.cut(row["last_error"] or "", TEXT_CHARACTERS_MAX),
    ]


def listed_as_json(rows: Sequence[Row]) -> dict[str, Any]:
    """Return what `effects list --json` prints."""
    return {
        "matching": rows[0]["matching"] if rows else 0,
        "effects": [{n: v for n, v in row.items() if n != "matching"} for row in rows],
    }


def stats_as_table(rows: Sequence[Row], *, width: int | None = None) -> str:
    """Write a line for each kind."""
    cells = [
        [
            row["kind"],
            row["instance"],
            *(row[name] for name in COUNTS),
            "" if row["oldest_seconds"] is None else wording.seconds(row["oldest_seconds"]),
        ]
        for row in rows
    ]
    return columns.table(STATS, cells, width=width)
