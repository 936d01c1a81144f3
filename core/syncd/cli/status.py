"""`syncd status`: what goes on, what is wrong, and what to do about it. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs

from syncd.cli import columns, ending, wording
from syncd.store.overview import Overview
from syncd.store.partitions import name_of

Row = Mapping[str, Any]

HEADINGS = ("feed", "partitions", "ready", "due", "leased", "parked", "failing", "late", "last run")
MESSAGE_CHARACTERS_MAX = 200  # of a reason; `--json` has all of it


@attrs.frozen
class Task:
    """Something that waits for an operator: what it is, and what helps."""

    what: str
    do: str
    grave: bool = False  # nothing goes on there until somebody does something


def tasks(seen: Overview) -> list[Task]:
    """Say what is wrong and what to do, what stands still first."""
    return [
        *_parked_accounts(seen.parked_accounts),
        *_parked_partitions(seen.parked_partitions),
        *_stranded(seen.stranded),
        *_nobody_works(seen),
        *_flooded(seen.effects),
        *_failing(seen.failing),
        *_dead(seen.effects),
        *_owed(seen.debt),
        *_set_aside(seen.quarantined),
    ]


def _parked_accounts(rows: Sequence[Row]) -> Iterator[Task]:
    for row in rows:
        what = f"account {row['instance']}.{row['account']} is parked: {_said(row['reason'])}"
        command = _command("resume", row["instance"], account=row["account"])
        yield Task(what, f"mend it, then run {command}", grave=True)
    yield from _more(rows, "account is parked", "syncd status --limit")


def _parked_partitions(rows: Sequence[Row]) -> Iterator[Task]:
    for row in rows:
        names = {name: row[name] for name in ("account", "feed", "slice")}
        command = _command("resume", row["instance"], **names)
        what = f"{name_of(dict(row))} is parked: {_said(row['reason'])}"
        yield Task(what, f"mend it, then run {command}", grave=True)
    yield from _more(rows, "partition is parked", "syncd status --limit")


def _more(rows: Sequence[Row], what: str, command: str) -> Iterator[Task]:
    """Say how many there are that are not told of one by one."""
    left = rows[0]["matching"] - len(rows) if rows else 0
    if left:
        yield Task(f"{wording.count(left)} more: {what}", f"see them with `{command}`", grave=True)


def _nobody_works(seen: Overview) -> Iterator[Task]:
    due = sum(row["due"] for row in seen.feeds)
    if due and not any(row["alive"] for row in seen.processes):
        late = max(row["late_seconds"] or 0.0 for row in seen.feeds)
        partitions = wording.counted(due, "partition")
        what = f"{partitions} due, for up to {wording.seconds(late)}, and no process works here"
        yield Task(what, "start one: `syncd run JOB`")


def _failing(rows: Sequence[Row]) -> Iterator[Task]:
    for row in rows:
        since = f"since {wording.moment(row['failing_since'])}"
        times = wording.counted(row["failures"], "run")
        what = f"{name_of(dict(row))} fails {since} ({times}): {_said(row['last_error'] or '')}"
        yield Task(what, "it is tried again by itself; see whether the message asks for more")
    left = rows[0]["matching"] - len(rows) if rows else 0
    if left:
        yield Task(
            f"{wording.count(left)} more partitions fail", "see them with `syncd state list`"
        )


def _flooded(rows: Sequence[Row]) -> Iterator[Task]:
    for row in rows:
        if row["flooded"]:
            held = ", ".join(row["producers"]) or "nothing"
            what = f"{wording.counted(row['open'], 'effect')} of kind {row['kind']} wait: above "
            what += f"the mark ([daemon] effects_max), so {held} is not claimed"
            yield Task(what, f"see why with {_command('effects list', kind=row['kind'])}")


def _stranded(rows: Sequence[Row]) -> Iterator[Task]:
    for row in rows:
        instance, account = row["instance"], row["account"]
        waiting = f"{wording.counted(row['effects'], 'effect')} of kind {row['kind']}"
        why, do = "the account is disabled", f"run {_command('accounts enable', instance, account)}"
        if row["account_is"] == "unknown":
            add = _command("accounts add", instance, account)
            why, do = "there is no such account", f"add it to the configuration or with {add}"
        elif row["account_is"] == "undelivered":
            why, do = "nobody delivers them here", "have a configuration deliver them"
        names = {"instance": instance, "account": account, "kind": row["kind"]}
        what = f"{instance}.{account}: {waiting} stranded ({why})"
        # Another configuration may deliver what this one does not.
        is_grave = row["account_is"] != "undelivered"
        yield Task(what, f"{do}, or run {_command('effects discard', **names)}", grave=is_grave)
    yield from _more(rows, "effects stranded", "syncd status --limit")


def _dead(rows: Sequence[Row]) -> Iterator[Task]:
    for row in rows:
        if row["dead"]:
            dead = wording.counted(row["dead"], "effect")
            what = f"{row['instance']}: {dead} of kind {row['kind']} dead"
            names = {"instance": row["instance"], "kind": row["kind"], "state": "dead"}
            see, retry = (_command(f"effects {verb}", **names) for verb in ("list", "retry"))
            yield Task(what, f"see why with {see}, mend it, then run {retry}")


def _owed(rows: Sequence[Row]) -> Iterator[Task]:
    for row in rows:
        items = wording.counted(row["cursors"], "item")
        what = f"{row['instance']}.{row['feed']}: {items} could not be had"
        command = _command("cursors failed", instance=row["instance"], feed=row["feed"])
        yield Task(what, f"later passes try again; see {command}")


def _set_aside(rows: Sequence[Row]) -> Iterator[Task]:
    for row in rows:
        records = wording.counted(row["records"], "record")
        what = f"{row['instance']}.{row['stream']}: {records} set aside ({row['reason']})"
        names = {"instance": row["instance"], "stream": row["stream"], "reason": row["reason"]}
        yield Task(what, f"see {_command('quarantine list', **names)}")


def _command(words: str, *names: str, **options: str) -> str:
    """Return a command as it is typed into a shell."""
    typed = [f"--{name} {shlex.quote(value)}" for name, value in options.items()]
    return f"`syncd {' '.join([words, *map(shlex.quote, names), *typed])}`"


def _said(message: str) -> str:
    return wording.cut(message, MESSAGE_CHARACTERS_MAX)


def exit_code(seen: Overview) -> int:
    """Return 1 where something stands still until an operator acts."""
    return ending.FAILED if any(task.grave for task in tasks(seen)) else ending.FINE


# --- As text --------------------------------------------------------------------------------------


def as_text(seen: Overview, *, width: int | None = None) -> str:
    """Write what goes on, what is wrong, and what to do."""
    if not seen.feeds and not seen.effects:
        return "nothing has run here yet; `syncd run JOB` runs a job"
    feeds = [_feed_cells(row) for row in seen.feeds]
    parts = [
        columns.table(HEADINGS, feeds, width=width) if feeds else "",
        _section("jobs", [_job(row) for row in seen.jobs]),
        _section("at work", [_process(row) for row in seen.processes]),
        _section("open passes", [_pass(row) for row in seen.passes]),
        _section("effects", [_effects(row) for row in seen.effects]),
        _section("on disk", [_size(row) for row in seen.sizes]),
        _section("to do", [f"{task.what}; {task.do}" for task in tasks(seen)]),
    ]
    return "\n\n".join(part for part in parts if part)


def _section(heading: str, lines: Sequence[str]) -> str:
    if not lines:
        return f"{heading}: nothing"
    return "\n".join([f"{heading}:", *(f"  {line}" for line in lines)])


def _feed_cells(row: Row) -> list[Any]:
    late = row["late_seconds"]
    when = wording.moment(row["last_finished_at"] or row["last_started_at"])
    last = f"{row['last_job']}: {row['last_status']} {when}"
    return [
        f"{row['instance']}.{row['feed']}",
        *(row[name] for name in ("partitions", "ready", "due", "leased", "parked", "failing")),
        "" if late is None else wording.seconds(late),
        last if row["last_status"] else "never",
    ]


def _job(row: Row) -> str:
    if row["running"] is not None:
        turns = wording.counted(row["running_partitions"], "partition")
        begun = wording.moment(row["running_since"])
        now = f"round {row['running']} of {turns}, begun {begun}, {row['owed']} still to come"
    elif row["state"] == "paused":
        now = f"paused; `syncd unpause {row['name']}`"
    elif row["asked"] is not None:
        now = f"a round begins as soon as a daemon looks ({row['asked']})"
    elif row["next_at"] is not None:
        now = f"next {wording.moment(row['next_at'])}"
    else:
        now = f"runs when it is asked to; `syncd trigger {row['name']}`"
    if row["last_status"] is None:
        return f"{row['name']}: {now}"
    ended = wording.moment(row["last_finished_at"] or row["last_started_at"])
    return f"{row['name']}: {now}; last {row['last_status']} {ended}, {row['last_message']}"


def _process(row: Row) -> str:
    who = f"process {row['pid']} on {row['host']} (syncd {row['version']})"
    silent = wording.seconds(max(0.0, row["silent_seconds"]))
    if not row["alive"]:
        return f"{who}: gone, silent for {silent}"
    held = wording.counted(row["leased"], "partition")
    return f"{who}: holds {held}, since {wording.moment(row['started_at'])}, seen {silent} ago"


def _pass(row: Row) -> str:
    size = f"{wording.counted(row['pages'], 'page')}, {wording.counted(row['records'], 'record')}"
    aside = f", {wording.count(row['quarantined'])} set aside" if row["quarantined"] else ""
    who = f"walked by process {row['pid']} on {row['host']}" if row["leased"] else "waits"
    begun = wording.moment(row["started_at"])
    name = f"{name_of(dict(row))}: {row['mode']} pass {row['number']}"
    return f"{name}, begun {begun}: {size}{aside}; {who}"


def _effects(row: Row) -> str:
    oldest = row["oldest_seconds"]
    waits = f", the oldest for {wording.seconds(oldest)}" if oldest is not None else ""
    dead = f", {wording.count(row['dead'])} dead" if row["dead"] else ""
    return f"{row['kind']} to {row['instance']}: {wording.count(row['open'])} open{waits}{dead}"


def _size(row: Row) -> str:
    tables = wording.counted(row["tables"], "table")
    return f"schema {row['schema']}: {wording.size(row['bytes'])} in {tables}"


def as_json(seen: Overview) -> dict[str, Any]:
    """Return what `--json` prints: everything that was asked, and the tasks made of it."""
    return {
        "exit_code": exit_code(seen),
        **{field.name: getattr(seen, field.name) for field in attrs.fields(Overview)},
        "tasks": [attrs.asdict(task) for task in tasks(seen)],
    }
