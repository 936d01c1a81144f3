"""The lease keeper: renews what this process holds, and ends the run whose lease is lost.

It has a connection and a limiter of its own, so that bulk writers cannot starve it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import trio

from syncd.clock import DatabaseClock
from syncd.errors import StoreError
from syncd.events import DbUnavailable, Event, LeaseLost
from syncd.store.hops import Hops
from syncd.store.leases import Lease, renew


class Tenure:
    """One lease while its run goes on."""

    def __init__(self, lease: Lease, lease_seconds: float, sent_at: float) -> None:
        self.lease = lease
        self.lost = trio.Event()
        self.scope = trio.CancelScope()
        self._lease_seconds = lease_seconds
        self._sent_at = sent_at
        self._renewed = trio.Event()

    def renewed(self, sent_at: float) -> None:
        """Take note of a renewal that was sent at `sent_at`, on Trio's clock."""
        self._sent_at = sent_at
        self._renewed.set()
        self._renewed = trio.Event()

    def lose(self) -> None:
        self.lost.set()
        self.scope.cancel()

    async def may_send(self) -> None:
        """Return when a request may leave: not past 2/3 of the lease since its last renewal.

        Past it we may no longer be the only one, and could not store the answer anyway.
        """
        while trio.current_time() - self._sent_at > self._lease_seconds * 2 / 3:
            await self._renewed.wait()
        await trio.lowlevel.checkpoint()


class LeaseKeeper:
    """Renews every lease of this process each third of its length."""

    def __init__(
        self,
        hops: Hops,
        *,
        lease_seconds: float,
        clock: DatabaseClock,
        emit: Callable[[Event], None],
    ) -> None:
        self.lease_seconds = lease_seconds
        self._hops = hops
        self._clock = clock
        self._emit = emit
        self._held: dict[int, Tenure] = {}

    @contextmanager
    def holding(self, lease: Lease, sent_at: float) -> Iterator[Tenure]:
        """Keep a lease for as long as the block runs; `sent_at`: when its claim was sent.

        One that we held of the same partition is lost: it ran out, and a configuration that was
        read since has claimed it anew. Nobody else would tell its run.
        """
        tenure = Tenure(lease, self.lease_seconds, sent_at)
        before = self._held.get(lease.partition_id)
        self._held[lease.partition_id] = tenure
        if before is not None:
            self._lose(before)
        try:
            with tenure.scope:
                yield tenure
        finally:
            if self._held.get(lease.partition_id) is tenure:
                del self._held[lease.partition_id]

    async def run(self) -> None:
        """Renew for ever."""
        while True:
            await trio.sleep(self.lease_seconds / 3)
            if self._held:
                await self.renew_all()

    async def renew_all(self) -> None:
        """Renew every lease once; what does not come back is lost."""
        tenures = list(self._held.values())
        sent_at = trio.current_time()
        try:
            leases = [tenure.lease for tenure in tenures]
            alive = await self._hops.run(renew, leases, lease_seconds=self.lease_seconds)
        except StoreError as error:
            # Not a loss yet: `Tenure.may_send` holds the requests back, and the fence the writes.
            self._emit(DbUnavailable(str(error)))
            return
        for tenure in tenures:
            lease = tenure.lease
            told = alive.get((lease.partition_id, lease.epoch))
            if told is not None:
                self._clock.observe(told)
                tenure.renewed(sent_at)
            elif self._held.get(lease.partition_id) is tenure:
                self._lose(tenure)

    def _lose(self, tenure: Tenure) -> None:
        lease = tenure.lease
        self._emit(LeaseLost(str(lease.partition), lease.epoch))
        tenure.lose()
