"""The process: its configuration, its tasks and threads, its end."""

from __future__ import annotations

import attrs

from syncd.events.event import Event


@attrs.frozen
class DaemonReady(Event):
    """The daemon keeps these jobs from now on."""

    name = "daemon.ready"
    jobs: int


@attrs.frozen
class ConfigReloaded(Event):
    """SIGHUP: the new configuration holds from now on."""

    name = "config.reloaded"
    jobs: int


@attrs.frozen
class ConfigRejected(Event):
    """SIGHUP: the new configuration has problems; the old one stays in force."""

    name = "config.rejected"
    level = "error"
    error: str


@attrs.frozen
class DrainStarted(Event):
    """We stop: nothing new is fetched, what is fetched is committed.

    `reason`: the name of a signal; or `memory`, `threads`, `deliveries`: a new process would do
    better.
    """

    name = "drain.started"
    reason: str
    deadline_seconds: float


@attrs.frozen
class LogDropped(Event):
    """Lines of the log are missing here: nobody took them in time, or they could not be written."""

    name = "log.dropped"
    level = "warning"
    count: int


@attrs.frozen
class LoopStalled(Event):
    """A task has not let go of the event loop for a second or more: nothing else happens.

    `where`: files, lines and functions, innermost first; a hook of a plugin is the usual one.
    """

    name = "loop.stalled"
    level = "error"
    task: str
    seconds: float
    where: str


@attrs.frozen
class LoopResumed(Event):
    """The event loop turns again, after so many seconds."""

    name = "loop.resumed"
    level = "warning"
    task: str
    seconds: float


@attrs.frozen
class ProcessCut(Event):
    """The process was ended from outside its loop; its leases run out by themselves."""

    name = "process.cut"
    level = "error"
    reason: str
    exit_code: int
    stacks: str  # one line for each task, or thread, that was left


@attrs.frozen
class MemoryExceeded(Event):
    """The process holds more memory than it may (`daemon.memory_max`): it drains, and exits 75."""

    name = "memory.exceeded"
    level = "error"
    resident_bytes: int
    memory_max_bytes: int


@attrs.frozen
class ThreadAbandoned(Event):
    """A plugin's function has not come back from its thread, which cannot be ended: it is left.

    `count`: how many of the connector's threads are lost like this; when too many are, the process
    drains, and exits 75.
    """

    name = "thread.abandoned"
    level = "error"
    connector: str
    where: str
    count: int


@attrs.frozen
class ProcessVitals(Event):
    """What the process takes, every few seconds; absent is what this system does not tell."""

    name = "process.vitals"
    level = "debug"
    resident_bytes: int | None
    descriptors: int | None
    threads: int  # of Python
    tasks: int  # of Trio
    log_dropped: int  # lines, ever


@attrs.frozen
class TaskFailed(Event):
    """A run broke in a way that nobody foresaw: a bug. Its partition is tried again by itself."""

    name = "task.failed"
    level = "error"
    task: str
    error: str


@attrs.frozen
class TaskRestarted(Event):
    """One of the process's own tasks failed, and is begun again after a wait."""

    name = "task.restarted"
    level = "error"
    task: str
    error: str
    failures: int  # in a row
    wait_seconds: float
