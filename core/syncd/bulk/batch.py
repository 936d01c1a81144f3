"""What is handed in to be written, and which of its rows are. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from itertools import repeat
from operator import itemgetter
from typing import Any, NamedTuple

import attrs

from syncd.bulk.quarantine import key_text
from syncd.bulk.tables import Table
from syncd.errors import RecordError, Rejected
from syncd.model import Written

# Batches of at least so many rows are copied into a temporary table. Measured with 29 columns on
# PostgreSQL 18, CPU time of both sides for a row that is new / unchanged: 200 rows, arrays 67 / 66
# us, COPY 61 / 58; 500 rows, 57 / 41 against 48 / 40; 1,000 rows, 43 / 42 against 35 / 28. Arrays
# are favoured where it makes no difference: each temporary table leaves dead rows in the catalog.
COPY_FROM_ROWS = 500


@attrs.frozen
class Batch:
    """What one call writes into one table; the sequences are parallel.

    `rows` are objects of the stream's row class, `sent_at` the moments their requests left.
    `hashes`, of a table that is hashed, are what they are known by the next time; a row without one
    is compared each time. `raws` (the records as they came), `cursors` (the pages that held them)
    and `parents` (what these pages gave them) may be empty: they are used only for rows that are
    rejected. No row's version is above its `versions_max`, where one is given. `account` is the
    `account_id` of all rows where the table is per account. Without the guard (`guarded`) a row
    replaces a newer one: after a change of the version rule. `now` takes the place of the server's
    clock. `copy_from_rows` is the number of rows from which on they are copied. `fresh`: most
    likely none of them is in the table, so that they are not looked for first; all counts are exact
    even so. Of the rows that the table refuses as a whole, at most `refused_max` are looked for.
    `immediate`: constraints object now to what they would object to at COMMIT. `telling`: the
    result says which rows stand.
    """

    rows: Sequence[Any]
    sent_at: Sequence[datetime]
    hashes: Sequence[bytes | None] = ()
    raws: Sequence[bytes | None] = ()
    cursors: Sequence[str | None] = ()
    parents: Sequence[Mapping[str, Any] | None] = ()
    versions_max: Sequence[int | None] = ()
    account: str = "default"
    guarded: bool = True
    now: datetime | None = None
    copy_from_rows: int = COPY_FROM_ROWS
    fresh: bool = False
    refused_max: int | None = None
    immediate: bool = False
    telling: bool = False

    def __attrs_post_init__(self) -> None:
        # A sequence that is too short would lose rows without a word.
        lengths = {len(self.rows), len(self.sent_at)}
        given = (self.hashes, self.raws, self.cursors, self.parents, self.versions_max)
        lengths |= {len(each) for each in given if each}
        if len(lengths) > 1:
            raise ValueError(f"the sequences of a batch differ in length: {sorted(lengths)}")


@attrs.frozen
class Result:
    """What became of a batch: the counts of `written` and `rejected` add up to its rows.

    `standing`, where the batch asks for it: the places of rows that were inserted, updated or found
    equal, neither stale nor rejected.
    """

    written: Written
    rejected: Sequence[Rejected] = ()
    standing: Collection[int] = ()


class Candidate(NamedTuple):
    """A row that may be written, and its place in the batch."""

    key: Any  # one value, or a tuple of several; None where there is none
    values: tuple[Any, ...]
    version: int
    hash: bytes | None
    place: int


def staged_values(row: Candidate) -> tuple[Any, ...]:
    """Answer what is sent of a row behind its place in key order; a table may lack the last."""
    return (*row.values, row.version, row.hash)


def staged_columns(table: Table, rows: Sequence[Candidate]) -> list[Sequence[Any]]:
    """Answer what is sent of all rows, column by column."""
    values = zip(*(row.values for row in rows), strict=True)
    columns = [range(len(rows)), *values, [row.version for row in rows]]
    return [*columns, [row.hash for row in rows]] if table.hashed else columns


def candidates(table: Table, batch: Batch) -> tuple[list[Candidate], list[Rejected]]:
    """Take keys, values and versions off the rows.

    Rejected is what has no key, is no row of the stream, or has an impossible version.
    """
    found, rejected = _taken(table, batch)
    if len(table.key) == 1:
        lacking = [one for one in found if one.key is None]
    elif table.key:
        lacking = [one for one in found if None in one.key]
    else:
        lacking = []
    if not lacking:
        return found, rejected
    said = f"{', '.join(table.key)}: a part of the key is null"
    for one in lacking:
        rejected.append(rejection(table, batch, one.place, "key", said, version=one.version))
    places = {one.place for one in lacking}
    return [one for one in found if one.place not in places], rejected


def _taken(table: Table, batch: Batch) -> tuple[list[Candidate], list[Rejected]]:
    rows, moments = batch.rows, batch.sent_at
    places: Sequence[int] = range(len(rows))
    rejected: list[Rejected] = []
    try:
        values = list(map(table.values, rows))
        versions = list(map(table.version, rows, moments))
    except (AttributeError, RecordError):  # whose?
        values, versions, sound = [], [], list[int]()
        for place, (row, moment) in enumerate(zip(rows, moments, strict=True)):
            try:
                taken, version = table.values(row), table.version(row, moment)
            except (AttributeError, RecordError) as error:
                rejected.append(rejection(table, batch, place, "dump", str(error)))
            else:
                values.append(taken)
                versions.append(version)
                sound.append(place)
        places = sound
    if batch.versions_max:
        most = map(batch.versions_max.__getitem__, places)
        versions = [
            own if m is None else min(own, m) for own, m in zip(versions, most, strict=True)
        ]
    keys = map(table.key_of, values) if table.key else repeat(None)
    hashes = map(batch.hashes.__getitem__, places) if batch.hashes else repeat(None)
    return list(map(Candidate, keys, values, versions, hashes, places)), rejected


def decided(table: Table, among: Sequence[Candidate]) -> tuple[list[Candidate], list[Candidate]]:
    """Answer the one row of each key that is to be written, in key order, and all others.

    The newest wins, of equally new ones the last. Where existing rows are never touched the first
    wins, as if each had come in a batch of its own. The order is that of Python, which is that of
    PostgreSQL's collation "C": writers that lock rows in one order cannot deadlock (P13).

    Raises: `TypeError` if two keys do not compare, or one has no hash: a value of the wrong type.
    """
    if table.mode == "append":
        return list(among), []
    winners: dict[Any, Candidate] = {}
    losers: list[Candidate] = []
    newest = table.mode == "upsert"
    for candidate in among:
        rival = winners.setdefault(candidate.key, candidate)
        if rival is not candidate:
            if newest and candidate.version >= rival.version:
                winners[candidate.key] = candidate
                losers.append(rival)
            else:
                losers.append(candidate)
    return sorted(winners.values(), key=itemgetter(0)), losers


def lost(table: Table, winners: Iterable[Candidate], losers: Sequence[Candidate]) -> Written:
    """Count the rows that another one of the same batch took the place of."""
    if not losers:
        return Written()
    equal = len(same(table, winners, losers))
    return Written(unchanged=equal, stale=len(losers) - equal)


def same(
    table: Table, winners: Iterable[Candidate], losers: Sequence[Candidate]
) -> list[Candidate]:
    """Answer those of the beaten rows that say the same as the one that beat them."""
    best = {winner.key: winner.values for winner in winners}
    return [one for one in losers if table.mode == "insert-only" or best[one.key] == one.values]


def rejection(
    table: Table,
    batch: Batch,
    place: int,
    reason: str,
    message: str,
    *,
    key: Any = None,
    version: int | None = None,
) -> Rejected:
    """Answer a row as the quarantine takes it."""
    raw = batch.raws[place] if batch.raws else None
    return Rejected(
        stream=table.name,
        reason=reason,
        message=message,
        raw=None if raw is None else bytes(raw),
        key=None if key is None else _key_text(table, key),
        version=version,
        cursor=batch.cursors[place] if batch.cursors else None,
        parent=batch.parents[place] if batch.parents else None,
        sent_at=batch.sent_at[place],
        place=place,
    )


def _key_text(table: Table, key: Any) -> str:
    values = (key,) if len(table.key) == 1 else key
    return key_text(dict(zip(table.key, values, strict=True)))
