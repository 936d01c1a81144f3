"""The public door for plugins: declare a connector, implement hooks, answer with pages.

What is named in `__all__`, and `syncd.testing`, keeps its meaning between releases; everything else
may change.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from syncd.bulk import Column
    from syncd.config import Duration, Size
    from syncd.errors import (
        CursorExpired,
        SourceError,
        SyncdError,
        Throttled,
        Unauthorized,
        Unavailable,
        Unintelligible,
    )
    from syncd.hookspecs import hookimpl
    from syncd.http import decode
    from syncd.model import (
        Account,
        Adaptive,
        AsyncTransform,
        Begin,
        Check,
        Connector,
        Context,
        Credential,
        Cursor,
        Dead,
        Deliver,
        Delivered,
        Derivation,
        Done,
        Effect,
        EffectKind,
        Feed,
        Fetch,
        FixedWindow,
        Http,
        Instance,
        Later,
        Outcome,
        Page,
        Partition,
        Partitions,
        Pass,
        Quarantined,
        Queued,
        Quota,
        Record,
        Refresh,
        Request,
        Response,
        Retry,
        Route,
        RouteAnswer,
        RouteRequest,
        Secret,
        Slice,
        SlidingWindow,
        Stream,
        TokenBucket,
        Transform,
        Upstream,
        WithEffects,
        Write,
        Writer,
        Written,
        bearer_matches,
    )

__all__ = [
    "Account",
    "Adaptive",
    "AsyncTransform",
    "Begin",
    "Check",
    "Column",
    "Connector",
    "Context",
    "Credential",
    "Cursor",
    "CursorExpired",
    "Dead",
    "Deliver",
    "Delivered",
    "Derivation",
    "Done",
    "Duration",
    "Effect",
    "EffectKind",
    "Feed",
    "Fetch",
    "FixedWindow",
    "Http",
    "Instance",
    "Later",
    "Outcome",
    "Page",
    "Partition",
    "Partitions",
    "Pass",
    "Quarantined",
    "Queued",
    "Quota",
    "Record",
    "Refresh",
    "Request",
    "Response",
    "Retry",
    "Route",
    "RouteAnswer",
    "RouteRequest",
    "Secret",
    "Size",
    "Slice",
    "SlidingWindow",
    "SourceError",
    "Stream",
    "SyncdError",
    "Throttled",
    "TokenBucket",
    "Transform",
    "Unauthorized",
    "Unavailable",
    "Unintelligible",
    "Upstream",
    "WithEffects",
    "Write",
    "Writer",
    "Written",
    "bearer_matches",
    "decode",
    "hookimpl",
]


# Where the names come from that are not of `syncd.model`.
_HOMES = {
    "Column": "syncd.bulk",
    "CursorExpired": "syncd.errors",
    "Duration": "syncd.config",
    "Size": "syncd.config",
    "SourceError": "syncd.errors",
    "SyncdError": "syncd.errors",
    "Throttled": "syncd.errors",
    "Unauthorized": "syncd.errors",
    "Unavailable": "syncd.errors",
    "Unintelligible": "syncd.errors",
    "decode": "syncd.http",
    "hookimpl": "syncd.hookspecs",
}


def __getattr__(name: str) -> Any:
    """Import what a name needs when somebody first uses it (PEP 562).

    Every module of ours imports this one first, and few of them all of that: `Column` brings a
    driver along, `decode` an HTTP client.
    """
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES.get(name, "syncd.model")), name)
    globals()[name] = value  # from here on it is found without asking
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
