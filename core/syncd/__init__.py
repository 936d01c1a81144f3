"""The public door for plugins: declare a connector, implement hooks, answer with pages.

What is named in `__all__`, and `syncd.testing`, keeps its meaning between releases; everything else
may change.
"""

from syncd.bulk import Column
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
from syncd.http import decode
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
