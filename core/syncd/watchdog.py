"""A thread that watches Trio's thread, since nothing inside the loop can tell that it stands still.

It names what blocks the loop while it does, ends a process that outlives its drain or its loop, and
keeps an eye on memory. What it says of a stack are files, lines and names of functions: never a
local variable, which may hold anything.

A C extension that spins without letting go of the interpreter stops this thread, too.
"""

from __future__ import annotations

import math
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import attrs
import trio

from syncd import closing
from syncd.events import (
    Event,
    LoopResumed,
    LoopStalled,
    MemoryExceeded,
    ProcessCut,
    ProcessVitals,
)
from syncd.observe import Observer

LOOK_SECONDS = 0.25
VITALS_LOOKS = 8
MEMORY_LOOKS = 4  # from one look at the memory to the next: reading it costs 20 us

# Tasks take turns within milliseconds. After a second requests time out, and everybody else's work
# has visibly stopped.
STALL_SECONDS = 1.0

# Twice the default lease: what this process held is long another's, and it could do nothing about
# that; a supervisor starts a new one.
STALL_MAX_SECONDS = 60.0

# A hook that is cancelled (its deadline, a lost lease, an operator) has this long to end: a request
# that must be closed in good order takes seconds. One that swallows every cancellation would spin
# for ever, and its run would never give its lease back.
HEED_SECONDS = 60.0

# From the deadline of a drain to the end of what does not let itself be cancelled. With two looks
# and the last words it stays within a second, and within the five that Kubernetes leaves (of 30, a
# drain takes 25).
GRACE_SECONDS = 0.5

STACK_MAX = 12  # frames: from where it blocks to the hook that led there
TASKS_MAX = 10
_TOLD_SECONDS = 1.0  # for the last words, whose listeners may hang like everything else

INTERNAL = 70  # exit codes: see `cli.ending`, which stands above
TRY_AGAIN = 75
_HOOKS = "syncd.asking"  # everything that a plugin is asked passes through it
_DELIVERS = "delivered"  # of it: holds no lease, and its lane goes on without it
_DEBUGGERS = {"bdb", "pdb"}  # somebody sits there and thinks
_ENGINE_ROOM = ("trio._core._run", "outcome")


@attrs.define(eq=False)
class Pulse(trio.abc.Instrument):
    """What Trio's thread is doing: the task whose step runs, since when, and the step's number."""

    task: trio.lowlevel.Task | None = None
    since: float = 0.0
    step: int = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.since = time.monotonic()
        self.step += 1
        self.task = task

    def before_io_wait(self, timeout: float) -> None:  # noqa: ARG002  # once a turn, not a step
        self.task = None


@attrs.define(eq=False)
class Watchdog:
    """Looks four times a second.

    Everything is counted in looks: while the whole machine or the process stands still (SIGSTOP, a
    suspended laptop), no time passes for what it watches either.
    """

    observer: Observer
    drain_seconds: float
    memory_max_bytes: int | None
    exceeded: Callable[[], None]  # called in Trio's thread, once
    end: Callable[[int], None] = os._exit  # `sys.exit` would wait for what hangs
    stall_max_seconds: float = STALL_MAX_SECONDS
    heed_seconds: float = HEED_SECONDS
    pulse: Pulse = attrs.field(factory=Pulse, init=False)
    _loop: int = attrs.field(factory=threading.get_ident, init=False)
    _root: trio.lowlevel.Task | None = attrs.field(
        factory=trio.lowlevel.current_root_task, init=False
    )
    _token: trio.lowlevel.TrioToken = attrs.field(
        factory=trio.lowlevel.current_trio_token, init=False
    )
    over: threading.Event = attrs.field(factory=threading.Event, init=False)
    _asked: deque[float] = attrs.field(factory=deque, init=False)  # to end within so many seconds
    _left_seconds: float = attrs.field(default=math.inf, init=False)
    _signals: int = attrs.field(default=0, init=False)
    _step: int = attrs.field(default=-1, init=False)
    _same: int = attrs.field(default=0, init=False)  # looks that saw this step
    _stalled: LoopStalled | None = attrs.field(default=None, init=False)
    _stalled_since: float = attrs.field(default=0.0, init=False)
    _looks: int = attrs.field(default=0, init=False)
    _deaf: dict[trio.lowlevel.Task, int] = attrs.field(factory=dict, init=False)
    _too_big: bool = attrs.field(default=False, init=False)
    _ended: bool = attrs.field(default=False, init=False)

    def ends_within(self, seconds: float) -> None:
        """End the process where it is still there after so many seconds, and some grace."""
        self._asked.append(seconds + GRACE_SECONDS)  # in Trio's thread, or a signal's handler

    def signalled(self) -> None:
        """Take note of a signal; the loop that is to act upon it may stand still."""
        self._signals += 1
        self.ends_within(self.drain_seconds if self._signals == 1 else closing.LAST_SECONDS)

    def watch(self) -> None:
        """Look until it is over."""
        while not self.over.wait(LOOK_SECONDS):
            self._look()
        if self.pulse.step != self._step:
            self._look_at_the_loop()  # a stall that is over is to be told of

    def _look(self) -> None:
        self._looks += 1
        self._look_at_the_loop()
        if self._asked:
            self._left_seconds = min(self._left_seconds, self._asked.popleft())
        if self._left_seconds < math.inf:
            self._left_seconds -= LOOK_SECONDS
            if self._left_seconds <= 0.0:
                stacks = self._stacks()
                hooked = _HOOKS in "".join(stacks)
                self._cut("the drain did not end", INTERNAL if hooked else TRY_AGAIN, stacks)
        if self._looks % VITALS_LOOKS == 0:
            self._say(vitals(self._root, self.observer.dropped))
            self._look_at_the_cancelled()
        if self.memory_max_bytes is not None and self._looks % MEMORY_LOOKS == 0:
            self._look_at_memory(self.memory_max_bytes)

    def _look_at_the_loop(self) -> None:
        task, step, since = self.pulse.task, self.pulse.step, self.pulse.since
        if task is None or step != self._step:
            if self._stalled is not None:
                seconds = (since if step != self._step else time.monotonic()) - self._stalled_since
                self._say(LoopResumed(self._stalled.task, round(seconds, 1)))
            self._step, self._same, self._stalled = step, 0, None
            return
        stack = [] if self._same * LOOK_SECONDS < STALL_SECONDS else self._running()
        if any(_module(frame) in _DEBUGGERS for frame in stack):
            return
        self._same += 1
        if stack and self._stalled is None:
            seconds = round(time.monotonic() - since, 1)
            self._stalled = LoopStalled(task.name, seconds, told(stack))
            self._stalled_since = since
            self._say(self._stalled)
        if self._same * LOOK_SECONDS >= self.stall_max_seconds:
            self._cut(f"{task.name} did not let go of the event loop", INTERNAL, self._stacks())

    def _look_at_the_cancelled(self) -> None:
        """End the process where a hook goes on and on though it is cancelled.

        What waits behind a shield is not cancelled, and has its time.
        """
        there = [task for task in tree(self._root) if is_cancelled(task)]
        self._deaf = {task: self._deaf.get(task, -1) + 1 for task in there}
        for task, looks in self._deaf.items():
            if looks * VITALS_LOOKS * LOOK_SECONDS < self.heed_seconds:
                continue
            running = task is self.pulse.task
            stack = self._running() if running else awaited(task.coro)
            asked = [frame.f_code.co_name for frame in stack if _module(frame) == _HOOKS]
            if asked and _DELIVERS not in asked:
                self._cut(f"{task.name} did not heed its cancellation", INTERNAL, self._stacks())

    def _look_at_memory(self, most: int) -> None:
        size = resident_bytes()
        if size is None or size <= most or self._too_big:
            return
        self._too_big = True
        self._say(MemoryExceeded(size, most))
        self._soon(self.exceeded)

    # -- what it says --------------------------------------------------------------------------

    def _say(self, event: Event) -> None:
        """Log at once; tell the listeners, who live in Trio's thread, when it turns again."""
        self.observer.log(event)
        self._soon(lambda: self.observer.tell(event))

    def _soon(self, function: Callable[[], object]) -> None:
        try:
            self._token.run_sync_soon(function)
        except trio.RunFinishedError:
            self.over.set()

    def _cut(self, reason: str, code: int, stacks: list[str]) -> None:
        if self._ended:
            return
        self._ended = True
        event = ProcessCut(reason, code, "\n".join(stacks))
        # The listeners are told, too (a screen may be all there is), but they may hang.
        last = threading.Thread(target=self.observer.emit, args=(event,), daemon=True)
        last.start()
        last.join(_TOLD_SECONDS)
        self.observer.flush()
        self.over.set()
        self.end(code)

    # -- where it stands -----------------------------------------------------------------------

    def _running(self) -> list[FrameType]:
        """Return what Trio's thread is in, innermost first."""
        return outwards(frames().get(self._loop))

    def _stacks(self) -> list[str]:
        """Return where everything stands that may keep the process: tasks, and threads of hooks."""
        running, current = self._running(), self.pulse.task
        found = [] if current is None else [f"{current.name}: {told(running)}"]
        waiting = [task for task in leaves(self._root) if task is not current]
        found += [f"{task.name}: {told(awaited(task.coro))}" for task in waiting]
        for number, frame in frames().items():
            stack = outwards(frame)
            if number != self._loop and any(_module(each) == _HOOKS for each in stack):
                found.append(f"a thread: {told(stack)}")
        # Those of hooks first: they are what this is about.
        return sorted(found, key=lambda said: _HOOKS not in said)[:TASKS_MAX]


@contextmanager
def watching(
    observer: Observer,
    *,
    drain_seconds: float,
    memory_max_bytes: int | None,
    exceeded: Callable[[], None],
) -> Iterator[Watchdog]:
    """Watch the loop that this is called in, while the block runs.

    From Trio's signal handlers on, which must stand already, it hears of SIGINT and SIGTERM itself.
    """
    watchdog = Watchdog(observer, drain_seconds, memory_max_bytes, exceeded)
    for number in (signal.SIGINT, signal.SIGTERM):
        _overhear(number, watchdog.signalled)
    trio.lowlevel.add_instrument(watchdog.pulse)
    thread = threading.Thread(target=watchdog.watch, name="watchdog", daemon=True)
    thread.start()
    try:
        yield watchdog
    finally:
        watchdog.over.set()
        thread.join(LOOK_SECONDS)
        trio.lowlevel.remove_instrument(watchdog.pulse)


def _overhear(number: signal.Signals, heard: Callable[[], None]) -> None:
    """Hear of a signal before its handler does; Trio puts back what was there before both."""
    handler = signal.getsignal(number)
    assert callable(handler), "Trio's signal receiver is open"

    def both(number: int, frame: FrameType | None) -> None:
        heard()
        handler(number, frame)

    signal.signal(number, both)


def frames() -> dict[int, FrameType]:
    """Return what each thread is in, by its number."""
    return sys._current_frames()  # noqa: SLF001  # documented, for exactly this


def resident_bytes() -> int | None:
    """Return how much of this process is in memory (proc(5), statm); `None` where nobody says."""
    try:
        pages = int(Path("/proc/self/statm").read_bytes().split()[1])
    except (OSError, IndexError, ValueError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


def vitals(root: trio.lowlevel.Task | None, dropped: int) -> ProcessVitals:
    """Return what the process takes now."""
    try:
        descriptors = sum(1 for _ in Path("/proc/self/fd").iterdir())
    except OSError:
        descriptors = None
    return ProcessVitals(
        resident_bytes(), descriptors, threading.active_count(), len(tree(root)), dropped
    )


def children(task: trio.lowlevel.Task) -> list[trio.lowlevel.Task]:
    """Return the tasks that a task waits for; each copy of a set is made at once."""
    return [child for nursery in list(task.child_nurseries) for child in list(nursery.child_tasks)]


def tree(task: trio.lowlevel.Task | None) -> list[trio.lowlevel.Task]:
    """Return a task and all below it; to be called from any thread."""
    if task is None:
        return []
    return [task, *(each for child in children(task) for each in tree(child))]


def is_cancelled(task: trio.lowlevel.Task) -> bool:
    """Say whether a task's next wait would end at once.

    Trio tells a task so of itself alone (`trio.current_effective_deadline`); where it keeps that
    elsewhere one day, nobody is found.
    """
    status = getattr(task, "_cancel_status", None)
    return bool(getattr(status, "effectively_cancelled", False))


def leaves(task: trio.lowlevel.Task | None) -> list[trio.lowlevel.Task]:
    """Return the tasks that wait for no other task."""
    return [each for each in tree(task) if not children(each)]


def outwards(frame: FrameType | None) -> list[FrameType]:
    """Return a thread's frames, innermost first, up to Trio's engine."""
    found = []
    while frame is not None and not _module(frame).startswith(_ENGINE_ROOM):
        found.append(frame)
        frame = frame.f_back
    return found


def awaited(coroutine: Any) -> list[FrameType]:
    """Return the frames of a coroutine that waits, innermost first."""
    found = []
    while coroutine is not None:
        kind = next((k for k in ("cr", "gi", "ag") if hasattr(coroutine, f"{k}_frame")), None)
        if kind is None:
            break
        frame = getattr(coroutine, f"{kind}_frame")
        if frame is not None:
            found.append(frame)
        coroutine = getattr(coroutine, "gi_yieldfrom" if kind == "gi" else f"{kind}_await")
    return [frame for frame in reversed(found) if not _module(frame).startswith("trio._core")]


def told(stack: list[FrameType]) -> str:
    """Return `file:line function` of the innermost frames, with the module where it is ours."""
    return " < ".join(
        f"{frame.f_code.co_filename}:{frame.f_lineno} {_module(frame)}.{frame.f_code.co_qualname}"
        for frame in stack[:STACK_MAX]
    )


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "?"))
