"""Failed items, as a table and as JSON. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from syncd.cli import columns, wording
from syncd.store.partitions import name_of

HEADINGS = ("partition", "pass", "key", "cursor", "attempts", "failing since", "due", "last error")
TEXT_CHARACTERS_MAX = 60  # `--json` has all of it


def as_table(rows: Sequence[Mapping[str, Any]], *, width: int | None = None) -> str:
    """Write a line for each failed item."""
    return columns.table(HEADINGS, [_cells(row) for row in rows], width=width)


def _cells(row: Mapping[str, Any]) -> list[Any]:
    return [
        name_of(dict(row)),
        row["pass_number"],
        row["cursor_key"],
        wording.cut(msgspec.json.encode(row["cursor"]).decode(), TEXT_CHARACTERS_MAX),
        row["attempts"],
        wording.moment(row["failing_since"]),
        "now" if row["due"] else wording.moment(row["not_before"]),
        wording.cut(row["last_error"] or "", TEXT_CHARACTERS_MAX),
    ]


def as_json(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `--json` prints of a failed item."""
    return {"partition": name_of(dict(row)), **row}
