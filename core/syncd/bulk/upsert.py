"""Writing one stream's rows: the newest wins, each is accounted for, a bad one stays alone."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import attrs
import psycopg
from psycopg.rows import tuple_row

from syncd.bulk.batch import (
    Batch,
    Candidate,
    Result,
    candidates,
    decided,
    lost,
    rejection,
    same,
    staged_columns,
)
from syncd.bulk.bisect import TooManyRefused, bisect
from syncd.bulk.refusals import blames_a_row, examined, refusal
from syncd.bulk.staging import (
    UNSENDABLE,
    Columns,
    encoded,
    run_from_arrays,
    run_from_copy,
    savepoint,
)
from syncd.bulk.statements import Statements, statements_of
from syncd.bulk.tables import Table
from syncd.errors import Rejected
from syncd.model import Written


def write(conn: psycopg.Connection[Any], table: Table, batch: Batch) -> Result:
    """Write a batch's rows inside the caller's transaction, each one exactly accounted for.

    Of several rows with one key the newest is written, of equally new ones the last; the others
    count as unchanged where they are equal to it, else as stale, and are not looked at any further.
    Rows that cannot be stored are rejected with reason ``key`` (missing), ``dump`` (cannot be sent,
    or not be read back) or ``refused`` (by the table, for what they hold); the others are written.

    Raises: any other psycopg error, unchanged, and `TooManyRefused` with the first `Rejected` where
    the table refuses more than `refused_max` rows; the transaction is then to be rolled back.
    """
    job = _Job(conn, table, batch, statements_of(table, guarded=batch.guarded))
    among, rejected = candidates(table, batch)
    written, more = _settled(job, among)
    return Result(written, (*rejected, *more), job.standing)


@attrs.frozen
class _Job:
    conn: psycopg.Connection[Any]
    table: Table
    batch: Batch
    statements: Statements
    standing: set[int] = attrs.field(factory=set)  # places in the batch, where it asks for them

    def beaten(self, winners: Sequence[Candidate], losers: Sequence[Candidate]) -> Written:
        """Count the rows that another one of the batch took the place of."""
        if self.batch.telling:
            self.standing.update(one.place for one in same(self.table, winners, losers))
        return lost(self.table, winners, losers)

    def stand(self, rows: Sequence[Candidate], stale: Sequence[int]) -> None:
        """Note rows, numbered in key order, all but the stale ones."""
        if self.batch.telling:
            gone = set(stale)
            self.standing.update(row.place for n, row in enumerate(rows) if n not in gone)

    @property
    def parameters(self) -> dict[str, Any]:
        return {"account": self.batch.account, "now": self.batch.now}

    def cursor(self) -> psycopg.Cursor[tuple[Any, ...]]:
        return psycopg.Cursor(self.conn, row_factory=tuple_row)

    def rejection(self, row: Candidate, reason: str, message: str) -> Rejected:
        return rejection(
            self.table, self.batch, row.place, reason, message, key=row.key, version=row.version
        )


def _settled(job: _Job, among: Sequence[Candidate]) -> tuple[Written, list[Rejected]]:
    """Write what can be written, and reject the rest."""
    if not among:
        return Written(), []
    try:
        winners, losers = decided(job.table, among)
        return _attempt(job, winners) + job.beaten(winners, losers), []
    except UNSENDABLE:
        sound, unsound = _examined(job, among)
        if not unsound:
            raise  # each of the rows can be sent: the fault is ours
    except psycopg.Error as error:
        if not blames_a_row(error):
            raise
        sound, unsound = _examined(job, among)  # NUL in text, say, needs no search
    if not unsound:
        return _bisected(job, among)
    written, more = _settled(job, sound)
    return written, [job.rejection(row, "dump", fault) for row, fault in unsound] + more


def _examined(
    job: _Job, among: Sequence[Candidate]
) -> tuple[list[Candidate], list[tuple[Candidate, str]]]:
    with job.cursor() as cursor:
        return examined(cursor, job.statements.stage, among)


def _attempt(job: _Job, rows: Sequence[Candidate]) -> Written:
    """Write rows of distinct keys, in the order given, or leave nothing behind."""
    stage = job.statements.stage
    columns = encoded(stage, staged_columns(job.table, rows))
    immediate = job.batch.immediate
    with savepoint(job.conn, immediate=immediate), job.cursor() as cursor:
        written, stale = _attempted(job, cursor, columns, len(rows))
    job.stand(rows, stale)
    return written


def _attempted(
    job: _Job, cursor: psycopg.Cursor[Any], columns: Columns, count: int
) -> tuple[Written, list[int]]:
    """Write rows; answer also with the places, in key order, of those that are stale."""
    if count < job.batch.copy_from_rows:
        *counts, stale, overtaken = _run_from_arrays(job, cursor, columns)
    elif job.batch.fresh and job.table.mode == "upsert":
        return _run_fresh(job, cursor, columns)
    else:
        *counts, stale, overtaken = _run_from_copy(job, cursor, columns, fresh=False)
    if not overtaken:
        return Written(*counts), stale or []
    looked_at, left = _look(job, cursor, columns, overtaken)
    return Written(*counts) + looked_at, [*(stale or []), *left]


def _run_from_copy(
    job: _Job, cursor: psycopg.Cursor[Any], columns: Columns, *, fresh: bool
) -> tuple[Any, ...]:
    return run_from_copy(
        cursor, job.statements, columns=columns, parameters=job.parameters, fresh=fresh
    )


def _run_from_arrays(job: _Job, cursor: psycopg.Cursor[Any], columns: Columns) -> tuple[Any, ...]:
    return run_from_arrays(
        cursor,
        job.statements.from_arrays,
        stage=job.statements.stage,
        columns=columns,
        parameters=job.parameters,
    )


def _run_fresh(
    job: _Job, cursor: psycopg.Cursor[Any], columns: Columns
) -> tuple[Written, list[int]]:
    """Write rows without looking for them first, and look only if some were there after all.

    Whatever was written compares equal by then, and whatever was not is locked.
    """
    inserted, updated = _run_from_copy(job, cursor, columns, fresh=True)
    done = Written(inserted, updated)
    left = len(columns[0]) - inserted - updated
    if not left:
        return done, []
    looked_at, stale = _look(job, cursor, columns, range(len(columns[0])))
    unchanged = looked_at.unchanged - inserted - updated
    return done + Written(unchanged=unchanged, stale=left - unchanged), stale


def _look(
    job: _Job, cursor: psycopg.Cursor[Any], columns: Columns, places: Sequence[int]
) -> tuple[Written, list[int]]:
    """Count rows that another writer was ahead of: they are locked by now, so a look is exact.

    Answers also with the places of those that are stale.
    """
    unchanged, stale = run_from_arrays(
        cursor,
        job.statements.look,
        stage=job.statements.stage,
        columns=[[column[place] for place in places] for column in columns],
        parameters={"account": job.batch.account},
    )
    return Written(unchanged=unchanged, stale=len(places) - unchanged), stale or []


def _bisected(job: _Job, among: Sequence[Candidate]) -> tuple[Written, list[Rejected]]:
    """Write what the table accepts of rows that it has refused as a whole."""
    winners, losers = decided(job.table, among)
    attempt, most = partial(_attempt, job), job.batch.refused_max
    try:
        accepted, culprits = bisect(
            winners, attempt, refusal=psycopg.Error, blames=blames_a_row, most=most
        )
    except TooManyRefused as many:
        row, error = many.first
        many.first = job.rejection(row, "refused", refusal(error))
        raise
    rejected = [job.rejection(row, "refused", refusal(error)) for row, error in culprits]
    gone = {row.key for row, _ in culprits}
    # Whoever lost against a culprit is written after all, if it can be.
    again, more = _settled(job, [loser for loser in losers if loser.key in gone])
    beaten = [loser for loser in losers if loser.key not in gone]
    return sum(accepted, again) + job.beaten(winners, beaten), rejected + more
