"""The one transaction: rows, quarantine, the frontier's next state and the counters, or nothing.

Its order is part of the design. The fence comes first and fails early. Rows come stream by stream
in declared order, each sorted by key, then cursors in key order: two writers wait for each other
instead of deadlocking. Then what upstreams know those pages by. The pass and run rows, which all
writers share, come last.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeVar

import attrs
import trio

from syncd import bulk, faults
from syncd.asking import written as written_by
from syncd.awaited import Note, settings_read
from syncd.drift import Novelties
from syncd.enqueuing import NOWHERE, Outbox, enqueue
from syncd.errors import CommitRefused, ConfigError, Rejected
from syncd.events import BatchCommitted, Event, FieldUnknown, RecordsQuarantined
from syncd.model import Instance, Stream, Writer, Written
from syncd.nodes import Node, Walked, doubted, known_rows, lowered
from syncd.overflow import PagesOverflow, allowance, of_page, overflow, refuse_overflow
from syncd.plugins import Pipeline
from syncd.progress import Fingerprints
from syncd.records import Makers, RecordMaker, make_all, sight_all
from syncd.redaction import without_secrets
from syncd.rows import Sighted, StreamRows, answered
from syncd.store import absences, content, fields, validators
from syncd.store.cursors import close_cursors
from syncd.store.effects import Enqueued, Posting
from syncd.store.hops import Connection, Hops
from syncd.store.leases import Lease, fence
from syncd.store.passes import open_cursors
from syncd.store.statements import load
from syncd.tally import Tally
from syncd.threads import Threads

T = TypeVar("T")
Part = TypeVar("Part", Sighted, StreamRows)

# So many culprits are looked for among the rows of several pages: 520 statements at most in 5,000
# rows. With more, one rotten page would drag the others: each is then written by itself.
REFUSED_MAX = 20

_PASS = load("pass")


@attrs.frozen
class Target:
    """Where the records of one feed go: made once, when the pipeline is built."""

    makers: Makers
    tables: Mapping[str, bulk.Table]
    writes: Mapping[str, Writer]
    row_fingerprints: Fingerprints
    outbox: Outbox = NOWHERE

    @classmethod
    def of(cls, instance: Instance[Any], pipeline: Pipeline, wanted: frozenset[str]) -> Target:
        """Derive tables and record makers for the wanted streams of a feed.

        Raises: `ConfigError` where a stream declares what cannot be.
        """
        transforms, derived = pipeline.transforms, pipeline.derivation
        streams = [
            attrs.evolve(
                stream,
                # What a plugin writes, or a statement makes, bears no hash of ours.
                shortcut="off" if stream.name in pipeline.writes or derived else stream.shortcut,
                on_absent=instance.on_absent.get(stream.name, stream.on_absent),
            )
            for stream in pipeline.feed.streams
            if stream.name in wanted
        ]
        for stream in streams:
            _refuse_unknowable(instance, stream, writes=stream.name in pipeline.writes)
        tables = {s.name: bulk.table_of(instance.name, s) for s in streams}
        made_by = attrs.asdict(derived) if derived else {}
        read = {
            s.name: made_by | settings_read(str(tables[s.name]), instance, transforms[s.name])
            for s in streams
        }
        prints = {
            s.name: bulk.row_fingerprint(s, transforms[s.name], read[s.name]) for s in streams
        }
        makers = {
            s.name: RecordMaker.of(s, transforms[s.name], tables[s.name], prints[s.name]["row"])
            for s in streams
        }
        return cls(makers, tables, pipeline.writes, prints)


def _refuse_unknowable(instance: Instance[Any], stream: Stream, *, writes: bool) -> None:
    """Refuse to judge rows that nobody can tell the owner of.

    Raises: `ConfigError`.
    """
    where = f"{instance.name}.{stream.name}: on_absent"
    if stream.on_absent == "keep":
        return
    if writes:
        raise ConfigError(where, "a plugin writes these rows itself", "leave it out")
    if len(instance.accounts) > 1 and not stream.per_account:
        said = "one account's pass cannot tell which rows are another's"
        raise ConfigError(where, said, "make the stream per account, or leave it out")


@attrs.frozen
class Committed:
    """What a transaction did."""

    opened: list[bytes]  # keys of the cursors it really opened
    pages: int
    records: int
    written: Written
    quarantined: int
    enqueued: Enqueued = attrs.field(factory=Enqueued)

    def add_to(self, tally: Tally) -> None:
        tally.add(self.pages, self.records, self.written, self.quarantined)


@attrs.frozen
class Committer:
    """Writes batches under one lease."""

    hops: Hops
    emit: Callable[[Event], None]
    lease: Lease
    pass_id: int
    target: Target
    guarded: bool  # false: without the version guard, after the version rule changed
    safety_lag_seconds: float
    verify: bool = False  # decode and compare every record, whatever the hashes say
    collecting: frozenset[str] = frozenset()  # streams whose keys are noted, to tell what is gone
    mask: Callable[[str], str] = str  # takes the account's secrets out of a text
    under: validators.Under | None = None  # where validators of pages are kept, if they are
    threads: Threads = attrs.field(factory=Threads)
    novelties: Novelties = attrs.field(factory=Novelties)

    async def commit(
        self, batch: Sequence[Walked], openings: Sequence[Node], ends_at: int | None
    ) -> Committed:
        """Write a batch.

        Raises: `LeaseLost`, `CommitUnknown`, `StoreUnavailable`, `StoreRefused`; and where nothing
        was written: `FrontierMoved` (some page's cursor is no longer open), `PagesOverflow` (too
        much of some pages would be set aside), `bulk.TooManyRefused` (of several pages, which are
        to be written one by one).
        """
        started = trio.current_time()
        made = await self._made(batch)
        committed, rejected = await self._written(batch, made, openings=openings, ends_at=ends_at)
        self._tell(committed, rejected, len(openings), trio.current_time() - started)
        return committed

    async def _written(
        self,
        batch: Sequence[Walked],
        made: Mapping[str, StreamRows],
        *,
        blamed: frozenset[str] = frozenset(),
        **asked: Any,
    ) -> tuple[Committed, list[Rejected]]:
        """Commit rows; those that only the COMMIT would refuse are looked for before it.

        That is found out by a COMMIT that fails: asking before each would cost every batch a
        statement for what few tables have.
        """
        try:
            return await self.hops.run(self.write, batch, made, **asked, blamed=blamed)
        except CommitRefused as error:
            tables = self.target.tables.items()
            found = {name for name, each in tables if (each.schema, each.name) == error.table}
            if found <= blamed:
                raise
        return await self._written(batch, made, blamed=blamed | found, **asked)

    async def _made(self, batch: Sequence[Walked]) -> Mapping[str, StreamRows]:
        """Make the rows of a batch that the tables do not know yet."""
        makers = self.target.makers
        sighted = await self._in_thread(sight_all, makers, batch)
        by_bytes = {name: maker.known_by_bytes(sighted[name]) for name, maker in makers.items()}
        sighted = await self._without_known(sighted, by_bytes)
        made = await self._in_thread(make_all, makers, sighted)
        await self._announce(made)
        by_values = {name: maker.known_by_values(made[name]) for name, maker in makers.items()}
        return await self._without_known(made, by_values)

    async def _in_thread(self, function: Callable[..., T], *args: Any) -> T:
        """Run what meets a plugin's decoders and transforms in a thread of its connector."""
        where = self.lease.partition
        return await self.threads.run(where.instance, str(where), function, *args)

    async def _announce(self, made: Mapping[str, StreamRows]) -> None:
        """Say of fields that no record class knows that they are there: once of each."""
        instance = self.lease.partition.instance
        for stream, rows in made.items():
            asked = self.novelties.unasked(instance, stream, frozenset(rows.unknown))
            if asked:
                masked = [self.mask(field) for field in asked]
                for field in await self.hops.run(fields.announce, instance, stream, masked):
                    self.emit(FieldUnknown(instance, stream, field))

    async def _without_known(
        self, parts: dict[str, Part], candidates: Mapping[str, bulk.Candidates | None]
    ) -> dict[str, Part]:
        """Leave out what is known. A transaction of its own: decoding follows, and takes time."""
        asked = {name: each for name, each in candidates.items() if each and each.hashes}
        if self.verify or not asked:
            return parts
        account = self.lease.partition.account
        found = await self.hops.run(bulk.known, list(asked.values()), account=account)
        left = {n: parts[n].without(known) for n, known in zip(asked, found, strict=True)}
        return {**parts, **left}

    def write(
        self,
        connection: Connection,
        batch: Sequence[Walked],
        made: Mapping[str, StreamRows],
        *,
        openings: Sequence[Node],
        ends_at: int | None,
        blamed: Collection[str] = (),
    ) -> tuple[Committed, list[Rejected]]:
        """Do the transaction's work; the hop commits it.

        The `blamed` streams, of which the COMMIT refused rows, come last: by then all is there that
        a deferred constraint of theirs may wait for.
        """
        fence(connection, self.lease)
        outbox = self.target.outbox
        written = Written(unchanged=known_rows(batch, made))
        rejected: list[Rejected] = []
        postings: list[Posting] = []
        for name, rows in sorted(made.items(), key=lambda each: each[0] in blamed):
            result = self._write_stream(connection, name, rows, batch, immediate=name in blamed)
            written += result.written
            rejected += map(self._clean, [*rows.rejected, *result.rejected])
            if rows.effects or rows.caused:
                table, where = self.target.tables[name], self.lease.partition
                posted = outbox.standing(where, rows, result.standing, table=table, stream=name)
                postings += posted
        faults.point("upserted")
        enqueued = enqueue(connection, postings)
        made_of = {name: rows.cursors for name, rows in made.items()}
        refuse_overflow(str(self.lease.partition), batch, rejected, rows=made_of)
        self._note_keys(connection, batch, made)
        self._note_answers(connection, answered(made, rejected))
        bulk.quarantine(
            connection,
            rejected,
            instance=self.lease.partition.instance,
            account=self.lease.partition.account,
            pass_id=self.pass_id,
        )
        opened = open_cursors(connection, self.pass_id, openings)
        end = ends_at if ends_at in {page.number for page in batch} else None
        close_cursors(connection, self.pass_id, batch, end)
        if self.under is not None:
            doubtful = doubted(batch, rejected, stale=written.stale)
            validators.write(connection, self.under, self.pass_id, batch=batch, doubtful=doubtful)
        faults.point("frontier_written")
        committed = Committed(
            opened=opened,
            pages=len(batch),
            records=sum(page.records for page in batch),
            written=written,
            quarantined=len(rejected),
            enqueued=enqueued,
        )
        self._count(connection, committed, batch, end)
        return committed, rejected

    def _write_stream(
        self,
        connection: Connection,
        name: str,
        rows: StreamRows,
        batch: Sequence[Walked],
        *,
        immediate: bool,
    ) -> bulk.Result:
        write = self.target.writes.get(name)
        if write is not None:
            where = str(self.lease.partition)
            counts, rows.caused = written_by(write, connection, rows.rows, where=where, stream=name)
            return bulk.Result(counts, standing=range(len(rows.rows)))
        alone = batch[0] if len(batch) == 1 else None
        total = of_page(alone, name, rows=len(rows.rows)) if alone else 0
        given = rows.batch(
            self.lease.partition.account,
            guarded=self.guarded,
            fresh=rows.fresh,
            refused_max=allowance(total) if alone else REFUSED_MAX,
            immediate=immediate,
        )
        try:
            result = bulk.write(connection, self.target.tables[name], given)
        except bulk.TooManyRefused as many:
            if alone is None:
                raise
            count = f"more than {many.count - 1} of {total}"
            error = overflow(str(self.lease.partition), alone, self._clean(many.first), count)
            raise PagesOverflow({alone.node.key: error}) from many
        return attrs.evolve(result, written=result.written + Written(unchanged=rows.unchanged))

    def _clean(self, one: Rejected) -> Rejected:
        """Take out of a record what must not be kept: what its stream names, and our secrets."""
        maker = self.target.makers.get(one.stream)
        if maker is not None:
            one = maker.redaction(one)
        return without_secrets(one, self.mask)

    def _note_keys(
        self, connection: Connection, batch: Sequence[Walked], made: Mapping[str, StreamRows]
    ) -> None:
        """Note the keys of all records that were handed over, whatever became of them."""
        where = self.lease.partition_id
        for name in made.keys() & self.collecting:
            bulk.remember(
                connection,
                self.target.tables[name],
                made[name].present,
                partition_id=where,
                pass_id=self.pass_id,
                account=self.lease.partition.account,
            )
        unsent = any(page.unchanged for page in batch)
        blind = [n for n in sorted(made.keys() & self.collecting) if unsent or made[n].blind]
        absences.blind(connection, where, self.pass_id, blind)

    def _note_answers(self, connection: Connection, notes: Mapping[str, Sequence[Note]]) -> None:
        """Note what another API answered for, with what was made of it."""
        for name, those in notes.items():
            per_account = self.target.tables[name].per_account
            owner = content.Owner.of(self.lease.partition, name, per_account=per_account)
            content.note(connection, owner, those)

    def _count(
        self,
        connection: Connection,
        committed: Committed,
        batch: Sequence[Walked],
        end: int | None,
    ) -> None:
        """Add the batch to its pass and run.

        Raises: `LeaseLost` where the pass is no longer open.
        """
        counts = {
            "pass": self.pass_id,
            "run": self.lease.run_id,
            "end": end,
            "high": max((p.number or 0 for p in batch if not p.page.empty), default=0),
            "date": lowered(batch, self.safety_lag_seconds),
            "pages": committed.pages,
            "records": committed.records,
            "quarantined": committed.quarantined,
            **committed.written.counts,
        }
        if connection.execute(_PASS["count"], counts).rowcount != 1:
            raise self.lease.lost()
        connection.execute(_PASS["count_run"], counts)

    def _tell(
        self, committed: Committed, rejected: Sequence[Rejected], opened: int, seconds: float
    ) -> None:
        where = str(self.lease.partition)
        self.target.outbox.tell(self.lease.partition, committed.enqueued, self.emit)
        for stream, reason in sorted({(each.stream, each.reason) for each in rejected}):
            those = [each for each in rejected if (each.stream, each.reason) == (stream, reason)]
            first = those[0].message
            self.emit(RecordsQuarantined(where, stream, len(those), reason, first))
        self.emit(
            BatchCommitted(
                partition=where,
                pages=committed.pages,
                records=committed.records,
                quarantined=committed.quarantined,
                cursors_opened=opened,
                duration_seconds=round(seconds, 4),
                **committed.written.counts,
            )
        )
