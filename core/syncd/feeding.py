"""Which feeds a job walks, what derived ones among them read, and tables that fit them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from syncd import bulk, derivations
from syncd.bulk.derived import Derived, check
from syncd.commit import Target
from syncd.config import Job
from syncd.model import Feed, Instance
from syncd.plugins import Pipeline, Plugins
from syncd.sqlstates import repeatable
from syncd.store.hops import Connection


def feeds_of(instance: Instance[Any], job: Job) -> Iterator[tuple[Feed, frozenset[str]]]:
    """Yield the feeds a job walks, each with the streams it wants of it."""
    for feed in instance.connector.feeds:
        names = {stream.name for stream in feed.streams}
        wanted = names & set(job.streams) if job.streams else names
        if wanted:
            yield feed, frozenset(wanted)


def walked_by(
    plugins: Plugins, instance: Instance[Any], job: Job, jobs: Iterable[Job]
) -> list[tuple[Feed, frozenset[str]]]:
    """Return the feeds that a job's rounds walk, each with the streams that are wanted of it.

    These are the job's own, and the derived ones that join it (see `derivations.joining`): of
    those that one of `jobs`, this one among them, names.

    Raises: `HookError`.
    """
    own = list(feeds_of(instance, job))
    theirs = [feeds_of(instance, other) for other in jobs if other.connector == job.connector]
    named = {name for feeds in theirs for _, names in feeds for name in names}
    walked = {name for _, names in own for name in names}
    joined = derivations.joining(plugins.derived(instance), walked=walked, wanted=named)
    found = ((instance.connector.feed_of(name), frozenset({name})) for name in joined)
    return own + [(feed, names) for feed, names in found if feed is not None]


def after_of(pipeline: Pipeline, walked: Sequence[Pipeline]) -> frozenset[str]:
    """Return the feeds among those walked that a derived feed is made of."""
    reads = set(pipeline.derivation.reads) if pipeline.derivation else set()
    return frozenset(
        other.feed.name
        for other in walked
        if not reads.isdisjoint(stream.name for stream in other.feed.streams)
    )


def sources_of(plugins: Plugins, pipeline: Pipeline) -> list[bulk.Table]:
    """Return the tables that a derived feed reads, as the feeds that fill them have them."""
    instance, reads = pipeline.instance, pipeline.derivation.reads if pipeline.derivation else ()
    tables: list[bulk.Table] = []
    for name in reads:
        feed = instance.connector.feed_of(name)
        if feed is not None:
            target = Target.of(instance, plugins.pipeline(instance, feed), frozenset({name}))
            tables += target.tables.values()
    return tables


def derived_of(pipeline: Pipeline, target: Target) -> Derived | None:
    """Bind what a derived feed's one stream is made of to its table; `None` where it is fetched."""
    if pipeline.derivation is None:
        return None
    (table,) = target.tables.values()
    return Derived.of(table, pipeline.derivation, plugin=pipeline.plugin)


@repeatable
def make_fit(
    connection: Connection,
    target: Target,
    sources: Sequence[bulk.Table],
    derived: Derived | None,
    *,
    lock_timeout_seconds: float,
) -> dict[str, int]:
    """Make a feed's tables fit, and those it reads; look whether what is derived fits them, too.

    Answers with the number of statements by table, those without any left out.

    Raises: `ConfigError` as `bulk.apply`; `HookError` for a select that cannot be run.
    """
    tables = [*target.tables.values(), *sources]
    changed = bulk.apply(connection, tables, lock_timeout_seconds=lock_timeout_seconds)
    if derived is not None:
        check(connection, derived)
    return changed
