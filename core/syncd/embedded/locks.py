"""Locks that the kernel forgets with the process that held them (flock).

They belong to an open file, not to a process: a server that inherits one holds it for as long as
any of its processes lives, whatever became of its starter, and its pid may be reused meanwhile.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from syncd.embedded.unprivileged import OsUser, give
from syncd.errors import StoreUnavailable

_POLL_SECONDS = 0.01  # a start takes 25 ms on a made cluster: fine enough to add little to it


def open_lock(path: Path, user: OsUser | None) -> int:
    """Open a lock file; the descriptor is not inherited unless it is passed on purpose."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    give(lock, user)
    return lock


def try_exclusive(lock: int) -> bool:
    """Take the lock alone, or say that others have it; then a share held before is lost (flock)."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def share(lock: int) -> None:
    """Hold the lock beside others; only under `one_at_a_time`, where nobody has it alone."""
    fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)


def release(lock: int) -> None:
    """Give the lock up, also where a fork of ours still has the file open."""
    fcntl.flock(lock, fcntl.LOCK_UN)
    os.close(lock)


def is_held(path: Path) -> bool:
    """Say whether somebody holds the lock; asked only under `one_at_a_time`."""
    lock = open_lock(path, None)
    try:
        return not try_exclusive(lock)
    finally:
        release(lock)


@contextmanager
def one_at_a_time(path: Path, *, give_up_at: float) -> Iterator[None]:
    """Let one process in at a time; `give_up_at` is of the monotonic clock.

    Raises: `StoreUnavailable` where another one is inside until then.
    """
    lock = open_lock(path, None)
    try:
        if not wait_for(lambda: try_exclusive(lock), give_up_at=give_up_at):
            raise StoreUnavailable(
                f"embedded postgresql in {path.parent}",
                "another process is starting or stopping it and does not finish",
                f"see who holds {path}, then try again",
            )
        yield
    finally:
        release(lock)


def wait_for(happened: Callable[[], bool], *, give_up_at: float) -> bool:
    """Ask until it happened; false where it has not by `give_up_at` (monotonic)."""
    while not happened():
        if time.monotonic() >= give_up_at:
            return False
        time.sleep(_POLL_SECONDS)
    return True
