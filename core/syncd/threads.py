"""Threads for what plugins do without `await`: some for each connector, and a time to be back by.

Python cannot end a thread. One whose time is up is left to itself: it keeps its place among those
of its connector, so that others never wait for it, and it is counted. Where too many are lost the
process asks to be started anew.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import attrs
import trio

from syncd.border import in_thread
from syncd.errors import PluginError
from syncd.events import Event, ThreadAbandoned

T = TypeVar("T")

# Of one connector at once: two writers a partition, a few partitions. They take turns at the
# interpreter anyway.
THREADS_MAX = 8

# A batch is decoded in tens of milliseconds; even transforms that take a hundredth of a second for
# each of 10,000 records are back by then.
RETURN_SECONDS = 300.0

# Half of a connector's threads: with the other half it still works while the process drains.
ABANDONED_MAX = THREADS_MAX // 2


@attrs.define(eq=False)
class _Call:
    """One call, and whether it is at work: set in its thread, read in Trio's."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    started: bool = False
    ended: bool = False

    def __call__(self) -> Any:
        self.started = True
        try:
            return self.function(*self.args)
        finally:
            self.ended = True


def _nobody(_: Event) -> None:
    pass


class Threads:
    """Runs plain functions of connectors in threads."""

    def __init__(
        self,
        emit: Callable[[Event], None] = _nobody,
        exhausted: Callable[[], None] = lambda: None,
    ) -> None:
        """`exhausted` is called when a connector has lost too many threads."""
        self._emit = emit
        self._exhausted = exhausted
        self._limiters: dict[str, trio.CapacityLimiter] = {}
        self._lost: dict[str, list[_Call]] = {}

    def abandoned(self, connector: str) -> int:
        """Return how many threads of a connector are left to themselves and still at work."""
        lost = [call for call in self._lost.get(connector, ()) if not call.ended]
        self._lost[connector] = lost
        return len(lost)

    async def run(self, connector: str, where: str, function: Callable[..., T], *args: Any) -> T:
        """Run a function in a thread of a connector.

        Raises: `PluginError` where it raises what it must not, and where it does not return in
        `RETURN_SECONDS`; it may be cancelled like anything that waits.
        """
        limiter = self._limiters.setdefault(connector, trio.CapacityLimiter(THREADS_MAX))
        name = getattr(function, "__name__", "a function")

        def bordered() -> T:
            with in_thread(where, f"{name} of {connector}"):
                return function(*args)

        call = _Call(bordered, ())
        with trio.move_on_after(RETURN_SECONDS):
            try:
                return await trio.to_thread.run_sync(call, abandon_on_cancel=True, limiter=limiter)
            finally:
                if call.started and not call.ended:
                    self._abandon(connector, where, call)
        what = f"{name} of {connector} did not return within {RETURN_SECONDS:.0f} s"
        raise PluginError(where, what, "mend the plugin")

    def _abandon(self, connector: str, where: str, call: _Call) -> None:
        self._lost.setdefault(connector, []).append(call)
        count = self.abandoned(connector)
        if count:
            self._emit(ThreadAbandoned(connector, where, count))
        if count >= ABANDONED_MAX:
            self._exhausted()
