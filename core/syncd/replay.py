"""Replay: records that were set aside are made into rows again, and written as a run writes them.

They go through today's decoder and transforms, which may be mended by now. What came in the
meantime stays: a replayed row is never written with a higher version than it came with. What
follows from the rows is enqueued with them. Where a transform awaits another API, that is asked
about the records once more; what it answers is not noted, so that a pass, too, asks once more.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import attrs
import msgspec
import trio

from syncd import bulk
from syncd.asking import written as written_by
from syncd.awaited import Awaited
from syncd.bulk.classes import annotations_of
from syncd.bulk.quarantine import RAW_MAX_BYTES, storable
from syncd.commit import Target
from syncd.enqueuing import enqueue
from syncd.errors import PluginError, Refused, Rejected, StoreRefused, SyncdError, Unauthorized
from syncd.model import Cursor, Later, Page, Partition, Record, Stream, Written
from syncd.nodes import Node, Walked
from syncd.records import RecordMaker
from syncd.redaction import digest
from syncd.rows import StreamRows
from syncd.store import quarantined
from syncd.store.effects import Posting
from syncd.store.hops import Connection, Hops
from syncd.store.quarantined import SetAside

AT_ONCE = 200  # records of one transaction: of 64 KiB at most, so 13 MB
ASKED_AT_ONCE = 50  # records that another API is asked about: a page of usual size, to be in time

# Asks another API about records of one account; answers for each with what it is made of, or later.
Ask = Callable[[str, Sequence[Record]], Awaitable[Sequence[Awaited | Later]]]

_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)  # older than any row that is there


@attrs.frozen
class Replayed:
    """What became of records: each is settled, failed again, or left as it is."""

    written: Written = attrs.field(factory=Written)
    settled: int = 0  # whose rows are written, or were there already
    failed: Mapping[int, tuple[str, str]] = attrs.field(factory=dict)  # reason and message
    changed: int = 0  # that came again in the meantime
    impossible: Mapping[int, str] = attrs.field(factory=dict)  # why, by number
    later: Mapping[int, str] = attrs.field(factory=dict)  # why another API has not answered yet
    enqueued: int = 0  # effects
    conflicts: int = 0  # effects that were delivered with another payload, and stay so
    failure: SyncdError | None = None  # of asking: whoever comes next meets the same
    strangers: Mapping[str, SyncdError] = attrs.field(factory=dict)  # accounts that may not ask

    def __add__(self, other: Replayed) -> Replayed:
        return Replayed(
            written=self.written + other.written,
            settled=self.settled + other.settled,
            failed={**self.failed, **other.failed},
            changed=self.changed + other.changed,
            impossible={**self.impossible, **other.impossible},
            later={**self.later, **other.later},
            enqueued=self.enqueued + other.enqueued,
            conflicts=self.conflicts + other.conflicts,
            failure=self.failure or other.failure,
            strangers={**self.strangers, **other.strangers},
        )


def impossible(record: SetAside) -> str | None:
    """Return why nothing can be made of a record any more, `None` where something can."""
    if record.raw is None:
        return "its bytes are not known: the connector handed it over as a finished object"
    if record.raw_bytes is not None and record.raw_bytes > len(record.raw):
        kept = RAW_MAX_BYTES // 1024
        return f"only the first {kept} KiB of its {record.raw_bytes:,} bytes were kept"
    if record.raw_hash is not None and record.raw_hash != digest(record.raw):
        return "a part of its bytes was taken out before they were kept"
    if record.parent is None:
        return "what its surroundings gave it was not kept"
    return None


async def replay(
    hops: Hops,
    target: Target,
    where: Partition,
    among: Sequence[SetAside],
    *,
    stream: str,
    ask: Ask | None = None,
) -> Replayed:
    """Make and write records of one stream, in one transaction; `where`: its feed, of any account.

    `ask` is called for a stream with a transform that awaits. What it fails with ends the asking,
    but for an account that is refused; what was answered is written. Where a plugin writes the rows
    itself and fails, nothing is written, and that is the failure.

    Raises: `StoreError`; nothing is written then.
    """
    hopeless = {each.id: why for each in among if (why := impossible(each)) is not None}
    possible = [each for each in among if each.id not in hopeless]
    maker = target.makers[stream]
    asked = Asked()
    if maker.steps.awaiting is not None:
        assert ask is not None, "somebody must be asked about its records"
        asked = await _asked(ask, maker.stream, possible)
        possible = [each for each in possible if each.id in asked.items]
    made = await trio.to_thread.run_sync(make, maker, possible, asked.items)
    try:
        done = await hops.run(write, target, where, possible, made, stream=stream)
    except (PluginError, StoreRefused) as error:  # a plugin that writes itself can do no less
        if stream not in target.writes:
            raise
        done = Replayed(failure=error)
    return done + Replayed(
        impossible=hopeless,
        later=asked.later,
        failure=asked.failure,
        strangers=asked.strangers,
    )


# --- Asking ---------------------------------------------------------------------------------------


@attrs.define
class Asked:
    """What another API answered for records, by number: with what they are made of, or later."""

    items: dict[int, Any] = attrs.field(factory=dict)
    later: dict[int, str] = attrs.field(factory=dict)
    failure: SyncdError | None = None
    strangers: dict[str, SyncdError] = attrs.field(factory=dict)


async def _asked(ask: Ask, stream: Stream, among: Sequence[SetAside]) -> Asked:
    """Ask about records, account by account, until that fails for all; one may be refused alone."""
    asked = Asked()
    for account, some in _portions(among):
        if account in asked.strangers:
            continue
        records: dict[int, Record] = {}
        for each in some:
            try:
                records[each.id] = _record(stream, each)
            except msgspec.ValidationError:
                asked.items[each.id] = None  # it fails as it is made
        try:
            answers = await ask(account, list(records.values())) if records else ()
        except (Unauthorized, Refused) as error:
            asked.strangers[account] = error
            continue
        except SyncdError as error:
            asked.failure = error
            break
        for number, answer in zip(records, answers, strict=True):
            if isinstance(answer, Later):
                asked.later[number] = answer.reason
            else:
                asked.items[number] = answer
    return asked


def _portions(among: Sequence[SetAside]) -> Iterator[tuple[str, list[SetAside]]]:
    by_account: dict[str, list[SetAside]] = {}
    for each in among:
        by_account.setdefault(each.account, []).append(each)
    for account, theirs in sorted(by_account.items()):
        for first in range(0, len(theirs), ASKED_AT_ONCE):
            yield account, theirs[first : first + ASKED_AT_ONCE]


# --- Making ---------------------------------------------------------------------------------------


@attrs.define
class Made:
    """Rows, what each was made of, and what failed once more."""

    rows: StreamRows = attrs.field(factory=StreamRows)
    of: list[SetAside] = attrs.field(factory=list)  # parallel to the rows
    failed: dict[int, tuple[str, str]] = attrs.field(factory=dict)

    def add(self, record: SetAside, rows: StreamRows) -> None:
        """Add what was made of one record."""
        count, mine = len(rows.rows), self.rows
        mine.rows += rows.rows
        mine.hashes += rows.hashes or [None] * count
        mine.effects += rows.effects
        mine.sent_at += rows.sent_at
        # A row is told apart by its record's number, which stands in place of its page.
        mine.cursors += [str(record.id)] * count
        mine.versions_max += [record.version] * count
        self.of += [record] * count

    def among(self, ids: set[int]) -> Made:
        """Return the same of these records only."""
        left, mine = [n for n, record in enumerate(self.of) if record.id in ids], self.rows
        rows = StreamRows(
            rows=[mine.rows[i] for i in left],
            hashes=[mine.hashes[i] for i in left],
            effects=[mine.effects[i] for i in left] if mine.effects else [],
            sent_at=[mine.sent_at[i] for i in left],
            cursors=[mine.cursors[i] for i in left],
            versions_max=[mine.versions_max[i] for i in left],
        )
        failed = {number: why for number, why in self.failed.items() if number in ids}
        return Made(rows, [self.of[i] for i in left], failed)


def make(
    maker: RecordMaker, among: Sequence[SetAside], answered: Mapping[int, Any] | None = None
) -> Made:
    """Make rows of records, each by itself. Pure Python on bytes, for a thread.

    `answered`: records with what another API answered, where one is asked.
    """
    made = Made()
    for record in among:
        try:
            item = _record(maker.stream, record)
        except msgspec.ValidationError as error:
            made.failed[record.id] = ("decode", storable(f"of its surroundings: {error}"))
            continue
        page = Page({maker.stream.name: [(answered or {}).get(record.id, item)]})
        node = Node.of(Cursor(record.id), depth=0, ordinal=0)
        walked = Walked(node, page, record.sent_at or _LONG_AGO, ())
        rows = maker.make(maker.sight([walked]))
        for rejected in rows.rejected:
            made.failed[record.id] = _said(rejected)
        made.add(record, rows)
    return made


def _record(stream: Stream, record: SetAside) -> Record:
    """Return a record as if it had just been fetched.

    Raises: `msgspec.ValidationError` where its surroundings gave it what its class cannot hold now.
    """
    types = annotations_of(stream.record)
    # As JSON keeps them, moments and the like are text; and the text of a number stays text.
    parent = {
        name: msgspec.convert(value, types.get(name, Any))
        for name, value in (record.parent or {}).items()
    }
    return Record(msgspec.Raw(record.raw or b""), parent)


def _said(rejected: Rejected) -> tuple[str, str]:
    return rejected.reason, storable(rejected.message)


# --- Writing --------------------------------------------------------------------------------------


def write(
    connection: Connection,
    target: Target,
    where: Partition,
    among: Sequence[SetAside],
    made: Made,
    *,
    stream: str,
) -> Replayed:
    """Write rows with what follows from them, and forget the records they were made of.

    Those that failed again are counted up.
    """
    held = quarantined.hold(connection, among)
    mine, table = made.among(held), target.tables[stream]
    written, failed = Written(), dict(mine.failed)
    postings: list[Posting] = []
    by_account: dict[str, set[int]] = {}
    for record in mine.of:
        by_account.setdefault(record.account, set()).add(record.id)
    for account, ids in sorted(by_account.items()):
        rows = mine.among(ids).rows
        whose = attrs.evolve(where, account=account)
        own = target.writes.get(stream)
        if own is None:
            result = bulk.write(connection, table, rows.batch(account))
        else:
            named = str(whose)
            counts, rows.caused = written_by(own, connection, rows.rows, where=named, stream=stream)
            result = bulk.Result(counts, standing=range(len(rows.rows)))
        written += result.written
        failed |= {int(each.cursor): _said(each) for each in result.rejected if each.cursor}
        standing = result.standing
        postings += target.outbox.standing(whose, rows, standing, table=table, stream=stream)
    enqueued = enqueue(connection, postings)
    done = held - failed.keys()
    quarantined.settle(connection, sorted(done))
    quarantined.fail_again(connection, failed)
    return Replayed(
        written,
        len(done),
        failed,
        changed=len(among) - len(held),
        enqueued=sum(enqueued.counts.values()),
        conflicts=len(enqueued.conflicts),
    )
