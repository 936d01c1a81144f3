"""Replay: records that were set aside are made into rows again, and written as a run writes them.

They go through today's decoder and transforms, which may be mended by now. What came in the
meantime stays: a replayed row is never written with a higher version than it came with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import attrs
import msgspec
import trio

from syncd import bulk
from syncd.bulk.classes import annotations_of
from syncd.bulk.quarantine import RAW_MAX_BYTES, storable
from syncd.commit import Target
from syncd.errors import Rejected
from syncd.model import Cursor, Page, Record, Stream, Written
from syncd.nodes import Node, Walked
from syncd.records import RecordMaker
from syncd.redaction import digest
from syncd.store import quarantined
from syncd.store.hops import Connection, Hops
from syncd.store.quarantined import SetAside

AT_ONCE = 200  # records of one transaction: of 64 KiB at most, so 13 MB

_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)  # older than any row that is there


@attrs.frozen
class Replayed:
    """What became of records: each is settled, failed again, or left as it is."""

    written: Written = attrs.field(factory=Written)
    settled: int = 0  # whose rows are written, or were there already
    failed: Mapping[int, tuple[str, str]] = attrs.field(factory=dict)  # reason and message
    changed: int = 0  # that came again in the meantime
    impossible: Mapping[int, str] = attrs.field(factory=dict)  # why, by number

    def __add__(self, other: Replayed) -> Replayed:
        return Replayed(
            written=self.written + other.written,
            settled=self.settled + other.settled,
            failed={**self.failed, **other.failed},
            changed=self.changed + other.changed,
            impossible={**self.impossible, **other.impossible},
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


async def replay(hops: Hops, target: Target, stream: str, among: Sequence[SetAside]) -> Replayed:
    """Make and write records of one stream and account, in one transaction.

    Raises: `StoreError`; nothing is written then.
    """
    hopeless = {each.id: why for each in among if (why := impossible(each)) is not None}
    possible = [each for each in among if each.id not in hopeless]
    maker = target.makers[stream]
    made = await trio.to_thread.run_sync(make, maker, possible)
    done = await hops.run(write, target.tables[stream], possible, made)
    return done + Replayed(impossible=hopeless)


@attrs.define
class Made:
    """Rows, parallel to what they were made of and known by; and what failed once more."""

    rows: list[Any] = attrs.field(factory=list)
    of: list[SetAside] = attrs.field(factory=list)
    hashes: list[bytes | None] = attrs.field(factory=list)
    versions_max: list[int | None] = attrs.field(factory=list)
    failed: dict[int, tuple[str, str]] = attrs.field(factory=dict)

    def among(self, ids: set[int]) -> Made:
        """Return the same of these records only."""
        left = [place for place, record in enumerate(self.of) if record.id in ids]
        return Made(
            rows=[self.rows[i] for i in left],
            of=[self.of[i] for i in left],
            hashes=[self.hashes[i] for i in left],
            versions_max=[self.versions_max[i] for i in left],
            failed={number: why for number, why in self.failed.items() if number in ids},
        )


def make(maker: RecordMaker, among: Sequence[SetAside]) -> Made:
    """Make rows of records, each by itself. Pure Python on bytes, for a thread."""
    made = Made()
    for record in among:
        try:
            walked = _walked(maker.stream, record)
        except msgspec.ValidationError as error:
            made.failed[record.id] = ("decode", storable(f"of its surroundings: {error}"))
            continue
        rows = maker.make(maker.sight([walked]))
        for rejected in rows.rejected:
            made.failed[record.id] = _said(rejected)
        made.rows += rows.rows
        made.hashes += rows.hashes or [None] * len(rows.rows)
        made.of += [record] * len(rows.rows)
        made.versions_max += [record.version] * len(rows.rows)
    return made


def _walked(stream: Stream, record: SetAside) -> Walked:
    """Return a page that holds one record, as if it had just been fetched.

    Raises: `msgspec.ValidationError` where its surroundings gave it what its class cannot hold now.
    """
    types = annotations_of(stream.record)
    # As JSON keeps them, moments and the like are text; and the text of a number stays text.
    parent = {
        name: msgspec.convert(value, types.get(name, Any))
        for name, value in (record.parent or {}).items()
    }
    page = Page({stream.name: [Record(msgspec.Raw(record.raw or b""), parent)]})
    node = Node.of(Cursor(record.id), depth=0, ordinal=0)
    return Walked(node, page, record.sent_at or _LONG_AGO, ())


def _said(rejected: Rejected) -> tuple[str, str]:
    return rejected.reason, storable(rejected.message)


def write(
    connection: Connection, table: bulk.Table, among: Sequence[SetAside], made: Made
) -> Replayed:
    """Write rows, forget the records they were made of, and count up those that failed again."""
    held = quarantined.hold(connection, among)
    mine = made.among(held)
    written, failed = Written(), dict(mine.failed)
    by_account: dict[str, set[int]] = {}
    for record in mine.of:
        by_account.setdefault(record.account, set()).add(record.id)
    for account, ids in sorted(by_account.items()):
        result = _write_rows(connection, table, account, mine.among(ids))
        written += result.written
        # A row is told apart by its record's number, which stands in place of its page.
        failed |= {int(each.cursor): _said(each) for each in result.rejected if each.cursor}
    done = held - failed.keys()
    quarantined.settle(connection, sorted(done))
    quarantined.fail_again(connection, failed)
    return Replayed(written, len(done), failed, changed=len(among) - len(held))


def _write_rows(connection: Connection, table: bulk.Table, account: str, made: Made) -> bulk.Result:
    batch = bulk.Batch(
        rows=made.rows,
        sent_at=[record.sent_at or _LONG_AGO for record in made.of],
        hashes=made.hashes,
        cursors=[str(record.id) for record in made.of],
        versions_max=made.versions_max,
        account=account,
    )
    return bulk.write(connection, table, batch)
