"""What became of effects while something ran: events folded by kind. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import attrs

from syncd import events
from syncd.cli import wording
from syncd.events import Event

if TYPE_CHECKING:
    from syncd.store.effects import Backlog


@attrs.frozen
class Delivery:
    """How many effects of one kind were enqueued, delivered, and are tried no more."""

    kind: str
    enqueued: int = 0
    delivered: int = 0
    dead: int = 0

    @property
    def said(self) -> str:
        """Say it: ``ship24.register_tracker: 40 enqueued, 38 delivered, 2 dead``."""
        dead = f", {wording.count(self.dead)} dead" if self.dead else ""
        enqueued, delivered = wording.count(self.enqueued), wording.count(self.delivered)
        return f"{self.kind}: {enqueued} enqueued, {delivered} delivered{dead}"


Deliveries: TypeAlias = Mapping[str, Delivery]  # by kind, in the order of their first event


def noted(deliveries: Deliveries, event: Event) -> Deliveries:
    """Return the deliveries after an event; most events leave them as they are."""
    match event:
        case events.EffectEnqueued(kind=kind, effects=count):
            more = {"enqueued": count}
        case events.EffectDelivered(kind=kind, effects=count):
            more = {"delivered": count}
        case events.EffectDead(kind=kind):
            more = {"dead": 1}
        case _:
            return deliveries
    known = deliveries.get(kind) or Delivery(kind)
    sums = {name: getattr(known, name) + count for name, count in more.items()}
    return {**deliveries, kind: attrs.evolve(known, **sums)}


def sentences(
    deliveries: Deliveries, left: Sequence[Backlog], *, delivering: bool
) -> Iterable[str]:
    """Say what became of effects, and what is to be done where some are left."""
    for each in deliveries.values():
        yield f"effects of kind {each.said}"
    if not delivering and any(each.enqueued for each in deliveries.values()):
        yield "effects are delivered by `syncd serve`, or by `syncd run --effects`"
    for rest in left:
        if rest.open:
            waits = f"{wording.counted(rest.open, 'effect')} of kind {rest.kind} wait"
            yield f"{waits}; see why with `syncd effects list --kind {rest.kind}`"
        if rest.dead:
            dead = f"{wording.counted(rest.dead, 'effect')} of kind {rest.kind} are dead"
            listing = f"syncd effects list --kind {rest.kind} --state dead"
            yield f"{dead}; see why with `{listing}`, mend it, and `syncd effects retry` them"


def as_json(deliveries: Deliveries, left: Sequence[Backlog]) -> dict[str, Any]:
    """Return what `--json` prints, by kind."""
    kinds = {each.kind: _counts(each) for each in deliveries.values()}
    for rest in left:
        known = kinds.setdefault(rest.kind, _counts(Delivery(rest.kind)))
        known |= {"left_open": rest.open, "left_dead": rest.dead}
    return kinds


def _counts(each: Delivery) -> dict[str, int]:
    return {"enqueued": each.enqueued, "delivered": each.delivered, "dead": each.dead}
