"""How the program ends: what an error says to whoever typed the command, and the exit code."""

from __future__ import annotations

import traceback
from collections.abc import Iterable
from typing import Final

import attrs

from syncd.errors import (
    CommitUnknown,
    ConfigError,
    Held,
    LeaseLost,
    StoreRefused,
    StoreUnavailable,
    SyncdError,
    Throttled,
    Unavailable,
)

FINE: Final = 0
FAILED: Final = 1
PARTIAL: Final = 3
USAGE: Final = 64  # this and the following: sysexits.h of BSD
UNAVAILABLE: Final = 69
INTERNAL: Final = 70
TRY_AGAIN: Final = 75
CONFIGURATION: Final = 78
INTERRUPTED: Final = 130  # 128 + SIGINT, as shells count it

MEANINGS: Final = {
    FINE: "fine",
    FAILED: "a run failed, a command was refused, or something is parked",
    PARTIAL: "the run is partial: what is left is tried again by the next run",
    USAGE: "the command line is wrong",
    UNAVAILABLE: "the database or the upstream is unavailable",
    INTERNAL: "a bug in syncd or a plugin",
    TRY_AGAIN: "stopped before the end, or held by another process: try again later",
    CONFIGURATION: "the configuration is wrong",
}

# The first of these that occurs is how the whole ends: what needs a human stands first.
_GRAVITY: Final = (INTERNAL, CONFIGURATION, FAILED, UNAVAILABLE, TRY_AGAIN, PARTIAL)


def code_of(error: SyncdError) -> int:
    """Return the exit code for an error that ends a command."""
    match error:
        case ConfigError() | StoreRefused():
            return CONFIGURATION
        case StoreUnavailable() | Unavailable():
            return UNAVAILABLE
        case Throttled() | Held() | LeaseLost() | CommitUnknown():
            return TRY_AGAIN
        case _:
            return FAILED


def worst(codes: Iterable[int]) -> int:
    """Return the exit code that speaks for several."""
    occurring = set(codes)
    return next((code for code in _GRAVITY if code in occurring), FINE)


@attrs.frozen
class Ending:
    """An exit code, and what stderr shows before it."""

    code: int
    text: str


def leaves(error: BaseException) -> list[BaseException]:
    """Return what an exception consists of: itself, or what its groups hold."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for each in error.exceptions for leaf in leaves(each)]
    return [error]


def ending_of(error: BaseException) -> Ending:
    """Decide how an exception that reached the command line ends the program.

    What nobody expected is shown with its traceback, also where a Ctrl-C or an error of ours came
    with it.
    """
    causes = leaves(error)
    stopped = [cause for cause in causes if _is_stopped(cause)]
    known = (SyncdError, KeyboardInterrupt)
    if not all(isinstance(cause, known) or cause in stopped for cause in causes):
        told = "".join(traceback.format_exception(error))
        return Ending(INTERNAL, f"{told}syncd: internal error; this is a bug, please report it")
    errors = [cause for cause in causes if isinstance(cause, SyncdError)]
    if errors:
        text = "\n".join(dict.fromkeys(f"syncd: {each}" for each in errors))
        return Ending(worst(code_of(each) for each in errors), text)
    if stopped:
        return Ending(
            TRY_AGAIN, "syncd: stopped at once; what was committed stays; run it again to go on"
        )
    return Ending(INTERRUPTED, "syncd: interrupted")


def _is_stopped(cause: BaseException) -> bool:
    if isinstance(cause, SyncdError | KeyboardInterrupt):
        return False
    # Here, since a wrong command line is told without the engine.
    from syncd.daemon import Stopped  # noqa: PLC0415

    return isinstance(cause, Stopped)
