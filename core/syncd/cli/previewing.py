"""`syncd preview`: rows as a run would make them, without a database.

Rows of a derived stream are made of other rows: its select is run, where these are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import click
import msgspec
import trio

from syncd.asking import sliced
from syncd.bulk.derived import sample
from syncd.cli import columns, ending, wording
from syncd.cli.database import with_database
from syncd.cli.loading import Loaded
from syncd.cli.options import refuse_unknown
from syncd.cli.quarantine import readable
from syncd.cli.screen import attend
from syncd.cli.upstreams import Reach, held, reached
from syncd.commit import Target
from syncd.errors import ConfigError, Rejected, SyncdError
from syncd.events import Event
from syncd.feeding import derived_of
from syncd.model import Account, Feed, Instance, Partition, Request, Slice
from syncd.preview import Preview, Previewer
from syncd.store.hops import Hops

CELL_CHARACTERS_MAX = 60  # `--json` has all of it


@attrs.frozen
class Wanted:
    """What is to be looked at."""

    instance: Instance[Any]
    feed: Feed
    stream: str
    account: Account[Any]
    slice: str | None
    records_max: int
    pages_max: int


def wanted(
    loaded: Loaded,
    name: str,
    *,
    account: str | None,
    slice: str | None,  # noqa: A002  # the word of the model
    **limits: int,
) -> Wanted:
    """Find what ``CONNECTOR.STREAM`` names.

    Raises: `click.BadParameter` where it is not configured.
    """
    instances = loaded.config.instances
    connector, dot, stream = name.rpartition(".")
    if not dot:
        raise click.BadParameter(f"{name!r}, wanted CONNECTOR.STREAM", param_hint="STREAM")
    refuse_unknown("CONNECTOR", connector, instances)
    instance = instances[connector]
    feed = instance.connector.feed_of(stream)
    if feed is None:
        refuse_unknown(
            "STREAM", stream, [s.name for f in instance.connector.feeds for s in f.streams]
        )
    assert feed is not None
    accounts = {each.name: each for each in instance.accounts}
    if account is not None:
        refuse_unknown("--account", account, accounts)
    chosen = accounts[account] if account is not None else instance.accounts[0]
    return Wanted(instance, feed, stream, chosen, slice, **limits)


def preview(loaded: Loaded, asked: Wanted, *, as_json: bool) -> Preview:
    """Fetch and make rows; what the upstream's limits hold back is logged as in a run.

    Raises: `SourceError` and `PluginError` as a run meets them.
    """
    attendance = attend(loaded.config, loaded.secrets, only_json=as_json)
    failure: list[SyncdError | click.UsageError] = []

    async def main() -> Preview | None:
        try:
            emit = attendance.observer.emit
            if asked.feed.derived:
                return await _derived(loaded, asked, emit)
            kept = await held(loaded.config, asked.instance, asked.account, emit=emit)
            async with reached(
                loaded, asked.instance, asked.account, emit=emit, kept=kept
            ) as reach:
                return await _previewed(loaded, asked, reach)
        except (SyncdError, click.UsageError) as error:
            failure.append(error)
            return None

    found = trio.run(main)
    if found is None:
        raise failure[0]
    return found


async def _derived(loaded: Loaded, asked: Wanted, emit: Callable[[Event], None]) -> Preview:
    """Run the select of a derived stream in a transaction that cannot write."""
    config = loaded.config
    if config.database.url is None and not (config.daemon.data_dir / "postgresql").exists():
        said = "is made of rows in a database, and there is none yet"
        raise ConfigError(f"{asked.instance.name}.{asked.stream}", said, "run what it reads first")
    pipeline = loaded.plugins.pipeline(asked.instance, asked.feed)
    target = Target.of(asked.instance, pipeline, frozenset({asked.stream}))
    table, made = target.tables[asked.stream], derived_of(pipeline, target)
    assert made is not None, "its feed is derived"
    most, account = asked.records_max, asked.account.name

    async def look(hops: Hops) -> list[dict[str, Any]]:
        return await hops.run(sample, made, account=account, most=most)

    rows = await with_database(config, look, emit=emit)
    columns = [column.name for column in table.columns]
    return Preview(str(table), columns, rows, (), pages=0, requests=0, whole=len(rows) < most)


async def _previewed(loaded: Loaded, asked: Wanted, reach: Reach) -> Preview:
    pipeline = loaded.plugins.pipeline(asked.instance, asked.feed)
    request = Request("full", None, reach.clock.now())
    whole = Partition(asked.instance.name, asked.account.name, asked.feed.name)
    slices = await sliced(pipeline, reach.context(whole, request))
    partition = attrs.evolve(whole, slice=_chosen(slices, asked.slice))
    previewer = Previewer(
        pipeline,
        asked.stream,
        reach.client,
        lambda http: reach.context(partition, request, http),
        reach.clock.now,
    )
    return await previewer.preview(
        partition, request, records_max=asked.records_max, pages_max=asked.pages_max
    )


def _chosen(slices: Any, name: str | None) -> Slice:
    """Return the slice of a name; without one the whole feed, or else the first slice.

    Raises: `click.BadParameter` where there is none of that name.
    """
    by_name: dict[str, Slice] = {each.name: each for each in slices}
    if name is not None:
        if name not in by_name:
            raise click.BadParameter(
                f"no slice {name!r}; there: {', '.join(map(repr, by_name)) or 'none'}",
                param_hint="--slice",
            )
        return by_name[name]
    return by_name.get("") or next(iter(by_name.values()), Slice())


def as_text(found: Preview, *, width: int | None = None) -> str:
    """Write the rows as a table, then what would be set aside, then what it took."""
    parts = []
    if found.rows:
        cells = [[_cell(row[name]) for name in found.columns] for row in found.rows]
        parts.append(columns.table(found.columns, cells, width=width))
    parts += [_aside(each) for each in found.rejected]
    end = "that is all there is" if found.whole else "there may be more"
    parts.append(
        f"{found.table}: {wording.counted(len(found.rows), 'row')}, "
        f"{len(found.rejected)} would be set aside; {wording.counted(found.pages, 'page')}, "
        f"{wording.counted(found.requests, 'request')}; {end}; nothing was written"
    )
    return "\n\n".join(parts)


def _cell(value: Any) -> Any:
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return str(value)  # as it is stored: a key is no count
    if isinstance(value, dict | list | tuple) or attrs.has(type(value)):
        value = msgspec.json.encode(value, enc_hook=str).decode()
    return wording.cut(str(value), CELL_CHARACTERS_MAX)


def _aside(rejected: Rejected) -> str:
    head = f"would be set aside ({rejected.reason}): {wording.visible(rejected.message)}"
    if rejected.raw is None:
        return head
    text = wording.cut(readable(rejected.raw), 500)
    return f"{head}\n  {text}"


def as_json(found: Preview) -> dict[str, Any]:
    """Return what `--json` prints: one document."""
    return {
        "exit_code": ending.FINE,
        "table": found.table,
        "columns": found.columns,
        "rows": [msgspec.to_builtins(row, enc_hook=str) for row in found.rows],
        "quarantined": [
            {
                "reason": each.reason,
                "message": each.message,
                "key": each.key,
                "page": each.cursor,
                "raw": None if each.raw is None else each.raw.decode(errors="backslashreplace"),
            }
            for each in found.rejected
        ],
        "pages": found.pages,
        "requests": found.requests,
        "whole": found.whole,
    }
