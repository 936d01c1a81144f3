"""What an upstream allows one key, as a connector declares it and an operator may narrow it."""

from __future__ import annotations

import math
from typing import ClassVar, Literal, TypeAlias

import attrs

REQUESTS = "requests"
LOST = "lost"  # requests that may have cost: nobody has read what came of them

# How the configuration and `syncd limits` name what a window is.
Form: TypeAlias = Literal["sliding", "fixed", "bucket"]

_at_least_one = [attrs.validators.instance_of(int), attrs.validators.ge(1)]
_above_zero = [attrs.validators.gt(0.0), attrs.validators.lt(math.inf)]


@attrs.frozen
class TokenBucket:
    """A steady pace: so many in so many seconds, of which `burst` may leave at once.

    "1 a second": ``TokenBucket(1, per_seconds=1)``. At most `burst + most` pass in any
    `per_seconds`: where an upstream counts N in a window, declare the window instead.
    """

    form: ClassVar[Form] = "bucket"

    most: int = attrs.field(validator=_at_least_one)
    per_seconds: float = attrs.field(validator=_above_zero)
    burst: int = attrs.field(default=1, validator=_at_least_one)
    unit: str = REQUESTS


@attrs.frozen
class SlidingWindow:
    """At most so many in any so many seconds, wherever they begin.

    "600 a minute sliding": ``SlidingWindow(600, per_seconds=60)``.

    Some upstreams take a burst above that, and tell with each answer what is left of it
    (``x-ratelimit-burst-remaining``). It is left to others, or used as far as it is told (`burst`
    ``"announced"``); of daemons that share their quotas none uses it.
    """

    form: ClassVar[Form] = "sliding"

    most: int = attrs.field(validator=_at_least_one)
    per_seconds: float = attrs.field(validator=_above_zero)
    unit: str = REQUESTS
    burst: Literal["left", "announced"] = "left"


@attrs.frozen
class FixedWindow:
    """At most so many between two resets, which lie so many seconds apart.

    Where the resets lie is told by the upstream's headers (`phase` ``"announced"``), or nobody
    knows: then it is kept as a sliding window, which no fixed one of that length ever counts more
    of. "150 in 30 s": ``FixedWindow(150, per_seconds=30)``.
    """

    form: ClassVar[Form] = "fixed"

    most: int = attrs.field(validator=_at_least_one)
    per_seconds: float = attrs.field(validator=_above_zero)
    phase: Literal["unknown", "announced"] = "unknown"
    unit: str = REQUESTS


Window: TypeAlias = TokenBucket | SlidingWindow | FixedWindow


@attrs.frozen
class Adaptive:
    """Between which bounds a limit that nobody announces is sought.

    Concurrency moves between `concurrency_least` and the quota's own. The rate (requests per
    second) moves between `rate_least` and `rate_most`, from `rate_start`, where the quota has no
    window of requests.
    """

    concurrency_least: int = attrs.field(default=1, validator=_at_least_one)
    rate_least: float = attrs.field(default=0.05, validator=_above_zero)
    rate_start: float = attrs.field(default=1.0, validator=_above_zero)
    rate_most: float = attrs.field(default=1000.0, validator=_above_zero)


def _windows(value: Window | tuple[Window, ...] | None) -> tuple[Window, ...]:
    if value is None:
        return ()
    return value if isinstance(value, tuple) else (value,)


@attrs.frozen
class Quota:
    """What an upstream allows one key: the upstream's own scope (app, account, endpoint).

    All `windows` hold at once; those of another unit than requests take what a request says that
    it costs: "500 requests and 200,000 tokens a minute" is ``(SlidingWindow(500, 60),
    SlidingWindow(200_000, 60, unit="tokens"))``. `concurrency` is the number of requests in flight
    at once. `adaptive` lets refusals move concurrency, and the rate where no window is declared.
    `gives_back`: whether an answer that cost less than its request had named (`Upstream.spent`)
    leaves the rest to others; some upstreams count what was asked for.
    `lock_max_seconds`: how long Retry-After or `Upstream.judge` may lock it at most, where an
    upstream may mean another unit than it says (default: an hour, and any time). Resets that
    answers announce are no locks, and lie within an hour.
    `per` says whether all accounts of an instance share it (an app's quota) or each has its own.
    """

    key: str
    windows: tuple[Window, ...] = attrs.field(default=(), converter=_windows)
    concurrency: int = attrs.field(default=8, validator=_at_least_one)
    adaptive: Adaptive | None = None
    per: Literal["instance", "account"] = "instance"
    gives_back: bool = True
    lock_max_seconds: float | None = attrs.field(
        default=None, validator=attrs.validators.optional(_above_zero)
    )

    @property
    def units(self) -> frozenset[str]:
        """Return what a request through this quota must name a cost of, requests aside."""
        return frozenset(window.unit for window in self.windows) - {REQUESTS}
