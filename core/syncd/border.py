"""The border to a plugin: whatever comes out of its code becomes an error that names it.

Not only exceptions: a `SystemExit`, a `KeyboardInterrupt` raised by hand (Ctrl-C arrives as a
signal's event here, never as an exception), a `BaseException` of somebody's own, a `trio.Cancelled`
that was kept and raised again. Only what Trio really cancels passes, since its scopes wait for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from types import TracebackType
from typing import Self

import attrs
import trio

from syncd.errors import (
    CommitUnknown,
    Deferred,
    PluginError,
    SourceError,
    StatementTimeout,
    StoreRefused,
    StoreUnavailable,
    SyncdError,
    Throttled,
    is_wait,
)

# What a plugin may say of its upstream, and what our client may meet on its behalf.
_PASSING = (
    SourceError,
    PluginError,
    StoreUnavailable,
    StoreRefused,
    StatementTimeout,
    CommitUnknown,
)


@attrs.define
class Border:
    """Around a call of `what`, which a plugin gave us; `where` it was called for.

    `passes`: what goes through unchanged, beside errors of an upstream or the database. `inside`:
    an exception that was raised by our own code within the block, and is no plugin's.

    Raises: `PluginError` for everything else that the block raises.
    """

    where: str
    what: str
    passes: tuple[type[BaseException], ...] = ()
    inside: BaseException | None = None
    cancelled: Callable[[], bool] = lambda: trio.current_effective_deadline() == -math.inf

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None or error is self.inside:
            return
        instead = self._instead(error)
        if instead is not error:
            raise instead from error

    def _instead(self, error: BaseException) -> BaseException:
        own: tuple[type[BaseException], ...] = (*_PASSING, *self.passes)
        if isinstance(error, own) and not is_unfit(error):
            return error
        if isinstance(error, trio.Cancelled | BaseExceptionGroup) and self.cancelled():
            # What else the plugin's tasks said while they were cancelled does not count.
            cancelled = _only(error, trio.Cancelled)
            if cancelled is not None:
                return cancelled
        if isinstance(error, BaseExceptionGroup):
            # A plugin that fetches in a nursery of its own: the first word stands.
            unknown = error.subgroup(lambda each: not isinstance(each, (BaseExceptionGroup, *own)))
            if unknown is None and not is_unfit(first := first_leaf(error)):
                return first
        return PluginError(self.where, f"{self.what} raised {said(error)}", "mend the plugin")


def in_thread(where: str, what: str, *passes: type[BaseException]) -> Border:
    """Return a border for code that runs in a thread, where nothing is cancelled."""
    return Border(where, what, passes, cancelled=lambda: False)


def is_unfit(error: BaseException) -> bool:
    """Say whether an error of ours is none to deal with: a plugin may make it of anything."""
    if not isinstance(error, SyncdError):
        return False
    try:
        _ = str(error), error.where, error.what, error.do, error.details
        if isinstance(error, Throttled):
            return not is_wait(error.retry_after_seconds)
        return isinstance(error, Deferred) and not is_wait(error.wait_seconds)
    except Exception:  # noqa: BLE001 - a class of its own may lack what it was not given
        return True


def said(error: BaseException) -> str:
    """Return an exception's type and message; of a group, those of its first leaf."""
    leaf = first_leaf(error)
    if leaf is not error:
        return f"{type(error).__name__} of {said(leaf)}"
    try:
        message = str(error)
    except Exception as broken:  # noqa: BLE001 - a plugin's own class may not even say what it is
        message = f"(its text raised {type(broken).__name__})"
    return f"{type(error).__name__}: {message}"


def first_leaf(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _only(error: BaseException, kind: type[BaseException]) -> BaseException | None:
    if isinstance(error, BaseExceptionGroup):
        return error.subgroup(kind)
    return error if isinstance(error, kind) else None
