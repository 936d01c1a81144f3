"""Where a test stops the engine: the n-th time that one of its named steps is reached."""

from __future__ import annotations

import threading
from collections.abc import Callable

import attrs

COMMITS = ("before_commit", "after_commit")  # reached by every transaction, whatever it is for


@attrs.frozen
class Step:
    """A point of `syncd.faults`; for the points of a commit, `of` is what the transaction did.

    With `after` it counts only from when a transaction that did that has been committed.
    """

    point: str
    of: str = ""
    after: str = ""
    nth: int = 1

    def __str__(self) -> str:
        words = (("of", self.of), ("after", self.after), ("time", self.nth))
        return " ".join([self.point, *(f"{word} {what}" for word, what in words if what)])


class Trap:
    """Calls `do` once, when its step is reached; to be armed with `faults.arm`.

    A transaction runs in one thread, so what was reached there last tells what it is for.
    """

    def __init__(self, step: Step, do: Callable[[], None]) -> None:
        self.sprung = threading.Event()
        self._step = step
        self._do = do
        self._counting = not step.after
        self._times = 0
        self._lock = threading.Lock()
        self._here = threading.local()

    def __call__(self, point: str) -> None:
        if self._springs(point):
            self.sprung.set()
            self._do()

    def _springs(self, point: str) -> bool:
        doing = getattr(self._here, "doing", "")
        if point not in COMMITS:
            self._here.doing = point
        elif point == "after_commit":
            self._here.doing = ""
        with self._lock:
            if not self._counting:
                self._counting = point == "after_commit" and doing == self._step.after
                return False
            if point != self._step.point or (point in COMMITS and doing != self._step.of):
                return False
            self._times += 1
            return self._times == self._step.nth
