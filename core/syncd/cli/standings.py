"""How partitions stand, as a table, as lines and as JSON. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from syncd.cli import columns, wording
from syncd.store.partitions import Changed, holder_of, name_of

Row = Mapping[str, Any]

HEADINGS = ("partition", "state", "watermark", "due", "epoch", "pass", "failures", "held by")

NAMED_MAX = 20  # partitions that are named one by one; `--json` names all

# What JSON says of a partition, in this order; what else a row holds is put together below.
_PLAIN = ("instance", "account", "feed", "slice", "slice_settings", "priority", "epoch", "due_at",
          "watermark", "row_fingerprints", "failures", "failing_since", "failed_passes",
          "last_error")  # fmt: skip


def state_of(row: Row) -> str:
    """Say in one or two words how a partition stands."""
    if row["state"] == "parked":
        return "parked"
    if row["account_state"] == "parked":
        return "account parked"
    if row["leased"]:
        return "leased"
    return "due" if row["due_at"] <= row["clock"] else "ready"


def as_table(rows: Sequence[Row], *, width: int | None = None) -> str:
    """Write a line for each partition."""
    return columns.table(HEADINGS, [_cells(row) for row in rows], width=width)


def _cells(row: Row) -> list[Any]:
    walked = f"{row['pass_mode']} {row['pass_number']}" if row["pass_number"] else ""
    return [
        name_of(dict(row)),
        state_of(row),
        wording.moment(row["watermark"]),
        wording.moment(row["due_at"]),
        row["epoch"],
        walked,
        row["failures"],
        holder_of(dict(row)) if row["leased"] else "",
    ]


def as_json(row: Row) -> dict[str, Any]:
    """Return what `--json` prints of a partition."""
    lease = {"holder": holder_of(dict(row)), "until": row["lease_until"]} if row["leased"] else None
    names = ("number", "mode", "since", "until", "started_at", "pages", "records")
    walked = {name: row[f"pass_{name}"] for name in names} if row["pass_number"] else None
    return {
        "partition": name_of(dict(row)),
        "state": state_of(row),
        **{name: row[name] for name in _PLAIN},
        "parked_reason": row["parked_reason"] or row["account_reason"],
        "lease": lease,
        "open_pass": walked,
    }


def as_lines(row: Row, details: Mapping[str, Any]) -> str:
    """Write everything that is known of one partition, a line for each thing."""
    said = [
        ("partition", name_of(dict(row))),
        ("state", _state(row)),
        ("watermark", wording.moment(row["watermark"]) or "none: the next pass is full"),
        ("due", wording.moment(row["due_at"])),
        ("epoch", wording.plain(row["epoch"])),
        ("priority", f"{row['priority']} s" if row["priority"] else ""),
        ("slice settings", wording.visible(str(row["slice_settings"] or ""))),
        ("rows made by", ", ".join(f"{s}: {p['row']}" for s, p in row["row_fingerprints"].items())),
        ("open pass", _open_pass(row)),
        *_cursors(details["cursors"]),
        ("last run", _last_run(details["last_run"])),
        ("failing", _failing(row)),
    ]
    width = max(len(what) for what, _ in said)
    return "\n".join(f"{what.ljust(width)}  {text}" for what, text in said if text)


def _state(row: Row) -> str:
    state, reason = state_of(row), row["parked_reason"] or row["account_reason"]
    if reason:
        return f"{state}: {wording.visible(reason)}"
    if row["leased"]:
        return f"{state} by {holder_of(dict(row))} until {wording.moment(row['lease_until'])}"
    return state


def _open_pass(row: Row) -> str:
    if not row["pass_number"]:
        return "none"
    since = f" since {wording.moment(row['pass_since'])}" if row["pass_since"] else ""
    size = f"{wording.counted(row['pass_pages'], 'page')}, "
    size += wording.counted(row["pass_records"], "record")
    begun = f"begun {wording.moment(row['pass_started_at'])}"
    return f"{row['pass_mode']} pass {row['pass_number']}{since}: {size}, {begun}"


def _cursors(rows: Sequence[Row]) -> list[tuple[str, str]]:
    parts: dict[str, list[str]] = {"its cursors": [], "debt": []}
    for row in rows:
        if row["of_open_pass"]:
            parts["its cursors"].append(f"{wording.count(row['cursors'])} {row['state']}")
        elif row["state"] == "failed":
            said = wording.counted(row["cursors"], "failed item")
            parts["debt"].append(f"{said} of earlier passes")
    return [(what, ", ".join(texts)) for what, texts in parts.items()]


def _last_run(run: Row | None) -> str:
    if run is None:
        return "none"
    when = wording.moment(run["finished_at"] or run["started_at"])
    said = f": {wording.visible(run['message'])}" if run["message"] else ""
    return f"{run['status']} {when}, job {run['job']}{said}"


def _failing(row: Row) -> str:
    if not row["failures"]:
        return ""
    since = wording.moment(row["failing_since"])
    times = wording.counted(row["failures"], "run")
    return f"{times} in a row since {since}: {wording.visible(row['last_error'] or '')}"


def changed(what: str, change: Changed) -> str:
    """Say what became of partitions whose state was changed."""
    lines = [f"{what}: {wording.counted(len(change.partitions), 'partition')}"]
    lines += [f"  {name}" for name in change.partitions[:NAMED_MAX]]
    if len(change.partitions) > NAMED_MAX:
        lines.append(f"  and {wording.count(len(change.partitions) - NAMED_MAX)} more")
    for number, noun in (
        (change.passes_superseded, "open pass set aside"),
        (change.runs_lost, "run under a lease that had run out marked as lost"),
        (change.validators_forgotten, "page to be fetched whole again"),
    ):
        if number:
            lines.append(f"{noun}: {wording.count(number)}")
    full = change.full_next
    if full and len(full) < len(change.partitions):
        names = wording.listed(full, most=NAMED_MAX)
        lines.append(f"no full pass has ended yet, the next one is full: {names}")
    elif full:
        lines.append("the next pass is full")
    return "\n".join(lines)
