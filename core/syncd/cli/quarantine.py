"""Records that were set aside, as a table, as lines and as JSON. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from syncd.cli import columns, wording

Row = Mapping[str, Any]

HEADINGS = ("id", "stream", "account", "key", "reason", "message", "repeats", "first", "last")
TEXT_CHARACTERS_MAX = 60  # `quarantine show` has all of it


def as_table(rows: Sequence[Row], *, width: int | None = None) -> str:
    """Write a line for each record, and how many more there are."""
    written = columns.table(HEADINGS, [_cells(row) for row in rows], width=width)
    more = rows[0]["matching"] - len(rows)
    if not more:
        return written
    return f"{written}\n{wording.counted(more, 'more record')}; see them with --limit"


def _cells(row: Row) -> list[Any]:
    return [
        str(row["id"]),
        f"{row['instance']}.{row['stream']}",
        row["account"],
        wording.cut(row["key"] or "", TEXT_CHARACTERS_MAX),
        row["reason"],
        wording.cut(row["message"], TEXT_CHARACTERS_MAX),
        row["repeats"],
        wording.moment(row["first_seen_at"]),
        wording.moment(row["last_seen_at"]),
    ]


def listed_as_json(rows: Sequence[Row]) -> dict[str, Any]:
    """Return what `quarantine list --json` prints."""
    return {
        "matching": rows[0]["matching"] if rows else 0,
        "records": [{n: v for n, v in row.items() if n != "matching"} for row in rows],
    }


def as_lines(row: Row) -> str:
    """Write one record whole: what is known of it, and its bytes as far as they can be read."""
    said = [
        ("id", str(row["id"])),
        ("stream", f"{row['instance']}.{row['stream']}"),
        ("account", row["account"]),
        ("key", wording.visible(row["key"] or "(could not be read)")),
        ("reason", row["reason"]),
        ("message", wording.visible(row["message"])),
        ("page", wording.visible(row["cursor"] or "")),
        ("parent", "" if row["parent"] is None else _compact(row["parent"])),
        ("version", "" if row["version"] is None else str(row["version"])),
        ("set aside", wording.moment(row["first_seen_at"])),
        ("last seen", f"{wording.moment(row['last_seen_at'])}, {_times(row['repeats'])}"),
    ]
    width = max(len(what) for what, _ in said)
    lines = [f"{what.ljust(width)}  {text}" for what, text in said if text]
    return "\n".join([*lines, *_bytes_of(row)])


def _times(repeats: int) -> str:
    return f"came again {wording.counted(repeats, 'time')}" if repeats else "came once"


def _compact(value: Any) -> str:
    return wording.visible(msgspec.json.encode(value).decode())


def _bytes_of(row: Row) -> list[str]:
    if row["raw"] is None:
        return ["its bytes are not known: the connector handed it over as a finished object"]
    size = wording.size(row["raw_bytes"])
    kept = len(row["raw"])
    head = f"raw, {size}:" if kept == row["raw_bytes"] else f"raw, the first {kept} of {size}:"
    return [head, *(f"  {line}" for line in readable(bytes(row["raw"])).split("\n"))]


def readable(raw: bytes) -> str:
    r"""Write bytes as far as they can be read: JSON indented, else text, the rest as ``\xff``."""
    try:
        text = msgspec.json.format(raw, indent=2).decode()
    except (msgspec.DecodeError, UnicodeDecodeError):
        text = raw.decode(errors="backslashreplace")
    return "\n".join(wording.visible(line) for line in text.split("\n"))


def as_json(row: Row) -> dict[str, Any]:
    """Return what `quarantine show --json` prints of a record; `raw` as far as it is text."""
    raw = row["raw"]
    text = None if raw is None else bytes(raw).decode(errors="backslashreplace")
    return {**row, "raw": text, "complete": raw is not None and len(raw) == row["raw_bytes"]}
