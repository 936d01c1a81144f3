"""One cluster and its server: made once, launched, asked how it is, stopped.

Everything here is called under the place's lock, so that nobody else starts or stops it meanwhile.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

import attrs

from syncd.embedded import locks, unprivileged
from syncd.embedded.binaries import Binaries
from syncd.embedded.place import Place, sync_directory, write_private
from syncd.embedded.unprivileged import give, spawn_options
from syncd.errors import ConfigError, StoreUnavailable

NAME = "syncd"  # of the database, and of the role that owns it
PORT = 5432  # only a part of the socket's file name: there is no TCP

_SOCKET = f".s.PGSQL.{PORT}"
_SOCKET_DIR_PREFIX = "syncd-socket-"
# sockaddr_un holds 108 bytes on Linux and 104 on macOS, the last of them zero (unix(7)).
_SOCKET_PATH_BYTES = 103

# What makes the server the one that we look after, reachable for us and for nobody else.
_OURS = frozenset(
    {
        "config_file",
        "data_directory",
        "hba_file",
        "listen_addresses",
        "port",
        "unix_socket_directories",
    }
)

# What counts when a password is set.
_AT_BIRTH = ("scram_iterations",)

# Above it the next launch begins a new log. Checkpoints write 300 bytes each 5 minutes at most,
# 30 MB a year.
_LOG_BYTES = 10 * 2**20


@attrs.frozen
class Postmaster:
    """What a running server says of itself in postmaster.pid."""

    pid: int
    socket_dir: Path | None = None  # `None` and "" while it is still writing the file
    status: str = ""  # "starting", "ready", "stopping"


def refuse_unusable(place: Place, binaries: Binaries) -> None:
    """Refuse a cluster that another major version made, or whose password is lost."""
    if not place.cluster.exists():
        return
    major = (place.cluster / "PG_VERSION").read_text().strip()
    if major != binaries.major:
        raise ConfigError(
            place.where,
            f"its cluster is of postgresql {major}, and this syncd brings {binaries.version}",
            f"dump it with the syncd that made it (`pg_dump -Fc -f syncd.dump syncd`), and load it "
            f"with this one into a new data directory (`pg_restore -d syncd syncd.dump`); or run "
            f"postgresql {major} on {place.cluster} yourself and configure it as the database",
        )
    if not place.password.exists():
        raise ConfigError(
            place.where,
            f"{place.password} is missing, and the cluster knows only its hash",
            "restore it from a backup of the data directory",
        )


def refuse_settings(place: Place, settings: Mapping[str, str]) -> None:
    """Refuse settings that would take the server out of our hands."""
    # PostgreSQL reads a dash on the command line as an underscore.
    if refused := sorted(_OURS & {name.lower().replace("-", "_") for name in settings}):
        raise ConfigError(
            place.where,
            f"{', '.join(map(repr, refused))} cannot be set: they make it ours and ours alone",
            "leave them out, or configure a database of your own",
        )


def is_alive(place: Place) -> bool:
    """Say whether any process of a server is left; the lock that they inherited tells."""
    return locks.is_held(place.server)


def initialise(
    place: Place, binaries: Binaries, settings: Mapping[str, str], *, give_up_at: float
) -> None:
    """Make the cluster with its role and database, whole or not at all; one that exists is kept."""
    if place.cluster.exists():
        return
    if not place.password.exists():
        # A pgpass line, so that every libpq client reads it from the file and nobody passes it on.
        line = f"*:*:*:{NAME}:{secrets.token_urlsafe(32)}\n"
        write_private(place.password, line, place.user)
    fresh = place.root / "cluster.new"
    shutil.rmtree(fresh, ignore_errors=True)
    _initdb(place, binaries, fresh, settings, give_up_at=give_up_at)
    _create_database(place, binaries, fresh, settings, give_up_at=give_up_at)
    fresh.rename(place.cluster)
    sync_directory(place.root)


def _initdb(
    place: Place,
    binaries: Binaries,
    fresh: Path,
    settings: Mapping[str, str],
    *,
    give_up_at: float,
) -> None:
    password = place.password.read_text().rstrip("\n").rpartition(":")[2]
    with tempfile.TemporaryFile() as handed_over:  # nameless: nothing is left behind by a crash
        give(handed_over.fileno(), place.user)  # /dev/stdin is opened anew, by the server's user
        handed_over.write(f"{password}\n".encode())
        handed_over.seek(0)
        argv: list[str | Path] = [
            binaries.program("initdb"),
            f"--pgdata={fresh}",
            f"--username={NAME}",
            "--pwfile=/dev/stdin",
            "--auth=scram-sha-256",
            # Collations of the C library change with the system's upgrades and corrupt indexes on
            # text; the built-in one is fixed for a major version (PostgreSQL manual, 23.1.4).
            "--encoding=UTF8",
            "--locale=C",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            "--set=listen_addresses=",  # no TCP either where somebody starts it by hand
            *(["--no-sync"] if settings.get("fsync") == "off" else []),
            *(f"--set={name}={settings[name]}" for name in _AT_BIRTH if name in settings),
        ]
        made = unprivileged.run(argv, user=place.user, stdin=handed_over, give_up_at=give_up_at)
    _refuse_failure(place, "initdb", made)


def _create_database(
    place: Place,
    binaries: Binaries,
    fresh: Path,
    settings: Mapping[str, str],
    *,
    give_up_at: float,
) -> None:
    with tempfile.TemporaryFile() as statement:
        statement.write(f"CREATE DATABASE {NAME} OWNER {NAME}\n".encode())
        statement.seek(0)
        argv: list[str | Path] = [
            binaries.program("postgres"),
            "--single",
            "-D",
            fresh,
            *_options({"exit_on_error": "on", "fsync": settings.get("fsync", "on")}),
            "template1",
        ]
        made = unprivileged.run(argv, user=place.user, stdin=statement, give_up_at=give_up_at)
    _refuse_failure(place, "create database", made)


def _refuse_failure(place: Place, step: str, made: subprocess.CompletedProcess[str]) -> None:
    if made.returncode != 0:
        raise StoreUnavailable(
            place.where,
            f"{step} ended with status {made.returncode}: {_reason(made.stdout)}",
            "remove the cause and start again: nothing was left half made",
        )


def launch(place: Place, binaries: Binaries, settings: Mapping[str, str]) -> None:
    """Start the server as a daemon of its own; whether it comes up is asked afterwards."""
    _forget_the_dead(place)
    socket_dir = _make_socket_dir(place)
    quoted = '"' + str(socket_dir).replace('"', '""') + '"'  # the setting is a list
    # Ours come last, so that they win, and here, where postgresql.conf cannot undo them.
    options = {
        **settings,
        "listen_addresses": "",
        "unix_socket_directories": quoted,
        "port": str(PORT),
    }
    write_private(place.version, f"{binaries.version}\n", place.user)
    argv = [str(binaries.program("postgres")), "-D", str(place.cluster), *_options(options)]
    server = locks.open_lock(place.server, place.user)
    log = _open_log(place)
    try:
        if not locks.try_exclusive(server):
            raise StoreUnavailable(
                place.where, f"somebody took {place.server} meanwhile", "see who, then start again"
            )
        # The shell leaves it to init at once: it must outlive us, and never be our zombie.
        subprocess.run(  # noqa: S603 - our own arguments
            ["/bin/sh", "-c", '"$@" &', "sh", *argv],
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[server],
            **spawn_options(place.user),
        )
    finally:
        os.close(log)
        os.close(server)  # not released: the server has it now


def _options(settings: Mapping[str, str]) -> list[str]:
    return [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]


def _open_log(place: Place) -> int:
    if place.log.exists() and place.log.stat().st_size > _LOG_BYTES:
        place.log.rename(place.log.with_name(f"{place.log.name}.1"))
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    log = os.open(place.log, flags, 0o600)
    give(log, place.user)
    return log


def _make_socket_dir(place: Place) -> Path:
    inside = place.root / "socket"
    shutil.rmtree(inside, ignore_errors=True)  # a dead server's lock file may name a reused pid
    if _fits(inside):
        inside.mkdir(mode=0o700)
        give(inside, place.user)
        return inside
    # 0700 from the beginning, and of a name that nobody could have taken before.
    outside = Path(tempfile.mkdtemp(prefix=_SOCKET_DIR_PREFIX))
    give(outside, place.user)
    if not _fits(outside):
        outside.rmdir()
        raise ConfigError(
            place.where,
            f"no socket fits into {str(inside)!r} or {str(outside.parent)!r} "
            f"({_SOCKET_PATH_BYTES} bytes at most, no comma)",
            "set TMPDIR to a shorter directory",
        )
    return outside


def _fits(directory: Path) -> bool:
    # A comma separates hosts in a connection string, and libpq knows no way to quote it.
    path = os.fsencode(directory / _SOCKET)
    return len(path) <= _SOCKET_PATH_BYTES and b"," not in path


def _forget_the_dead(place: Place) -> None:
    """Remove what a server left that did not end by itself.

    PostgreSQL would not start while its pid is in use, were it by a zombie or by a stranger: usual
    in a container, where pids begin anew. Nothing of a server is alive here, the lock says.
    """
    postmaster = read_postmaster(place)
    if postmaster is not None and _is_postmaster(postmaster.pid, place):
        raise StoreUnavailable(
            place.where,
            f"a postgresql that syncd did not start runs on it (pid {postmaster.pid})",
            f"stop it: pg_ctl stop -D {place.cluster}",
        )
    _remove_socket_dir(place, postmaster)
    (place.cluster / "postmaster.pid").unlink(missing_ok=True)


def _remove_socket_dir(place: Place, postmaster: Postmaster | None) -> None:
    directory = postmaster.socket_dir if postmaster else None
    if directory is None or not directory.name.startswith(_SOCKET_DIR_PREFIX):
        return  # the one in the place is made anew with each launch
    owner = os.geteuid() if place.user is None else place.user.uid
    if directory.is_dir() and not directory.is_symlink() and directory.stat().st_uid == owner:
        shutil.rmtree(directory, ignore_errors=True)


def read_postmaster(place: Place) -> Postmaster | None:
    """Read postmaster.pid (its lines: src/include/utils/pidfile.h); `None` where there is none."""
    try:
        lines = (place.cluster / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return None
    if not lines or not lines[0].isdigit():
        return None
    if len(lines) < 8:
        return Postmaster(int(lines[0]))
    return Postmaster(int(lines[0]), Path(lines[4]), lines[7].strip())


def _is_postmaster(pid: int, place: Place) -> bool:
    """Say whether `pid` is this cluster's server, as far as the system tells; a zombie is not."""
    process = Path(f"/proc/{pid}")
    if not process.parent.exists():  # no /proc (macOS): the pid alone must do, as for PostgreSQL
        return unprivileged.exists(pid)
    try:
        program = (process / "cmdline").read_bytes().split(b"\0")[0]
        if Path(os.fsdecode(program)).name != "postgres":
            return False
        return (process / "cwd").samefile(place.cluster)
    except (FileNotFoundError, ProcessLookupError):
        return False
    except PermissionError:  # a container's root may not look into other users' processes
        return True


def is_ready(place: Place) -> bool:
    postmaster = read_postmaster(place)
    return postmaster is not None and postmaster.status == "ready"


def has_postmaster(place: Place) -> bool:
    """Say whether the server is led; what a killed one leaves ends by itself, in milliseconds."""
    postmaster = read_postmaster(place)
    return postmaster is not None and _is_postmaster(postmaster.pid, place)


def reach(place: Place) -> Path | None:
    """Find the directory of the socket, where that answers: it may have been tidied away."""
    postmaster = read_postmaster(place)
    if postmaster is None or postmaster.socket_dir is None:
        return None
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5)  # the kernel answers, not the server
        try:
            client.connect(str(postmaster.socket_dir / _SOCKET))
        except OSError:
            return None
    return postmaster.socket_dir


def stop(place: Place, *, give_up_at: float) -> None:
    """Stop the server: clients are disconnected, everything is written (a fast shutdown).

    Raises: `StoreUnavailable` where it has not ended by `give_up_at`; it goes on ending.
    """
    postmaster = read_postmaster(place)
    if postmaster is not None and is_alive(place) and has_postmaster(place):
        os.kill(postmaster.pid, signal.SIGINT)
    if not locks.wait_for(lambda: not is_alive(place), give_up_at=give_up_at):
        raise StoreUnavailable(
            place.where,
            "it was told to stop and is still writing its data",
            f"leave it, it ends by itself; see {place.log}",
        )
    _remove_socket_dir(place, postmaster)


def log_bytes(place: Place) -> int:
    return place.log.stat().st_size if place.log.exists() else 0


def why_it_ended(place: Place, *, since_bytes: int) -> str:
    """Find the reason in what a launch wrote to the log, which held `since_bytes` before."""
    with place.log.open(errors="replace") as log:
        if log_bytes(place) >= since_bytes:
            log.seek(since_bytes)
        return _reason(log.read())


def _reason(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    telling = [line for line in lines if "FATAL:" in line or "PANIC:" in line or "error:" in line]
    return (telling or lines or ["it said nothing"])[-1]
