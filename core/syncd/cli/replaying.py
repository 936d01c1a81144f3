"""`syncd quarantine replay`: records are taken up again, stream by stream, and what became of them.

Where a stream cannot be replayed (its connector is not configured any more, its plugin writes it
itself and wants order, the API that it awaits does not answer) its records stay where they are, and
the others go on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from itertools import groupby
from operator import attrgetter
from typing import Any

import attrs
import trio

from syncd import bulk
from syncd.awaited import Awaited
from syncd.awaiting import ask_each
from syncd.cli import ending, wording
from syncd.cli.database import with_control_tables
from syncd.cli.loading import Loaded
from syncd.cli.upstreams import Upstreams
from syncd.commit import Target
from syncd.enqueuing import Outbox
from syncd.errors import ConfigError, Refused, SyncdError
from syncd.events import Event
from syncd.model import Later, Partition, Record
from syncd.replay import AT_ONCE, Ask, Replayed, replay
from syncd.routing import routes_of
from syncd.store import quarantined
from syncd.store.hops import Hops
from syncd.store.quarantined import SetAside
from syncd.store.selection import Aside
from syncd.threads import Threads

TOLD_MAX = 20  # records that are told of one by one; `--json` tells of all


@attrs.frozen
class Outcome:
    """What became of all records that were looked at; `refused` are streams with the reason."""

    done: Replayed = attrs.field(factory=Replayed)
    refused: dict[str, str] = attrs.field(factory=dict)
    records: int = 0

    @property
    def code(self) -> int:
        done = self.done
        left = done.failed or done.impossible or done.later or done.changed or self.refused
        return ending.PARTIAL if left else ending.FINE


def replay_all(
    loaded: Loaded, which: Aside, *, hide: Callable[[Loaded], Loaded] = lambda loaded: loaded
) -> Outcome:
    """Replay what was set aside up to now.

    `hide` keeps the secrets of what it is given, accounts of the table with it, from being printed.

    Raises: `StoreError`; what was written until then stays, and is not replayed again.
    """

    async def main(hops: Hops) -> Outcome:
        async with AsyncExitStack() as stack:
            return await _replay_all(_Streams(Upstreams(loaded, hops, stack, hide)), hops, which)

    return trio.run(lambda: with_control_tables(loaded.config, main, emit=_nobody_listens))


async def _replay_all(streams: _Streams, hops: Hops, which: Aside) -> Outcome:
    outcome, strangers = Outcome(), set[tuple[str, str, str]]()
    after, upto = 0, await hops.run(quarantined.newest)
    while True:
        read = await hops.run(quarantined.following, which, after=after, upto=upto, most=AT_ONCE)
        if not read:
            return outcome
        after = read[-1].id
        for (instance, stream), among in _by_stream(read):
            outcome = attrs.evolve(outcome, records=outcome.records + len(among))
            try:
                found = await streams.found(instance, stream)
            except SyncdError as error:
                outcome.refused[f"{instance}.{stream}"] = str(error)
                continue
            allowed = [e for e in among if (instance, stream, e.account) not in strangers]
            done = await replay(
                hops, found.target, found.where, allowed, stream=stream, ask=found.ask
            )
            for account, refusal in done.strangers.items():
                strangers.add((instance, stream, account))
                outcome.refused[f"{instance}.{stream} of {account}"] = str(refusal)
            if done.failure is not None:
                outcome.refused[f"{instance}.{stream}"] = str(done.failure)
                streams.give_up(instance, stream, done.failure)
            outcome = attrs.evolve(outcome, done=outcome.done + done)


def _by_stream(read: Sequence[SetAside]) -> Iterator[tuple[tuple[str, str], list[SetAside]]]:
    stream_of = attrgetter("instance", "stream")
    for stream, among in groupby(sorted(read, key=stream_of), key=stream_of):
        yield stream, list(among)


@attrs.frozen
class _Found:
    """Where the records of a stream go, and how another API is asked about them."""

    target: Target
    where: Partition
    ask: Ask


@attrs.define
class _Streams:
    """Where the records of streams go, each looked up once; its table is made to fit first."""

    upstreams: Upstreams
    threads: Threads = attrs.field(factory=Threads)
    _known: dict[tuple[str, str], _Found | SyncdError] = attrs.field(factory=dict, init=False)

    async def found(self, instance: str, stream: str) -> _Found:
        """Return where a stream's records go.

        Raises: `Refused` where they cannot be replayed, `ConfigError` where it is declared wrongly,
        or nobody delivers what follows from its rows; what ended the asking.
        """
        found = self._known.get((instance, stream))
        if found is None:
            try:
                found = await self._look(instance, stream)
            except (ConfigError, Refused) as error:
                found = error
            self._known[instance, stream] = found
        if isinstance(found, SyncdError):
            raise found
        return found

    def give_up(self, instance: str, stream: str, error: SyncdError) -> None:
        """Replay no more of a stream."""
        self._known[instance, stream] = error

    async def _look(self, instance: str, stream: str) -> _Found:
        where, loaded = f"{instance}.{stream}", self.upstreams.loaded
        config = loaded.config
        configured = config.instances.get(instance)
        if configured is None:
            raise Refused(where, "the connector is not configured", "configure it, or discard them")
        feed = configured.connector.feed_of(stream)
        if feed is None:
            raise Refused(where, "the connector has no such stream any more", "discard them")
        pipeline = loaded.plugins.pipeline(configured, feed)
        own = pipeline.writes.get(stream)
        if own is not None and not own.any_order:
            said = "its plugin writes it itself, and does not say that older records may come "
            said += "after newer ones (Writer.any_order)"
            raise Refused(where, said, "let a full pass bring them again")
        target = Target.of(configured, pipeline, frozenset({stream}))
        if kinds := pipeline.kinds([stream]):
            there = (await self.upstreams.with_accounts()).instances
            routes = routes_of(kinds, there, config.effects, whose=instance)
            target = attrs.evolve(target, outbox=Outbox(routes))
        await self.upstreams.hops.run(
            bulk.apply,
            list(target.tables.values()),
            lock_timeout_seconds=config.database.lock_timeout_seconds,
        )
        maker, whole = target.makers[stream], Partition(instance, "", feed.name)

        async def ask(account: str, records: Sequence[Record]) -> Sequence[Awaited | Later]:
            context = await self.upstreams.context(attrs.evolve(whole, account=account))
            return await ask_each(maker, records, context, self.threads)

        return _Found(target, whole, ask)


def _nobody_listens(_: Event) -> None:
    """Take an event that a replay has no use for."""


def as_text(outcome: Outcome) -> str:
    """Say what became of the records."""
    done = outcome.done
    if not outcome.records:
        return "no record matches"
    written = ", ".join(
        f"{wording.count(number)} {what}" for what, number in done.written.counts.items()
    )
    lines = [f"replayed {wording.counted(done.settled, 'record')}; rows: {written}"]
    if done.changed:
        lines.append(f"{wording.counted(done.changed, 'record')} came again meanwhile: left")
    if done.enqueued:
        lines.append(f"{wording.counted(done.enqueued, 'effect')} enqueued")
    if done.conflicts:
        said = "delivered before, with another payload: left"
        lines.append(f"{wording.counted(done.conflicts, 'effect')} {said}")
    told: list[tuple[int, str]] = [
        *((number, f"failed again ({why[0]}): {why[1]}") for number, why in done.failed.items()),
        *((number, f"cannot be replayed: {why}") for number, why in done.impossible.items()),
        *((number, f"later: {why}; replay it again") for number, why in done.later.items()),
    ]
    lines += [f"record {number}: {wording.cut(said, 300)}" for number, said in told[:TOLD_MAX]]
    if len(told) > TOLD_MAX:
        lines.append(f"and {len(told) - TOLD_MAX} more; --json tells of all")
    return "\n".join([*lines, *outcome.refused.values()])


def as_json(outcome: Outcome) -> dict[str, Any]:
    """Return what `--json` prints."""
    done = outcome.done
    return {
        "exit_code": outcome.code,
        "records": outcome.records,
        "replayed": done.settled,
        "rows": done.written.counts,
        "changed_meanwhile": done.changed,
        "effects": {"enqueued": done.enqueued, "delivered_otherwise": done.conflicts},
        "failed": [
            {"id": number, "reason": reason, "message": message}
            for number, (reason, message) in done.failed.items()
        ],
        "impossible": [{"id": number, "why": why} for number, why in done.impossible.items()],
        "later": [{"id": number, "why": why} for number, why in done.later.items()],
        "refused": [{"stream": name, "why": why} for name, why in outcome.refused.items()],
    }
