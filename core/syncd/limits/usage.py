"""How a quota stands: what `syncd limits` shows."""

from __future__ import annotations

import attrs

from syncd.limits.gate import Gate
from syncd.limits.windows import Count


@attrs.frozen
class Spent:
    """One window: what it allows (as its form, most, seconds and unit), and what of it is used."""

    form: str
    most: int
    per_seconds: float
    unit: str
    used: float


@attrs.frozen
class Usage:
    """One quota key at one moment. `ceiling`: requests that may be in flight at once."""

    key: str
    windows: tuple[Spent, ...]
    in_flight: int
    ceiling: int
    adaptive: bool
    rate: float | None  # that is sought, in requests per second
    locked_until: float  # by the clock of the caller; in the past where it is not locked
    waiting: int
    broken_origins: tuple[str, ...]
    sent: int  # since the process began
    refused: int


def usage_of(
    key: str,
    gate: Gate,
    *,
    now: float,
    ceiling: int,
    waiting: int,
    broken: tuple[str, ...],
    sent: int,
    refused: int,
) -> Usage:
    """Say how a gate stands."""
    return Usage(
        key,
        windows=tuple(_spent(count, used) for count, used in gate.used(now)),
        in_flight=gate.in_flight,
        ceiling=ceiling,
        adaptive=gate.quota.adaptive is not None,
        rate=gate.rate,
        locked_until=max(gate.lock.until, 0.0),
        waiting=waiting,
        broken_origins=broken,
        sent=sent,
        refused=refused,
    )


def _spent(count: Count, used: float) -> Spent:
    window = count.declared
    return Spent(window.form, window.most, window.per_seconds, window.unit, round(used, 3))
