"""What became of jobs that a command ran, and of the effects of their rows: events folded. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from syncd.cli import deliveries, ending
from syncd.cli.deliveries import Deliveries
from syncd.cli.summary import JobEnd
from syncd.events import Event, RunFinished

if TYPE_CHECKING:
    from syncd.store.effects import Backlog


@attrs.define
class Outcome:
    """How jobs ended, their runs, and what became of effects meanwhile."""

    ends: list[JobEnd] = attrs.field(factory=list)
    runs: list[RunFinished] = attrs.field(factory=list)
    effects: Deliveries = attrs.field(factory=dict)
    left: list[Backlog] = attrs.field(factory=list)  # where it is delivered here

    def note(self, event: Event) -> None:
        """Take note of an event."""
        self.effects = deliveries.noted(self.effects, event)
        if isinstance(event, RunFinished):
            self.runs.append(event)

    @property
    def code(self) -> int:
        codes = [end.code for end in self.ends]
        if any(each.open for each in self.left) or any(e.dead for e in self.effects.values()):
            codes.append(ending.PARTIAL)
        return ending.worst(codes)
