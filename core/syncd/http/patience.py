"""How long one request may be kept waiting by an upstream that asked for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import attrs
import trio

from syncd.errors import Throttled


@attrs.define
class Patience:
    """What one request waits at most, and has waited."""

    where: str
    seconds: float
    spent_seconds: float = 0.0

    def require(self, seconds: float, *, why: str = "throttled") -> float:
        """Return what is left, if a wait fits into it.

        Raises: `Throttled`, which carries the wait.
        """
        left = self.seconds - self.spent_seconds
        if seconds > left:
            raise Throttled(
                self.where,
                f"{why} for {seconds:.0f} s more, and {left:.0f} s are left of the"
                f" {self.seconds:g} s that a request waits",
                "nothing to do: it is tried again after that",
                retry_after_seconds=seconds,
            )
        return left

    @contextmanager
    def spending(self, *, counts: bool = True) -> Iterator[None]:
        """Count the time that passes as waited, if that `counts`."""
        began_at = trio.current_time()
        try:
            yield
        finally:
            if counts:
                self.spent_seconds += trio.current_time() - began_at
