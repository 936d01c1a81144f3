"""The tables of jobs: what they name must exist, and two of them must not undo each other."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs

from syncd.config.instances import NAME, NAME_WANTED, Declared
from syncd.config.reading import INVALID, Reading
from syncd.config.settings import Job
from syncd.config.tables import Table
from syncd.config.values import did_you_mean, dotted
from syncd.config.variables import concurrency_of
from syncd.model import Connector, Feed


@attrs.frozen
class _Entry:
    """A job's table: as it stands in the file, and its fields as far as they are right."""

    name: str
    key: str
    table: Mapping[str, Any]
    fields: dict[str, Any]  # `INVALID` stands where one is wrong


@attrs.frozen
class _Named:
    """What a job names of one feed, even where something else in it is wrong."""

    job: str
    instance: str
    feed: str
    streams: frozenset[str]


def read_jobs(
    tables: Mapping[str, Any],
    declared: Mapping[str, Declared],
    *,
    concurrencies: Mapping[str, int],
    reading: Reading,
) -> dict[str, Job]:
    """Read ``[jobs.*]``."""
    jobs: dict[str, Job] = {}
    named: list[_Named] = []
    for name, table in tables.items():
        entry = _entry(name, table, reading)
        if entry is None:
            continue
        connector = _connector(entry, declared, reading)
        if connector is not None:
            streams = _streams(entry, connector, reading)
            if entry.fields["streams"] is not INVALID:
                named += _by_feed(entry, connector, streams)
            _refuse_incremental(entry, connector, streams, reading)
            _set_concurrency(entry, connector, streams, concurrencies)
        job = Table(Job).build(entry.fields, entry.key, reading)
        if job is not INVALID:
            jobs[name] = job
    _refuse_overlaps(named, reading)
    return jobs


def _entry(name: str, table: Any, reading: Reading) -> _Entry | None:
    key = f"jobs.{dotted(name)}"
    if not re.fullmatch(NAME, name):
        reading.problem(key, f"as a job's name, {NAME_WANTED}")
    fields = Table(Job).fields(table, key, reading, named={"name": name})
    if fields is INVALID:
        return None
    if "timezone" in fields and "cron" not in fields:
        reading.warnings.append(f"{key}.timezone: means nothing without cron")
    return _Entry(name, key, table, fields)


def _connector(
    entry: _Entry, declared: Mapping[str, Declared], reading: Reading
) -> Connector | None:
    name = entry.fields["connector"]
    if name is INVALID:
        return None
    if name in declared:
        return declared[name].connector
    there = ", ".join(declared) or "none"
    wanted = f"wanted the NAME of a table [connectors.NAME]; there: {there}"
    hint = did_you_mean(name, declared)
    reading.unwanted(f"{entry.key}.connector", entry.table["connector"], wanted + hint)
    return None


def _streams(entry: _Entry, connector: Connector, reading: Reading) -> tuple[str, ...]:
    """Find the streams that a job names and that exist; by default all."""
    known = tuple(stream.name for feed in connector.feeds for stream in feed.streams)
    named = entry.fields.setdefault("streams", known)
    if named is INVALID:
        return ()
    key = f"{entry.key}.streams"
    if not named:
        what = "names no stream; leave the key out for all of them"
        entry.fields["streams"] = reading.problem(key, what)
    for n, stream in enumerate(named):
        if stream in known and stream not in named[:n]:
            continue
        twice = f"which is {key}[{named.index(stream)}], too"
        wanted = f"wanted a stream of {connector.name!r}: {', '.join(known)}"
        what = twice if stream in known else wanted + did_you_mean(stream, known)
        entry.fields["streams"] = reading.unwanted(f"{key}[{n}]", entry.table["streams"][n], what)
    return tuple(stream for stream in dict.fromkeys(named) if stream in known)


def _by_feed(entry: _Entry, connector: Connector, streams: Sequence[str]) -> Iterator[_Named]:
    instance = entry.fields["connector"]
    for feed in connector.feeds:
        of_feed = _streams_of(feed) & frozenset(streams)
        if of_feed:
            yield _Named(entry.name, instance, feed.name, of_feed)


def _streams_of(feed: Feed) -> frozenset[str]:
    return frozenset(stream.name for stream in feed.streams)


def _refuse_incremental(
    entry: _Entry, connector: Connector, streams: Sequence[str], reading: Reading
) -> None:
    """A feed that can only be walked in full is not asked for what changed."""
    if entry.fields.get("mode", attrs.fields(Job).mode.default) != "incremental":
        return
    by_default = "" if "mode" in entry.fields else ", the default"
    for feed in connector.feeds:
        walked_in_full = not feed.incremental and not feed.derived  # which is no matter of modes
        if walked_in_full and not _streams_of(feed).isdisjoint(streams):
            reading.problem(
                f"{entry.key}.mode",
                f'found "incremental"{by_default}, but the feed {feed.name!r} of '
                f"{connector.name!r} can only be walked in full; "
                'write mode = "full", or name streams of other feeds',
            )


def _set_concurrency(
    entry: _Entry, connector: Connector, streams: Sequence[str], numbers: Mapping[str, int]
) -> None:
    """Put the environment's number in place of the file's, unless that is a problem.

    Where neither says anything, the feeds do: of several, the one that bears least.
    """
    feeds = [each for each in connector.feeds if not _streams_of(each).isdisjoint(streams)]
    own = [each.concurrency for each in feeds if each.concurrency is not None]
    if own:
        entry.fields.setdefault("concurrency", min(own))
    set_by_environment = concurrency_of(connector, feeds, numbers)
    if set_by_environment is not None and entry.fields.get("concurrency") is not INVALID:
        entry.fields["concurrency"] = set_by_environment


def _refuse_overlaps(named: Sequence[_Named], reading: Reading) -> None:
    """Two jobs name the same streams of a feed or none: else their passes supersede each other."""
    first: dict[tuple[str, str], _Named] = {}
    for one in named:
        before = first.setdefault((one.instance, one.feed), one)
        if before.streams != one.streams:
            reading.problem(
                f"jobs.{dotted(one.job)}.streams",
                f"of the feed {one.feed!r} of {one.instance!r}: {_listed(one)}, but the job "
                f"{before.job!r} names {_listed(before)}; wanted the same streams or none, since "
                "the passes of the two would supersede each other",
            )


def _listed(named: _Named) -> str:
    return ", ".join(sorted(named.streams))
