"""The nouns: what plugins declare and hand over, and what the engine passes around.

Everything here is a frozen value. The words are those of the glossary in `core/DESIGN.md`.
"""

from syncd.model.configured import (
    Account,
    Instance,
    Partition,
    Slice,
)
from syncd.model.credentials import Credential
from syncd.model.declared import (
    Connector,
    Derivation,
    Feed,
    OnAbsent,
    Paging,
    Shortcut,
    Stream,
    Upstream,
    WriteMode,
)
from syncd.model.functions import (
    Begin,
    Check,
    Context,
    Fetch,
    Http,
    Partitions,
    Refresh,
    Transform,
    Write,
    Written,
)
from syncd.model.pages import (
    JSON,
    Cursor,
    CursorKind,
    Mode,
    Page,
    Pass,
    Record,
    Request,
    Response,
)
from syncd.model.quotas import (
    REQUESTS,
    Adaptive,
    FixedWindow,
    Quota,
    SlidingWindow,
    TokenBucket,
    Window,
)
from syncd.model.routes import (
    Route,
    RouteAnswer,
    RouteHandler,
    RouteRequest,
    bearer_matches,
)
from syncd.model.secret import Secret

__all__ = [
    "JSON",
    "REQUESTS",
    "Account",
    "Adaptive",
    "Begin",
    "Check",
    "Connector",
    "Context",
    "Credential",
    "Cursor",
    "CursorKind",
    "Derivation",
    "Feed",
    "Fetch",
    "FixedWindow",
    "Http",
    "Instance",
    "Mode",
    "OnAbsent",
    "Page",
    "Paging",
    "Partition",
    "Partitions",
    "Pass",
    "Quota",
    "Record",
    "Refresh",
    "Request",
    "Response",
    "Route",
    "RouteAnswer",
    "RouteHandler",
    "RouteRequest",
    "Secret",
    "Shortcut",
    "Slice",
    "SlidingWindow",
    "Stream",
    "TokenBucket",
    "Transform",
    "Upstream",
    "Window",
    "Write",
    "WriteMode",
    "Written",
    "bearer_matches",
]
