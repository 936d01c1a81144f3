"""`syncd quarantine replay`: records are taken up again, stream by stream, and what became of them.

Where a stream cannot be replayed (its connector is not configured any more, its plugin writes it
itself) its records stay where they are, and the others go on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Any

import attrs
import trio

from syncd import bulk
from syncd.cli import ending, wording
from syncd.cli.database import with_control_tables
from syncd.cli.loading import Loaded
from syncd.commit import Target
from syncd.errors import ConfigError, Refused, SyncdError
from syncd.events import Event
from syncd.replay import AT_ONCE, Replayed, replay
from syncd.store import quarantined
from syncd.store.hops import Hops
from syncd.store.quarantined import SetAside
from syncd.store.selection import Aside

TOLD_MAX = 20  # records that are told of one by one; `--json` tells of all


@attrs.frozen
class Outcome:
    """What became of all records that were looked at; `refused` are streams with the reason."""

    done: Replayed = attrs.field(factory=Replayed)
    refused: dict[str, str] = attrs.field(factory=dict)
    records: int = 0

    @property
    def code(self) -> int:
        left = self.done.failed or self.done.impossible or self.done.changed or self.refused
        return ending.PARTIAL if left else ending.FINE


def replay_all(loaded: Loaded, which: Aside) -> Outcome:
    """Replay what was set aside up to now.

    Raises: `StoreError`; what was written until then stays, and is not replayed again.
    """

    async def main(hops: Hops) -> Outcome:
        return await _replay_all(_Streams(loaded, hops), hops, which)

    return trio.run(lambda: with_control_tables(loaded.config, main, emit=_nobody_listens))


async def _replay_all(streams: _Streams, hops: Hops, which: Aside) -> Outcome:
    outcome = Outcome()
    after, upto = 0, await hops.run(quarantined.newest)
    while True:
        read = await hops.run(quarantined.following, which, after=after, upto=upto, most=AT_ONCE)
        if not read:
            return outcome
        after = read[-1].id
        for (instance, stream), among in _by_stream(read):
            outcome = attrs.evolve(outcome, records=outcome.records + len(among))
            try:
                target = await streams.target(instance, stream)
            except (ConfigError, Refused) as error:
                outcome.refused[f"{instance}.{stream}"] = str(error)
                continue
            outcome = attrs.evolve(
                outcome, done=outcome.done + await replay(hops, target, stream, among)
            )


def _by_stream(read: Sequence[SetAside]) -> Iterator[tuple[tuple[str, str], list[SetAside]]]:
    stream_of = attrgetter("instance", "stream")
    for stream, among in groupby(sorted(read, key=stream_of), key=stream_of):
        yield stream, list(among)


@attrs.define
class _Streams:
    """Where the records of streams go, each looked up once; its table is made to fit first."""

    loaded: Loaded
    hops: Hops
    _known: dict[tuple[str, str], Target | SyncdError] = attrs.field(factory=dict, init=False)

    async def target(self, instance: str, stream: str) -> Target:
        """Return where a stream's records go.

        Raises: `Refused` where they cannot be replayed, `ConfigError` where it is declared wrongly.
        """
        found = self._known.get((instance, stream))
        if found is None:
            try:
                found = await self._found(instance, stream)
            except (ConfigError, Refused) as error:
                found = error
            self._known[instance, stream] = found
        if isinstance(found, SyncdError):
            raise found
        return found

    async def _found(self, instance: str, stream: str) -> Target:
        where, config = f"{instance}.{stream}", self.loaded.config
        configured = config.instances.get(instance)
        if configured is None:
            raise Refused(where, "the connector is not configured", "configure it, or discard them")
        feed = configured.connector.feed_of(stream)
        if feed is None:
            raise Refused(where, "the connector has no such stream any more", "discard them")
        pipeline = self.loaded.plugins.pipeline(configured, feed)
        if stream in pipeline.writes:
            said = "its plugin writes it itself, which nothing guards against older records"
            raise Refused(where, said, "let a full pass bring them again")
        target = Target.of(configured, pipeline, frozenset({stream}))
        if (awaiting := target.makers[stream].steps.awaiting) is not None:
            said = f"its transform {awaiting.name} asks another API, which only runs do"
            raise Refused(where, said, "run its job with --verify: every record is asked about")
        await self.hops.run(
            bulk.apply,
            list(target.tables.values()),
            lock_timeout_seconds=config.database.lock_timeout_seconds,
        )
        return target


def _nobody_listens(_: Event) -> None:
    """Take an event that a replay has no use for."""


def as_text(outcome: Outcome) -> str:
    """Say what became of the records."""
    done = outcome.done
    if not outcome.records:
        return "no record matches"
    written = ", ".join(
        f"{wording.count(number)} {what}" for what, number in attrs.asdict(done.written).items()
    )
    lines = [f"replayed {wording.counted(done.settled, 'record')}; rows: {written}"]
    if done.changed:
        lines.append(f"{wording.counted(done.changed, 'record')} came again meanwhile: left")
    told: list[tuple[int, str]] = [
        *((number, f"failed again ({why[0]}): {why[1]}") for number, why in done.failed.items()),
        *((number, f"cannot be replayed: {why}") for number, why in done.impossible.items()),
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
        "rows": attrs.asdict(done.written),
        "changed_meanwhile": done.changed,
        "failed": [
            {"id": number, "reason": reason, "message": message}
            for number, (reason, message) in done.failed.items()
        ],
        "impossible": [{"id": number, "why": why} for number, why in done.impossible.items()],
        "refused": [{"stream": name, "why": why} for name, why in outcome.refused.items()],
    }
