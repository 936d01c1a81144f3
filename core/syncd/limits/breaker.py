"""The breaker of an origin: who fails again and again is left alone for a while.

Closed, it counts failures in a row, and whose: a few stores that are closed are no broken origin,
and must not keep the others waiting. Open, nobody asks; that is a wait and no failure. After the
wait one request is let through: if it is answered the breaker closes, else it stays open for twice
as long (the pattern is Nygard's, "Release It!").
"""

from __future__ import annotations

import math

import attrs

# So many requests in a row unanswered (no connection, timeout, 5xx) are no coincidence.
FAILURES_MAX = 20
# Of so many accounts, or half of those there are: one of many that fails speaks for itself.
ACCOUNTS_MIN = 10
# Short against the minute in which throughput is to be back after an outage.
OPEN_BASE_SECONDS = 5.0
OPEN_CAP_SECONDS = 30.0


@attrs.frozen
class Breaker:
    """How an origin does. `opened`: how often in a row; 0 is closed."""

    failures: int = 0
    accounts: frozenset[str] = frozenset()  # that failed in this row
    opened: int = 0
    opened_at: float = -math.inf
    closed_until: float = -math.inf  # nobody passes before
    probing: bool = False  # one was let through and has not come back


def opens_at(breaker: Breaker) -> float:
    """Return when a request may pass; infinite while another is trying it."""
    return math.inf if breaker.probing else breaker.closed_until


def leave(breaker: Breaker) -> Breaker:
    """Let a request pass; of an open breaker it is the one that tries."""
    return attrs.evolve(breaker, probing=True) if breaker.opened else breaker


def failed(
    breaker: Breaker,
    *,
    left_at: float,
    now: float,
    chance: float,
    account: str = "",
    accounts: int = 1,
) -> tuple[Breaker, float | None]:
    """Count a failure; return the next state, and the seconds for which it opens, if it does.

    `accounts`: how many there are that ask this origin.
    Failures of requests that left before it opened say nothing new.
    """
    if breaker.opened and left_at < breaker.opened_at:
        return breaker, None
    failures, failing = breaker.failures + 1, breaker.accounts | {account}
    few = failures < FAILURES_MAX or len(failing) < min(ACCOUNTS_MIN, accounts / 2)
    if not breaker.opened and few:
        return attrs.evolve(breaker, failures=failures, accounts=failing), None
    longest = min(OPEN_CAP_SECONDS, OPEN_BASE_SECONDS * 2.0 ** min(breaker.opened, 10))
    seconds = longest * (1.0 + chance) / 2.0  # daemons that failed together try one by one
    again = Breaker(failures, failing, breaker.opened + 1, now, closed_until=now + seconds)
    return again, seconds


def answered(breaker: Breaker, *, left_at: float) -> tuple[Breaker, bool]:
    """Count an answer; return the next state, and whether it closed an open breaker."""
    if breaker.opened and left_at < breaker.opened_at:
        return breaker, False
    return (Breaker(), bool(breaker.opened)) if breaker.failures else (breaker, False)


def given_up(breaker: Breaker) -> Breaker:
    """Let another try: the one that tried was cancelled."""
    return attrs.evolve(breaker, probing=False) if breaker.probing else breaker
