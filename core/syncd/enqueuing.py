"""Effects on their way into a commit: whose rows stand, and to whom they go."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import attrs
import trio

from syncd import bulk
from syncd.effects import Address, Routes, account_of
from syncd.events import EffectConflict, EffectEnqueued, Event
from syncd.model import Effect, Partition
from syncd.records import Payloads, StreamRows
from syncd.store import effects as store
from syncd.store.effects import Enqueued, Posting
from syncd.store.hops import Connection


class Bells:
    """Wakes whoever delivers a kind, in this process, when some were enqueued."""

    def __init__(self) -> None:
        self._events: dict[str, trio.Event] = {}

    def ring(self, kinds: Iterable[str]) -> None:
        for kind in kinds:
            self._events.pop(kind, trio.Event()).set()

    def heard(self, kind: str) -> trio.Event:
        """Return what is set at the next ring."""
        return self._events.setdefault(kind, trio.Event())


@attrs.frozen
class Outbox:
    """Where the effects of a feed's rows go, by kind."""

    routes: Routes = attrs.field(factory=dict)
    bells: Bells = attrs.field(factory=Bells)

    def postings(
        self, partition: Partition, stream: str, rows: Sequence[tuple[Payloads, int | None]]
    ) -> Iterator[Posting]:
        """Yield what is enqueued of rows, given with their versions; what is off is dropped."""
        for effects, version in rows:
            for effect, payload in effects:
                address = self.routes.get(effect.kind)
                if address is not None:
                    yield _posting(partition, stream, effect, payload, version, address)

    def standing(
        self,
        partition: Partition,
        stream: str,
        table: bulk.Table,
        made: StreamRows,
        places: Iterable[int],
    ) -> list[Posting]:
        """Return what follows from the rows at these places, in their order."""
        rows = [
            (made.effects[place], table.version(made.rows[place], made.sent_at[place]))
            for place in sorted(places)
            if made.effects[place]
        ]
        return list(self.postings(partition, stream, rows))

    def enqueue(self, connection: Connection, postings: Sequence[Posting]) -> Enqueued:
        """Enqueue effects in the caller's transaction: one statement, two where one is ordered."""
        if not postings:
            return Enqueued()
        newest: dict[tuple[str, str, str, str], Posting] = {}
        for each in postings:
            key = (each.instance, each.account, each.kind, each.key)
            known = newest.get(key)
            if known is None or not _is_older(each, known):
                newest[key] = each
        return store.enqueue(
            connection,
            list(newest.values()),
            ordered=any(each.ordering_key is not None for each in newest.values()),
        )

    def tell(self, partition: Partition, enqueued: Enqueued, emit: Callable[[Event], None]) -> None:
        """Say what was committed, and wake who delivers it."""
        for kind, count in enqueued.counts.items():
            emit(EffectEnqueued(str(partition), kind, count))
        for kind, key in enqueued.conflicts:
            emit(EffectConflict(str(partition), kind, key))
        self.bells.ring(enqueued.counts)


NOWHERE = Outbox()


def _posting(
    partition: Partition,
    stream: str,
    effect: Effect,
    payload: str,
    version: int | None,
    address: Address,
) -> Posting:
    account = account_of(address, instance=partition.instance, account=partition.account)
    return Posting(
        instance=address.instance,
        account=account or partition.account,
        kind=effect.kind,
        key=effect.key,
        payload=payload,
        # Without an order to keep, nobody waits for a lock.
        ordering_key=effect.ordering_key if address.ordered else None,
        delay_seconds=effect.delay_seconds,
        source=f"{partition.instance}.{stream}",
        row_version=version,
    )


def _is_older(one: Posting, other: Posting) -> bool:
    if one.row_version is None or other.row_version is None:
        return False
    return one.row_version < other.row_version


def kinds_of(outboxes: Mapping[str, Outbox]) -> dict[str, list[str]]:
    """Return the kinds that feeds may produce, but for those that are switched off."""
    return {
        feed: sorted(kind for kind, address in outbox.routes.items() if address is not None)
        for feed, outbox in outboxes.items()
    }
