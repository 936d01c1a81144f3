"""What a route brings is written: as the records of a page are, but under no lease.

It closes no cursor. The version of a record, where its stream has one, is that of the event: so
neither the order of events matters nor a pull beside them. The event's id is remembered in the
transaction that writes its records.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import attrs
import trio

from syncd import bulk, faults
from syncd.accounts import Effective
from syncd.asking import written as written_by
from syncd.building import effective_of, outbox_of
from syncd.commit import Target
from syncd.config.accounts import secrets_in
from syncd.daemon import Process
from syncd.enqueuing import enqueue
from syncd.errors import CommitRefused, Rejected
from syncd.events import RecordsQuarantined
from syncd.feeding import make_fit
from syncd.model import Account, Cursor, Instance, Page, Partition, RouteAnswer, Written
from syncd.nodes import Node, Walked
from syncd.observe import SecretMask
from syncd.records import make_all, sight_all
from syncd.redaction import without_secrets
from syncd.rows import StreamRows
from syncd.store import events, registry
from syncd.store.effects import Enqueued, Posting
from syncd.store.hops import Connection

# Accounts of the control tables are looked at again after so long, as the scheduler's looks do.
LOOK_SECONDS = 5.0


class UnknownAccount(Exception):
    """A handler named an account that the instance does not have."""


@attrs.frozen
class Outcome:
    """What became of an answer's records."""

    records: int = 0
    written: Written = attrs.field(factory=Written)
    quarantined: int = 0
    repeated: bool = False  # the event was known, and nothing was written
    enqueued: Enqueued = attrs.field(factory=Enqueued)


@attrs.frozen
class Letter:
    """One event, made into rows; `wheres` are by stream the partitions that they are of."""

    instance: str
    account: str
    wheres: Mapping[str, Partition]
    event_id: str | None
    records: int
    rows: Mapping[str, StreamRows]
    mask: SecretMask


@attrs.define(eq=False)
class Inbox:
    """Takes what the routes of one instance bring, under one configuration."""

    process: Process
    instance: Instance[Any]  # as it is configured
    _effective: Effective | None = None
    _looked_at: float = 0.0
    _targets: dict[str, Target] = attrs.field(factory=dict)  # by stream, where its table fits
    _one_at_a_time: trio.Lock = attrs.field(factory=trio.Lock)

    @property
    def streams(self) -> frozenset[str]:
        """Return the streams that routes may bring records of: those that are fetched."""
        feeds = (feed for feed in self.instance.connector.feeds if not feed.derived)
        return frozenset(stream.name for feed in feeds for stream in feed.streams)

    @property
    def thread_lane(self) -> str:
        """Return the name of the threads: of their own, so that syncs never wait for events."""
        return f"{self.instance.name} routes"

    async def take(self, answer: RouteAnswer, route: str, received_at: datetime) -> Outcome:
        """Write an answer's records, and remember its event; both are committed.

        It brings records of `streams`.

        Raises: `UnknownAccount`; `ConfigError` where a table cannot be made fit; `StoreError`:
        nothing is written then, or, of `CommitUnknown`, nobody knows.
        """
        account = await self._account(answer.account)
        if not answer.records and answer.event_id is None:
            return Outcome()
        targets = [await self._target(name) for name in self._in_order(answer)]
        letter = await self._opened(answer, route, received_at, account=account, targets=targets)
        outcome, rejected = await self._written(letter, targets)
        self._tell(letter, rejected)
        if targets:  # whatever stream they follow from, they came with one event
            (name,) = targets[0].tables
            targets[0].outbox.tell(letter.wheres[name], outcome.enqueued, self.process.emit)
        return outcome

    def _in_order(self, answer: RouteAnswer) -> list[str]:
        """Return the streams in declared order: two writers wait instead of deadlocking."""
        declared = [s.name for feed in self.instance.connector.feeds for s in feed.streams]
        return [name for name in declared if name in answer.records]

    # --- What it is written with ----------------------------------------------------------------

    async def _account(self, name: str) -> Account[Any]:
        """Return an account as it is now; one that is new may be known within seconds only."""
        async with self._one_at_a_time:
            late = trio.current_time() - self._looked_at > LOOK_SECONDS
            if self._effective is None or late or self._found(name) is None:
                before, process = self._effective, self.process
                now = await effective_of(process, self.instance, before)
                if before is None or now.revision != before.revision:
                    await process.hops.run(registry.register_instance, now.instance)
                self._effective, self._looked_at = now, trio.current_time()
            found = self._found(name)
        if found is None:
            raise UnknownAccount(name)
        return found

    def _found(self, name: str) -> Account[Any] | None:
        known = self._effective.instance.accounts if self._effective else ()
        return next((each for each in known if each.name == name), None)

    async def _target(self, stream: str) -> Target:
        """Return where a stream's records go; its table is made fit when the first of them come."""
        process = self.process
        async with self._one_at_a_time:
            if stream not in self._targets:
                feed = self.instance.connector.feed_of(stream)
                assert feed is not None
                pipeline = process.plugins.pipeline(self.instance, feed)
                bare = Target.of(self.instance, pipeline, frozenset({stream}))
                outbox = await outbox_of(process, pipeline, bare)
                target = attrs.evolve(bare, outbox=outbox)
                lock_seconds = process.config.database.lock_timeout_seconds
                await process.hops.run(
                    make_fit, target, (), None, lock_timeout_seconds=lock_seconds
                )
                self._targets[stream] = target
            return self._targets[stream]

    async def _opened(
        self,
        answer: RouteAnswer,
        route: str,
        received_at: datetime,
        *,
        account: Account[Any],
        targets: Sequence[Target],
    ) -> Letter:
        """Make rows of an answer's records, in a thread."""
        makers = {name: maker for target in targets for name, maker in target.makers.items()}
        page = Page(records=answer.records)
        # It stands where the name of a page does, in quarantine.
        name = [route] if answer.event_id is None else [route, answer.event_id]
        walked = Walked(Node.of(Cursor(name), depth=0, ordinal=0), page, received_at, ())

        def make() -> dict[str, StreamRows]:
            return make_all(makers, sight_all(makers, [walked]))

        rows = await self.process.threads.run(self.thread_lane, self.instance.name, make)
        secrets = secrets_in([self.instance.settings, account.settings])
        return Letter(
            self.instance.name,
            account.name,
            {name: self._where(name, account.name) for name in makers},
            answer.event_id,
            sum(page.counts.values()),
            rows,
            SecretMask(secrets),
        )

    def _where(self, stream: str, account: str) -> Partition:
        feed = self.instance.connector.feed_of(stream)
        assert feed is not None
        return Partition(self.instance.name, account, feed.name)

    # --- The transaction ------------------------------------------------------------------------

    async def _written(
        self, letter: Letter, targets: Sequence[Target], *, blamed: frozenset[str] = frozenset()
    ) -> tuple[Outcome, list[Rejected]]:
        """Commit; rows that only the COMMIT would refuse are looked for before it."""
        try:
            return await self.process.hops.run(write, letter, targets, blamed=blamed)
        except CommitRefused as error:
            tables = [pair for target in targets for pair in target.tables.items()]
            found = {name for name, each in tables if (each.schema, each.name) == error.table}
            if found <= blamed:
                raise
        return await self._written(letter, targets, blamed=blamed | found)

    def _tell(self, letter: Letter, rejected: Sequence[Rejected]) -> None:
        for stream, reason in sorted({(each.stream, each.reason) for each in rejected}):
            those = [each for each in rejected if (each.stream, each.reason) == (stream, reason)]
            where, first = str(letter.wheres[stream]), those[0].message
            self.process.emit(RecordsQuarantined(where, stream, len(those), reason, first))


def write(
    connection: Connection, letter: Letter, targets: Sequence[Target], *, blamed: frozenset[str]
) -> tuple[Outcome, list[Rejected]]:
    """Do the transaction's work; the hop commits it.

    A record that cannot be written is set aside, and the event counts as received: its sender would
    repeat the same bytes for days, and an operator has them in quarantine, to be replayed.
    """
    known = letter.event_id
    if known is not None and not events.remember(connection, letter.instance, known):
        return Outcome(letter.records, repeated=True), []
    written = Written()
    rejected: list[Rejected] = []
    postings: list[Posting] = []
    for target in targets:
        ((name, table),) = target.tables.items()
        rows = letter.rows[name]
        result = _write_rows(connection, target, letter, name, immediate=name in blamed)
        written += result.written
        aside = map(target.makers[name].redaction, [*rows.rejected, *result.rejected])
        rejected += [without_secrets(each, letter.mask.text) for each in aside]
        standing = result.standing if rows.effects else ()
        box, where = target.outbox, letter.wheres[name]
        postings += box.standing(where, rows, standing, table=table, stream=name)
    faults.point("upserted")
    enqueued = enqueue(connection, postings)
    bulk.quarantine(
        connection, rejected, instance=letter.instance, account=letter.account, pass_id=None
    )
    return Outcome(letter.records, written, len(rejected), enqueued=enqueued), rejected


def _write_rows(
    connection: Connection, target: Target, letter: Letter, name: str, *, immediate: bool
) -> bulk.Result:
    rows = letter.rows[name]
    own = target.writes.get(name)
    if own is not None:
        where = str(letter.wheres[name])
        counts, rows.caused = written_by(own, connection, rows.rows, where=where, stream=name)
        return bulk.Result(counts, standing=range(len(rows.rows)))
    batch = rows.batch(letter.account, immediate=immediate)
    return bulk.write(connection, target.tables[name], batch)
