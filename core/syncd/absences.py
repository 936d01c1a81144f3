"""Rows whose records the upstream no longer has: marked or deleted after a full pass, or left.

    every commit: the keys of all it was handed --> syncd.seen
    a full pass ended complete --> which rows are in none of its keys? --too many--> refused
                                                      `--> marked or deleted, some at a time

Nothing else deletes a row. What is left undone, because the process ended or the database went, is
done before the partition's next pass begins: that may see the records again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import attrs

from syncd import bulk, faults
from syncd.events import AbsenceRefused, Event, RowsAbsent
from syncd.model import Mode
from syncd.progress import Ended, PassEnded
from syncd.store import absences
from syncd.store.absences import Evidence
from syncd.store.hops import Connection, Hops
from syncd.store.leases import Lease, fence
from syncd.work import Draining, Order, Work

REMOVE_AT_ONCE = 5_000  # rows of one transaction: so that other writers of the table go on

# Of a table's rows at most one in so many are taken for gone: an upstream that answers with half of
# what it has looks just the same (an empty 200, a filter that was lost, a part that is down).
REFUSED_ABOVE_ONE_IN = 5


def judged_tables(tables: Mapping[str, bulk.Table]) -> dict[str, bulk.Table]:
    """Return the tables whose rows do not outlive their records."""
    return {name: table for name, table in tables.items() if table.on_absent != "keep"}


def is_too_much(absent: int, rows: int) -> bool:
    """Say whether so many of these rows are rather missing in the answers than gone."""
    return absent * REFUSED_ABOVE_ONE_IN > rows


@attrs.frozen
class Absences:
    """Judges the rows of one leased partition."""

    hops: Hops
    emit: Callable[[Event], None]
    draining: Draining
    lease: Lease
    tables: Mapping[str, bulk.Table]  # of streams that judge; none where the slice is a part
    shifts: bool
    shares: bool  # it judges together with the other shares of its feed

    @classmethod
    def of(cls, work: Work, order: Order, lease: Lease) -> Absences:
        covers = lease.partition.slice.covers
        tables = {} if covers == "part" else judged_tables(order.target.tables)
        shifts = work.pipeline.feed.shifts
        return cls(
            work.hops, work.emit, work.draining, lease, tables, shifts, shares=covers == "share"
        )

    def collecting(self, mode: Mode) -> frozenset[str]:
        """Return the streams of which a pass notes all keys.

        Of a feed that shifts, what comes between two full passes is there, too.
        """
        return frozenset(self.tables) if mode == "full" or self.shifts else frozenset()

    async def finish(self) -> None:
        """Do what an earlier run left undone."""
        for table in self.tables.values():
            known = await self._evidence(table)
            if known is not None and known.passes and known.whole:
                await self._judge(table, known)

    async def judge(self, ended: Ended, mode: Mode) -> Ended:
        """Judge by a full pass that has just ended; a refusal is said with its end.

        Raises: `StoreError`.
        """
        if mode != "full" or not isinstance(ended, PassEnded):
            return ended
        said: list[str] = []
        for table in self.tables.values():
            known = await self._evidence(table)
            if known is not None:
                refused = await self._judge(table, known)
                said += [refused] if refused else []
        return attrs.evolve(ended, message="; ".join(filter(None, [ended.message, *said])))

    async def _evidence(self, table: bulk.Table) -> Evidence | None:
        if self.shares:
            return await self.hops.run(absences.evidence_of_shares, self.lease, table.name)
        return await self.hops.run(absences.evidence, self.lease, table.name, shifts=self.shifts)

    async def _judge(self, table: bulk.Table, known: Evidence) -> str | None:
        """Judge one table; answer with why that was refused, if it was."""
        refused = None
        if known.passes:
            refused = await self._judged(table, known) if known.whole else NOT_WHOLE
        if refused:
            self.emit(AbsenceRefused(str(self.lease.partition), table.name, refused))
        if not self.draining.is_set() or refused:  # else the next run goes on
            await self.hops.run(absences.settle, self.lease, table.name, known)
        return f"{table.name}: {refused}" if refused else None

    async def _judged(self, table: bulk.Table, known: Evidence) -> str | None:
        where = self.lease.partition
        judged = bulk.Judged(
            partitions=known.partitions,
            account=where.account,
            passes=known.passes,
            lasts=known.lasts,
            before=known.before,
        )
        await self._some_at_a_time(unmark, table, judged)
        absent, rows = await self.hops.run(bulk.absent, table, judged)
        if is_too_much(absent, rows):
            share = round(100 * absent / rows)
            return (
                f"{absent} of {rows} rows ({share} %) have no record in the last full pass: none "
                f"of them is taken for gone, for that is more than {100 // REFUSED_ABOVE_ONE_IN} %"
            )
        removed = await self._some_at_a_time(remove, table, judged) if absent else 0
        if removed:
            self.emit(RowsAbsent(str(where), table.name, table.on_absent, removed, rows))
        return None

    async def _some_at_a_time(
        self,
        change: Callable[[Connection, Lease, bulk.Table, bulk.Judged], int],
        table: bulk.Table,
        judged: bulk.Judged,
    ) -> int:
        """Change all rows that are to be changed; a drain ends it between two transactions."""
        total = 0
        while not self.draining.is_set():
            changed = await self.hops.run(change, self.lease, table, judged)
            total += changed
            if changed < REMOVE_AT_ONCE:
                break
        return total


NOT_WHOLE = (
    "nobody is judged by the last full pass, for not all of its keys are known: one could not be "
    "read, PostgreSQL crashed meanwhile, or they were not noted from its beginning"
)


def remove(connection: Connection, lease: Lease, table: bulk.Table, judged: bulk.Judged) -> int:
    """Mark or delete some rows, under the fence."""
    fence(connection, lease)
    changed = bulk.remove(connection, table, judged, most=REMOVE_AT_ONCE)
    faults.point("absent_removed")
    return changed


def unmark(connection: Connection, lease: Lease, table: bulk.Table, judged: bulk.Judged) -> int:
    """Unmark some rows, under the fence."""
    fence(connection, lease)
    return bulk.unmark(connection, table, judged, most=REMOVE_AT_ONCE)
