"""The nouns: what plugins declare and hand over, and what the engine passes around.

Everything here is a frozen value. The words are those of the glossary in `core/DESIGN.md`.
"""

from syncd.model.awaiting import AsyncTransform, Await, Done, Later, Quarantined
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
from syncd.model.secret import Secret

__all__ = [
    "JSON",
    "REQUESTS",
    "Account",
    "Adaptive",
    "AsyncTransform",
    "Await",
    "Begin",
    "Check",
    "Connector",
    "Context",
    "Credential",
    "Cursor",
    "CursorKind",
    "Derivation",
    "Done",
    "Feed",
    "Fetch",
    "FixedWindow",
    "Http",
    "Instance",
    "Later",
    "Mode",
    "OnAbsent",
    "Page",
    "Paging",
    "Partition",
    "Partitions",
    "Pass",
    "Quarantined",
    "Quota",
    "Record",
    "Refresh",
    "Request",
    "Response",
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
]
