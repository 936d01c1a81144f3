"""Lines on their way out: a bounded queue, and one thread that renders and writes.

A pipe that nobody reads, a full disk, a closed descriptor: whoever says something never waits for
them and never sees their errors. What does not fit is dropped and counted, and the count is said as
soon as a line goes out again.
"""

from __future__ import annotations

import atexit
import os
import select
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TextIO

from syncd.events import Level

Render = Callable[[], str]  # makes one line, without its end; called in the thread that writes

# What a busy daemon says in a minute or so, at debug level; a line takes about a kilobyte, so that
# a sink that hangs costs some 10 MB, whatever it hangs for.
LINES_MAX = 10_000
# Beyond that only errors: a human must act on them, and the queue is full of what need not be told.
ERRORS_MAX = 200

# A sink that has taken nothing for a second is not about to; one that is slow is given three, which
# a supervisor grants between the end of a drain and its patience (Kubernetes: 30 s after SIGTERM).
IDLE_SECONDS = 1.0
FLUSH_SECONDS = 3.0
_LOOK_SECONDS = 0.1


def _lost(count: int) -> Render:
    return lambda: f"syncd: {count} lines of the log were dropped: nobody took them in time"


class Sink:
    """Writes lines to a stream, from any thread, in the order in which they are put.

    When the queue is full the newest line is dropped: those that wait tell how it came to this.
    """

    def __init__(
        self,
        stream: TextIO,
        *,
        lines_max: int = LINES_MAX,
        lost: Callable[[int], Render] = _lost,
    ) -> None:
        """Write to `stream`; `lost` says that so many lines are missing."""
        self.lost = lost
        self.dropped = 0  # lines, ever
        self.isatty = stream.isatty()
        self._stream = stream
        self._descriptor = _descriptor(stream)
        self._lines_max = lines_max
        self._queue: deque[tuple[int, Render | None]] = deque()  # each with what is missing before
        self._changed = threading.Condition()
        self._untold = 0  # of the dropped: not said yet
        self._written = 0
        self._writing = False
        self._thread: threading.Thread | None = None

    def put(self, render: Render, *, level: Level = "info") -> None:
        """Write a line soon; drop it where the queue is full."""
        with self._changed:
            room = self._lines_max + (ERRORS_MAX if level == "error" else 0)
            if len(self._queue) >= room:
                self._drop()
                return
            self._enqueue(render)
            if self._thread is None:
                self._thread = threading.Thread(target=self._write_all, name="log", daemon=True)
                self._thread.start()
                # A command's last lines, too, are written before the program is gone.
                atexit.register(self.flush)
            self._changed.notify_all()

    def flush(self) -> bool:
        """Wait until everything is written, or the sink takes no more; say whether all is.

        It gives up after `IDLE_SECONDS` without a line, and after `FLUSH_SECONDS` in any case. Both
        are counted in short waits: while the whole machine stands still they do not run out.
        """
        idle = waited = 0.0
        with self._changed:
            written = self._written
            while self._queue or self._writing:
                if idle >= IDLE_SECONDS or waited >= FLUSH_SECONDS:
                    return False
                if not self._changed.wait(_LOOK_SECONDS):
                    waited += _LOOK_SECONDS
                    idle += _LOOK_SECONDS
                if self._written != written:
                    idle, written = 0.0, self._written
        return True

    def _drop(self) -> None:
        self.dropped += 1
        self._untold += 1

    def _enqueue(self, render: Render | None) -> None:
        """Say what is missing where it is missing, not where the writer happens to be."""
        self._queue.append((self._untold, render))
        self._untold = 0

    def _write_all(self) -> None:
        while True:
            with self._changed:
                self._writing = False
                self._changed.notify_all()
                while not self._queue:
                    self._changed.wait()
                missing, render = self._queue.popleft()
                self._writing = True
            taken = self._write(missing, render)
            with self._changed:
                if taken:
                    self._written += 1
                    if self._untold and not self._queue:
                        self._enqueue(None)
                else:
                    self._untold += missing
                    if render is not None:
                        self._drop()

    def _write(self, missing: int, render: Render | None) -> bool:
        """Render and write a line, after the word about what is missing; say whether it went."""
        try:
            lines = [self.lost(missing)] if missing else []
            text = "".join(f"{line()}\n" for line in ([*lines, render] if render else lines))
            if self._descriptor is None:
                self._stream.write(text)
                self._stream.flush()
            else:
                _write(self._descriptor, text.encode(errors="backslashreplace"))
        except Exception:  # noqa: BLE001 - an event may hold what cannot be shown: it costs its line
            return False
        return True


def _descriptor(stream: TextIO) -> int | None:
    """Return where to write past the stream; `None` for a stream that is no file.

    A thread that hangs in a stream's own write has locked it, for whoever writes there besides or
    flushes it at the end; and a stream gives up on a descriptor that is non-blocking.
    """
    with suppress(OSError, ValueError, AttributeError):  # closed, in memory, none at all
        stream.flush()
        return stream.fileno()
    return None


def _write(descriptor: int, line: bytes) -> None:
    """Write all of a line, also where somebody has made the descriptor non-blocking."""
    left = memoryview(line)
    while left:
        try:
            left = left[os.write(descriptor, left) :]
        except BlockingIOError:
            ready = select.poll()
            ready.register(descriptor, select.POLLOUT)
            ready.poll()
