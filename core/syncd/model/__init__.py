"""The nouns: what plugins declare and hand over, and what the engine passes around.

Everything here is a frozen value. The words are those of the glossary in `core/DESIGN.md`.
"""

from syncd.model.configured import (
    Account,
    Instance,
    Partition,
    Slice,
)
from syncd.model.declared import (
    Connector,
    Feed,
    OnAbsent,
    Paging,
    Quota,
    Rate,
    Secret,
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

__all__ = [
    "JSON",
    "Account",
    "Begin",
    "Check",
    "Connector",
    "Context",
    "Cursor",
    "CursorKind",
    "Feed",
    "Fetch",
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
    "Rate",
    "Record",
    "Request",
    "Response",
    "Secret",
    "Shortcut",
    "Slice",
    "Stream",
    "Transform",
    "Upstream",
    "Write",
    "WriteMode",
    "Written",
]
