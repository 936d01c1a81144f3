"""How long to wait after a failure, and how often it is worth trying again: pure functions.

Chance is an argument: a number drawn evenly from [0, 1).
"""

from __future__ import annotations

import attrs

# Three attempts per request and retries of a tenth of the traffic keep an outage from being made
# worse by its clients (Google SRE book, "Handling Overload", per-request and per-client budgets).
REQUEST_ATTEMPTS_MAX = 3
RETRY_SHARE = 0.1
# The small initial allowance: a quiet upstream may lose a few requests in a row.
RETRY_ALLOWANCE = 10.0

# 2**60 times any base is past every cap; larger exponents overflow a float.
_EXPONENT_MAX = 60


def full_jitter(failures: int, *, base_seconds: float, cap_seconds: float, chance: float) -> float:
    """Return how long to wait after so many failures in a row (the first one is 1).

    Evenly drawn between 0 and the cap of that many doublings: clients that failed together do not
    come back together (AWS Architecture Blog, "Exponential Backoff And Jitter").
    """
    doublings = min(max(failures - 1, 0), _EXPONENT_MAX)
    return chance * min(cap_seconds, base_seconds * 2.0**doublings)


@attrs.frozen
class RetryBudget:
    """How many retries one upstream's requests have earned and not yet spent."""

    retries: float = RETRY_ALLOWANCE


def earn(budget: RetryBudget) -> RetryBudget:
    """Count one request: it earns a tenth of a retry, up to the allowance.

    The ceiling keeps months of good traffic from paying for one long storm.
    """
    return RetryBudget(min(RETRY_ALLOWANCE, budget.retries + RETRY_SHARE))


def spend(budget: RetryBudget) -> RetryBudget | None:
    """Pay for one retry; `None` where the budget does not allow it."""
    return RetryBudget(budget.retries - 1.0) if budget.retries >= 1.0 else None
