"""Effects on their way into a commit: whose rows stand, and to whom they go."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

import attrs
import trio

from syncd import bulk
from syncd.effects import Routes, account_of
from syncd.errors import RecordError
from syncd.events import EffectConflict, EffectEnqueued, Event
from syncd.model import Partition
from syncd.rows import StreamRows
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

    def standing(
        self,
        partition: Partition,
        made: StreamRows,
        places: Iterable[int],
        *,
        table: bulk.Table,
        stream: str,
    ) -> Iterator[Posting]:
        """Yield what follows from the rows at these places, in their order; what is off is not."""
        source = f"{partition.instance}.{stream}"
        for place in sorted(places):
            effects = made.effects[place]
            if not effects:
                continue
            version = _version(table, made.rows[place], made.sent_at[place])
            for effect, payload in effects:
                address = self.routes.get(effect.kind)
                if address is not None:
                    account = account_of(
                        address, instance=partition.instance, account=partition.account
                    )
                    yield Posting(
                        instance=address.instance,
                        account=account,
                        kind=effect.kind,
                        key=effect.key,
                        payload=payload,
                        # Without an order to keep, nobody waits for a lock.
                        ordering_key=effect.ordering_key if address.ordered else None,
                        delay_seconds=effect.delay_seconds,
                        source=source,
                        row_version=version,
                    )

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

    @property
    def kinds(self) -> list[str]:
        """Return the kinds that are enqueued here, but for those that are switched off."""
        return sorted(kind for kind, address in self.routes.items() if address is not None)

    def tell(self, partition: Partition, enqueued: Enqueued, emit: Callable[[Event], None]) -> None:
        """Say what was committed, and wake who delivers it."""
        for kind, count in enqueued.counts.items():
            emit(EffectEnqueued(str(partition), kind, count))
        for kind, key in enqueued.conflicts:
            emit(EffectConflict(str(partition), kind, key))
        self.bells.ring(enqueued.counts)


NOWHERE = Outbox()


def _version(table: bulk.Table, row: Any, sent_at: datetime) -> int | None:
    """Return a row's version; none of one that a plugin wrote itself, where it has none."""
    try:
        return table.version(row, sent_at)
    except (AttributeError, RecordError):
        return None


def _is_older(one: Posting, other: Posting) -> bool:
    if one.row_version is None or other.row_version is None:
        return False
    return one.row_version < other.row_version
