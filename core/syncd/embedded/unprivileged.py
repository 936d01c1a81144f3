"""Running a program as the user that PostgreSQL runs as.

PostgreSQL refuses to run as root. Where syncd is root, its server runs as a user that exists
already: nothing is created, and no mode is changed, for its sake.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import attrs

from syncd.errors import ConfigError, StoreUnavailable

# One made for syncd, else the one whose very purpose is to own database files, else the one that
# every system has; `nobody` comes last because strangers may run as it too.
_PREFERRED = ("syncd", "postgres", "nobody")


_END_SECONDS = 5  # `initdb` ends with the step it is in, of which the longest takes one second


@attrs.frozen
class OsUser:
    """A user of the operating system that is not root."""

    name: str
    uid: int
    gid: int


def choose(data_dir: Path) -> OsUser:
    """Choose who the server of a new cluster runs as, where syncd is root.

    The owner of the data directory, so that both may use it; where that is root, see `_PREFERRED`.
    Raises: `ConfigError` where none of them exists.
    """
    if owner := by_uid(data_dir.stat().st_uid):
        return owner
    for name in _PREFERRED:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid != 0:
            return OsUser(entry.pw_name, entry.pw_uid, entry.pw_gid)
    raise ConfigError(
        f"embedded postgresql in {data_dir}",
        f"postgresql does not run as root, and no user of {', '.join(_PREFERRED)} exists",
        "give the data directory to an unprivileged user, or configure a database",
    )


def by_uid(uid: int) -> OsUser | None:
    """Find an unprivileged user that has a name (`initdb` demands one)."""
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        return None
    return None if uid == 0 else OsUser(entry.pw_name, entry.pw_uid, entry.pw_gid)


def give(file: int | Path, user: OsUser | None) -> None:
    """Give what we made to the server's user; nothing where the server runs as ourselves."""
    if user is None:
        return
    if isinstance(file, int):
        os.fchown(file, user.uid, user.gid)
    else:
        # Never through a link: its directory belongs to the user, who might have put one there.
        os.chown(file, user.uid, user.gid, follow_symlinks=False)


def spawn_options(user: OsUser | None) -> dict[str, Any]:
    """Say how `Popen` starts a program as `user`: apart from us, with nothing of our environment.

    A session of its own keeps the terminal's Ctrl-C from it, and `PG*` variables stay outside.
    """
    zone = {"TZ": os.environ["TZ"]} if "TZ" in os.environ else {}
    options: dict[str, Any] = {
        "cwd": "/",  # ours may be one that the user cannot enter
        "env": {"PATH": os.defpath, "LC_ALL": "C", **zone},
        "start_new_session": True,
        "umask": 0o077,
    }
    if user is not None:
        options |= {"user": user.uid, "group": user.gid, "extra_groups": ()}
    return options


def run(
    argv: Sequence[str | Path],
    *,
    user: OsUser | None,
    give_up_at: float,
    stdin: IO[bytes] | int = subprocess.DEVNULL,
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end; its output, both streams together, is in `stdout`.

    Raises: `ConfigError` where it cannot be started; `StoreUnavailable` where it does not end by
    `give_up_at` (monotonic), after which neither it nor its children are left.
    """
    try:
        process = subprocess.Popen(  # noqa: S603 - our own arguments, no shell
            argv,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            **spawn_options(user),
        )
    except (OSError, subprocess.SubprocessError) as exc:
        as_user = f" as user {user.name!r}" if user else ""
        raise ConfigError(
            str(argv[0]), f"cannot be run{as_user}: {exc}", "configure a database"
        ) from exc
    with process:
        try:
            seconds = max(0.0, give_up_at - time.monotonic())
            said, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired as exc:
            raise StoreUnavailable(
                str(argv[0]), "did not end in time", "try again when the machine is less busy"
            ) from exc
        finally:
            _end(process)
    return subprocess.CompletedProcess(argv, process.returncode, stdout=said)


def _end(process: subprocess.Popen[str]) -> None:
    """End what still runs, then its children; asked first, `initdb` gives back shared memory."""
    for ending in (process.terminate, lambda: os.killpg(process.pid, signal.SIGKILL)):
        if process.poll() is not None:
            return
        ending()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=_END_SECONDS)


def can(user: OsUser, tests: Sequence[str], paths: Sequence[Path], *, give_up_at: float) -> bool:
    """Ask the kernel whether `user` passes `tests` ("-r", "-x") on every path.

    Modes alone do not say it: access lists, mounts and security modules have their word too.
    """
    wanted = " && ".join(f'test {test} "$path"' for test in tests)
    script = f"for path do {wanted} || exit 1; done"
    argv: list[str | Path] = ["/bin/sh", "-c", script, "sh", *paths]
    return run(argv, user=user, give_up_at=give_up_at).returncode == 0


def exists(pid: int) -> bool:
    """Say whether a process of that number exists, a zombie included."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
