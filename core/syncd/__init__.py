"""The public door for plugins: declare a connector, implement hooks, answer with pages.

What is named in `__all__`, and `syncd.testing`, keeps its meaning between releases; everything else
may change.
"""

from typing import TYPE_CHECKING, Any

from syncd.config import Duration, Size
from syncd.errors import (
    CursorExpired,
    SyncdError,
    Throttled,
    Unauthorized,
    Unavailable,
    Unintelligible,
)
from syncd.hookspecs import hookimpl
from syncd.model import (
    Account,
    Begin,
    Check,
    Connector,
    Context,
    Cursor,
    Feed,
    Fetch,
    Http,
    Instance,
    Page,
    Partition,
    Partitions,
    Pass,
    Quota,
    Rate,
    Record,
    Request,
    Response,
    Secret,
    Slice,
    Stream,
    Transform,
    Upstream,
    Write,
    Written,
)

if TYPE_CHECKING:
    from syncd.bulk import Column
    from syncd.http import decode

__all__ = [
    "Account",
    "Begin",
    "Check",
    "Column",
    "Connector",
    "Context",
    "Cursor",
    "CursorExpired",
    "Duration",
    "Feed",
    "Fetch",
    "Http",
    "Instance",
    "Page",
    "Partition",
    "Partitions",
    "Pass",
    "Quota",
    "Rate",
    "Record",
    "Request",
    "Response",
    "Secret",
    "Size",
    "Slice",
    "Stream",
    "SyncdError",
    "Throttled",
    "Transform",
    "Unauthorized",
    "Unavailable",
    "Unintelligible",
    "Upstream",
    "Write",
    "Written",
    "decode",
    "hookimpl",
]


def __getattr__(name: str) -> Any:
    """Import what brings a driver or an HTTP client along only when somebody uses it (PEP 562)."""
    if name == "Column":
        from syncd.bulk import Column  # noqa: PLC0415

        return Column
    if name == "decode":
        from syncd.http import decode  # noqa: PLC0415

        return decode
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
