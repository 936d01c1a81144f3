"""Effects on their way into a commit: whose rows stand, and to whom they go."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs
import trio

from syncd import bulk
from syncd.effects import Address, Routes, account_of
from syncd.errors import RecordError
from syncd.events import EffectConflict, EffectEnqueued, Event
from syncd.model import Instance, Partition
from syncd.rows import Payloads, StreamRows
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


class Rosters:
    """The accounts with which instances deliver, as their lanes in this process know them."""

    def __init__(self) -> None:
        self._names: dict[str, tuple[str, ...]] = {}

    def note(self, instance: Instance[Any]) -> None:
        self._names[instance.name] = tuple(each.name for each in instance.accounts)

    def present(self, routes: Routes) -> Mapping[str, Address]:
        """Return the addresses as they are now, but for kinds that are switched off."""
        return {
            kind: attrs.evolve(each, accounts=self._names.get(each.instance, each.accounts))
            for kind, each in routes.items()
            if each is not None
        }


@attrs.frozen
class Outbox:
    """Where the effects of a feed's rows go, by kind."""

    routes: Routes = attrs.field(factory=dict)
    bells: Bells = attrs.field(factory=Bells)
    rosters: Rosters = attrs.field(factory=Rosters)

    def standing(
        self,
        partition: Partition,
        made: StreamRows,
        places: Iterable[int],
        *,
        table: bulk.Table,
        stream: str,
    ) -> Iterator[Posting]:
        """Yield what follows from the rows at these places, in their order; what is off is not.

        What their own plugin said of them as it wrote them comes last, and has no row's version.
        """
        found: list[tuple[Payloads, int | None]] = [
            (effects, _version(table, made, place))
            for place in (sorted(places) if made.effects else ())
            if (effects := made.effects[place])
        ]
        addresses = self.rosters.present(self.routes)
        for effects, version in [*found, (made.caused, None)]:
            for effect, payload in effects:
                address = addresses.get(effect.kind)
                if address is not None:
                    whose = {"instance": partition.instance, "account": partition.account}
                    yield Posting(
                        instance=address.instance,
                        account=account_of(address, **whose),
                        kind=effect.kind,
                        key=effect.key,
                        payload=payload,
                        # Without an order to keep, nobody waits for a lock.
                        ordering_key=effect.ordering_key if address.ordered else None,
                        delay_seconds=effect.delay_seconds,
                        source=f"{partition.instance}.{stream}",
                        row_version=version,
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


def enqueue(connection: Connection, postings: Sequence[Posting]) -> Enqueued:
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


NOWHERE = Outbox()


def _version(table: bulk.Table, made: StreamRows, place: int) -> int | None:
    """Return a row's version; none of one that a plugin wrote itself, where it has none."""
    most = made.versions_max[place] if made.versions_max else None
    try:
        version = table.version(made.rows[place], made.sent_at[place])
    except (AttributeError, RecordError):
        return None
    return version if most is None else min(version, most)


def _is_older(one: Posting, other: Posting) -> bool:
    if one.row_version is None or other.row_version is None:
        return False
    return one.row_version < other.row_version
