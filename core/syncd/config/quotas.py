"""``[connectors.NAME.quotas.KEY]``: what an operator says of a quota that a connector declares."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Literal

import attrs

from syncd.config.kinds import Named
from syncd.config.reading import INVALID, Invalid, Reading
from syncd.config.tables import Table
from syncd.config.values import Duration, between, dotted, lasting, nearest
from syncd.model import (
    REQUESTS,
    Account,
    Adaptive,
    Connector,
    FixedWindow,
    Quota,
    SlidingWindow,
    TokenBucket,
    Window,
)

TOKENS: Final = "tokens"
_counted: Callable[[Any, Any, int | None], None] = between(1, 10**9)
_at_once: Callable[[Any, Any, int | None], None] = between(1, 1000)


@attrs.frozen
class QuotaTable:
    """A quota of the connector, narrowed or replaced; what is left out stays as declared."""

    requests: int | None = attrs.field(
        default=None,
        validator=_counted,
        metadata={"about": "requests in a window, in place of all declared windows of requests"},
    )
    tokens: int | None = attrs.field(
        default=None,
        validator=_counted,
        metadata={"about": "tokens in a window, in place of the declared windows of tokens"},
    )
    per_seconds: Duration | None = attrs.field(
        default=None,
        validator=lasting("10ms", "31d"),
        metadata={"about": "the length of these windows"},
    )
    form: Literal["sliding", "fixed", "bucket"] | None = attrs.field(
        default=None,
        metadata={"about": "how these windows are counted; by default as the declared ones"},
    )
    burst: int | None = attrs.field(
        default=None,
        validator=_counted,
        metadata={"about": "of a bucket: how many may leave at once"},
    )
    concurrency: int | None = attrs.field(
        default=None,
        validator=_at_once,
        metadata={"about": "requests in flight at once, at most"},
    )
    adaptive: bool | None = attrs.field(
        default=None,
        metadata={
            "about": "whether refusals and timeouts lower concurrency, and the rate where no "
            "window is declared"
        },
    )

    def applied(self, quota: Quota) -> Quota:
        """Return the quota as it is to be kept."""
        windows = quota.windows
        for unit, most in ((REQUESTS, self.requests), (TOKENS, self.tokens)):
            if most is not None:
                others = tuple(each for each in windows if each.unit != unit)
                windows = (self._window(unit, most, quota), *others)
        adaptive = quota.adaptive
        if self.adaptive is not None:
            adaptive = (adaptive or Adaptive()) if self.adaptive else None
        concurrency = self.concurrency or quota.concurrency
        return attrs.evolve(quota, windows=windows, concurrency=concurrency, adaptive=adaptive)

    def _window(self, unit: str, most: int, quota: Quota) -> Window:
        declared = next((each for each in quota.windows if each.unit == unit), None)
        declared_seconds = declared.per_seconds if declared else 1.0  # refused where it is missing
        per_seconds = self.per_seconds or declared_seconds
        form = self.form or (declared.form if declared else SlidingWindow.form)
        if form == "bucket":
            burst = self.burst or (declared.burst if isinstance(declared, TokenBucket) else 1)
            return TokenBucket(most, per_seconds, burst=burst, unit=unit)
        if form == "fixed":
            phase = declared.phase if isinstance(declared, FixedWindow) else "unknown"
            return FixedWindow(most, per_seconds, phase=phase, unit=unit)
        return SlidingWindow(most, per_seconds, unit=unit)


def read_quotas(
    value: Any,
    key: str,
    reading: Reading,
    *,
    connector: Connector,
    settings: Any,
    accounts: Iterable[Account[Any]],
) -> Mapping[str, QuotaTable] | Invalid:
    """Read what stands under ``quotas``; every key must be one that the connector declares.

    Without accounts nobody knows which those are: `refuse_unfit` says it once there are some.
    """
    if not value:
        return {}
    accounts = tuple(accounts)
    tables = Named(Table(QuotaTable)).read(value, key, reading)
    if tables is INVALID or not accounts:
        return tables
    fine = refuse_unfit(
        tables, key, reading, connector=connector, settings=settings, accounts=accounts
    )
    return tables if fine else INVALID


def refuse_unfit(
    tables: Mapping[str, QuotaTable],
    key: str,
    reading: Reading,
    *,
    connector: Connector,
    settings: Any,
    accounts: Iterable[Account[Any]],
) -> bool:
    """List what is said of quotas that no account has, or cannot be meant of one."""
    declared = reading.foreign(
        lambda: {
            quota.key: quota
            for account in accounts
            for quota in connector.upstream(settings, account.settings).quotas
        },
        key,
    )
    if declared is INVALID:
        return False
    fine = [
        _fits(table, name, f"{key}.{dotted(name)}", declared, reading)
        for name, table in tables.items()
    ]
    return all(fine)


def _fits(
    table: QuotaTable, name: str, key: str, declared: Mapping[str, Quota], reading: Reading
) -> bool:
    quota = declared.get(name)
    if quota is None:
        near = nearest(name, declared)
        hint = f"did you mean {near!r}?" if near else f"known: {', '.join(sorted(declared))}"
        reading.problem(key, f"the connector declares no quota of this name ({hint})")
    elif (found := _problem(table, quota)) is not None:
        reading.problem(f"{key}{found[0]}", found[1])
    else:
        return True
    return False


def _problem(table: QuotaTable, quota: Quota) -> tuple[str, str] | None:
    """Say what of a table cannot be meant of a quota, and which key says it."""
    if table.tokens is not None and TOKENS not in quota.units:
        return ".tokens", "the connector does not say what requests cost in tokens"
    given = {REQUESTS: table.requests, TOKENS: table.tokens}
    units = {unit for unit, most in given.items() if most is not None}
    if not units and (table.per_seconds or table.form or table.burst):
        return "", "wanted requests or tokens beside per, form and burst"
    if table.per_seconds is None and not units <= {each.unit for each in quota.windows}:
        return ".per", "missing; the connector declares no window to take it from"
    windows = [each for each in table.applied(quota).windows if each.unit in units]
    if table.burst and not all(isinstance(each, TokenBucket) for each in windows):
        return ".burst", 'only a bucket has one; write form = "bucket"'
    return None
