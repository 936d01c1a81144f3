"""What a run has done so far, and how fast: the numbers behind `run.progress`, and a page's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from syncd.events import PageFetched, RunPaid, RunProgress
from syncd.http import FetchHttp
from syncd.model import Written
from syncd.nodes import Walked
from syncd.store.leases import Effort, Lease

_NO_COUNTS = frozenset({"total", "paid"})


@attrs.define
class Tally:
    """What a run has done so far; `total` is the records of the pass, as far as anybody knows."""

    pages: int = 0
    records: int = 0
    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    stale: int = 0
    quarantined: int = 0
    requests: int = 0
    retries: int = 0
    not_modified: int = 0
    throttled_seconds: float = 0.0
    total: int | None = None
    paid: dict[str, int] = attrs.field(factory=dict)  # by unit, as far as answers tell

    def effort(self) -> Effort:
        return Effort(self.requests, self.retries, self.throttled_seconds)

    def counts(self) -> dict[str, Any]:
        """Return everything that was counted, by name."""
        return attrs.asdict(self, filter=lambda each, _: each.name not in _NO_COUNTS)

    def spent(self, http: FetchHttp) -> None:
        """Take note of what the requests of a page took."""
        self.requests += http.requests
        self.retries += http.retries
        self.not_modified += http.not_modified
        self.throttled_seconds += http.throttled_seconds
        for unit, cost in http.paid.items():
            self.paid[unit] = self.paid.get(unit, 0) + cost

    def add(self, pages: int, records: int, written: Written, quarantined: int) -> None:
        """Take note of a commit."""
        self.pages += pages
        self.records += records
        self.inserted += written.inserted
        self.updated += written.updated
        self.unchanged += written.unchanged
        self.stale += written.stale
        self.quarantined += quarantined


@attrs.define
class Meter:
    """Records per second over the last ten samples or so."""

    started: float
    before: int
    _samples: list[tuple[float, int]] = attrs.field(factory=list)

    def rate(self, now: float, done: int) -> float:
        if not self._samples:
            self._samples.append((self.started, self.before))
        self._samples.append((now, done))
        del self._samples[:-11]
        (since, had), (until, has) = self._samples[0], self._samples[-1]
        return (has - had) / (until - since) if until > since else 0.0


def progress(
    tally: Tally, *, before: int, rate: float, in_flight: int, names: Mapping[str, Any]
) -> RunProgress:
    """Reckon how far a run is, which events name by `names`.

    `before` are the records that earlier runs of its pass committed.
    """
    done = before + tally.records
    # What the upstream said, or the last pass had, is exceeded: nobody knows how many there are.
    total = None if tally.total is None or done > tally.total else tally.total
    left = None if total is None else total - done
    return RunProgress(
        **names,
        processed=done,
        total=total,
        percent=round(100 * done / total, 1) if total else None,
        rate=round(rate, 1),
        eta_seconds=None if left is None or rate <= 0 else round(left / rate, 1),
        pages=tally.pages,
        in_flight=in_flight,
        throttled_seconds=round(tally.throttled_seconds, 1),
    )


def bills(tally: Tally, lease: Lease, job: str) -> list[RunPaid]:
    """Say what the answers of a run cost, unit by unit."""
    where = str(lease.partition)
    return [
        RunPaid(lease.run_id, job, where, unit, paid) for unit, paid in sorted(tally.paid.items())
    ]


def page_fetched(walked: Walked, partition: str, *, seconds: float) -> PageFetched:
    """Say that a page is here."""
    return PageFetched(
        partition=partition,
        cursor=str(walked.node),
        records=walked.records,
        opens=len(walked.opens),
        not_modified=walked.unchanged,
        duration_seconds=round(seconds, 3),
    )
