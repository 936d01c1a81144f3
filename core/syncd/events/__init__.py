"""What syncd says: a closed catalogue of events, one frozen class each.

Logs, progress and the run history all read the same events; the JSON Schema
(`schemas/syncd_schemas/events.schema.json`) is generated from the classes. An event's name is its
class's `name`; its level says who must act: ``error`` a human, ``warning`` nobody yet (degraded,
self-healing), ``info`` and ``debug`` nobody. Durations are in seconds, sizes in bytes, counts are
plurals.
"""

from __future__ import annotations

from syncd.events.credentials import (
    CredentialExpiring,
    CredentialPostponed,
    CredentialRefused,
    CredentialRenewed,
)
from syncd.events.database import (
    CommitLost,
    ConnectionRefused,
    DbExhausted,
    DbPool,
    DbRecovered,
    DbUnavailable,
    EmbeddedStarted,
    StoreRetried,
    TableChanged,
)
from syncd.events.event import Event, Level
from syncd.events.jobs import (
    JobHindered,
    RoundFinished,
    RoundSkipped,
    RoundStarted,
)
from syncd.events.pages import (
    AbsenceRefused,
    BatchCommitted,
    BatchHalved,
    BreakerClosed,
    BreakerOpened,
    CursorFailed,
    FieldUnknown,
    LimitAdjusted,
    LimitLocked,
    LimitShared,
    LimitUnshared,
    PageFetched,
    RecordsQuarantined,
    RequestRetried,
    RowsAbsent,
)
from syncd.events.process import (
    ConfigRejected,
    ConfigReloaded,
    DaemonReady,
    DrainStarted,
    LogDropped,
    LoopResumed,
    LoopStalled,
    MemoryExceeded,
    ProcessCut,
    ProcessVitals,
    TaskFailed,
    TaskRestarted,
    ThreadAbandoned,
)
from syncd.events.routes import AdminListening, RouteReceived, RouteRefused
from syncd.events.runs import (
    AccountInvalid,
    AccountRefused,
    AccountResumed,
    AccountsChanged,
    LeaseLost,
    LeaseWaiting,
    PartitionParked,
    PassFinished,
    PassSuperseded,
    RunFinished,
    RunProgress,
    RunStarted,
)

__all__ = [
    "AbsenceRefused",
    "AccountInvalid",
    "AccountRefused",
    "AccountResumed",
    "AccountsChanged",
    "AdminListening",
    "BatchCommitted",
    "BatchHalved",
    "BreakerClosed",
    "BreakerOpened",
    "CommitLost",
    "ConfigRejected",
    "ConfigReloaded",
    "ConnectionRefused",
    "CredentialExpiring",
    "CredentialPostponed",
    "CredentialRefused",
    "CredentialRenewed",
    "CursorFailed",
    "DaemonReady",
    "DbExhausted",
    "DbPool",
    "DbRecovered",
    "DbUnavailable",
    "DrainStarted",
    "EmbeddedStarted",
    "Event",
    "FieldUnknown",
    "JobHindered",
    "LeaseLost",
    "LeaseWaiting",
    "Level",
    "LimitAdjusted",
    "LimitLocked",
    "LimitShared",
    "LimitUnshared",
    "LogDropped",
    "LoopResumed",
    "LoopStalled",
    "MemoryExceeded",
    "PageFetched",
    "PartitionParked",
    "PassFinished",
    "PassSuperseded",
    "ProcessCut",
    "ProcessVitals",
    "RecordsQuarantined",
    "RequestRetried",
    "RoundFinished",
    "RoundSkipped",
    "RoundStarted",
    "RouteReceived",
    "RouteRefused",
    "RowsAbsent",
    "RunFinished",
    "RunProgress",
    "RunStarted",
    "StoreRetried",
    "TableChanged",
    "TaskFailed",
    "TaskRestarted",
    "ThreadAbandoned",
    "catalogue",
]


def catalogue() -> dict[str, type[Event]]:
    """Every event by its name."""
    return {kind.name: kind for kind in Event.__subclasses__()}
