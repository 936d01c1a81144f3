"""What the demo showed: passes, effects behind them, webhooks; as a table and as JSON. Pure."""

from __future__ import annotations

from typing import Any

import attrs

from syncd.cli import columns, deliveries, summary, wording
from syncd.cli.outcomes import Outcome
from syncd.cli.summary import JobEnd
from syncd.events import AdminListening, Event, RouteReceived


@attrs.define
class Act(Outcome):
    """One full pass of every job."""

    title: str = ""

    @property
    def tallies(self) -> list[summary.Tally]:
        """Return what each job did."""
        return [self._tally(end) for end in self.ends]

    def _tally(self, end: JobEnd) -> summary.Tally:
        verdicts = ", ".join(dict.fromkeys(result.verdict for result in end.results))
        runs = [run for run in self.runs if run.job == end.job]
        return summary.tallied(end.job, verdicts, runs)


@attrs.define
class Heard:
    """What upstreams posted by themselves, and what it changed."""

    address: str = ""  # where it was posted to
    posted: int = 0
    heard: int = 0
    repeated: int = 0
    inserted: int = 0
    updated: int = 0

    def note(self, event: Event) -> None:
        """Take note of an event."""
        match event:
            case AdminListening(address=address):
                self.address = address
            case RouteReceived():
                self.repeated += event.repeated
                self.inserted += event.inserted
                self.updated += event.updated

    @property
    def said(self) -> str:
        """Say it: ``webhooks: 120 posted, 120 heard (30 of them again), 90 rows inserted, ...``."""
        posted, heard = wording.count(self.posted), wording.count(self.heard)
        rows = f"{wording.counted(self.inserted, 'row')} inserted, {self.updated} updated"
        return f"webhooks: {posted} posted, {heard} heard ({self.repeated} of them again), {rows}"


def as_table(acts: list[Act], *, width: int | None = None) -> str:
    """Write the passes one after the other, with a line for each job."""
    heading = ["", "job", *summary.HEADINGS[1:]]
    rows = [
        [act.title if number == 0 else "", *tally.cells()]
        for act in acts
        for number, tally in enumerate(act.tallies)
    ]
    return columns.table(heading, rows, width=width)


def sentences(acts: list[Act], heard: Heard) -> list[str]:
    """Say what became of effects, and of what upstreams told by themselves."""
    effects = [
        f"{act.title}: effects of kind {each.said}" for act in acts for each in act.effects.values()
    ]
    return [*effects, heard.said]


def as_json(acts: list[Act], heard: Heard, *, seconds: float, code: int) -> dict[str, Any]:
    """Return what `--json` prints."""
    passes = [
        {
            "title": act.title,
            "effects": deliveries.as_json(act.effects, act.left),
            "jobs": {
                end.job: attrs.asdict(tally, filter=_is_no_name)
                | {"rows_per_second": tally.rows_per_second}
                for end, tally in zip(act.ends, act.tallies, strict=True)
            },
        }
        for act in acts
    ]
    return {
        "exit_code": code,
        "seconds": round(seconds, 1),
        "passes": passes,
        "webhooks": attrs.asdict(heard),
    }


def _is_no_name(attribute: Any, _: object) -> bool:
    return bool(attribute.name != "partition")
